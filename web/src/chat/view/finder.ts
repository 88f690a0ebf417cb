/** A field with a list below it from which something is chosen: the quick switcher, and the people one writes to. */

import { find, make } from '../../dom.js';

export interface Choice {
  readonly id: string;
  readonly label: string;
  readonly note: string;
  readonly sign: Element;
}

export class Finder {
  readonly dialog: HTMLDialogElement;
  readonly field: HTMLInputElement;
  readonly #list: HTMLElement;
  readonly #choices: (text: string) => Choice[];
  readonly #chosen: (choice: Choice) => void;
  #shown: Choice[] = [];
  #at = 0;

  /** `name`: of the dialog, whose parts are `name-text` and `name-list`. */
  constructor(name: string, choices: (text: string) => Choice[], chosen: (choice: Choice) => void) {
    this.dialog = find(document, `#${name}`, HTMLDialogElement);
    this.field = find(document, `#${name}-text`, HTMLInputElement);
    this.#list = find(document, `#${name}-list`, HTMLElement);
    this.#choices = choices;
    this.#chosen = chosen;
    this.field.addEventListener('input', () => this.draw());
    this.field.addEventListener('keydown', (event) => this.#key(event));
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
  }

  open(): void {
    this.field.value = '';
    this.draw();
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    this.field.focus();
  }

  close(): void {
    this.dialog.close();
  }

  draw(): void {
    this.#shown = this.#choices(this.field.value);
    const lines = this.#shown.map(({ label, note, sign }, index) => {
      const line = make('li', 'finder-line');
      line.id = `${this.#list.id}-${index}`;
      line.setAttribute('role', 'option');
      line.append(sign, make('span', 'finder-label', label), make('span', 'finder-note', note));
      line.addEventListener('click', () => this.#take(index));
      line.addEventListener('pointermove', () => this.#choose(index));
      return line;
    });
    this.#list.replaceChildren(...(lines.length > 0 ? lines : [make('li', 'finder-none', 'Nothing of this name')]));
    this.#choose(0);
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined && this.#shown.length > 0) {
      event.preventDefault();
      this.#choose((this.#at + step + this.#shown.length) % this.#shown.length);
    } else if (event.key === 'Enter') {
      event.preventDefault();
      this.#take(this.#at);
    }
  }

  #choose(index: number): void {
    this.#at = index;
    [...this.#list.children].forEach((line, at) => line.setAttribute('aria-selected', String(at === index && this.#shown.length > 0)));
    const line = this.#shown.length > 0 ? this.#list.children[index] : undefined;
    line?.scrollIntoView({ block: 'nearest' });
    line === undefined ? this.field.removeAttribute('aria-activedescendant') : this.field.setAttribute('aria-activedescendant', line.id);
  }

  #take(index: number): void {
    const choice = this.#shown[index];
    if (choice !== undefined) {
      this.#chosen(choice);
    }
  }
}
