/** The connection to the server: one Socket.IO socket in the namespace `/sync`, typed, with answers as values. */

import { io, type Socket } from 'socket.io-client';

import { identity } from './identity.js';
import type { Answer, ServerEvents } from './protocol.js';

/** The version of the events that this page speaks. */
const PROTOCOL_VERSION = '1.0';

/** How long an answer may take. */
const ANSWER_PATIENCE_MS = 6_000;

/** Reconnects begin after this, and are never further apart than the second. */
const RETRY_MS = 300;
const RETRY_MAX_MS = 2_000;

/** After the server itself has ended the connection, unless it says when to come back. */
const SENT_AWAY_MS = 500;

export type LinkState = 'connecting' | 'connected' | 'lost';

interface ClientEvents {
  [event: string]: (...args: unknown[]) => void;
}

/** A connection that comes back by itself. */
export class Link {
  readonly socket: Socket<ServerEvents, ClientEvents>;
  readonly #onState: (state: LinkState, recovered: boolean) => void;
  #comeBackIn = SENT_AWAY_MS;
  #comingBack: ReturnType<typeof setTimeout> | undefined;
  #sessionId = '';

  /** `onState` hears of every change; `recovered` says that the server goes on where the connection was. */
  constructor(onState: (state: LinkState, recovered: boolean) => void) {
    this.#onState = onState;
    this.socket = io('/sync', {
      autoConnect: false,
      auth: (give) => give({ protocolVersion: PROTOCOL_VERSION, ...identity.credentials() }),
      reconnectionDelay: RETRY_MS,
      reconnectionDelayMax: RETRY_MAX_MS,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
    });
    const socket = this.socket;
    socket.on('connect', () => this.#onState('connected', socket.recovered));
    socket.on('connect_error', () => {
      this.#onState('lost', false);
      // A refusal by the server itself is not retried by the client.
      if (!socket.active) {
        this.#comeBack(RETRY_MAX_MS);
      }
    });
    socket.on('disconnect', (reason) => this.#disconnected(reason));
    socket.on('server:shutdown', ({ reconnectIn }) => {
      this.#comeBackIn = reconnectIn;
    });
    socket.on('connection:ready', ({ sessionId, resumeKey }) => {
      this.#sessionId = sessionId;
      if (resumeKey !== undefined) {
        identity.keep(resumeKey);
      }
    });
  }

  /** The server's name for this connection. */
  get sessionId(): string {
    return this.#sessionId;
  }

  get connected(): boolean {
    return this.socket.connected;
  }

  open(): void {
    this.#onState('connecting', false);
    this.socket.connect();
  }

  close(): void {
    clearTimeout(this.#comingBack);
    this.socket.disconnect();
  }

  /** Sends an event without waiting; while the connection is away it is not sent at all. */
  tell(event: string, data: object): void {
    if (this.socket.connected) {
      this.socket.volatile.emit(event, data);
    }
  }

  /** Sends an event and gives the answer; no answer is an answer of its own. */
  async ask<T extends object>(
    event: string,
    data: object = {},
    patienceMs = ANSWER_PATIENCE_MS,
  ): Promise<Answer<T>> {
    if (!this.socket.connected) {
      return { ok: false, code: 'OFFLINE', message: 'You are offline.' };
    }
    return await new Promise((resolve) => {
      this.socket.timeout(patienceMs).emit(event, data, ((error: Error | null, answer: Answer<T>) => {
        resolve(error ? { ok: false, code: 'TIMEOUT', message: 'no answer' } : answer);
      }) as (...args: unknown[]) => void);
    });
  }

  #disconnected(reason: string): void {
    if (reason === 'io client disconnect') {
      return;
    }
    this.#onState('lost', false);
    if (reason === 'io server disconnect') {
      this.#comeBack(this.#comeBackIn);
    }
    this.#comeBackIn = SENT_AWAY_MS;
  }

  #comeBack(afterMs: number): void {
    clearTimeout(this.#comingBack);
    this.#comingBack = setTimeout(() => this.socket.connect(), afterMs);
  }
}
