/**
 * A list of messages that scrolls. Elements are kept as long as what they show is the same; what is read does not move, whatever is put in above
 * it; and who looks at the end sees what comes.
 */

import { make } from '../../dom.js';
import type { Item } from '../model/items.js';
import type { Message } from '../model/message.js';
import type { Ts } from '../model/ts.js';
import { drawItem, type RowContext } from './row.js';

/** More is asked for when less than this is left, in pixels. */
const AHEAD_PX = 700;
/** So near the end one is at it. */
const END_PX = 40;
const FLASH_MS = 2_400;

export interface ListActions {
  older(): void;
  newer(): void;
  /** Scrolled, resized, or drawn: whether the end is seen may be different. */
  moved(): void;
  /** A row is pointed at, or has the keyboard. */
  entered(row: HTMLElement, message: Message): void;
  key(event: KeyboardEvent, message: Message | null): void;
}

export interface Drawing {
  /** What the list is of: another one begins at its end. */
  name: string;
  items: readonly Item[];
  /** The list reaches up to now. */
  live: boolean;
  /** Nothing is older. */
  whole: boolean;
  /** Above everything, where nothing is older. */
  intro: HTMLElement | null;
  loading: boolean;
  /** Counts what all rows depend on, as names. */
  version: number;
  context: RowContext;
}

interface Drawn {
  element: HTMLElement;
  item: Item;
  version: number;
}

export class MessageList {
  readonly #box: HTMLElement;
  readonly #rows = make('div', 'rows');
  readonly #top = make('div', 'list-top');
  readonly #actions: ListActions;
  #drawn = new Map<string, Drawn>();
  #name = '';
  /** The next drawing shows the end, wherever one is. */
  #endNext = true;
  /** The end was seen when one last scrolled or it was drawn: a change of size keeps it in sight. */
  #stuck = true;
  #live = true;
  #whole = true;
  #goal: { ts: Ts; flash: boolean } | null = null;
  /** A row that is being edited in place: it stays as it is. */
  #held: Ts | null = null;

  constructor(box: HTMLElement, label: string, actions: ListActions) {
    this.#box = box;
    this.#actions = actions;
    this.#rows.setAttribute('role', 'feed');
    this.#rows.setAttribute('aria-label', label);
    box.append(this.#top, this.#rows);
    box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(box);
    this.#rows.addEventListener('pointerover', (event) => this.#entered(event.target));
    this.#rows.addEventListener('focusin', (event) => this.#entered(event.target));
    box.addEventListener('keydown', (event) => this.#key(event));
  }

  /** The last line is seen, and it is the newest there is. */
  get atEnd(): boolean {
    return this.#live && this.#distance() <= END_PX;
  }

  get element(): HTMLElement {
    return this.#box;
  }

  /** Shows this message once it is drawn. */
  goTo(ts: Ts, flash = true): void {
    this.#goal = { ts, flash };
    this.#endNext = false;
  }

  toEnd(): void {
    this.#goal = null;
    this.#endNext = true;
    this.#box.scrollTop = this.#box.scrollHeight;
  }

  hold(ts: Ts | null): void {
    this.#held = ts;
    if (ts === null) {
      // What was left as it was is drawn with the next time.
      this.#drawn.forEach((drawn) => (drawn.version = drawn.element.classList.contains('editing') ? -1 : drawn.version));
    }
  }

  rowOf(ts: Ts): HTMLElement | null {
    return this.#drawn.get(ts)?.element ?? null;
  }

  messageOf(row: HTMLElement): Message | null {
    const item = this.#drawn.get(row.dataset['ts'] ?? '')?.item;
    return item?.kind === 'message' ? item.message : null;
  }

  focusLast(): void {
    const rows = this.#rows.querySelectorAll<HTMLElement>('.row');
    (rows[rows.length - 1] ?? this.#box).focus();
  }

  draw(drawing: Drawing): void {
    if (drawing.name !== this.#name) {
      this.#name = drawing.name;
      this.#drawn.clear();
      this.#rows.replaceChildren();
      this.#endNext = this.#goal === null;
      this.#held = null;
    }
    // Measured now: that one has scrolled may not have been told yet.
    const stuck = this.#goal === null && (this.#endNext || this.#distance() <= END_PX);
    this.#endNext = false;
    const anchor = stuck ? null : this.#anchor();
    [this.#live, this.#whole] = [drawing.live, drawing.whole];
    this.#drawTop(drawing);
    this.#place(drawing);
    this.#rows.setAttribute('aria-busy', String(drawing.loading));
    if (stuck && drawing.live) {
      this.#box.scrollTop = this.#box.scrollHeight;
    } else if (anchor !== null && anchor.element.isConnected) {
      const { top } = anchor.element.getBoundingClientRect();
      this.#box.scrollTop += top - anchor.top;
    }
    this.#reach();
    this.#stuck = this.#goal === null && this.#distance() <= END_PX;
    this.#ask();
    this.#actions.moved();
  }

  #drawTop({ whole, intro, loading, items }: Drawing): void {
    const wanted = whole ? intro : make('p', 'list-loading', loading || items.length > 0 ? 'Loading earlier messages…' : '');
    const [now] = this.#top.children;
    if (wanted === null) {
      this.#top.replaceChildren();
    } else if (now === undefined || now.className !== wanted.className || now.textContent !== wanted.textContent) {
      this.#top.replaceChildren(wanted);
    }
  }

  /** Puts every item's element in its place; those that are the same stay where they are. */
  #place({ items, version, context }: Drawing): void {
    const next = new Map<string, Drawn>();
    const focused = focusIn(this.#rows);
    for (const item of items) {
      const before = this.#drawn.get(item.key);
      const kept = before !== undefined && (item.key === this.#held || (before.version === version && same(before.item, item)));
      next.set(item.key, kept ? { ...before, item } : { element: drawItem(item, context), item, version });
    }
    for (const [key, { element }] of this.#drawn) {
      if (next.get(key)?.element !== element) {
        const after = next.get(key)?.element;
        after === undefined ? element.remove() : element.replaceWith(after);
      }
    }
    let place: ChildNode | null = this.#rows.firstChild;
    for (const { element } of next.values()) {
      if (element === place) {
        place = place.nextSibling;
      } else {
        this.#rows.insertBefore(element, place);
      }
    }
    this.#drawn = next;
    focused?.(this.#rows);
  }

  /** What is at the upper edge of what is seen. */
  #anchor(): { element: HTMLElement; top: number } | null {
    const edge = this.#box.getBoundingClientRect().top;
    for (const { element, item } of this.#drawn.values()) {
      const { top, bottom } = element.getBoundingClientRect();
      if (bottom > edge && item.kind !== 'day' && item.kind !== 'new') {
        return { element, top };
      }
    }
    return null;
  }

  /** Goes to the message that is wanted, or the first one after it. */
  #reach(): void {
    const goal = this.#goal;
    if (goal === null || this.#drawn.size === 0) {
      return;
    }
    const keys = [...this.#drawn.values()].flatMap(({ item }) => (item.kind === 'message' ? [item.key] : []));
    const key = keys.find((ts) => ts >= goal.ts) ?? keys.at(-1);
    const row = key === undefined ? undefined : this.#drawn.get(key)?.element;
    if (row === undefined) {
      return;
    }
    this.#goal = null;
    row.scrollIntoView({ block: 'center' });
    if (goal.flash) {
      row.focus({ preventScroll: true });
      row.classList.add('found');
      setTimeout(() => row.classList.remove('found'), FLASH_MS);
    }
  }

  #scrolled(): void {
    this.#stuck = this.#distance() <= END_PX;
    this.#ask();
    this.#actions.moved();
  }

  #resized(): void {
    if (this.#stuck && this.#live) {
      this.#box.scrollTop = this.#box.scrollHeight;
    }
    this.#ask();
    this.#actions.moved();
  }

  #ask(): void {
    if (this.#drawn.size === 0 || this.#goal !== null || this.#box.clientHeight === 0) {
      return;
    }
    if (!this.#whole && this.#box.scrollTop < AHEAD_PX) {
      this.#actions.older();
    }
    if (!this.#live && this.#distance() < AHEAD_PX) {
      this.#actions.newer();
    }
  }

  #distance(): number {
    const { scrollHeight, scrollTop, clientHeight } = this.#box;
    return scrollHeight - scrollTop - clientHeight;
  }

  #entered(target: EventTarget | null): void {
    const row = target instanceof Element ? target.closest<HTMLElement>('.row') : null;
    const message = row === null ? null : this.messageOf(row);
    if (row !== null && message !== null) {
      this.#actions.entered(row, message);
    }
  }

  #key(event: KeyboardEvent): void {
    const target = event.target instanceof HTMLElement ? event.target : null;
    if (target === null || target.closest('textarea, input') !== null) {
      return;
    }
    const row = target.closest<HTMLElement>('.row');
    if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
      const rows = [...this.#rows.querySelectorAll<HTMLElement>('.row')];
      const at = row === null ? rows.length : rows.indexOf(row);
      const next = rows[at + (event.key === 'ArrowUp' ? -1 : 1)];
      if (next !== undefined && !event.altKey && !event.ctrlKey) {
        next.focus();
        next.scrollIntoView({ block: 'nearest' });
        event.preventDefault();
      }
      return;
    }
    this.#actions.key(event, row === null ? null : this.messageOf(row));
  }
}

/** Whether two items are drawn alike. */
function same(before: Item, after: Item): boolean {
  switch (after.kind) {
    case 'message':
      return before.kind === 'message' && before.message === after.message && before.head === after.head;
    case 'pending':
      return before.kind === 'pending' && before.head === after.head && looks(before.pending) === looks(after.pending);
    case 'replies':
      return before.kind === 'replies' && before.count === after.count;
    default:
      return before.kind === after.kind;
  }
}

function looks({ state, reason }: { state: string; reason: string }): string {
  return `${state === 'refused'} ${reason}`;
}

/** What has the keyboard within the rows, to give it back to whatever is drawn in its place. */
function focusIn(rows: HTMLElement): ((rows: HTMLElement) => void) | null {
  const focused = document.activeElement;
  const row = focused?.closest<HTMLElement>('.row');
  if (!(focused instanceof HTMLElement) || row == null || !rows.contains(row)) {
    return null;
  }
  const { ts, pending } = row.dataset;
  const { reaction } = focused.dataset;
  const selector = ts === undefined ? `[data-pending="${CSS.escape(pending ?? '')}"]` : `[data-ts="${CSS.escape(ts)}"]`;
  return (after) => {
    if (focused.isConnected) {
      return;
    }
    const again = after.querySelector<HTMLElement>(selector);
    const part = reaction === undefined ? null : (again?.querySelector<HTMLElement>(`[data-reaction="${CSS.escape(reaction)}"]`) ?? null);
    (part ?? again)?.focus({ preventScroll: true });
  };
}
