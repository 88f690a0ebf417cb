/** The highest position of the channel that the page has heard of, from whichever side. */

import type { Position } from './api.js';

/** Shared by the publisher and the panes of one channel. */
export class Head {
  #epoch: string | null = null;
  #offset = 0;
  readonly #changed: () => void;

  /** @param changed called after the head has moved */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  /** Someone has seen this position. Another epoch replaces what was known of the one before. */
  learn(position: Position): void {
    if (position.epoch === this.#epoch && position.offset <= this.#offset) {
      return;
    }
    this.#epoch = position.epoch;
    this.#offset = position.offset;
    this.#changed();
  }

  /** The highest sequence known in the log of this epoch; 0 where none is. */
  in(epoch: string | null): number {
    return epoch !== null && epoch === this.#epoch ? this.#offset : 0;
  }
}
