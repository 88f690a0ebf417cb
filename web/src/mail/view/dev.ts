/** Gmail on another device: what one would do on a phone, done to the stand-in for Google. */

import { find, setText } from '../../dom.js';
import { act, RequestFailed } from '../api.js';
import type { MailClient } from '../client.js';
import { belongs, isUnread, isUserLabel, STARRED, UNREAD } from '../model/labels.js';
import { senderOf } from '../model/text.js';

const BURST = 20;

export class DevView {
  readonly #error = find(document, '#dev-error', HTMLElement);
  readonly #target = find(document, '#dev-target', HTMLElement);
  readonly #keys = find(document, '#dev-on-one', HTMLElement);
  readonly #client: MailClient;
  readonly #chosen: () => string | null;
  #busy = false;

  constructor(client: MailClient, chosen: () => string | null) {
    this.#client = client;
    this.#chosen = chosen;
    for (const button of document.querySelectorAll<HTMLButtonElement>('[data-act]')) {
      button.addEventListener('click', () => void this.#pressed(button.dataset['act'] ?? ''));
    }
  }

  show(): void {
    const target = this.#of();
    const labels = target?.labels ?? [];
    const isChosen = target !== undefined && target.id === this.#chosen();
    const { name } = senderOf(target?.from ?? '');
    setText(
      this.#target,
      target === undefined ? 'No mail to do anything with' : `With the ${isChosen ? 'chosen' : 'newest'} mail, from ${name}`,
    );
    this.#say('read', isUnread(labels) ? 'Mark read' : 'Mark unread');
    this.#say('star', labels.includes(STARRED) ? 'Take star off' : 'Star');
    this.#say('label', labels.some(isUserLabel) ? 'Take label off' : 'Label');
    this.#say('archive', labels.includes('INBOX') || target === undefined ? 'Archive' : 'To the inbox');
    for (const button of this.#keys.querySelectorAll('button')) {
      button.disabled = target === undefined;
    }
  }

  #of(): ReturnType<MailClient['mailbox']['get']> {
    const { mailbox, view } = this.#client;
    const chosen = mailbox.get(this.#chosen() ?? '');
    return chosen !== undefined && belongs(view, chosen.labels) ? chosen : mailbox.list(view)[0];
  }

  #say(what: string, words: string): void {
    setText(find(this.#keys, `[data-act=${what}]`, HTMLElement), words);
  }

  async #pressed(what: string): Promise<void> {
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    setText(this.#error, '');
    try {
      await this.#do(what);
    } catch (failure) {
      setText(this.#error, failure instanceof RequestFailed ? failure.message : 'That did not work.');
    }
    this.#busy = false;
  }

  async #do(what: string): Promise<void> {
    if (what === 'message' || what === 'burst') {
      const count = what === 'burst' ? BURST : 1;
      for (let number = 0; number < count; number += 1) {
        // One by one: each is another letter.
        await act('message', {});
      }
      return;
    }
    const target = this.#of();
    if (target === undefined) {
      return;
    }
    const { id, labels } = target;
    const toggle = (label: string): Promise<unknown> =>
      act('modify', labels.includes(label) ? { id, add: [], remove: [label] } : { id, add: [label], remove: [] });
    switch (what) {
      case 'read':
        await toggle(UNREAD);
        break;
      case 'star':
        await toggle(STARRED);
        break;
      case 'label':
        await toggle(labels.find(isUserLabel) ?? (await this.#label()));
        break;
      case 'archive':
        await toggle('INBOX');
        break;
      case 'trash':
        await act('modify', { id, add: ['TRASH'], remove: ['INBOX'] });
        break;
      case 'delete':
        await act('delete', { id });
        break;
    }
  }

  /** A label of the user's own: one that there is, or a new one. */
  async #label(): Promise<string> {
    const own = this.#client.labels.filter(({ id }) => isUserLabel(id));
    const known = own[Math.floor(Math.random() * own.length)];
    if (known !== undefined) {
      return known.id;
    }
    const made = (await act('label', { name: 'Follow up' })) as { id?: unknown };
    return String(made.id ?? '');
  }
}
