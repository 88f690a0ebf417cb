/**
 * What changed while the page could not hear of it. A stream that is resumed brings what was missed and what is new one after the
 * other, with nothing between: what stands at or below the head of the time of the return was missed. The head is asked for beside the
 * stream, so it may come to be known after the first events.
 */

import type { Applied } from './mailbox.js';
import type { MailEvent, Message } from './protocol.js';

export type Mark = 'new' | 'changed' | 'deleted';

export interface Missed {
  /** By message. */
  marks: Map<string, Mark>;
  new: number;
  changed: number;
  /** Or moved out of the list. */
  deleted: number;
}

/** Most events that wait for the head. */
const WAITING_MAX = 10_000;

export class Away {
  #head: number | null = null;
  #at = 0;
  readonly #noted: { seq: number; applied: Applied }[] = [];

  /** @param since when the page last heard of anything, in milliseconds since 1970 */
  constructor(readonly since: number) {}

  note(seq: number, applied: Applied | null): void {
    this.#at = Math.max(this.#at, seq);
    if (applied !== null && applied.kind !== 'old' && this.#noted.length < WAITING_MAX) {
      this.#noted.push({ seq, applied });
    }
  }

  /** The channel had come to `seq` when the stream was back; it begins behind `from`. */
  learnHead(seq: number, from: number): void {
    this.#head = Math.max(this.#head ?? 0, seq);
    this.#at = Math.max(this.#at, from);
  }

  /** All that was missed is here. */
  get complete(): boolean {
    return this.#head !== null && this.#at >= this.#head;
  }

  /** What was missed, each message once: by how it is now, compared with how it was then. */
  missed(): Missed {
    const head = this.#head ?? Infinity;
    const marks = new Map<string, Mark>();
    for (const { seq, applied } of this.#noted) {
      if (seq <= head) {
        join(marks, applied);
      }
    }
    return counted(marks);
  }
}

/** So long after a return the server may have to catch up itself. */
const TAIL_MS = 30_000;

/**
 * What happened while the server was away as well: it hears of that from Gmail only after the return, so the head of the channel says nothing of it.
 * A mail that Gmail had received before the return was missed, and so was what comes with it, until Gmail has told everything.
 */
export class Tail {
  #within = false;

  /** @param returnedAt in milliseconds since 1970 */
  constructor(readonly returnedAt: number) {}

  /** Whether an event that comes now belongs to what was missed. */
  takes(event: MailEvent, now: number): boolean {
    if (event.type === 'sync_complete') {
      this.#within = false;
    } else if (event.type === 'new_email' && event.message.date <= this.returnedAt) {
      this.#within = true;
    }
    return this.#within && now - this.returnedAt <= TAIL_MS;
  }
}

/** The same where the stream could not be resumed, from the list before and the list now. What is older than either reaches is left out. */
export function missedBetween(before: readonly Message[], now: readonly Message[]): Missed {
  const known = new Map(before.map((message) => [message.id, message]));
  const here = new Set(now.map(({ id }) => id));
  const reach = Math.max(before.at(-1)?.date ?? -Infinity, now.at(-1)?.date ?? -Infinity);
  const marks = new Map<string, Mark>();
  for (const { id, version, date } of now) {
    const old = known.get(id);
    if (old === undefined ? date >= reach : old.version !== version) {
      marks.set(id, old === undefined ? 'new' : 'changed');
    }
  }
  for (const { id, date } of before) {
    if (!here.has(id) && date >= reach) {
      marks.set(id, 'deleted');
    }
  }
  return counted(marks);
}

/** One more. */
export function missedOne(applied: Applied): Missed {
  const marks = new Map<string, Mark>();
  join(marks, applied);
  return counted(marks);
}

/** Both, each message once. */
export function missedBoth(before: Missed, more: Missed): Missed {
  const marks = new Map(before.marks);
  for (const [id, mark] of more.marks) {
    merge(marks, id, mark);
  }
  return counted(marks);
}

function counted(marks: Map<string, Mark>): Missed {
  const count = (mark: Mark): number => [...marks.values()].filter((other) => other === mark).length;
  return { marks, new: count('new'), changed: count('changed'), deleted: count('deleted') };
}

function join(marks: Map<string, Mark>, { id, kind, before: labels }: Applied): void {
  if (kind === 'deleted' && labels === undefined) {
    // It was never shown.
    return;
  }
  if (kind !== 'old') {
    merge(marks, id, kind);
  }
}

function merge(marks: Map<string, Mark>, id: string, mark: Mark): void {
  const before = marks.get(id);
  if (mark === 'deleted' && before === 'new') {
    // It came and went: nothing to show.
    marks.delete(id);
  } else if (mark === 'new' && before === 'deleted') {
    marks.set(id, 'changed');
  } else if (mark !== 'changed' || before !== 'new') {
    marks.set(id, mark);
  }
}

/** `3 new, 1 changed, 2 deleted`; empty if nothing was missed. */
export function missedText({ new: came, changed, deleted }: Missed): string {
  const parts = [
    [came, 'new'],
    [changed, 'changed'],
    [deleted, 'deleted'],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, word]) => `${count} ${word}`)
    .join(', ');
}
