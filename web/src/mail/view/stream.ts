/** The events as they came: what, where, and how long after the commit. */

import { find, make, setText } from '../../dom.js';
import type { MailClient } from '../client.js';
import type { Seen } from '../recent.js';

const SHOWN_MAX = 9;

export class StreamView {
  readonly #list = find(document, '#stream-list', HTMLElement);
  readonly #at = find(document, '#stream-at', HTMLElement);
  #newest: Seen | undefined;

  show({ recent, position }: MailClient): void {
    setText(this.#at, position === null ? '' : `at ${position.seq}`);
    const shown = recent.seen.slice(0, SHOWN_MAX);
    if (shown[0] === this.#newest && this.#list.childElementCount > 0) {
      return;
    }
    this.#newest = shown[0];
    if (shown.length === 0) {
      this.#list.replaceChildren(make('li', 'stream-none', 'Nothing has come yet.'));
      return;
    }
    this.#list.replaceChildren(
      ...shown.map(({ type, seq, side, lag, subject }) => {
        const item = make('li', 'stream-item');
        item.dataset['type'] = type;
        item.title = side === 'sse' ? 'by server-sent events' : 'by WebSocket';
        item.append(
          make('span', 'stream-seq', String(seq)),
          make('span', 'stream-type', type),
          make('span', 'stream-subject', subject),
          make('span', 'stream-lag', lagText(lag)),
        );
        return item;
      }),
    );
  }
}

/** Two clocks are compared: a little below nothing is nothing. */
function lagText(lag: number): string {
  if (lag < 1_000) {
    return `${Math.max(0, Math.round(lag))} ms`;
  }
  return lag < 100_000 ? `${(lag / 1_000).toFixed(1)} s` : 'earlier';
}
