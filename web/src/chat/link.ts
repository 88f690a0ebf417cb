/** The live side: one connection of the official client, and a subscription for everything that is followed, from a position on. */

import { Centrifuge, UnauthorizedError, type Subscription } from 'centrifuge';

import { Backoff } from '../mail/model/backoff.js';
import { RequestFailed } from './api.js';
import type { Position } from './model/held.js';

const PATH = '/connection/websocket';

export interface Presence {
  user: string;
  client: string;
}

export interface LinkListener {
  /** A token for the connection. */
  token(): Promise<string>;
  live(): void;
  lost(): void;
  /** What was said. What is told and not kept has no offset. */
  told(channel: string, position: Position | null, data: unknown): void;
  /** The log no longer has what comes after the position: everything is to be asked for again. It goes on behind this one. */
  gap(channel: string, position: Position): void;
  /** The server ended a subscription, or refused it. */
  ended(): void;
  presence(clients: Presence[]): void;
  came(who: Presence): void;
  left(who: Presence): void;
  signedOut(): void;
}

export class Link {
  readonly #listener: LinkListener;
  readonly #followed = new Map<string, { position: Position | null; presence: boolean }>();
  readonly #backoff = new Backoff();
  #client: Centrifuge | null = null;
  #retryTimer: number | undefined;

  constructor(listener: LinkListener) {
    this.#listener = listener;
  }

  open(): void {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const client = new Centrifuge(`${scheme}//${location.host}${PATH}`, { getToken: async () => await this.#token() });
    this.#client = client;
    client.on('connected', () => {
      this.#backoff.reset();
      this.#listener.live();
    });
    client.on('connecting', () => this.#listener.lost());
    client.on('disconnected', ({ code }) => {
      if (code !== 0 && this.#client === client) {
        this.#again();
      }
    });
    for (const [channel, { position, presence }] of this.#followed) {
      this.#subscribe(client, channel, position, presence);
    }
    client.connect();
  }

  /** Everything that happens in the channel after the position; with `presence`, who is there as well. False: it is followed already. */
  follow(channel: string, position: Position | null, presence = false): boolean {
    if (this.#followed.has(channel)) {
      return false;
    }
    this.#followed.set(channel, { position, presence });
    if (this.#client !== null) {
      this.#subscribe(this.#client, channel, position, presence);
    }
    return true;
  }

  leave(channel: string): void {
    this.#followed.delete(channel);
    const subscription = this.#client?.getSubscription(channel);
    if (subscription != null) {
      this.#client?.removeSubscription(subscription);
    }
  }

  /** Tries at once, without the pause that is left. */
  retry(): void {
    const client = this.#client;
    if (client === null) {
      clearTimeout(this.#retryTimer);
      this.open();
    } else if (client.state === 'connecting') {
      client.disconnect();
      client.connect();
    }
  }

  close(): void {
    clearTimeout(this.#retryTimer);
    const client = this.#client;
    this.#client = null;
    this.#followed.clear();
    client?.disconnect();
  }

  /** The client does not come back by itself: another one does, from where this one was. */
  #again(): void {
    this.#client = null;
    this.#listener.lost();
    clearTimeout(this.#retryTimer);
    this.#retryTimer = window.setTimeout(() => this.open(), this.#backoff.next());
  }

  async #token(): Promise<string> {
    try {
      return await this.#listener.token();
    } catch (failure) {
      if (failure instanceof RequestFailed && failure.signedOut) {
        this.#listener.signedOut();
        throw new UnauthorizedError('');
      }
      throw failure;
    }
  }

  #subscribe(client: Centrifuge, channel: string, position: Position | null, presence: boolean): void {
    const since = position === null ? {} : { since: { offset: position.offset, epoch: position.epoch } };
    const subscription = client.newSubscription(channel, { recoverable: true, joinLeave: presence, ...since });
    let epoch = position?.epoch ?? '';
    subscription.on('subscribed', ({ streamPosition, wasRecovering, recovered }) => {
      const now = { offset: streamPosition?.offset ?? 0, epoch: streamPosition?.epoch ?? '' };
      const other = epoch !== '' && epoch !== now.epoch;
      epoch = now.epoch;
      if (other || (wasRecovering && !recovered)) {
        this.#moved(channel, now);
        this.#listener.gap(channel, now);
      }
      if (presence) {
        void this.#ask(subscription);
      }
    });
    subscription.on('publication', ({ offset, data }) => {
      const at = offset === undefined || offset === 0 ? null : { offset, epoch };
      if (at !== null) {
        this.#moved(channel, at);
      }
      this.#listener.told(channel, at, data as unknown);
    });
    subscription.on('unsubscribed', ({ code }) => {
      if (code !== 0 && this.#followed.delete(channel)) {
        client.removeSubscription(subscription);
        this.#listener.ended();
      }
    });
    if (presence) {
      subscription.on('join', ({ info }) => this.#listener.came(info));
      subscription.on('leave', ({ info }) => this.#listener.left(info));
    }
    subscription.subscribe();
  }

  async #ask(subscription: Subscription): Promise<void> {
    try {
      const { clients } = await subscription.presence();
      this.#listener.presence(Object.values(clients));
    } catch {
      // Joins and leaves still come; the next connection asks again.
      return;
    }
  }

  /** Where another client would go on. */
  #moved(channel: string, position: Position): void {
    const followed = this.#followed.get(channel);
    if (followed !== undefined) {
      followed.position = position;
    }
  }
}
