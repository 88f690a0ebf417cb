/** When to ask for the time: five pings at the start, and five every thirty seconds. */

import {
  PING_PATIENCE_MS,
  PING_SPACING_MS,
  PINGS_OF_A_ROUND,
  ROUND_EVERY_MS,
  type ServerClock,
} from './clock.js';

/** Asks the server for its time; fails when there is no answer. */
export type Ask = (patienceMs: number) => Promise<number>;

/** Keeps a clock fed. */
export class PingRounds {
  readonly #clock: ServerClock;
  readonly #local: () => number;
  readonly #ask: Ask;
  readonly #answered: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #left = 0;

  /** `answered` is called after each sample. */
  constructor(clock: ServerClock, local: () => number, ask: Ask, answered: () => void) {
    this.#clock = clock;
    this.#local = local;
    this.#ask = ask;
    this.#answered = answered;
  }

  /** Begins a round now, and one every thirty seconds from then on. */
  start(): void {
    this.stop();
    this.#left = PINGS_OF_A_ROUND;
    this.#step();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #step(): void {
    if (this.#left === 0) {
      this.#timer = setTimeout(() => this.start(), ROUND_EVERY_MS);
      return;
    }
    this.#left -= 1;
    void this.#ping();
    this.#timer = setTimeout(() => this.#step(), PING_SPACING_MS);
  }

  async #ping(): Promise<void> {
    const sentAt = this.#local();
    try {
      const serverTime = await this.#ask(PING_PATIENCE_MS);
      this.#clock.add({
        sentAt,
        receivedAt: this.#local(),
        serverReceivedAt: serverTime,
        serverSentAt: serverTime,
      });
      this.#answered();
    } catch {
      // No answer, no sample: the next round asks again.
    }
  }
}
