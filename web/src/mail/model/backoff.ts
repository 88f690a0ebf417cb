/** The pauses between attempts to connect. */

const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;

export class Backoff {
  #tries = 0;

  /** @param random from 0 to below 1 */
  constructor(readonly random: () => number = Math.random) {}

  /** The next pause, in milliseconds: twice the one before, and never the same for all pages. */
  next(): number {
    const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#tries, 10));
    this.#tries += 1;
    return Math.round(full * (0.5 + this.random() / 2));
  }

  reset(): void {
    this.#tries = 0;
  }
}
