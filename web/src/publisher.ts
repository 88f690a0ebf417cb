/** The form that publishes: one message at a time, or a stream of them. */

import { ApiError, publish } from './api.js';
import { find, setText } from './dom.js';
import type { Head } from './head.js';
import { formatLatency, now } from './latency.js';
import type { PagePayload } from './payload.js';

/** How long a stream runs before it stops by itself, in milliseconds. */
export const STREAM_MAX_MS = 300_000;
/** How many publishes wait for their commit at most; a stream skips its turn beyond. */
export const MAX_IN_FLIGHT = 64;

/** Publishes into one channel at a time. */
export class Publisher {
  readonly #page: string;
  readonly #announce: (text: string) => void;
  readonly #message = find(document, '#message', HTMLInputElement);
  readonly #rate = find(document, '#rate', HTMLSelectElement);
  readonly #streamButton = find(document, '#publish-stream', HTMLButtonElement);
  readonly #streamLabel = find(document, '#publish-stream-label', HTMLElement);
  readonly #status = find(document, '#publish-status', HTMLElement);
  readonly #keyNotice = find(document, '#key-notice', HTMLElement);
  #channel = '';
  #head: Head | null = null;
  #inFlight = 0;
  #streamed = 0;
  #streamTimer: number | undefined;
  #streamEnd: number | undefined;

  /** @param page the name by which this page knows its own messages */
  constructor(page: string, announce: (text: string) => void) {
    this.#page = page;
    this.#announce = announce;
    this.#streamButton.addEventListener('click', () => {
      if (this.#streamTimer === undefined) {
        this.#startStream();
      } else {
        this.#stopStream();
      }
    });
    this.#rate.addEventListener('change', () => {
      if (this.#streamTimer !== undefined) {
        this.#startStream();
      }
    });
  }

  /** Publishes into this channel from now on. */
  use(channel: string, head: Head): void {
    this.#stopStream();
    this.#channel = channel;
    this.#head = head;
    this.#say('Nothing published from here yet.', 'quiet');
  }

  /** Publishes what the message field holds. */
  one(): void {
    void this.#send(this.#message.value);
  }

  #startStream(): void {
    this.#clearTimers();
    const interval = 1000 / Number(this.#rate.value);
    this.#streamTimer = window.setInterval(() => this.#tick(), interval);
    this.#streamEnd = window.setTimeout(() => this.#stopStream(), STREAM_MAX_MS);
    this.#streamButton.setAttribute('aria-pressed', 'true');
    setText(this.#streamLabel, 'Stop the stream');
  }

  #stopStream(): void {
    this.#clearTimers();
    this.#streamButton.setAttribute('aria-pressed', 'false');
    setText(this.#streamLabel, 'Publish a stream');
  }

  #clearTimers(): void {
    clearInterval(this.#streamTimer);
    clearTimeout(this.#streamEnd);
    this.#streamTimer = undefined;
  }

  #tick(): void {
    if (this.#inFlight < MAX_IN_FLIGHT) {
      this.#streamed += 1;
      void this.#send(`${this.#message.value} · ${this.#streamed}`);
    }
  }

  async #send(text: string): Promise<void> {
    const head = this.#head;
    const sent = now();
    const payload: PagePayload = { text, sent, page: this.#page };
    this.#inFlight += 1;
    try {
      const { epoch, offset, duplicate } = await publish(this.#channel, payload);
      head?.learn({ epoch, offset });
      this.#keyNotice.hidden = true;
      if (head === this.#head) {
        const again = duplicate ? ' (it already was: one message, tried twice)' : '';
        this.#say(`Committed as ${offset} in ${formatLatency(now() - sent)}${again}`, 'good');
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#inFlight -= 1;
    }
  }

  #failed(error: unknown): void {
    if (error instanceof ApiError && error.kind === 'unauthorized') {
      this.#stopStream();
      this.#keyNotice.hidden = false;
      this.#say('Not published: the server asks for an API key.', 'bad');
      this.#announce('Not published: the server asks for an API key.');
      return;
    }
    const reason = error instanceof Error ? error.message : String(error);
    this.#say(`Not published: ${reason}`, 'bad');
  }

  #say(text: string, tone: 'quiet' | 'good' | 'bad'): void {
    setText(this.#status, text);
    this.#status.dataset['tone'] = tone;
  }
}
