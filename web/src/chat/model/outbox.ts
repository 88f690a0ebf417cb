/**
 * What was written and is not known to be sent. It is kept by the browser until the server has it, and sent again with the same key, so that it is
 * said once however often it is tried; in one conversation in the order in which it was written.
 */

import { countOf, fieldsOf, listOf, textOf } from './read.js';
import { isTs, type Ts } from './ts.js';

export type SendState = 'waiting' | 'sending' | 'refused';

export interface Pending {
  /** The `client_msg_id`. */
  readonly id: string;
  readonly channel: string;
  readonly threadTs: Ts | null;
  /** A reply that is shown in the conversation too. */
  readonly broadcast: boolean;
  readonly text: string;
  /** When it was written, in milliseconds since 1970. */
  readonly at: number;
  readonly state: SendState;
  /** Why it was not taken, by the server's code. */
  readonly reason: string;
}

/** Where texts outlive the page. */
export interface Shelf {
  read(): string;
  write(text: string): void;
}

/** More is not kept; nobody types so much while the network is away. */
const KEPT_MAX = 500;

export class Outbox {
  #pending: Pending[];
  readonly #shelf: Shelf;

  constructor(shelf: Shelf) {
    this.#shelf = shelf;
    this.#pending = parse(shelf.read());
  }

  get all(): readonly Pending[] {
    return this.#pending;
  }

  get full(): boolean {
    return this.#pending.length >= KEPT_MAX;
  }

  get(id: string): Pending | null {
    return this.#pending.find((pending) => pending.id === id) ?? null;
  }

  add(message: Omit<Pending, 'state' | 'reason'>): void {
    this.#pending = [...this.#pending, { ...message, state: 'waiting', reason: '' }];
    this.#keep();
  }

  /** What to send next in this conversation: nothing while something is on its way. What was refused holds nobody up. */
  next(channel: string): Pending | null {
    const here = this.#pending.filter((pending) => pending.channel === channel && pending.state !== 'refused');
    const busy = here.some(({ state }) => state === 'sending');
    return busy ? null : (here[0] ?? null);
  }

  /** Conversations in which something waits. */
  channels(): string[] {
    const waiting = this.#pending.filter(({ state }) => state === 'waiting');
    return [...new Set(waiting.map(({ channel }) => channel))];
  }

  set(id: string, state: SendState, reason = ''): void {
    this.#pending = this.#pending.map((pending) => (pending.id === id ? { ...pending, state, reason } : pending));
    this.#keep();
  }

  /** It is in the log, or nobody wants it any more. */
  remove(id: string): void {
    if (this.get(id) !== null) {
      this.#pending = this.#pending.filter((pending) => pending.id !== id);
      this.#keep(id);
    }
  }

  /** Writes this page's messages; what other pages of the same user keep stays. */
  #keep(removed = ''): void {
    const own = new Set(this.#pending.map(({ id }) => id));
    const others = parse(this.#shelf.read()).filter(({ id }) => !own.has(id) && id !== removed);
    const all = [...others, ...this.#pending].sort((left, right) => left.at - right.at);
    this.#shelf.write(all.length === 0 ? '' : JSON.stringify(all));
  }
}

function parse(text: string): Pending[] {
  let kept: unknown;
  try {
    kept = text === '' ? [] : JSON.parse(text);
  } catch {
    return [];
  }
  return listOf(kept)
    .slice(0, KEPT_MAX)
    .flatMap((entry) => {
      const from = fieldsOf(entry);
      const [id, channel, said] = [textOf(from['id']), textOf(from['channel']), textOf(from['text'])];
      if (id === '' || channel === '' || said === '') {
        return [];
      }
      const threadTs = isTs(from['threadTs']) ? from['threadTs'] : null;
      const state = from['state'] === 'refused' ? 'refused' : 'waiting';
      const broadcast = from['broadcast'] === true;
      return [{ id, channel, threadTs, broadcast, text: said, at: countOf(from['at']), state, reason: textOf(from['reason']) } as const];
    });
}
