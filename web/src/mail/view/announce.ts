/** What a screen reader says by itself: what came, in one sentence, and never a sentence for each of many. */

import { find } from '../../dom.js';
import type { Applied } from '../model/mailbox.js';
import { belongs, INBOX, isUnread } from '../model/labels.js';
import type { MailEvent } from '../model/protocol.js';
import { plural, senderOf } from '../model/text.js';

const GATHER_MS = 1_500;

export class Announcer {
  readonly #place = find(document, '#announcer', HTMLElement);
  #came: string[] = [];
  #count = 0;
  #timer: number | undefined;

  happened({ kind }: Applied, event: MailEvent): void {
    if (kind !== 'new' || event.type !== 'new_email') {
      return;
    }
    const { labels, from, subject } = event.message;
    if (!belongs(INBOX, labels) || !isUnread(labels)) {
      return;
    }
    this.#count += 1;
    this.#came = [`New mail from ${senderOf(from).name}: ${subject || 'no subject'}`];
    this.#timer ??= window.setTimeout(() => this.#say(), GATHER_MS);
  }

  say(text: string): void {
    this.#place.textContent = text;
  }

  #say(): void {
    this.#timer = undefined;
    this.say(this.#count > 1 ? plural(this.#count, 'new mail') : (this.#came[0] ?? ''));
    this.#count = 0;
  }
}
