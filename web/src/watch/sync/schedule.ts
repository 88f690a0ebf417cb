/** Which playback is in effect, and which ones are known to come: commands are carried out at an instant. */

import type { Playback } from './anchor.js';

interface Due {
  playback: Playback;
  /** The server's time from which it counts. */
  from: number;
}

/** The playback of a room over time. A playback counts by its version, whatever the order in which they come. */
export class Schedule {
  #current: Playback | null = null;
  #due: Due[] = [];

  /** The highest version that is known, in effect or not; -1 before anything is known. */
  get version(): number {
    return this.newest?.version ?? -1;
  }

  /** The playback of the highest version that is known. */
  get newest(): Playback | null {
    return this.#due.at(-1)?.playback ?? this.#current;
  }

  /** When the next one takes effect, in the server's time; null when none is due. */
  get nextAt(): number | null {
    return this.#due[0]?.from ?? null;
  }

  /**
   * Takes a playback that counts from `from` on. Returns false when it says nothing new. One that was
   * due later than a newer one never happens.
   */
  take(playback: Playback, from: number): boolean {
    if (playback.version <= this.version) {
      return false;
    }
    if (this.#current === null) {
      this.#current = playback;
      return true;
    }
    this.#due = this.#due.filter((due) => due.from < from);
    this.#due.push({ playback, from });
    return true;
  }

  /** The playback that is in effect at the server's time `now`; `changed` when it was not before. */
  at(now: number): { playback: Playback | null; changed: boolean } {
    let changed = false;
    while (this.#due[0] !== undefined && this.#due[0].from <= now) {
      this.#current = this.#due.shift()?.playback ?? this.#current;
      changed = true;
    }
    return { playback: this.#current, changed };
  }

  /** Forgets everything: another room, or another log. */
  clear(): void {
    this.#current = null;
    this.#due = [];
  }
}
