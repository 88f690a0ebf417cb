/** The field in which one writes: formatting, naming, emoji, and what becomes of it. */

import { make } from '../../dom.js';
import { namingAt, type Naming } from '../model/compose.js';
import { icon, tool } from './icon.js';
import type { Picker } from './picker.js';

/** Longer than any message the server takes. */
const LENGTH_MAX = 40_000;
const ROWS_MAX = 12;

/** Something that may stand for what is being named. */
export interface Offer {
  readonly insert: string;
  readonly label: string;
  readonly note: string;
  readonly sign: HTMLElement | string;
}

export interface ComposerActions {
  send(text: string, broadcast: boolean): void;
  /** Something was typed. */
  typed(text: string): void;
  /** Arrow up in an empty field. */
  editLast(): boolean;
  offers(naming: Naming): Offer[];
  cancelled?(): void;
}

export interface ComposerOptions {
  id: string;
  label: string;
  /** Ask whether a reply is shown in the conversation too. */
  broadcast?: boolean;
  /** What is written replaces something: the button says so. */
  saves?: boolean;
}

const MARKS: readonly { mark: string; label: string; text: string; key?: string }[] = [
  { mark: '*', label: 'Bold', text: 'B', key: 'b' },
  { mark: '_', label: 'Italic', text: 'i', key: 'i' },
  { mark: '~', label: 'Strike', text: 'S' },
  { mark: '`', label: 'Code', text: '</>' },
];

export class Composer {
  readonly element = make('form', 'composer');
  readonly field = make('textarea', 'composer-text');
  readonly #actions: ComposerActions;
  readonly #send: HTMLButtonElement;
  readonly #offers = make('ul', 'offers');
  readonly #broadcast: HTMLInputElement | null;
  #offered: Offer[] = [];
  #chosen = 0;
  #naming: Naming | null = null;

  constructor(options: ComposerOptions, picker: Picker, actions: ComposerActions) {
    this.#actions = actions;
    const { field } = this;
    field.id = `${options.id}-text`;
    field.rows = 1;
    field.maxLength = LENGTH_MAX;
    field.setAttribute('aria-label', options.label);
    field.setAttribute('aria-autocomplete', 'list');
    this.#offers.id = `${options.id}-offers`;
    this.#offers.setAttribute('role', 'listbox');
    this.#offers.setAttribute('aria-label', 'Suggestions');
    this.#offers.hidden = true;
    field.setAttribute('aria-controls', this.#offers.id);
    this.#send = make('button', 'composer-send', options.saves === true ? 'Save' : '');
    this.#send.type = 'submit';
    if (options.saves !== true) {
      this.#send.append(icon('send'));
      this.#send.setAttribute('aria-label', 'Send');
      this.#send.title = 'Send';
    }
    this.#broadcast = options.broadcast === true ? make('input', '') : null;
    this.element.append(this.#offers, field, this.#bar(picker, options));
    if (this.#broadcast !== null) {
      this.element.append(broadcastLine(this.#broadcast));
    }
    this.#listen();
    this.#changed();
  }

  get text(): string {
    return this.field.value;
  }

  set text(text: string) {
    this.field.value = text;
    this.#close();
    this.#changed();
  }

  get placeholder(): string {
    return this.field.placeholder;
  }

  set placeholder(text: string) {
    if (this.field.placeholder !== text) {
      this.field.placeholder = text;
      this.field.setAttribute('aria-label', text);
    }
  }

  focus(): void {
    this.field.focus();
    this.field.setSelectionRange(this.text.length, this.text.length);
  }

  insert(text: string): void {
    this.field.setRangeText(text, this.field.selectionStart, this.field.selectionEnd, 'end');
    this.field.focus();
    this.#typed();
  }

  #bar(picker: Picker, options: ComposerOptions): HTMLElement {
    const bar = make('div', 'composer-bar');
    for (const { mark, label, text, key } of MARKS) {
      const button = make('button', `tool mark-${label.toLowerCase()}`, text);
      button.type = 'button';
      button.title = key === undefined ? label : `${label} (Ctrl+${key.toUpperCase()})`;
      button.setAttribute('aria-label', label);
      button.addEventListener('click', () => this.#wrap(mark));
      bar.append(button);
    }
    bar.append(
      tool('at', 'Mention somebody', () => this.insert('@')),
      tool('smile', 'Emoji', (button) => picker.open(button, (name) => this.insert(`:${name}: `))),
      make('span', 'composer-space'),
    );
    if (options.saves === true) {
      const cancel = make('button', 'button small', 'Cancel');
      cancel.type = 'button';
      cancel.addEventListener('click', () => this.#actions.cancelled?.());
      bar.append(cancel);
      this.#send.className = 'button small primary';
    }
    bar.append(this.#send);
    return bar;
  }

  #listen(): void {
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.field.addEventListener('input', () => this.#typed());
    this.field.addEventListener('keydown', (event) => this.#key(event));
    this.field.addEventListener('blur', () => this.#close());
    this.field.addEventListener('click', () => this.#offer());
  }

  #submit(): void {
    const text = this.text.trim();
    if (text === '') {
      return;
    }
    const broadcast = this.#broadcast?.checked ?? false;
    this.text = '';
    if (this.#broadcast !== null) {
      this.#broadcast.checked = false;
    }
    this.#actions.send(text, broadcast);
  }

  #key(event: KeyboardEvent): void {
    if (event.isComposing || (!this.#offers.hidden && this.#offerKey(event))) {
      return;
    }
    const command = event.ctrlKey || event.metaKey;
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'ArrowUp' && this.text === '' && !event.altKey && this.#actions.editLast()) {
      event.preventDefault();
    } else if (event.key === 'Escape' && this.#actions.cancelled !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      this.#actions.cancelled();
    } else if (command && !event.shiftKey) {
      const found = MARKS.find(({ key }) => key === event.key.toLowerCase());
      if (found !== undefined) {
        event.preventDefault();
        this.#wrap(found.mark);
      }
    }
  }

  #wrap(mark: string): void {
    const { selectionStart, selectionEnd } = this.field;
    const inner = this.text.slice(selectionStart, selectionEnd);
    this.field.setRangeText(`${mark}${inner}${mark}`, selectionStart, selectionEnd, 'end');
    if (inner === '') {
      this.field.setSelectionRange(selectionStart + 1, selectionStart + 1);
    }
    this.field.focus();
    this.#typed();
  }

  #typed(): void {
    this.#changed();
    this.#offer();
    this.#actions.typed(this.text);
  }

  #changed(): void {
    this.#send.disabled = this.text.trim() === '';
    this.field.rows = Math.min(ROWS_MAX, this.text.split('\n').length);
  }

  // === What is offered while one names somebody ===

  #offer(): void {
    const { selectionStart, selectionEnd } = this.field;
    this.#naming = selectionStart === selectionEnd ? namingAt(this.text, selectionStart) : null;
    this.#offered = this.#naming === null ? [] : this.#actions.offers(this.#naming);
    this.#chosen = 0;
    this.#offers.hidden = this.#offered.length === 0;
    this.#offers.replaceChildren(...this.#offered.map((offer, index) => this.#line(offer, index)));
    this.#choose(0);
  }

  #line({ label, note, sign }: Offer, index: number): HTMLElement {
    const line = make('li', 'offer');
    line.id = `${this.#offers.id}-${index}`;
    line.setAttribute('role', 'option');
    line.append(typeof sign === 'string' ? make('span', 'offer-sign', sign) : sign, make('span', 'offer-label', label), make('span', 'offer-note', note));
    line.addEventListener('pointerdown', (event) => {
      event.preventDefault();
      this.#take(index);
    });
    return line;
  }

  #offerKey(event: KeyboardEvent): boolean {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      this.#choose((this.#chosen + step + this.#offered.length) % this.#offered.length);
    } else if (event.key === 'Enter' || event.key === 'Tab') {
      this.#take(this.#chosen);
    } else if (event.key === 'Escape') {
      this.#close();
      event.stopPropagation();
    } else {
      return false;
    }
    event.preventDefault();
    return true;
  }

  #choose(index: number): void {
    this.#chosen = index;
    [...this.#offers.children].forEach((line, at) => line.setAttribute('aria-selected', String(at === index)));
    const line = this.#offers.children[index];
    line?.scrollIntoView({ block: 'nearest' });
    line === undefined || this.#offers.hidden
      ? this.field.removeAttribute('aria-activedescendant')
      : this.field.setAttribute('aria-activedescendant', line.id);
  }

  #take(index: number): void {
    const offer = this.#offered[index];
    if (offer !== undefined && this.#naming !== null) {
      this.field.setRangeText(`${offer.insert} `, this.#naming.from, this.field.selectionStart, 'end');
      this.#typed();
    }
    this.#close();
  }

  #close(): void {
    this.#offers.hidden = true;
    this.field.removeAttribute('aria-activedescendant');
  }
}

function broadcastLine(box: HTMLInputElement): HTMLElement {
  const label = make('label', 'composer-broadcast');
  box.type = 'checkbox';
  label.append(box, ' Also send to the channel');
  return label;
}
