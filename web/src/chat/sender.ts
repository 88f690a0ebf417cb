/** Sends what was written: one after the other in each conversation, again after every failure that passes, and never under another key. */

import { Backoff } from '../mail/model/backoff.js';
import { RequestFailed, type Api } from './api.js';
import type { Message } from './model/message.js';
import type { Outbox, Pending } from './model/outbox.js';
import { sentMessage } from './requests.js';

export interface SenderListener {
  changed(): void;
  /** The server has it. */
  taken(pending: Pending, message: Message): void;
  signedOut(): void;
}

export class Sender {
  readonly #api: Api;
  readonly #outbox: Outbox;
  readonly #listener: SenderListener;
  readonly #waits = new Map<string, { backoff: Backoff; timer: number | undefined }>();
  #stopped = false;

  constructor(api: Api, outbox: Outbox, listener: SenderListener) {
    this.#api = api;
    this.#outbox = outbox;
    this.#listener = listener;
  }

  /** Sends what waits, in all conversations, without the pauses that are left. */
  all(): void {
    for (const { timer } of this.#waits.values()) {
      clearTimeout(timer);
    }
    this.#waits.clear();
    this.#outbox.channels().forEach((channel) => this.send(channel));
  }

  send(channel: string): void {
    const pending = this.#outbox.next(channel);
    if (pending !== null && !this.#stopped && this.#waits.get(channel)?.timer === undefined) {
      void this.#try(pending);
    }
  }

  stop(): void {
    this.#stopped = true;
    for (const { timer } of this.#waits.values()) {
      clearTimeout(timer);
    }
  }

  async #try(pending: Pending): Promise<void> {
    const { id, channel, threadTs, broadcast, text } = pending;
    this.#outbox.set(id, 'sending', pending.reason);
    this.#listener.changed();
    const thread = threadTs === null ? {} : { thread_ts: threadTs, reply_broadcast: broadcast };
    try {
      const answer = await this.#api.call('chat.postMessage', { channel, text, client_msg_id: id, ...thread });
      this.#waits.delete(channel);
      const message = sentMessage(answer);
      if (!this.#stopped && message !== null) {
        this.#listener.taken(pending, message);
      }
      this.#outbox.remove(id);
    } catch (failure) {
      this.#failed(pending, failure instanceof RequestFailed ? failure : new RequestFailed('offline'));
    }
    this.#listener.changed();
    this.send(channel);
  }

  #failed({ id, channel }: Pending, failure: RequestFailed): void {
    if (failure.signedOut) {
      this.#outbox.set(id, 'waiting', failure.code);
      this.#stopped = true;
      this.#listener.signedOut();
    } else if (failure.passes) {
      this.#outbox.set(id, 'waiting', failure.code);
      this.#later(channel, failure.pauseS);
    } else {
      this.#outbox.set(id, 'refused', failure.code);
    }
  }

  #later(channel: string, pauseS: number): void {
    const wait = this.#waits.get(channel) ?? { backoff: new Backoff(), timer: undefined };
    const pause = Math.max(wait.backoff.next(), pauseS * 1_000);
    this.#waits.set(channel, wait);
    wait.timer = window.setTimeout(() => {
      wait.timer = undefined;
      this.send(channel);
    }, pause);
  }
}
