/**
 * The server's clock, as this page knows it: pings give samples, the sample that can be trusted most
 * gives the offset, and the offset moves slowly, so that nothing that plays by the clock jumps.
 */

/** How many pings a round has, and how far apart they are. */
export const PINGS_OF_A_ROUND = 5;
export const PING_SPACING_MS = 100;

/** How long a round counts before the next one is due. */
export const ROUND_EVERY_MS = 30_000;

/** A ping without an answer for so long is given up. */
export const PING_PATIENCE_MS = 5_000;

/** How many samples are kept; a new one then takes the place of the oldest. */
export const SAMPLES_MAX = 20;

/** Local clocks drift apart from the server's by no more than this (100 parts per million). */
const SKEW_MAX = 1e-4;

/** How fast a known offset moves towards a better one: milliseconds per millisecond. */
const SLEW = 0.05;

/** An offset this far off is not slewed but taken at once: the local clock has been stopped or set. */
const STEP_MS = 500;

/** One ping: when it left and came back here, when it came and left there. Milliseconds. */
export interface Sample {
  sentAt: number;
  receivedAt: number;
  serverReceivedAt: number;
  serverSentAt: number;
}

interface Kept {
  offset: number;
  /** Time on the way, both directions. */
  roundTrip: number;
  at: number;
}

/** Says what time it is on the server. */
export class ServerClock {
  readonly #local: () => number;
  #samples: Kept[] = [];
  /** The offset that is shown at `#shownAt`; it moves towards `#target`. */
  #shown = 0;
  #shownAt = 0;
  #target: number | null = null;

  /** `local` is a clock that never jumps, in milliseconds. */
  constructor(local: () => number) {
    this.#local = local;
  }

  /** Whether at least one sample has come. */
  get synced(): boolean {
    return this.#target !== null;
  }

  /** How much the server is ahead of the local clock, now. */
  get offset(): number {
    return this.#offsetAt(this.#local());
  }

  /** How wrong the offset can be at most, if the way there and back may differ in any way; infinite before a sample. */
  get uncertainty(): number {
    const now = this.#local();
    return this.#samples.reduce((least, kept) => Math.min(least, bound(kept, now)), Infinity);
  }

  /** The shortest time to the server and back among the samples kept; infinite before a sample. */
  get roundTrip(): number {
    return this.#samples.reduce((least, kept) => Math.min(least, kept.roundTrip), Infinity);
  }

  /** The server's time now. */
  now(): number {
    return this.#local() + this.offset;
  }

  /** The local time at which the server's clock will show `serverTime`. */
  toLocal(serverTime: number): number {
    return serverTime - this.offset;
  }

  /** Takes an answered ping. What cannot be (an answer before its question, one that is too late) is left out. */
  add(sample: Sample): void {
    const there = sample.serverSentAt - sample.serverReceivedAt;
    const roundTrip = sample.receivedAt - sample.sentAt - there;
    const offset =
      (sample.serverReceivedAt - sample.sentAt + (sample.serverSentAt - sample.receivedAt)) / 2;
    if (!Number.isFinite(offset) || there < 0 || roundTrip < 0 || roundTrip > PING_PATIENCE_MS) {
      return;
    }
    const kept = { offset, roundTrip, at: sample.receivedAt };
    // Two samples that cannot both be true: the local clock stood still (sleep), or one was set.
    this.#samples = this.#samples.filter(
      (old) => Math.abs(old.offset - offset) <= bound(old, kept.at) + bound(kept, kept.at) + 1,
    );
    this.#samples.push(kept);
    this.#samples.splice(0, this.#samples.length - SAMPLES_MAX);
    this.#aim(this.#best().offset);
  }

  /** The sample whose offset can be wrong by the least: a short way, and not long ago. */
  #best(): Kept {
    const now = this.#local();
    return this.#samples.reduce((best, kept) =>
      bound(kept, now) <= bound(best, now) ? kept : best,
    );
  }

  #aim(target: number): void {
    const now = this.#local();
    const first = this.#target === null;
    const shown = this.#offsetAt(now);
    this.#shown = first || Math.abs(target - shown) > STEP_MS ? target : shown;
    this.#shownAt = now;
    this.#target = target;
  }

  #offsetAt(now: number): number {
    if (this.#target === null) {
      return 0;
    }
    const way = this.#target - this.#shown;
    const most = Math.max(0, now - this.#shownAt) * SLEW;
    return this.#shown + Math.max(-most, Math.min(most, way));
  }
}

function bound({ roundTrip, at }: Kept, now: number): number {
  return roundTrip / 2 + Math.max(0, now - at) * SKEW_MAX;
}
