/** What a list of messages is made of: days, the line above what is new, messages with or without their head, and what is on its way. */

import { isNotice, isReply, type Message } from './message.js';
import type { Pending } from './outbox.js';
import { millisOf, type Ts } from './ts.js';

export type Item =
  | { kind: 'day'; key: string; at: number }
  | { kind: 'new'; key: string }
  | { kind: 'replies'; key: string; count: number }
  | { kind: 'message'; key: string; message: Message; head: boolean }
  | { kind: 'pending'; key: string; pending: Pending; head: boolean };

/** Who goes on within this is not named again. */
const TOGETHER_MS = 5 * 60_000;

export interface Order {
  messages: readonly Message[];
  pending: readonly Pending[];
  self: string;
  /** Above which message the line stands: the first after this that is not one's own; null for no line. */
  newAfter: Ts | null;
  /** The list is a thread: its first message stands alone. */
  thread: Ts | null;
}

export function itemsOf({ messages, pending, self, newAfter, thread }: Order): Item[] {
  const items: Item[] = [];
  let [day, author, saidAt, line] = ['', '', 0, newAfter === null];
  for (const message of messages) {
    const at = millisOf(message.ts);
    const today = dayOf(at);
    if (today !== day && thread === null) {
      items.push({ kind: 'day', key: `day ${today}`, at });
      author = '';
    }
    if (!line && message.ts > (newAfter ?? '') && message.user !== self) {
      items.push({ kind: 'new', key: 'new' });
      line = true;
      author = '';
    }
    const writer = authorOf(message);
    const head = writer !== author || at - saidAt > TOGETHER_MS || isNotice(message) || (thread === null && isBroadcast(message));
    items.push({ kind: 'message', key: message.ts, message, head });
    if (message.ts === thread) {
      items.push({ kind: 'replies', key: 'replies', count: message.replyCount });
    }
    [day, saidAt] = [today, at];
    author = isNotice(message) || message.ts === thread ? '' : writer;
  }
  for (const one of pending) {
    const today = dayOf(one.at);
    if (today !== day && thread === null) {
      items.push({ kind: 'day', key: `day ${today}`, at: one.at });
      author = '';
    }
    items.push({ kind: 'pending', key: one.id, pending: one, head: author !== self || one.at - saidAt > TOGETHER_MS });
    [day, author, saidAt] = [today, self, one.at];
  }
  return items;
}

/** A reply that is shown in the conversation too. */
export function isBroadcast(message: Message): boolean {
  return message.subtype === 'thread_broadcast' && !isReply(message);
}

/** The day in the reader's time zone. */
export function dayOf(at: number): string {
  const date = new Date(at);
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, '0')).join('-');
}

function authorOf({ user, username, bot }: Message): string {
  return bot ? `${user} ${username}` : user;
}
