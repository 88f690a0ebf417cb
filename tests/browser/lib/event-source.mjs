/** As much of `EventSource` as the official Centrifuge client uses, for Node, which has none: it never comes back by itself. */

/** A stream of server-sent events. */
export class EventSource {
  #abort = new AbortController();

  constructor(url) {
    this.onopen = null;
    this.onerror = null;
    this.onmessage = null;
    this.#read(url).catch(() => this.#fail());
  }

  close() {
    this.#abort.abort();
  }

  async #read(url) {
    const response = await fetch(url, {
      headers: { accept: 'text/event-stream' },
      signal: this.#abort.signal,
    });
    if (response.status !== 200) {
      throw new Error(`status ${response.status}`);
    }
    this.onopen?.({});
    let text = '';
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const events = text.split('\n\n');
      text = events.pop();
      events.forEach((event) => this.#dispatch(event));
    }
    throw new Error('the stream ended');
  }

  #dispatch(event) {
    const lines = event.split('\n').filter((line) => line.startsWith('data:'));
    if (lines.length > 0 && !this.#abort.signal.aborted) {
      this.onmessage?.({ data: lines.map((line) => line.slice(5).trimStart()).join('\n') });
    }
  }

  #fail() {
    if (!this.#abort.signal.aborted) {
      this.onerror?.({});
    }
  }
}
