/** The connections of a page: one, or two of which either will do. */

import type { Side } from '../model/parity.js';
import type { Position } from '../model/position.js';
import { EventsFeed } from './events.js';
import type { Feed, FeedListener } from './feed.js';

export type Transport = 'sse' | 'websocket' | 'both';

/** The client of the other transport is loaded where it is used; if that fails, again after this. */
const LOAD_AGAIN_MS = 5_000;

export class Feeds {
  readonly #listener: (side: Side) => FeedListener;
  #feeds: Feed[] = [];
  readonly #up = new Set<Side>();
  /** What was begun for earlier connections comes too late. */
  #connection = 0;

  /** @param listener hears one side; `lost` and `waiting` only when no other side is left */
  constructor(listener: (side: Side) => FeedListener) {
    this.#listener = (side) => this.#between(side, listener(side));
  }

  /** Replaces all connections; each begins at the position of then. */
  open(transport: Transport, position: () => Position | null): void {
    this.close();
    const sides: Side[] = transport === 'both' ? ['sse', 'websocket'] : [transport];
    for (const side of sides) {
      void this.#open(side, position, this.#connection);
    }
  }

  close(): void {
    this.#connection += 1;
    this.#feeds.forEach((feed) => feed.close());
    this.#feeds = [];
    this.#up.clear();
  }

  /** Whether every one of them is connected. */
  get areUp(): boolean {
    return this.#feeds.length > 0 && this.#up.size === this.#feeds.length;
  }

  /** Tries at once; false if there is nothing to try. */
  retry(): boolean {
    this.#feeds.forEach((feed) => feed.retry());
    return this.#feeds.length > 0;
  }

  async #open(side: Side, position: () => Position | null, connection: number): Promise<void> {
    const listener = this.#listener(side);
    let feed: Feed;
    try {
      feed = side === 'sse' ? new EventsFeed(listener) : new (await import('./websocket.js')).WebSocketFeed(listener);
    } catch {
      if (connection === this.#connection) {
        listener.lost();
        listener.waiting(Date.now() + LOAD_AGAIN_MS);
        setTimeout(() => connection === this.#connection && void this.#open(side, position, connection), LOAD_AGAIN_MS);
      }
      return;
    }
    if (connection === this.#connection) {
      this.#feeds.push(feed);
      feed.open(position());
    }
  }

  #between(side: Side, listener: FeedListener): FeedListener {
    const alone = (): boolean => {
      this.#up.delete(side);
      return this.#up.size === 0;
    };
    return {
      ...listener,
      ready: (epoch, seq) => {
        this.#up.add(side);
        listener.ready(epoch, seq);
      },
      lost: () => alone() && listener.lost(),
      waiting: (nextAt) => alone() && listener.waiting(nextAt),
    };
  }
}
