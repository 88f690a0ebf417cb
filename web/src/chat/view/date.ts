/** The dialog that asks for a day. */

import { find } from '../../dom.js';
import { NEVER, tsAt, type Ts } from '../model/ts.js';

export class DateView {
  readonly #dialog = find(document, '#date', HTMLDialogElement);
  readonly #day = find(document, '#date-day', HTMLInputElement);

  /** `jump`: to what was said first from then on. */
  constructor(jump: (ts: Ts) => void) {
    const go = (ts: Ts): void => {
      this.#dialog.close();
      jump(ts);
    };
    find(document, '#date-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      const [year = 1970, month = 1, day = 1] = this.#day.value.split('-').map(Number);
      go(tsAt(new Date(year, month - 1, day).getTime()));
    });
    for (const button of this.#dialog.querySelectorAll<HTMLElement>('[data-days]')) {
      button.addEventListener('click', () => {
        const days = button.dataset['days'];
        const midnight = new Date(new Date().setHours(0, 0, 0, 0));
        go(days === 'all' ? NEVER : tsAt(midnight.setDate(midnight.getDate() - Number(days))));
      });
    }
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
  }

  open(): void {
    this.#day.max = new Date().toISOString().slice(0, 10);
    this.#dialog.showModal();
    this.#day.focus();
  }
}
