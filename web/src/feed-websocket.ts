/** A channel over WebSocket, through the official Centrifuge client and its own recovery. */

import { Centrifuge, type Subscription } from 'centrifuge';

import type { Feed, FeedListener } from './feed.js';
import { now } from './latency.js';

/** The path of the Centrifuge client protocol. */
const PATH = '/connection/websocket';

/** Opens nothing yet: `connect` does. */
export class WebSocketFeed implements Feed {
  readonly #client: Centrifuge;
  readonly #subscription: Subscription;
  #listener: FeedListener | null;
  #epoch: string | null = null;
  #dropped = false;

  constructor(channel: string, listener: FeedListener) {
    this.#listener = listener;
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    this.#client = new Centrifuge(`${scheme}//${location.host}${PATH}`);
    // Recoverable: the client remembers the position and asks for the rest when it is back.
    this.#subscription = this.#client.newSubscription(channel, { recoverable: true });
    this.#listen();
  }

  connect(): void {
    this.#dropped = false;
    this.#subscription.subscribe();
    this.#client.connect();
  }

  drop(): void {
    this.#dropped = true;
    this.#client.disconnect();
  }

  close(): void {
    this.#listener = null;
    this.#client.disconnect();
  }

  #listen(): void {
    this.#client.on('connecting', () => this.#listener?.connecting());
    this.#client.on('disconnected', ({ code, reason }) => {
      if (!this.#dropped) {
        this.#listener?.refused(`${reason} (${code})`);
      }
    });
    this.#subscription.on('unsubscribed', ({ code, reason }) => {
      this.#listener?.refused(`${reason} (${code})`);
    });
    this.#subscription.on('subscribed', ({ streamPosition, wasRecovering, recovered }) => {
      const start = { epoch: streamPosition?.epoch ?? '', offset: streamPosition?.offset ?? 0 };
      const sameLog = this.#epoch === start.epoch;
      this.#epoch = start.epoch;
      this.#listener?.live(start);
      // That the log is another one needs no word: the epoch at the start tells.
      if (wasRecovering && !recovered && sameLog) {
        this.#listener?.truncated(start.offset + 1);
      }
    });
    this.#subscription.on('publication', ({ offset, data }) => {
      this.#listener?.publication({ seq: offset ?? 0, data, arrivedAt: now() });
    });
  }
}
