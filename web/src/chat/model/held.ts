/**
 * The part of a conversation, or of a thread, that the page holds: all that was said between two ends, kept right by events, and extended by what
 * the server is asked for.
 *
 * An answer may come after events that happened while it was on its way, and may be older than these. So what happens meanwhile is
 * kept, and applied to the answer once more from the position that it names.
 */

import type { MessageEvent } from './event.js';
import type { Message } from './message.js';
import { merge, placeOf, reduce, type Messages } from './reduce.js';
import { NEVER, type Ts } from './ts.js';

export interface Position {
  readonly offset: number;
  readonly epoch: string;
}

/** Everything that belongs here and is not older than `from`, and not newer than `to`; with `to` null, everything up to now. */
export interface Range {
  readonly messages: Messages;
  /** `NEVER` where nothing is older. */
  readonly from: Ts;
  readonly to: Ts | null;
}

export interface Read {
  /** Where the log stood before anything of this was read. */
  readonly position: Position;
}

/** A part of the history as the server gives it, oldest first. */
export interface Part extends Read {
  readonly messages: Messages;
  /** There is more beyond the end towards which was asked. */
  readonly more: boolean;
}

/** What is before a place, read first, and what is from there on. */
export interface Both extends Read {
  readonly before: Part;
  readonly after: Part;
}

export interface Arrival {
  readonly offset: number;
  readonly event: MessageEvent;
}

/** What happens while an answer is on its way. */
interface Load {
  readonly arrivals: Arrival[];
}

/** More than this does not happen in any request's time; with more, the answer is refused. */
const ARRIVALS_MAX = 20_000;

export class Held {
  #range: Range | null = null;
  readonly #loads = new Set<Load>();
  /** Counts what is forgotten: an answer that was asked for before comes too late. */
  #generation = 0;
  readonly #belongs: (message: Message) => boolean;

  constructor(belongs: (message: Message) => boolean) {
    this.#belongs = belongs;
  }

  /** Null while nothing is loaded. */
  get range(): Range | null {
    return this.#range;
  }

  apply(arrival: Arrival): void {
    for (const { arrivals } of this.#loads) {
      arrivals.push(arrival);
    }
    if (this.#range !== null) {
      this.#range = applied(this.#range, arrival.event, this.#belongs);
    }
  }

  forget(): void {
    this.#range = null;
    this.#generation += 1;
  }

  /** Asks for something and takes it in. False: it came too late, and nothing is different. */
  async load<T extends Read>(ask: () => Promise<T>, take: (range: Range | null, answer: T) => Range): Promise<boolean> {
    const load: Load = { arrivals: [] };
    const generation = this.#generation;
    this.#loads.add(load);
    try {
      const answer = await ask();
      if (generation !== this.#generation || load.arrivals.length > ARRIVALS_MAX) {
        return false;
      }
      const missed = load.arrivals.filter(({ offset }) => offset > answer.position.offset);
      this.#range = missed.reduce((range, { event }) => applied(range, event, this.#belongs), take(this.#range, answer));
      return true;
    } finally {
      this.#loads.delete(load);
    }
  }

  /** Lets go of what is furthest from one end when there is more than `most`. */
  trim(keep: 'oldest' | 'newest', most: number): boolean {
    const range = this.#range;
    if (range === null || range.messages.length <= most) {
      return false;
    }
    this.#range = keep === 'newest' ? newest(range, most) : oldest(range, most);
    return true;
  }
}

/** What was said last. */
export function latest(_range: Range | null, { messages, more }: Part): Range {
  return { messages, from: more ? (messages[0]?.ts ?? NEVER) : NEVER, to: null };
}

/** More towards the beginning. */
export function withOlder(range: Range | null, part: Part): Range {
  const { from } = latest(range, part);
  return range === null ? latest(range, part) : { ...range, messages: merge(part.messages, range.messages), from };
}

/** More towards now. */
export function withNewer(range: Range | null, { messages, more }: Part): Range {
  const to = more ? (messages.at(-1)?.ts ?? null) : null;
  return { messages: merge(range?.messages ?? [], messages), from: range?.from ?? NEVER, to };
}

/** Something in the middle. */
export function around(_range: Range | null, { before, after }: Both): Range {
  return withNewer(latest(null, before), after);
}

/** How many of the range are newer than this. */
export function countAfter({ messages }: Range, ts: Ts): number {
  const place = placeOf(messages, ts);
  return messages.length - place - (messages[place]?.ts === ts ? 1 : 0);
}

function applied(range: Range, event: MessageEvent, belongs: (message: Message) => boolean): Range {
  const { from, to } = range;
  const admits = (message: Message): boolean => belongs(message) && message.ts >= from && (to === null || message.ts <= to);
  const messages = reduce(range.messages, event, admits);
  return messages === range.messages ? range : { ...range, messages };
}

function newest(range: Range, most: number): Range {
  const messages = range.messages.slice(-most);
  return { ...range, messages, from: messages[0]?.ts ?? NEVER };
}

function oldest(range: Range, most: number): Range {
  const messages = range.messages.slice(0, most);
  return { ...range, messages, to: messages.at(-1)?.ts ?? null };
}
