/**
 * How much of a conversation is unread: what the server counted, and what events have added since. Each message counts once, however often
 * it is told; the mark of what is read only moves forward.
 */

import type { ChatEvent } from './event.js';
import { calls, isReply, isSaid, type Message } from './message.js';
import { laterOf, NEVER, type Ts } from './ts.js';

/** Beyond this a number says nothing. */
const KNOWN_MAX = 1_000;

interface Known {
  readonly ts: Ts;
  /** A reply in a thread is not: it counts only where it calls the user. */
  readonly counts: boolean;
  readonly called: boolean;
}

export class Unread {
  #read: Ts = NEVER;
  /** Counted by the server: messages up to `#countedTo`. */
  #count = 0;
  #mentions = 0;
  #countedTo: Ts = NEVER;
  /** Newer messages, in order. */
  #known: Known[] = [];

  get lastRead(): Ts {
    return this.#read;
  }

  get count(): number {
    return this.#count + this.#known.filter(({ counts }) => counts).length;
  }

  get mentions(): number {
    return this.#mentions + this.#known.filter(({ called }) => called).length;
  }

  /** The newest of those that are not read; replies that call the user among them. */
  get newest(): Ts {
    return this.#known.at(-1)?.ts ?? NEVER;
  }

  /** What the server says now, of everything up to `latest`. */
  load(lastRead: Ts, latest: Ts, count: number, mentions: number): void {
    const ahead = this.#read > lastRead && this.#read >= latest;
    this.#read = laterOf(this.#read, lastRead);
    this.#countedTo = latest;
    this.#count = ahead ? 0 : count;
    this.#mentions = ahead ? 0 : mentions;
    this.#known = this.#known.filter(({ ts }) => ts > latest && ts > this.#read);
  }

  /** `direct`: every message of this conversation is meant for the user. */
  apply(event: ChatEvent, self: string, direct: boolean): void {
    if (event.kind === 'posted') {
      this.#posted(event.message, self, direct);
    } else if (event.kind === 'deleted') {
      this.#deleted(event.ts, event.threadTs);
    }
  }

  /** Everything up to here is read. False: that is nothing new. */
  mark(ts: Ts): boolean {
    if (ts <= this.#read) {
      return false;
    }
    this.#read = ts;
    this.#known = this.#known.filter((known) => known.ts > ts);
    if (ts >= this.#countedTo) {
      this.#count = 0;
      this.#mentions = 0;
    }
    return true;
  }

  /** It was marked, here or elsewhere, and the server has counted again. */
  marked(ts: Ts, count: number, mentions: number): void {
    this.mark(ts);
    if (ts === this.#read && ts < this.#countedTo) {
      const [counts, called] = [this.count - this.#count, this.mentions - this.#mentions];
      this.#count = Math.min(this.#count, Math.max(0, count - counts));
      this.#mentions = Math.min(this.#mentions, Math.max(0, mentions - called));
    }
  }

  #posted(message: Message, self: string, direct: boolean): void {
    const { ts, user, text } = message;
    const last = this.#known.at(-1)?.ts ?? NEVER;
    const known = { ts, counts: !isReply(message), called: direct ? !isReply(message) : calls(text, self) };
    const told = ts <= this.#countedTo || ts <= this.#read || ts <= last;
    if (told || user === self || !isSaid(message) || !(known.counts || known.called)) {
      return;
    }
    this.#known.push(known);
    const oldest = this.#known.length > KNOWN_MAX ? this.#known.shift() : undefined;
    if (oldest !== undefined) {
      this.#count += oldest.counts ? 1 : 0;
      this.#mentions += oldest.called ? 1 : 0;
      this.#countedTo = oldest.ts;
    }
  }

  #deleted(ts: Ts, threadTs: Ts | null): void {
    const before = this.#known.length;
    this.#known = this.#known.filter((known) => known.ts !== ts);
    const counted = ts <= this.#countedTo && ts > this.#read && (threadTs === null || threadTs === ts);
    if (before === this.#known.length && counted) {
      this.#count = Math.max(0, this.#count - 1);
      this.#mentions = Math.min(this.#mentions, this.#count);
    }
  }
}
