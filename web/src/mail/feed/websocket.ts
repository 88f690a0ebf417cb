/** The same channel over the WebSocket gateway, through the official Centrifuge client and its own recovery. */

import { Centrifuge, UnauthorizedError, type Subscription } from 'centrifuge';

import { askTicket, RequestFailed, type Ticket } from '../api.js';
import { Backoff } from '../model/backoff.js';
import type { Position } from '../model/position.js';
import type { Feed, FeedListener } from './feed.js';

const PATH = '/connection/websocket';

export class WebSocketFeed implements Feed {
  #listener: FeedListener | null;
  #after: Position | null = null;
  #client: Centrifuge | null = null;
  #epoch = '';
  readonly #backoff = new Backoff();
  #retryTimer: number | undefined;

  constructor(listener: FeedListener) {
    this.#listener = listener;
  }

  open(after: Position | null): void {
    this.#after = after;
    void this.#begin();
  }

  retry(): void {
    if (this.#client === null) {
      clearTimeout(this.#retryTimer);
      this.#backoff.reset();
      void this.#begin();
    } else if (this.#client.state !== 'connected') {
      // The client's pauses are its own: a new beginning has none.
      this.#client.disconnect();
      this.#client.connect();
    }
  }

  close(): void {
    this.#listener = null;
    clearTimeout(this.#retryTimer);
    this.#client?.disconnect();
    this.#client = null;
  }

  /** Which channel it is, the server says together with the first token. */
  async #begin(): Promise<void> {
    let ticket: Ticket;
    try {
      ticket = await askTicket();
    } catch (failure) {
      this.#later(failure);
      return;
    }
    if (this.#listener === null || this.#client !== null) {
      return;
    }
    this.#open(ticket);
  }

  #open(ticket: Ticket): void {
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const client = new Centrifuge(`${scheme}//${location.host}${PATH}`, {
      token: ticket.token,
      getToken: async () => await freshToken(),
    });
    this.#client = client;
    const since = this.#after === null ? null : { epoch: this.#after.epoch, offset: this.#after.seq };
    this.#epoch = this.#after?.epoch ?? '';
    const subscription = client.newSubscription(ticket.channel, {
      recoverable: true,
      ...(since === null ? {} : { since }),
    });
    this.#listen(client, subscription);
    subscription.subscribe();
    client.connect();
  }

  #later(failure: unknown): void {
    if (failure instanceof RequestFailed && failure.code === 'unauthorized') {
      this.#end();
      return;
    }
    const pause = this.#backoff.next();
    this.#listener?.lost();
    this.#listener?.waiting(Date.now() + pause);
    this.#retryTimer = window.setTimeout(() => void this.#begin(), pause);
  }

  #listen(client: Centrifuge, subscription: Subscription): void {
    client.on('connecting', ({ code }) => code !== 0 && this.#listener?.lost());
    client.on('disconnected', ({ code, reason }) => {
      if (code !== 0 && this.#client === client) {
        // The client will not come back by itself: signed out, or sent away. Another token tells.
        this.#client = null;
        this.#listener?.notice(String(code), reason);
        this.#later(null);
      }
    });
    subscription.on('unsubscribed', ({ code, reason }) => {
      if (code !== 0) {
        this.#listener?.notice(String(code), reason);
      }
    });
    subscription.on('subscribed', ({ streamPosition, wasRecovering, recovered }) => {
      const { epoch = '', offset = 0 } = streamPosition ?? {};
      if (this.#epoch !== '' && (this.#epoch !== epoch || (wasRecovering && !recovered))) {
        this.#listener?.gap();
      }
      this.#epoch = epoch;
      this.#backoff.reset();
      // The server says where this client stands, and sends everything behind it.
      this.#listener?.ready(epoch, offset);
    });
    subscription.on('publication', ({ offset, data }) => {
      this.#listener?.alive();
      if (offset !== undefined) {
        this.#listener?.arrival({ epoch: this.#epoch, seq: offset, data: data as unknown });
        // A new beginning goes on here.
        this.#after = { epoch: this.#epoch, which: '', seq: offset };
      }
    });
  }

  #end(): void {
    const listener = this.#listener;
    this.close();
    listener?.refused('signed-out');
  }
}

async function freshToken(): Promise<string> {
  try {
    return (await askTicket()).token;
  } catch (failure) {
    if (failure instanceof RequestFailed && failure.code === 'unauthorized') {
      throw new UnauthorizedError('');
    }
    throw failure;
  }
}
