/**
 * The mailbox's channel over server-sent events, through the browser's own `EventSource`.
 *
 * A short cut is the browser's to mend: it comes back by itself, with the last id that it has seen. What it does not mend is mended here:
 * a status other than 200, after which it never comes back; a connection that is dead without a word, which the missing heartbeats show;
 * and a server that is away for long, which need not be asked every second.
 */

import { askMe, RequestFailed } from '../api.js';
import { Backoff } from '../model/backoff.js';
import { idOf, parseId, type Position } from '../model/position.js';
import type { Feed, FeedListener } from './feed.js';

const PATH = '/mail/events';
const PUBLICATIONS = ['new_email', 'email_update', 'email_delete', 'sync_complete'];
/** The server says something every 15 seconds: after three of them the connection is held for dead. */
const SILENCE_MS_MAX = 45_000;
const GLANCE_MS = 5_000;
/** So often in a row the browser may try by itself. */
const BROWSER_TRIES_MAX = 4;

export class EventsFeed implements Feed {
  #listener: FeedListener | null;
  #source: EventSource | null = null;
  #lastId = '';
  #heardAt = 0;
  #failures = 0;
  /** The stream has begun, so the browser knows what it is to come back to. */
  #begun = false;
  readonly #backoff = new Backoff();
  #retryTimer: number | undefined;
  #watchdog: number | undefined;

  constructor(listener: FeedListener) {
    this.#listener = listener;
  }

  open(after: Position | null): void {
    this.#lastId = after === null ? '' : idOf(after);
    this.#watchdog = window.setInterval(() => this.#watch(), GLANCE_MS);
    document.addEventListener('visibilitychange', this.#woken);
    this.#connect();
  }

  retry(): void {
    if (this.#listener !== null && this.#source?.readyState !== EventSource.OPEN) {
      this.#backoff.reset();
      this.#connect();
    }
  }

  close(): void {
    this.#listener = null;
    clearInterval(this.#watchdog);
    document.removeEventListener('visibilitychange', this.#woken);
    this.#drop();
  }

  /** A page that was asleep looks at once, and does not wait for its timer. */
  readonly #woken = (): void => this.#watch();

  #drop(): void {
    clearTimeout(this.#retryTimer);
    this.#source?.close();
    this.#source = null;
  }

  /** A new `EventSource` cannot be given a header, so the address carries the id; the browser's own returns send the newer one. */
  #connect(): void {
    this.#drop();
    const query = this.#lastId === '' ? '' : `?${new URLSearchParams({ last_event_id: this.#lastId })}`;
    const source = new EventSource(`${PATH}${query}`);
    this.#source = source;
    this.#heardAt = Date.now();
    this.#failures = 0;
    this.#begun = false;
    source.addEventListener('ready', (event) => this.#ready(event));
    for (const name of PUBLICATIONS) {
      source.addEventListener(name, (event: MessageEvent<string>) => this.#publication(event));
    }
    source.addEventListener('heartbeat', () => this.#heard());
    for (const name of ['truncated', 'reset']) {
      source.addEventListener(name, () => {
        this.#heard();
        this.#listener?.gap();
      });
    }
    // The browser's own word for a lost connection, and the server's for what is wrong: only the latter has data.
    source.addEventListener('error', (event: Event) => {
      event instanceof MessageEvent ? this.#told(event as MessageEvent<string>) : void this.#failed(source);
    });
  }

  #heard(): void {
    this.#heardAt = Date.now();
    this.#listener?.alive();
  }

  #ready(event: MessageEvent<string>): void {
    this.#failures = 0;
    this.#begun = true;
    this.#backoff.reset();
    this.#heard();
    this.#remember(event);
    const position = parseId(event.lastEventId);
    if (position !== null) {
      this.#listener?.ready(position.epoch, position.seq);
    }
  }

  #publication(event: MessageEvent<string>): void {
    this.#heard();
    this.#remember(event);
    const position = parseId(event.lastEventId);
    const data = parse(event);
    if (position !== null && data !== null) {
      this.#listener?.arrival({ epoch: position.epoch, seq: position.seq, data });
    }
  }

  #told(event: MessageEvent<string>): void {
    const data = parse(event) as { data?: { code?: unknown; message?: unknown }; code?: unknown } | null;
    const code = String(data?.data?.code ?? data?.code ?? '');
    if (code === 'too_many_streams') {
      this.#end('too-many');
      return;
    }
    // What the sync has to say is a publication as any other, with a position; what the stream itself has to say is none.
    const before = this.#lastId;
    this.#publication(event);
    if (this.#lastId === before) {
      this.#listener?.notice(code, String(data?.data?.message ?? ''));
    }
  }

  #remember({ lastEventId }: MessageEvent<string>): void {
    if (lastEventId !== '') {
      this.#lastId = lastEventId;
    }
  }

  #watch(): void {
    const isAtIt = this.#source !== null && this.#source.readyState !== EventSource.CLOSED;
    if (isAtIt && Date.now() - this.#heardAt > SILENCE_MS_MAX) {
      this.#listener?.lost();
      this.#connect();
    }
  }

  async #failed(source: EventSource): Promise<void> {
    if (source !== this.#source) {
      return;
    }
    this.#failures += 1;
    this.#listener?.lost();
    if (source.readyState !== EventSource.CLOSED && this.#begun && this.#failures < BROWSER_TRIES_MAX) {
      return;
    }
    source.close();
    // An `EventSource` hides why it was refused.
    const signedOut = await isSignedOut();
    if (source !== this.#source) {
      return;
    }
    if (signedOut) {
      this.#end('signed-out');
      return;
    }
    const pause = this.#backoff.next();
    this.#listener?.waiting(Date.now() + pause);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = window.setTimeout(() => this.#connect(), pause);
  }

  #end(why: 'signed-out' | 'too-many'): void {
    const listener = this.#listener;
    this.close();
    listener?.refused(why);
  }
}

async function isSignedOut(): Promise<boolean> {
  try {
    await askMe();
    return false;
  } catch (failure) {
    return failure instanceof RequestFailed && failure.code === 'unauthorized';
  }
}

function parse(event: MessageEvent<string>): unknown {
  try {
    return JSON.parse(event.data);
  } catch {
    return null;
  }
}
