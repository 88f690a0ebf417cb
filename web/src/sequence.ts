/**
 * Proves that a stream of sequences is complete: counts what came, what is missing and what came
 * twice. It knows nothing of connections, clocks or payloads.
 */

/** How many separate holes are remembered; beyond it the oldest stay missing for good. */
export const MAX_GAPS = 1000;

/** What one sequence turned out to be. */
export type Taken =
  /** The very next one. */
  | { kind: 'next' }
  /** Ahead of the next one: `from` to `to` (both included) are missing until they come. */
  | { kind: 'gap'; from: number; to: number }
  /** One that was missing: it came, but out of order. */
  | { kind: 'late' }
  /** One that had come before. */
  | { kind: 'repeat' };

interface Range {
  from: number;
  to: number;
}

/** Follows the sequences of one channel, which count 1, 2, 3 … without holes. */
export class SequenceTracker {
  #position: number | null = null;
  #received = 0;
  #repeated = 0;
  #late = 0;
  #expired = 0;
  #missing = 0;
  #gaps: Range[] = [];

  /** The highest sequence that is accounted for; null before the start is known. */
  get position(): number | null {
    return this.#position;
  }

  /** Distinct publications that came. */
  get received(): number {
    return this.#received;
  }

  /** Sequences below the position that never came, save what the server no longer has. */
  get missing(): number {
    return this.#missing;
  }

  /** Publications that came more than once. */
  get repeated(): number {
    return this.#repeated;
  }

  /** Publications that came after one with a higher sequence. */
  get late(): number {
    return this.#late;
  }

  /** Sequences that the server said it no longer keeps. */
  get expired(): number {
    return this.#expired;
  }

  /**
   * The stream goes on behind `position`: the first sequence to come is `position + 1`. Holes of the
   * stream before it are forgotten; the counts stay.
   */
  startAfter(position: number): void {
    this.#position = position;
    this.#gaps = [];
  }

  /** Takes one sequence as it arrives. Without a start, the first one is the start. */
  take(seq: number): Taken {
    const position = this.#position;
    if (position === null || seq === position + 1) {
      this.#position = seq;
      this.#received += 1;
      return { kind: 'next' };
    }
    if (seq > position) {
      const gap = { from: position + 1, to: seq - 1 };
      this.#open(gap);
      this.#position = seq;
      this.#received += 1;
      return { kind: 'gap', ...gap };
    }
    if (this.#fill(seq)) {
      this.#received += 1;
      this.#late += 1;
      return { kind: 'late' };
    }
    this.#repeated += 1;
    return { kind: 'repeat' };
  }

  /**
   * The server said that `oldest` is the oldest publication it still has: what lies between the
   * position and it cannot come any more. Returns how many those are.
   */
  expireBefore(oldest: number): number {
    const position = this.#position;
    if (position === null || oldest <= position + 1) {
      return 0;
    }
    const lost = oldest - 1 - position;
    this.#expired += lost;
    this.#position = oldest - 1;
    return lost;
  }

  #open(gap: Range): void {
    this.#missing += gap.to - gap.from + 1;
    this.#gaps.push(gap);
    if (this.#gaps.length > MAX_GAPS) {
      this.#gaps.shift();
    }
  }

  #fill(seq: number): boolean {
    const index = this.#gaps.findIndex((gap) => gap.from <= seq && seq <= gap.to);
    const gap = this.#gaps[index];
    if (gap === undefined) {
      return false;
    }
    const rest: Range[] = [];
    if (gap.from < seq) {
      rest.push({ from: gap.from, to: seq - 1 });
    }
    if (seq < gap.to) {
      rest.push({ from: seq + 1, to: gap.to });
    }
    this.#gaps.splice(index, 1, ...rest);
    this.#missing -= 1;
    return true;
  }
}
