/** The small table of emoji, beside whatever asked for it. */

import { make } from '../../dom.js';
import { groups, search, type Emoji } from '../model/emoji.js';

const FOUND_MAX = 40;
const COLUMNS = 8;

export class Picker {
  readonly #element = make('div', 'picker');
  readonly #text = make('input', 'picker-text');
  readonly #table = make('div', 'picker-table');
  #picked: ((name: string) => void) | null = null;
  #opener: HTMLElement | null = null;

  constructor() {
    this.#element.setAttribute('role', 'dialog');
    this.#element.setAttribute('aria-label', 'Emoji');
    this.#text.type = 'search';
    this.#text.placeholder = 'Find an emoji';
    this.#text.setAttribute('aria-label', 'Find an emoji');
    this.#element.append(this.#text, this.#table);
    this.#text.addEventListener('input', () => this.#draw());
    this.#element.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener('pointerdown', (event) => {
      const inside = event.target instanceof Node && (this.#element.contains(event.target) || this.#opener?.contains(event.target));
      if (this.isOpen && inside !== true) {
        this.close(false);
      }
    });
  }

  get isOpen(): boolean {
    return this.#element.isConnected;
  }

  /** Opens beside an element; what is picked is told, once. */
  open(beside: HTMLElement, picked: (name: string) => void): void {
    if (this.isOpen && this.#opener === beside) {
      this.close();
      return;
    }
    this.#opener = beside;
    this.#picked = picked;
    const { top, left } = beside.getBoundingClientRect();
    const frame = beside.closest<HTMLElement>('.pane, .talk') ?? document.body;
    this.#element.dataset['up'] = String(top > window.innerHeight / 2);
    this.#element.dataset['left'] = String(left > window.innerWidth / 2);
    frame.append(this.#element);
    // Set through the object model, which the policy of the page allows.
    const box = frame.getBoundingClientRect();
    const up = this.#element.dataset['up'] === 'true';
    const height = this.#element.offsetHeight;
    const y = up ? top - box.top - height - 6 : beside.getBoundingClientRect().bottom - box.top + 6;
    const x = Math.min(left - box.left, box.width - this.#element.offsetWidth - 12);
    this.#element.style.insetBlockStart = `${Math.max(6, Math.min(y, box.height - height - 6))}px`;
    this.#element.style.insetInlineStart = `${Math.max(6, x)}px`;
    this.#text.value = '';
    this.#draw();
    this.#text.focus();
  }

  close(back = true): void {
    if (this.isOpen) {
      this.#element.remove();
      if (back) {
        this.#opener?.focus();
      }
      this.#opener = null;
    }
  }

  #draw(): void {
    const wanted = this.#text.value.trim();
    if (wanted !== '') {
      const found = search(wanted, FOUND_MAX);
      this.#table.replaceChildren(found.length === 0 ? make('p', 'picker-none', 'No emoji of this name') : this.#group('Found', found));
      return;
    }
    this.#table.replaceChildren(...groups().map(({ name, emoji }) => this.#group(name, emoji)));
  }

  #group(name: string, emoji: readonly Emoji[]): HTMLElement {
    const group = make('section', 'picker-group');
    const grid = make('div', 'picker-grid');
    for (const { name: id, sign } of emoji) {
      const button = make('button', 'picker-one', sign);
      button.type = 'button';
      button.title = `:${id}:`;
      button.setAttribute('aria-label', id.replaceAll('_', ' '));
      button.addEventListener('click', () => this.#pick(id));
      grid.append(button);
    }
    group.append(make('h3', '', name), grid);
    return group;
  }

  #pick(name: string): void {
    const picked = this.#picked;
    this.close();
    picked?.(name);
  }

  #key(event: KeyboardEvent): void {
    const all = [...this.#table.querySelectorAll<HTMLElement>('.picker-one')];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS }[event.key];
    event.stopPropagation();
    if (event.key === 'Escape') {
      this.close();
    } else if (event.key === 'Enter' && at < 0) {
      all[0]?.click();
    } else if (step !== undefined && (at >= 0 || event.key === 'ArrowDown')) {
      (all[at < 0 ? 0 : at + step] ?? this.#text).focus();
    } else {
      return;
    }
    event.preventDefault();
  }
}
