/**
 * The list: rows under the days that they came on, changed in place. A row that stays keeps its element, so whoever reads, or stands on it with the
 * keyboard, is not disturbed by what comes above.
 */

import { find, make, setText } from '../../dom.js';
import type { Mark } from '../model/away.js';
import type { Message } from '../model/protocol.js';
import { dayText, plural } from '../model/text.js';
import { Row, rowAt, type RowContext } from './row.js';

/** As near to the end of the list as this, the next part is asked for. */
const AHEAD = '900px';
/** How long a row takes to go, in milliseconds; and how many may take that long at once. */
const LEAVE_MS = 180;
const LEAVING_MAX = 6;

export interface ListActions {
  more(): void;
  /** Another mail is the one that keys are about; null: none. */
  chosen(id: string | null): void;
}

export class ListView {
  readonly #list = find(document, '#list', HTMLElement);
  readonly #end = find(document, '#end', HTMLElement);
  readonly #above = find(document, '#above', HTMLButtonElement);
  readonly #aboveText = find(document, '#above-text', HTMLElement);
  readonly #rows = new Map<string, Row>();
  readonly #days = new Map<string, HTMLElement>();
  readonly #flashing = new Set<string>();
  readonly #actions: ListActions;
  readonly #calm = matchMedia('(prefers-reduced-motion: reduce)');
  #context: RowContext = { now: 0, labels: [], address: null };
  #order: string[] = [];
  #chosen: string | null = null;
  #newAbove = 0;

  constructor(actions: ListActions) {
    this.#actions = actions;
    this.#list.addEventListener('click', (event) => this.#clicked(event));
    this.#list.addEventListener('focusin', (event) => {
      const id = rowAt(event.target)?.dataset['id'];
      if (id !== undefined) {
        this.#choose(id);
      }
    });
    new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && this.#actions.more(),
      { rootMargin: AHEAD },
    ).observe(this.#end);
    this.#above.addEventListener('click', () => {
      scrollTo({ top: 0, behavior: this.#calm.matches ? 'auto' : 'smooth' });
      this.#seeAbove();
    });
    addEventListener('scroll', () => scrollY < 80 && this.#seeAbove(), { passive: true });
  }

  /** The mail that keys are about. */
  get chosen(): string | null {
    return this.#chosen;
  }

  /** It has just changed, or come; shown with the next `show`. */
  flash(id: string): void {
    this.#flashing.add(id);
  }

  /** Another list: nothing flies in or out. */
  clear(): void {
    this.#rows.clear();
    this.#days.clear();
    this.#order = [];
    this.#list.replaceChildren();
    this.#choose(null);
    this.#seeAbove();
    scrollTo({ top: 0 });
  }

  show(messages: readonly Message[], total: number | undefined, marks: ReadonlyMap<string, Mark>, context: RowContext): void {
    this.#context = context;
    const focused = rowAt(document.activeElement)?.dataset['id'];
    const before = this.#order;
    const wanted = this.#wanted(messages, marks, total);
    this.#order = messages.map(({ id }) => id);
    this.#leave(new Set(this.#order), before);
    this.#place(wanted);
    this.#flashAll(before);
    if (focused !== undefined && !this.#rows.has(focused)) {
      this.#focusNear(before.indexOf(focused));
    } else if (focused !== undefined && rowAt(document.activeElement)?.dataset['id'] !== focused) {
      // A row that is moved loses the keyboard.
      this.#rows.get(focused)?.element.focus({ preventScroll: true });
    }
    this.#rove();
    this.#wantMore();
  }

  /** Goes `step` mails on, or to an end of the list. */
  step(step: number): void {
    const last = this.#order.length - 1;
    const at = this.#chosen === null ? (step > 0 ? -1 : 0) : this.#order.indexOf(this.#chosen);
    this.#focus(Math.max(0, Math.min(last, at + step)));
  }

  first(): void {
    this.#focus(0);
    scrollTo({ top: 0 });
  }

  last(): void {
    this.#focus(this.#order.length - 1);
    this.#actions.more();
  }

  toggle(): void {
    const row = this.#chosen === null ? undefined : this.#rows.get(this.#chosen);
    if (row === undefined) {
      return;
    }
    const wasOpen = row.isOpen;
    this.closeAll();
    if (!wasOpen) {
      row.open(this.#context);
      row.element.scrollIntoView({ block: 'nearest' });
    }
  }

  closeAll(): void {
    this.#rows.forEach((row) => row.close());
  }

  /** The rows and days, in their order. */
  #wanted(messages: readonly Message[], marks: ReadonlyMap<string, Mark>, total: number | undefined): HTMLElement[] {
    const wanted: HTMLElement[] = [];
    const days = new Set<string>();
    messages.forEach((message, index) => {
      const day = dayText(message.date, this.#context.now);
      if (!days.has(day)) {
        days.add(day);
        wanted.push(this.#day(day));
      }
      const row = this.#rows.get(message.id) ?? this.#make(message.id);
      row.show(message, marks.get(message.id), this.#context);
      row.element.setAttribute('aria-posinset', String(index + 1));
      row.element.setAttribute('aria-setsize', String(total === undefined ? -1 : Math.max(total, messages.length)));
      wanted.push(row.element);
    });
    for (const [day, element] of this.#days) {
      if (!days.has(day)) {
        element.remove();
        this.#days.delete(day);
      }
    }
    return wanted;
  }

  #make(id: string): Row {
    const row = new Row(id);
    this.#rows.set(id, row);
    return row;
  }

  #day(day: string): HTMLElement {
    const known = this.#days.get(day);
    if (known !== undefined) {
      return known;
    }
    const heading = make('h2', 'day', day);
    this.#days.set(day, heading);
    return heading;
  }

  /** Rows that are no longer in the list go; a few of them so that one sees it. */
  #leave(stay: ReadonlySet<string>, before: readonly string[]): void {
    const gone = before.filter((id) => !stay.has(id));
    const slowly = gone.length <= LEAVING_MAX && !this.#calm.matches && !document.hidden;
    for (const id of gone) {
      const element = this.#rows.get(id)?.element;
      this.#rows.delete(id);
      if (element === undefined) {
        continue;
      }
      if (!slowly) {
        element.remove();
        continue;
      }
      element.dataset['leaving'] = 'true';
      element.inert = true;
      const height = `${element.offsetHeight}px`;
      const frames = [
        { height, opacity: 1 },
        { height: '0px', opacity: 0 },
      ];
      const animation = element.animate(frames, { duration: LEAVE_MS, easing: 'ease-out' });
      animation.onfinish = animation.oncancel = () => element.remove();
    }
  }

  /** Puts elements where they belong, and touches none that is there already. */
  #place(wanted: readonly HTMLElement[]): void {
    let cursor = this.#list.firstElementChild;
    for (const element of wanted) {
      while (cursor instanceof HTMLElement && cursor.dataset['leaving'] !== undefined) {
        cursor = cursor.nextElementSibling;
      }
      if (cursor === element) {
        cursor = cursor.nextElementSibling;
      } else {
        this.#list.insertBefore(element, cursor);
      }
    }
  }

  #flashAll(before: readonly string[]): void {
    const known = new Set(before);
    let above = 0;
    for (const id of this.#flashing) {
      const row = this.#rows.get(id);
      row?.flash();
      if (row !== undefined && !known.has(id) && row.element.getBoundingClientRect().bottom < 0) {
        above += 1;
      }
    }
    this.#flashing.clear();
    if (above > 0 && scrollY > 80) {
      this.#newAbove += above;
      setText(this.#aboveText, `${plural(this.#newAbove, 'new mail')}`);
      this.#above.hidden = false;
    }
  }

  #seeAbove(): void {
    this.#newAbove = 0;
    this.#above.hidden = true;
  }

  /** The row that had the keyboard is gone: the one that is there now has it. */
  #focusNear(index: number): void {
    this.#choose(null);
    if (this.#order.length > 0) {
      this.#focus(Math.min(Math.max(0, index), this.#order.length - 1));
    } else {
      this.#list.focus({ preventScroll: true });
    }
  }

  #focus(index: number): void {
    const id = this.#order[index];
    const row = id === undefined ? undefined : this.#rows.get(id);
    if (id !== undefined && row !== undefined) {
      this.#choose(id);
      row.element.focus({ preventScroll: true });
      row.element.scrollIntoView({ block: 'nearest' });
    }
  }

  #choose(id: string | null): void {
    if (id !== this.#chosen) {
      this.#chosen = id;
      this.#rove();
      this.#actions.chosen(id);
    }
  }

  /** The tab key comes to one row: the chosen one, or the first. */
  #rove(): void {
    const reachable = this.#chosen !== null && this.#rows.has(this.#chosen) ? this.#chosen : this.#order[0];
    for (const [id, { element }] of this.#rows) {
      const index = id === reachable ? 0 : -1;
      if (element.tabIndex !== index) {
        element.tabIndex = index;
      }
      if (id === this.#chosen) {
        element.dataset['chosen'] = 'true';
      } else {
        delete element.dataset['chosen'];
      }
    }
  }

  #clicked(event: MouseEvent): void {
    const element = rowAt(event.target);
    const id = element?.dataset['id'];
    const within = event.target instanceof Element && event.target.closest('a, .row-more') !== null;
    if (element === null || id === undefined || within || getSelection()?.isCollapsed === false) {
      return;
    }
    this.#choose(id);
    element.focus({ preventScroll: true });
    this.toggle();
  }

  /** The observer only tells of changes: a part that does not fill the window is followed by the next. */
  #wantMore(): void {
    const { top } = this.#end.getBoundingClientRect();
    if (this.#order.length > 0 && top < innerHeight + 400) {
      this.#actions.more();
    }
  }
}
