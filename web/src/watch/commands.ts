/** What this person wants of the playback: each wish is sent once, on top of the newest state that is known. */

import type { Link } from './link.js';
import type { Failure, PlaybackState } from './protocol.js';
import type { Playback } from './sync/anchor.js';

/** A command that has met a newer state is tried on top of that one, so often. */
const TRIES = 3;
/** A command is no longer wanted after this. */
const PATIENCE_MS = 4_000;

interface Taken {
  version: number;
  atServerTime: number;
  state: PlaybackState;
}

export type Wish =
  | { event: 'sync:play' | 'sync:pause' }
  | { event: 'sync:seek'; targetMediaTime: number }
  | { event: 'sync:rate'; rate: number };

/** What became of a wish: a failure to tell about, or nothing. */
export type Outcome = Failure | null;

export class Commands {
  readonly #link: Link;
  readonly #newest: () => Playback | null;
  readonly #take: (state: PlaybackState, from: number) => void;

  /** `take` is given each state that an answer carries, and from when it counts. */
  constructor(
    link: Link,
    newest: () => Playback | null,
    take: (state: PlaybackState, from: number) => void,
  ) {
    this.#link = link;
    this.#newest = newest;
    this.#take = take;
  }

  async send(wish: Wish): Promise<Outcome> {
    const { event, ...fields } = wish;
    for (let attempt = 1; ; attempt += 1) {
      const newest = this.#newest();
      if (newest !== null && isSo(wish, newest)) {
        return null;
      }
      const answer = await this.#link.ask<Taken>(
        event,
        {
          ...fields,
          idempotencyKey: randomKey(),
          ...(newest === null ? {} : { expectedVersion: newest.version }),
        },
        PATIENCE_MS,
      );
      if (answer.ok) {
        this.#take(answer.state, answer.atServerTime);
        return null;
      }
      // Somebody was faster: on top of what they did, if it is still wanted.
      if (answer.code !== 'CONFLICT' || attempt >= TRIES) {
        return answer.code === 'CONFLICT' ? null : answer;
      }
      const { state } = answer as unknown as { state?: PlaybackState };
      if (state !== undefined) {
        this.#take(state, state.anchorServerTimeMs);
      }
    }
  }
}

/**
 * Whether somebody else has already done what was wanted. A place is never fulfilled: the media has moved on
 * meanwhile; and a playing that has come to its end is one that has to be begun anew.
 */
function isSo(wish: Wish, newest: Playback): boolean {
  switch (wish.event) {
    case 'sync:pause':
      return !newest.playing;
    case 'sync:rate':
      return newest.rate === wish.rate;
    default:
      return false;
  }
}

/** A key that nobody else has. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
