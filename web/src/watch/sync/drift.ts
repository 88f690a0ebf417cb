/**
 * Keeps a media element where the room is. Small errors are left alone, larger ones are worn down by
 * playing a little faster or slower, the largest are jumped over. It decides; it touches no element.
 */

/** Errors below this are left alone. */
export const TOLERANCE_MS = 40;
/** A correction that has begun goes on until the error is this small. */
export const SETTLED_MS = 8;
/** Errors beyond this are jumped over. */
export const SEEK_BEYOND_MS = 1_000;
/** Right after a command, errors beyond this are jumped over: everybody hears the cut anyway. */
export const SNAP_BEYOND_MS = 90;
/** How much faster or slower than the room a correction plays at most. */
export const NUDGE_MAX = 0.05;
/** A correction is paced as if it should take this long, within `NUDGE_MAX`. */
const PACE_MS = 1_500;
/** An error that changes by this much from one look to the next is a break in the playing: it may be jumped over, too. */
export const BREAK_MS = 200;
/** How many jumps a command may take until the element is where it should be. */
const SNAPS_OF_A_COMMAND = 2;
/** Jumps that do not help are tried again less and less often. */
const SEEK_AGAIN_MS = 1_500;
const SEEK_AGAIN_MAX_MS = 12_000;
/** The most that a jump aims ahead to make up for the time that it takes. */
const LEAD_MAX_MS = 1_500;
/** How much of a new observation goes into the lead; the first one goes in whole. */
const LEAD_GAIN = 0.5;

/** What there is to go by. All times in milliseconds. */
export interface Observation {
  /** A clock that never jumps. */
  now: number;
  /** Where the media should stand. */
  expected: number;
  /** Where it stands. */
  actual: number;
  /** How fast the room plays. */
  rate: number;
}

/** What is to be done. */
export type Correction =
  /** Play at `rate`: the room's own, or a little beside it. */
  { kind: 'rate'; rate: number } | { kind: 'seek'; to: number };

/** Decides on corrections while the media plays. */
export class DriftController {
  #correcting = false;
  #snaps = 0;
  #lead = 0;
  #landings = 0;
  #soughtAt = -Infinity;
  #seekAgainMs = SEEK_AGAIN_MS;
  #landing = false;
  #lastError: number | null = null;

  /** How far ahead a jump aims, learned from how jumps have landed. */
  get lead(): number {
    return this.#lead;
  }

  /** A command has been executed, or the connection is back: the next errors may be jumped over. */
  expectJump(): void {
    this.#snaps = SNAPS_OF_A_COMMAND;
    this.#seekAgainMs = SEEK_AGAIN_MS;
  }

  /** A jump was made from elsewhere, with the lead in it: its landing is to be learned from. */
  jumped(now: number): void {
    this.#soughtAt = now;
    this.#landing = true;
    this.#lastError = null;
    this.#correcting = false;
  }

  /** Decides. To be asked only while the element plays and has data: a stalled one cannot be nudged. */
  next({ now, expected, actual, rate }: Observation): Correction {
    const error = actual - expected;
    this.#learn(error, rate);
    this.#noticeBreak(error, now);
    if (this.#shouldSeek(Math.abs(error), now)) {
      return this.#seek(expected, rate, now);
    }
    const limit = this.#correcting ? SETTLED_MS : TOLERANCE_MS;
    this.#correcting = Math.abs(error) >= limit;
    if (!this.#correcting) {
      this.#seekAgainMs = SEEK_AGAIN_MS;
      return { kind: 'rate', rate };
    }
    const wanted = error / (PACE_MS * rate);
    const nudge = Math.max(-NUDGE_MAX, Math.min(NUDGE_MAX, wanted));
    return { kind: 'rate', rate: rate * (1 - nudge) };
  }

  /** Data that did not come, a device that was changed: what has been seen to break need not be mended slowly. */
  #noticeBreak(error: number, now: number): void {
    const last = this.#lastError;
    this.#lastError = error;
    const broke = last !== null && Math.abs(error - last) > BREAK_MS;
    if (broke && this.#snaps === 0 && now - this.#soughtAt >= this.#seekAgainMs) {
      this.#snaps = 1;
    }
  }

  #shouldSeek(size: number, now: number): boolean {
    if (this.#snaps > 0 && size > SNAP_BEYOND_MS) {
      this.#snaps -= 1;
      return true;
    }
    if (size <= TOLERANCE_MS) {
      this.#snaps = 0;
    }
    return size > SEEK_BEYOND_MS && now - this.#soughtAt >= this.#seekAgainMs;
  }

  #seek(expected: number, rate: number, now: number): Correction {
    this.#seekAgainMs = Math.min(SEEK_AGAIN_MAX_MS, this.#seekAgainMs * 2);
    this.jumped(now);
    return { kind: 'seek', to: expected + this.#lead * rate };
  }

  /** The first error after a jump says by how much it should have aimed further. */
  #learn(error: number, rate: number): void {
    if (!this.#landing) {
      return;
    }
    this.#landing = false;
    const missing = -error / rate;
    if (Math.abs(missing) <= LEAD_MAX_MS) {
      const lead = this.#lead + (this.#landings === 0 ? 1 : LEAD_GAIN) * missing;
      this.#landings += 1;
      this.#lead = Math.max(0, Math.min(LEAD_MAX_MS, lead));
    }
  }
}
