/** The messages of a room in their order: whatever comes twice is there once, whatever comes late is in its place. */

import { millisecondsOf, type ChatMessage } from './protocol.js';

/** How many messages are kept in the page; the oldest go first. */
export const MESSAGES_MAX = 2_000;

/** A message that this page has sent is known by its key until the server has named it. */
export interface Line {
  id: string;
  key?: string;
  type: 'user' | 'system';
  oderId: string;
  username: string;
  text: string;
  at: number;
  offset: number | null;
  sending: 'sent' | 'pending' | 'failed';
}

export class ChatLog {
  #lines: Line[] = [];

  get lines(): readonly Line[] {
    return this.#lines;
  }

  /** The newest message that the server has named. */
  get lastId(): string | undefined {
    return this.#lines.filter((line) => line.sending === 'sent').at(-1)?.id;
  }

  /** Where to go on reading backwards: the oldest offset, or else the oldest time. */
  get oldest(): { beforeOffset: number } | { before: number } | null {
    const first = this.#lines.find((line) => line.sending === 'sent');
    if (first === undefined) {
      return null;
    }
    return first.offset === null ? { before: first.at } : { beforeOffset: first.offset };
  }

  /** Takes messages of the server; `mine` is the own member. Returns how many are new. */
  take(messages: ChatMessage[], mine: string): number {
    let added = 0;
    for (const message of messages) {
      const known = this.#lines.find((line) => line.id === message.id);
      if (known !== undefined) {
        known.offset ??= message.offset ?? null;
        continue;
      }
      const line = lineOf(message);
      const own = message.oderId === mine ? this.#pendingLike(line) : undefined;
      if (own !== undefined) {
        Object.assign(own, { ...line, key: own.key });
      } else {
        this.#lines.push(line);
        added += 1;
      }
    }
    this.#order();
    return added;
  }

  /** A message of this page on its way. */
  sending(key: string, oderId: string, username: string, text: string, at: number): Line {
    const line: Line = {
      id: `key:${key}`,
      key,
      type: 'user',
      oderId,
      username,
      text,
      at,
      offset: null,
      sending: 'pending',
    };
    this.#lines.push(line);
    return line;
  }

  /** The server has taken a message of this page and named it. */
  sent(key: string, id: string, offset: number | null): void {
    const line = this.#lines.find((known) => known.key === key);
    if (line === undefined) {
      return;
    }
    this.#lines = this.#lines.filter((known) => known === line || known.id !== id);
    Object.assign(line, { id, offset: line.offset ?? offset, sending: 'sent' });
    this.#order();
  }

  failed(key: string): void {
    const line = this.#lines.find((known) => known.key === key);
    if (line?.sending === 'pending') {
      line.sending = 'failed';
    }
  }

  /** Takes a message of this page away again: it was not sent, and is not wanted any more. */
  withdraw(key: string): void {
    this.#lines = this.#lines.filter((line) => line.key !== key);
  }

  /** Forgets what the server has said; what is on its way stays. */
  clear(): void {
    this.#lines = this.#lines.filter((line) => line.sending !== 'sent');
  }

  #pendingLike(line: Line): Line | undefined {
    return this.#lines.find((known) => known.sending !== 'sent' && known.text === line.text);
  }

  #order(): void {
    const rank = (line: Line): number => (line.sending === 'sent' ? 0 : 1);
    this.#lines.sort((left, right) => {
      if (left.offset !== null && right.offset !== null) {
        return left.offset - right.offset;
      }
      return rank(left) - rank(right) || left.at - right.at;
    });
    this.#lines.splice(0, this.#lines.length - MESSAGES_MAX);
  }
}

function lineOf(message: ChatMessage): Line {
  return {
    id: message.id,
    type: message.type,
    oderId: message.oderId ?? '',
    username: message.username ?? '',
    text: message.content ?? '',
    at: millisecondsOf(message.timestamp),
    offset: message.offset ?? null,
    sending: 'sent',
  };
}
