/** Something that is done after a burst of reasons for it, and not for each. */

export interface Pace {
  /** Done when there was no further reason for so long, in milliseconds. */
  quiet: number;
  /** Done by then, however many reasons there are. */
  latest: number;
  /** Never done sooner than this after the last time. */
  every: number;
}

export class Later {
  readonly #run: () => void;
  readonly #pace: Pace;
  #timer: number | undefined;
  #due = Infinity;
  #ranAt = 0;

  constructor(pace: Pace, run: () => void) {
    this.#pace = pace;
    this.#run = run;
  }

  /** There is a reason. */
  soon(): void {
    const now = Date.now();
    this.#due = Math.min(this.#due, now + this.#pace.latest);
    const soon = Math.min(this.#pace.quiet, this.#due - now);
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.now(), Math.max(0, soon, this.#ranAt + this.#pace.every - now));
  }

  now(): void {
    this.stop();
    this.#ranAt = Date.now();
    this.#run();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#due = Infinity;
  }
}
