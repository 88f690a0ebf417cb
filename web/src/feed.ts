/** What a pane asks of a connection, whatever the wire. */

import type { Position } from './api.js';

/** One publication as it arrived. */
export interface Arrival {
  seq: number;
  data: unknown;
  /** When it arrived, in milliseconds of the page's clock. */
  arrivedAt: number;
}

/** What a connection tells its pane. */
export interface FeedListener {
  /** It is trying to connect, for the first time or again. */
  connecting(): void;
  /** It is connected and receives; the stream starts behind `start`. */
  live(start: Position): void;
  /** A publication came. */
  publication(arrival: Arrival): void;
  /** What lies before `oldest` is no longer kept: the stream goes on there. */
  truncated(oldest: number): void;
  /** The position was not of this log: the stream starts anew behind `start`. */
  reset(start: Position): void;
  /** The server does not let this page listen; it will not try again by itself. */
  refused(reason: string): void;
}

/** A connection to one channel. */
export interface Feed {
  /** Connects; after a `drop` it goes on behind the last publication that came. */
  connect(): void;
  /** Cuts the connection and stays away until `connect`. */
  drop(): void;
  /** Gives the connection up for good; the listener hears no more. */
  close(): void;
}
