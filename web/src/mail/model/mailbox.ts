/**
 * The mailbox as far as this page knows it: what lists have shown and what events have said, folded into one.
 *
 * Lists and events come by different ways, so each may be older than what is here. A message's version decides: what is not newer
 * changes nothing. So events may come twice, or be in a list already, and the outcome is the same.
 */

import { belongs, type View } from './labels.js';
import { compareVersions, type MailEvent, type Message } from './protocol.js';

/** Most messages that a page keeps; beyond, the oldest go, down to the other number. */
export const ROWS_MAX = 5_000;
export const ROWS_KEPT = 2_500;
/** Most deleted messages that are remembered, so that a list that is on its way does not bring them back. */
export const GONE_MAX = 2_000;

/** What an event came to. */
export interface Applied {
  /** `old`: it said nothing new. */
  kind: 'new' | 'changed' | 'deleted' | 'old';
  id: string;
  /** The message's labels before and after, if known; no labels: it was not there. */
  before: readonly string[] | null | undefined;
  after: readonly string[] | null;
}

/** How far a list is loaded: the end of each part that was. */
export interface Part {
  /** The date of its last message: what is as new is there. */
  floor: number;
  /** Where the next one begins; null at the end of the list. */
  next: string | null;
}

export class Mailbox {
  readonly #rows = new Map<string, Message>();
  readonly #gone = new Map<string, string>();
  readonly #parts = new Map<View, Part[]>();

  get size(): number {
    return this.#rows.size;
  }

  get(id: string): Message | undefined {
    return this.#rows.get(id);
  }

  /** Takes an event in. */
  apply(event: MailEvent): Applied | null {
    switch (event.type) {
      case 'new_email':
        return this.#put(event.message, null);
      case 'email_update': {
        const { message, added, removed } = event;
        const kept = message.labels.filter((label) => !added.includes(label));
        return this.#put(message, [...kept, ...removed]);
      }
      case 'email_delete':
        return this.#delete(event.id, event.version);
      default:
        return null;
    }
  }

  /** Takes a part of a list in, the one behind what is loaded of it. */
  load(view: View, messages: readonly Message[], next: string | null): void {
    for (const message of messages) {
      this.#put(message, null);
    }
    const last = messages.at(-1);
    const parts = this.#parts.get(view) ?? [];
    const before = parts.at(-1)?.floor ?? Infinity;
    const floor = next === null ? -Infinity : Math.min(before, last?.date ?? before);
    this.#parts.set(view, [...parts, { floor, next }]);
    this.#bound();
  }

  /** Takes in what was kept of a list: whole parts of it. */
  restore(view: View, messages: readonly Message[], parts: readonly Part[]): void {
    for (const message of messages) {
      this.#put(message, null);
    }
    this.#parts.set(view, [...parts]);
  }

  /** How far a list is loaded; undefined if not at all. */
  end(view: View): Part | undefined {
    return this.#parts.get(view)?.at(-1);
  }

  parts(view: View): readonly Part[] {
    return this.#parts.get(view) ?? [];
  }

  /**
   * The messages of a list that can be shown without a hole between them, the newest first. Of a list that was never loaded: what
   * is known by chance.
   */
  list(view: View): Message[] {
    const floor = this.end(view)?.floor ?? -Infinity;
    const rows = [...this.#rows.values()].filter(
      ({ labels, date }) => date >= floor && belongs(view, labels),
    );
    return rows.sort(newestFirst);
  }

  #put(message: Message, before: readonly string[] | null): Applied {
    const { id, version, labels } = message;
    const old: Applied = { kind: 'old', id, before: labels, after: labels };
    const gone = this.#gone.get(id);
    if (gone !== undefined && compareVersions(version, gone) <= 0) {
      return old;
    }
    const known = this.#rows.get(id);
    if (known !== undefined && compareVersions(version, known.version) <= 0) {
      return old;
    }
    this.#gone.delete(id);
    this.#rows.set(id, message);
    const was = known?.labels ?? before;
    this.#boundRows();
    return { kind: was === null ? 'new' : 'changed', id, before: was, after: labels };
  }

  #delete(id: string, version: string): Applied {
    const known = this.#rows.get(id);
    const gone = this.#gone.get(id);
    const last = known?.version ?? gone;
    if (last !== undefined && compareVersions(version, last) < 0) {
      return { kind: 'old', id, before: null, after: null };
    }
    this.#rows.delete(id);
    this.#gone.delete(id);
    this.#gone.set(id, version);
    for (const oldest of this.#gone.keys()) {
      if (this.#gone.size <= GONE_MAX) {
        break;
      }
      this.#gone.delete(oldest);
    }
    return { kind: gone === version ? 'old' : 'deleted', id, before: known?.labels, after: null };
  }

  #boundRows(): void {
    if (this.#rows.size > ROWS_MAX) {
      this.#bound();
    }
  }

  /** Lets the oldest messages go; lists that had reached them end before. */
  #bound(): void {
    if (this.#rows.size <= ROWS_MAX) {
      return;
    }
    const rows = [...this.#rows.values()].sort(newestFirst);
    const cut = rows[ROWS_KEPT]?.date ?? -Infinity;
    for (const { id } of rows.slice(ROWS_KEPT)) {
      this.#rows.delete(id);
    }
    for (const [view, parts] of this.#parts) {
      const left = parts.filter(({ floor }) => floor > cut);
      if (left.length > 0) {
        this.#parts.set(view, left);
      } else {
        this.#parts.delete(view);
      }
    }
  }
}

export function newestFirst(one: Message, other: Message): number {
  return other.date - one.date || (other.id > one.id ? 1 : other.id < one.id ? -1 : 0);
}
