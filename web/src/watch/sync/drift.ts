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
/** For so long after a command or a break, and so often, errors may be jumped over. */
const JUMP_WINDOW_MS = 4_000;
const JUMPS_MAX = 4;
/** Who is ahead by less than this waits for the others instead of jumping back: a wait ends where it should. */
export const WAIT_MAX_MS = 1_500;
/** Jumps that do not help are tried again less and less often. */
const SEEK_AGAIN_MS = 1_500;
const SEEK_AGAIN_MAX_MS = 12_000;
/** The most that a jump aims ahead to make up for the time that it takes. */
const LEAD_MAX_MS = 1_500;
/** A jump that fell short makes the next ones aim further by what was missing and a little more; one that went too far is held against few. */
const LEAD_MARGIN = 1.25;
const LEAD_DECAY = 0.2;

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
  | { kind: 'rate'; rate: number }
  | { kind: 'seek'; to: number }
  /** Stand still for so many milliseconds. */
  | { kind: 'wait'; for: number };

/** Decides on corrections while the media plays. */
export class DriftController {
  #correcting = false;
  #jumps = 0;
  #jumpUntil = -Infinity;
  #lead = 0;
  #soughtAt = -Infinity;
  #seekAgainMs = SEEK_AGAIN_MS;
  #landing = false;
  #lastError: number | null = null;

  /** How far ahead a jump aims, learned from how jumps have landed. */
  get lead(): number {
    return this.#lead;
  }

  /** A command has been executed, or the connection is back: the next errors may be jumped over. */
  expectJump(now: number): void {
    this.#jumps = JUMPS_MAX;
    this.#jumpUntil = now + JUMP_WINDOW_MS;
    this.#seekAgainMs = SEEK_AGAIN_MS;
    this.#lastError = null;
    // What a command leaves over is worn down to nothing, however small: two who rest within the tolerance may be twice as far apart.
    this.#correcting = true;
  }

  /** A jump was made from elsewhere, with the lead in it: its landing is to be learned from. */
  jumped(now: number): void {
    this.#soughtAt = now;
    this.#landing = true;
    this.#lastError = null;
    this.#correcting = true;
  }

  /** Decides. To be asked only while the element plays and has data: a stalled one cannot be nudged. */
  next({ now, expected, actual, rate }: Observation): Correction {
    const error = actual - expected;
    this.#learn(error, rate);
    this.#noticeBreak(error, now);
    if (this.#mayJump(Math.abs(error), now)) {
      return this.#jump(expected, error, rate, now);
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
    if (broke && now >= this.#jumpUntil && now - this.#soughtAt >= this.#seekAgainMs) {
      this.#jumps = 2;
      this.#jumpUntil = now + JUMP_WINDOW_MS;
    }
  }

  #mayJump(size: number, now: number): boolean {
    if (size > SNAP_BEYOND_MS && this.#jumps > 0 && now < this.#jumpUntil) {
      this.#jumps -= 1;
      return true;
    }
    return size > SEEK_BEYOND_MS && now - this.#soughtAt >= this.#seekAgainMs;
  }

  #jump(expected: number, error: number, rate: number, now: number): Correction {
    if (error > 0 && error <= WAIT_MAX_MS * rate) {
      this.#lastError = null;
      this.#correcting = true;
      return { kind: 'wait', for: error / rate };
    }
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
      const step = missing > 0 ? missing * LEAD_MARGIN : missing * LEAD_DECAY;
      this.#lead = Math.max(0, Math.min(LEAD_MAX_MS, this.#lead + step));
    }
  }
}
