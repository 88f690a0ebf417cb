/** What the page asks of a connection, whatever the transport. */

import type { Position } from '../model/position.js';

/** A publication of the mailbox's channel. */
export interface Arrival {
  epoch: string;
  seq: number;
  /** The envelope, as it came. */
  data: unknown;
}

export interface FeedListener {
  /** Connected; what follows stands behind this place. */
  ready(epoch: string, seq: number): void;
  arrival(arrival: Arrival): void;
  /** Something was heard: the connection is alive. */
  alive(): void;
  /** What was asked for is no longer kept, or the log is another one: the list has to be asked for again. */
  gap(): void;
  /** The connection is gone; it is tried again by itself. */
  lost(): void;
  /** The next attempt begins then, in milliseconds since 1970. */
  waiting(nextAt: number): void;
  /** The end; nothing is tried by itself. */
  refused(why: 'signed-out' | 'too-many'): void;
  /** Something else that the server wants to have said. */
  notice(code: string, message: string): void;
}

/** A connection to the mailbox's channel. */
export interface Feed {
  /** Connects, behind a position if there is one. */
  open(after: Position | null): void;
  /** Tries at once what would be tried later. */
  retry(): void;
  /** Gives the connection up; the listener hears no more. */
  close(): void;
}
