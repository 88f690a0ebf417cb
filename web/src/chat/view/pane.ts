/** The part beside the conversation: a thread, the search, or details; one at a time. */

import { find } from '../../dom.js';

export type Part = 'thread' | 'search' | 'details';

const PARTS: readonly Part[] = ['thread', 'search', 'details'];
/** Where there is no room for both, it covers the conversation. */
const NARROW = '(max-width: 1020px)';

export class Pane {
  readonly #element = find(document, '#pane', HTMLElement);
  readonly #parts = PARTS.map((part) => find(document, `#${part}`, HTMLElement));
  readonly #closed: () => void;
  shown: Part | null = null;

  constructor(closed: () => void) {
    this.#closed = closed;
    for (const button of this.#element.querySelectorAll('[data-close]')) {
      button.addEventListener('click', () => this.close());
    }
  }

  get narrow(): boolean {
    return window.matchMedia(NARROW).matches;
  }

  show(part: Part): void {
    this.shown = part;
    this.#element.hidden = false;
    document.body.dataset['pane'] = part;
    this.#parts.forEach((element) => (element.hidden = element.id !== part));
    this.#element.setAttribute('aria-labelledby', `${part}-title`);
  }

  close(): void {
    if (this.shown !== null) {
      this.shown = null;
      this.#element.hidden = true;
      delete document.body.dataset['pane'];
      this.#closed();
    }
  }
}
