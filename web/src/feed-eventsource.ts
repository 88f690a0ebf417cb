/** A channel over server-sent events, through the browser's own `EventSource`. */

import type { Feed, FeedListener } from './feed.js';
import { now } from './latency.js';

/** The path of the event streams. */
const PATH = '/events';
/** The first pause before a stream that the browser gave up is opened again, in milliseconds. */
const REOPEN_MIN_MS = 500;
/** The longest such pause. */
const REOPEN_MAX_MS = 10_000;

/** Opens nothing yet: `connect` does. */
export class EventSourceFeed implements Feed {
  readonly #channel: string;
  #listener: FeedListener | null;
  #source: EventSource | null = null;
  #lastEventId = '';
  #epoch: string | null = null;
  #reopenDelay = REOPEN_MIN_MS;
  #reopenTimer: number | undefined;

  constructor(channel: string, listener: FeedListener) {
    this.#channel = channel;
    this.#listener = listener;
  }

  connect(): void {
    this.drop();
    this.#listener?.connecting();
    const source = new EventSource(this.#address());
    this.#source = source;
    source.addEventListener('ready', (event) => this.#ready(event));
    source.addEventListener('message', (event) => this.#message(event));
    source.addEventListener('truncated', (event) => {
      this.#remember(event);
      this.#listener?.truncated(Number(parse(event)['oldest']));
    });
    source.addEventListener('reset', (event) => {
      this.#remember(event);
      const offset = Number(parse(event)['offset']);
      this.#listener?.reset({ epoch: this.#epoch ?? '', offset });
    });
    source.addEventListener('error', () => this.#failed(source));
  }

  drop(): void {
    clearTimeout(this.#reopenTimer);
    this.#source?.close();
    this.#source = null;
  }

  close(): void {
    this.#listener = null;
    this.drop();
  }

  /**
   * A new `EventSource` cannot be given a `Last-Event-ID` header, so the address carries the id.
   * When the browser reconnects by itself, it sends the newer id in the header.
   */
  #address(): string {
    const query = new URLSearchParams({ channel: this.#channel });
    if (this.#lastEventId !== '') {
      query.set('last_event_id', this.#lastEventId);
    }
    return `${PATH}?${query}`;
  }

  #ready(event: MessageEvent<string>): void {
    this.#remember(event);
    this.#reopenDelay = REOPEN_MIN_MS;
    const { epoch, channels } = parse(event) as {
      epoch?: string;
      channels?: Record<string, { offset?: number }>;
    };
    const start = { epoch: epoch ?? '', offset: channels?.[this.#channel]?.offset ?? 0 };
    this.#epoch = start.epoch;
    this.#listener?.live(start);
  }

  #message(event: MessageEvent<string>): void {
    const arrivedAt = now();
    this.#remember(event);
    const { channel, offset, data } = parse(event);
    if (channel === this.#channel) {
      this.#listener?.publication({ seq: Number(offset), data, arrivedAt });
    }
  }

  #remember(event: MessageEvent<string>): void {
    if (event.lastEventId !== '') {
      this.#lastEventId = event.lastEventId;
    }
  }

  /** The browser retries a lost connection by itself, but not a refused one. */
  #failed(source: EventSource): void {
    if (source !== this.#source) {
      return;
    }
    this.#listener?.connecting();
    if (source.readyState !== EventSource.CLOSED) {
      return;
    }
    this.#reopenTimer = window.setTimeout(() => void this.#reopen(), this.#reopenDelay);
    this.#reopenDelay = Math.min(this.#reopenDelay * 2, REOPEN_MAX_MS);
  }

  /** `EventSource` hides why it was refused: the same address, asked plainly, tells. */
  async #reopen(): Promise<void> {
    const refused = this.#source;
    const status = await statusOf(this.#address());
    if (this.#source !== refused || this.#listener === null) {
      return;
    }
    if (status >= 400 && status < 500 && status !== 429) {
      this.#listener.refused(
        status === 401 ? 'unauthorized (401)' : `the server answered ${status}`,
      );
      return;
    }
    this.connect();
  }
}

/** The status an address answers with, without reading the body; 0 when there is no answer. */
async function statusOf(address: string): Promise<number> {
  const abort = new AbortController();
  try {
    const headers = { accept: 'text/event-stream' };
    return (await fetch(address, { headers, signal: abort.signal })).status;
  } catch {
    return 0;
  } finally {
    abort.abort();
  }
}

function parse(event: MessageEvent<string>): Record<string, unknown> {
  return JSON.parse(event.data) as Record<string, unknown>;
}
