/** A virtual time, a network with a delay in each direction, and a media element, for the tests of the sync. */

import type { Correction } from '../src/watch/sync/drift.js';

/** Numbers from 0 to 1 that are the same in every run of one seed. */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A time that passes only when it is told to. */
export class VirtualTime {
  #due: { at: number; order: number; run: () => void }[] = [];
  #order = 0;
  now = 1_000;

  after(delay: number, run: () => void): void {
    this.#due.push({ at: this.now + Math.max(0, delay), order: (this.#order += 1), run });
    this.#due.sort((left, right) => left.at - right.at || left.order - right.order);
  }

  pass(duration: number): void {
    const end = this.now + duration;
    for (;;) {
      const next = this.#due[0];
      if (next === undefined || next.at > end) {
        break;
      }
      this.#due.shift();
      this.now = next.at;
      next.run();
    }
    this.now = end;
  }
}

/** How long messages take: there, and back. */
export interface Way {
  there: () => number;
  back: () => number;
}

/** A way with a fixed time and up to `jitter` more, in each direction. */
export function way(random: () => number, there: number, back: number, jitter: number): Way {
  return { there: () => there + random() * jitter, back: () => back + random() * jitter };
}

/** A media element that takes its time to jump, plays at its own exactness, and can stand still for data. */
export class VirtualMedia {
  readonly #time: VirtualTime;
  readonly #seekTakes: () => number;
  readonly #noise: () => number;
  #position: number;
  #at: number;
  #rate = 1;
  #seekingUntil = -Infinity;
  /** What the element's clock makes of a second. */
  skew = 1;
  seeks = 0;
  waits = 0;
  rateChanges = 0;

  constructor(
    time: VirtualTime,
    position: number,
    seekTakes: () => number,
    noise: () => number = () => 0,
  ) {
    this.#time = time;
    this.#position = position;
    this.#at = time.now;
    this.#seekTakes = seekTakes;
    this.#noise = noise;
  }

  /** Whether it jumps, or waits. */
  get busy(): boolean {
    return this.#time.now < this.#seekingUntil || this.#time.now < this.#at;
  }

  get rate(): number {
    return this.#rate;
  }

  /** Where it really stands. */
  get position(): number {
    const from = Math.max(this.#at, this.#seekingUntil);
    const passed = Math.max(0, this.#time.now - from);
    return this.#position + passed * this.#rate * this.skew;
  }

  /** Where it says that it stands. */
  get observed(): number {
    return this.position + this.#noise();
  }

  /** Stands still for a while, as without data. */
  stall(duration: number): void {
    this.#position = this.position - duration * this.#rate;
    this.#at = this.#time.now;
  }

  correct(correction: Correction): void {
    if (correction.kind === 'wait') {
      this.waits += 1;
      this.#position = this.position;
      this.#at = this.#time.now + correction.for;
    } else if (correction.kind === 'seek') {
      this.seeks += 1;
      this.#position = correction.to;
      this.#at = this.#time.now;
      this.#seekingUntil = this.#time.now + this.#seekTakes();
    } else if (correction.rate !== this.#rate) {
      this.rateChanges += 1;
      this.#position = this.position;
      this.#at = this.#time.now;
      this.#rate = correction.rate;
    }
  }
}
