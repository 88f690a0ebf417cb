/** The chat of a room: between the connection, the log of messages, and the panel that shows them. */

import { find, setText } from '../dom.js';
import { ChatLog } from './chat-log.js';
import { randomKey } from './commands.js';
import type { Link } from './link.js';
import { adviceFor, type ChatMessage } from './protocol.js';
import { ChatView } from './view/chat.js';

/** How many older messages are fetched at once. */
const OLDER = 50;

export interface Speaker {
  oderId: string;
  name: string;
}

export class Talk {
  readonly view: ChatView;
  readonly #log = new ChatLog();
  readonly #link: Link;
  readonly #me: () => Speaker;
  readonly #now: () => number;

  /** `now` is the time of day as far as it is known. */
  constructor(link: Link, me: () => Speaker, now: () => number) {
    this.#link = link;
    this.#me = me;
    this.#now = now;
    this.view = new ChatView(this.#log, {
      send: (text) => void this.#say(text),
      retry: (key) => this.#sayAgain(key),
      withdraw: (key) => {
        this.#log.withdraw(key);
        this.view.show();
      },
      typing: (isTyping) => void this.#link.ask('chat:typing', { isTyping }),
      older: () => void this.#loadOlder(),
      unread: (count) => showUnread(count),
    });
    this.#listen();
  }

  /** The newest message that is here: a return goes on behind it. */
  get lastId(): string | undefined {
    return this.#log.lastId;
  }

  /** The connection is back: what waited goes now, with the keys that it had. */
  deliverWaiting(): void {
    for (const { key, text, sending } of [...this.#log.lines]) {
      if (sending === 'pending' && key !== undefined) {
        void this.#deliver(key, text);
      }
    }
  }

  #listen(): void {
    const { socket } = this.#link;
    socket.on('chat:message', (message) => this.#heard([message], true));
    socket.on('chat:history', ({ messages, hasMore }) => {
      this.#heard(messages, false);
      this.view.hasMore(hasMore ?? false);
    });
    socket.on('chat:catchup', ({ messages, truncated }) => {
      if (truncated) {
        // There is a hole between what is shown and what came: begin anew from what came.
        this.#log.clear();
        this.view.hasMore(true);
      }
      this.#heard(messages, true);
    });
    socket.on('chat:typing', ({ oderId, username, isTyping }) => {
      this.view.someoneTypes(oderId, username, isTyping);
    });
  }

  #heard(messages: ChatMessage[], live: boolean): void {
    const added = this.#log.take(messages, this.#me().oderId);
    this.view.show(live ? added : 0);
    for (const { oderId, username } of messages) {
      if (oderId !== undefined) {
        this.view.someoneTypes(oderId, username ?? '', false);
      }
    }
  }

  async #say(text: string): Promise<void> {
    const { oderId, name } = this.#me();
    const key = randomKey();
    this.#log.sending(key, oderId, name, text, this.#now());
    this.view.show();
    await this.#deliver(key, text);
  }

  #sayAgain(key: string): void {
    const line = this.#log.lines.find((known) => known.key === key);
    if (line !== undefined) {
      line.sending = 'pending';
      this.view.show();
      void this.#deliver(key, line.text);
    }
  }

  /** Sends a message; while the connection is away it waits, and goes with the same key. */
  async #deliver(key: string, content: string): Promise<void> {
    const answer = await this.#link.ask<{ id: string; offset?: number }>('chat:message', {
      content,
      idempotencyKey: key,
    });
    if (answer.ok) {
      this.#log.sent(key, answer.id, answer.offset ?? null);
    } else if (this.#link.connected) {
      this.#log.failed(key);
      this.view.problem(adviceFor(answer));
    }
    this.view.show();
  }

  async #loadOlder(): Promise<void> {
    const oldest = this.#log.oldest;
    if (oldest === null) {
      this.view.hasMore(false);
      return;
    }
    // The answer also comes as an event, with the same messages: whatever comes first is shown.
    const answer = await this.#link.ask<{ messages: ChatMessage[]; hasMore: boolean }>(
      'chat:load-history',
      { ...oldest, limit: OLDER },
    );
    if (answer.ok) {
      this.#heard(answer.messages, false);
    }
    this.view.hasMore(answer.ok && answer.hasMore);
  }
}

function showUnread(count: number): void {
  const badge = find(document, '#chat-badge', HTMLElement);
  badge.hidden = count === 0;
  setText(badge, count > 99 ? '99+' : String(count));
}
