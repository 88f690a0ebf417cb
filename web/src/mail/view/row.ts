/** One mail of the list. */

import { make, setText } from '../../dom.js';
import type { Mark } from '../model/away.js';
import { isUnread, isUserLabel, STARRED } from '../model/labels.js';
import type { Label, Message } from '../model/protocol.js';
import { colourOf, initialsOf, senderOf, shortTime, wholeTime } from '../model/text.js';

/** What a row is shown with, beside its message. */
export interface RowContext {
  now: number;
  labels: readonly Label[];
  /** Where the mail is in Gmail; null if there is no Gmail. */
  address: ((message: Message) => string) | null;
}

/** As long as the animation. */
const FLASH_MS = 2_200;

let made = 0;

export class Row {
  readonly element = make('article', 'row');
  readonly #from = make('span', 'row-from');
  readonly #subject = make('b', 'row-subject');
  readonly #snippet = make('span', 'row-snippet');
  readonly #chips = make('span', 'row-chips');
  readonly #star = make('span', 'row-star', '★');
  readonly #time = make('time', 'row-time');
  readonly #avatar = make('span', 'avatar');
  readonly #flag = make('span', 'row-flag');
  #more: HTMLElement | null = null;
  #shown: Message | null = null;
  #day = '';
  #flashing: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly id: string) {
    made += 1;
    const name = `mail-${made}`;
    const words = make('span', 'row-words');
    words.append(this.#flag, this.#subject, ' ', this.#snippet);
    this.#star.setAttribute('aria-hidden', 'true');
    this.#avatar.setAttribute('aria-hidden', 'true');
    const line = make('div', 'row-line');
    line.append(make('span', 'row-dot'), this.#avatar, this.#from, words, this.#chips, this.#star, this.#time);
    this.element.append(line);
    this.element.dataset['id'] = id;
    this.element.tabIndex = -1;
    this.#from.id = `${name}-from`;
    this.#subject.id = `${name}-subject`;
    this.element.setAttribute('aria-labelledby', `${name}-from ${name}-subject`);
  }

  show(message: Message, mark: Mark | undefined, context: RowContext): void {
    const day = shortTime(message.date, context.now);
    setFlag(this.#flag, this.element, mark);
    if (message !== this.#shown || day !== this.#day) {
      this.#fill(message, day, context.labels);
      this.#shown = message;
      this.#day = day;
      if (this.#more !== null) {
        this.open(context);
      }
    }
  }

  get isOpen(): boolean {
    return this.#more !== null;
  }

  /** Shows all that is known of the mail. */
  open(context: RowContext): void {
    const message = this.#shown;
    if (message === null) {
      return;
    }
    const { name, address } = senderOf(message.from);
    const more = make('div', 'row-more');
    const facts = make('dl', 'row-facts');
    const entries = [
      ['From', address === '' || address === name ? name : `${name} <${address}>`],
      ['Received', wholeTime(message.date)],
      ['Labels', message.labels.map((id) => nameOf(id, context.labels)).join(', ') || 'none'],
      ['History', message.version],
    ];
    for (const [term, words] of entries) {
      const entry = make('div', '');
      entry.append(make('dt', '', term), make('dd', '', words));
      facts.append(entry);
    }
    more.append(make('p', 'row-text', message.snippet || 'No text.'), facts);
    if (context.address !== null) {
      const link = make('a', 'button small', 'Open in Gmail ↗');
      link.href = context.address(message);
      link.target = '_blank';
      link.rel = 'noreferrer';
      more.append(link);
    }
    this.#more?.remove();
    this.#more = more;
    this.element.append(more);
    this.element.dataset['open'] = 'true';
  }

  close(): void {
    this.#more?.remove();
    this.#more = null;
    delete this.element.dataset['open'];
  }

  /** For a moment: this has just changed. */
  flash(): void {
    delete this.element.dataset['flash'];
    // The animation begins anew only if the style was worked out without it.
    void this.element.offsetWidth;
    this.element.dataset['flash'] = 'true';
    // Whoever wants no motion has no animation that could end.
    clearTimeout(this.#flashing);
    this.#flashing = setTimeout(() => delete this.element.dataset['flash'], FLASH_MS);
  }

  #fill(message: Message, day: string, labels: readonly Label[]): void {
    const { name, address } = senderOf(message.from);
    const unread = isUnread(message.labels);
    const starred = message.labels.includes(STARRED);
    this.element.dataset['unread'] = String(unread);
    this.element.dataset['starred'] = String(starred);
    setText(this.#from, name);
    this.#from.title = address;
    setText(this.#subject, message.subject || '(no subject)');
    setText(this.#snippet, message.snippet);
    setText(this.#avatar, initialsOf(name));
    this.#avatar.dataset['colour'] = String(colourOf(address || name));
    setText(this.#time, day);
    this.#time.dateTime = new Date(message.date).toISOString();
    this.#time.title = wholeTime(message.date);
    const own = message.labels.filter(isUserLabel).map((id) => nameOf(id, labels));
    this.#chips.replaceChildren(
      ...own.map((label) => {
        const chip = make('span', 'chip', label);
        chip.dataset['colour'] = String(colourOf(label));
        return chip;
      }),
    );
    const words = [unread ? 'Unread.' : '', starred ? 'Starred.' : '', `${message.snippet}.`, `${day}.`];
    words.push(own.length > 0 ? `Labels: ${own.join(', ')}.` : '');
    this.element.setAttribute('aria-description', words.filter((word) => word !== '').join(' '));
  }
}

function setFlag(flag: HTMLElement, element: HTMLElement, mark: Mark | undefined): void {
  setText(flag, mark === 'new' ? 'new' : mark === 'changed' ? 'changed' : '');
  if (mark === undefined) {
    delete element.dataset['mark'];
  } else {
    element.dataset['mark'] = mark;
  }
}

const SYSTEM_NAMES: Record<string, string> = {
  INBOX: 'Inbox',
  UNREAD: 'Unread',
  STARRED: 'Starred',
  IMPORTANT: 'Important',
  SENT: 'Sent',
  DRAFT: 'Draft',
};

/** How a label is called; an id that has no name is shown as it is. */
export function nameOf(id: string, labels: readonly Label[]): string {
  const category = /^CATEGORY_(.+)$/.exec(id)?.[1];
  if (category !== undefined) {
    return category.charAt(0) + category.slice(1).toLowerCase();
  }
  return SYSTEM_NAMES[id] ?? labels.find((label) => label.id === id)?.name ?? id;
}

/** The part of an element that a click or a key is about. */
export function rowAt(target: EventTarget | null): HTMLElement | null {
  return target instanceof Element ? target.closest<HTMLElement>('.row') : null;
}

