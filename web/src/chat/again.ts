/** Asks for what is missing, and again after a pause if it could not be had just then. */

import { RequestFailed } from './api.js';

const PAUSE_MS = 2_000;

export class Again {
  readonly #changed: () => void;
  #busy = false;

  /** `changed`: after a pause, to look whether it is still missing. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  /** `refused`: it cannot be had at all. */
  soon(ask: () => Promise<void>, refused: () => void): void {
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    const end = (): void => {
      this.#busy = false;
      this.#changed();
    };
    ask().then(end, (failure: unknown) => {
      if (failure instanceof RequestFailed && !failure.passes) {
        refused();
      }
      setTimeout(end, PAUSE_MS);
    });
  }
}
