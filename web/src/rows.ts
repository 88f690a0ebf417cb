/** The list of a pane: newest first, bounded, written once per frame. */

import { find, make } from './dom.js';
import { formatLatency } from './latency.js';
import type { Via } from './resume.js';

/** How many rows a pane keeps; older ones leave the page, never the counts. */
export const MAX_ROWS = 200;

/** One publication as a row shows it. */
export interface Row {
  seq: number;
  text: string;
  via: Via;
  /** Milliseconds from the click to the arrival; null for a publication of another page. */
  latency: number | null;
  /** Set when the row is wrong in the sequence. */
  problem: 'repeated' | 'out of order' | null;
}

/** Rows wait for the next frame: a burst is laid out once. */
export class Rows {
  readonly #list: HTMLOListElement;
  readonly #empty: HTMLElement;
  #pending: HTMLLIElement[] = [];

  constructor(pane: ParentNode) {
    this.#list = find(pane, '[data-field=rows]', HTMLOListElement);
    this.#empty = find(pane, '[data-field=empty]', HTMLElement);
  }

  /** A publication. */
  add(row: Row): void {
    this.#push(rowElement(row));
  }

  /** A line between publications that says what happened to the connection or the log. */
  note(text: string, tone: 'quiet' | 'good' | 'bad'): void {
    const item = make('li', 'note', text);
    item.dataset['tone'] = tone;
    this.#push(item);
  }

  /** Writes what has come since the last time. */
  flush(): void {
    if (this.#pending.length === 0) {
      return;
    }
    this.#empty.hidden = true;
    this.#list.prepend(...this.#pending.reverse());
    this.#pending = [];
    while (this.#list.childElementCount > MAX_ROWS) {
      this.#list.lastElementChild?.remove();
    }
  }

  /** Empties the list. */
  clear(): void {
    this.#pending = [];
    this.#list.replaceChildren();
    this.#empty.hidden = false;
  }

  #push(item: HTMLLIElement): void {
    this.#pending.push(item);
    // A page in the background is given no frames: what would fall off the list is not kept.
    if (this.#pending.length > MAX_ROWS) {
      this.#pending.shift();
    }
  }
}

function rowElement(row: Row): HTMLLIElement {
  const item = make('li', 'row');
  item.dataset['seq'] = String(row.seq);
  item.dataset['via'] = row.via;
  const badge = make('span', 'row-via', row.problem ?? row.via);
  badge.dataset['kind'] = row.problem === null ? row.via : 'problem';
  const latency = make(
    'span',
    'row-latency',
    row.latency === null ? '–' : formatLatency(row.latency),
  );
  if (row.latency === null) {
    latency.title = 'Published elsewhere: only this page’s own messages carry its clock';
  }
  item.append(
    make('span', 'row-seq', String(row.seq)),
    make('span', 'row-text', row.text),
    badge,
    latency,
  );
  return item;
}
