/** Finding people: to write to them, or to add them to a channel. */

import { find, make, setText } from '../../dom.js';
import { RequestFailed } from '../api.js';
import type { ChatClient } from '../client.js';
import type { Conversation } from '../model/conversation.js';
import { ranked } from '../model/match.js';
import { fieldsOf, textOf } from '../model/read.js';
import { reasonOf } from '../model/words.js';
import { done } from './details.js';
import { Finder, type Choice } from './finder.js';
import { avatar } from './icon.js';

const SHOWN_MAX = 50;
/** So many may be in one direct message, oneself not counted. */
const CHOSEN_MAX = 8;

export class PeopleView {
  readonly #client: ChatClient;
  readonly #go: (channel: string) => void;
  readonly #finder: Finder;
  readonly #chosen = find(document, '#start-chosen', HTMLElement);
  readonly #error = find(document, '#start-error', HTMLElement);
  readonly #button = find(document, '#start-go', HTMLButtonElement);
  #ids: string[] = [];
  /** The channel to which people are added; null to write to them. */
  #channel: Conversation | null = null;

  constructor(client: ChatClient, go: (channel: string) => void) {
    this.#client = client;
    this.#go = go;
    this.#finder = new Finder('start', (text) => this.#choices(text), ({ id }) => this.#choose(id));
    this.#button.addEventListener('click', () => void this.#done());
    this.#finder.field.addEventListener('keydown', (event) => {
      if (event.key === 'Backspace' && this.#finder.field.value === '' && this.#ids.length > 0) {
        this.#ids = this.#ids.slice(0, -1);
        this.#draw();
      } else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        void this.#done();
      }
    });
  }

  /** To write to somebody. */
  open(): void {
    this.#begin(null, 'Whom do you write to?', 'Write');
  }

  invite(conversation: Conversation): void {
    this.#begin(conversation, `Whom do you add to #${conversation.info.name}?`, 'Add');
  }

  /** Opens the direct message with these people, which is made if there is none yet. */
  async write(ids: readonly string[]): Promise<void> {
    await done(async () => {
      const answer = await this.#client.api.call('conversations.open', { users: ids.join(',') });
      this.#go(textOf(fieldsOf(answer['channel'])['id']));
    });
  }

  #begin(channel: Conversation | null, words: string, act: string): void {
    this.#channel = channel;
    this.#ids = [];
    this.#finder.field.placeholder = words;
    this.#finder.dialog.setAttribute('aria-label', words);
    setText(this.#button, act);
    this.#finder.open();
    this.#draw();
  }

  #choices(text: string): Choice[] {
    const people = this.#client.people.active().filter(({ id }) => !this.#ids.includes(id) && (this.#channel === null || id !== this.#client.self.id));
    const sorted = people.sort((left, right) => left.name.localeCompare(right.name));
    return ranked(sorted, text, ({ name, handle }) => [name, handle], SHOWN_MAX).map(({ id, name, handle }) => {
      return { id, label: name, note: `@${handle}`, sign: avatar(id, name, 'avatar tiny') };
    });
  }

  #choose(id: string): void {
    if (this.#ids.length < CHOSEN_MAX) {
      this.#ids = [...this.#ids, id];
      this.#finder.field.value = '';
      this.#draw();
      this.#finder.field.focus();
    }
  }

  #draw(): void {
    this.#chosen.hidden = this.#ids.length === 0;
    this.#chosen.replaceChildren(
      ...this.#ids.map((id) => {
        const name = this.#client.nameOf(id);
        const chip = make('button', 'chip', `${name} ✕`);
        chip.type = 'button';
        chip.setAttribute('aria-label', `Leave out ${name}`);
        chip.addEventListener('click', () => {
          this.#ids = this.#ids.filter((other) => other !== id);
          this.#draw();
        });
        return chip;
      }),
    );
    this.#button.disabled = this.#ids.length === 0;
    setText(this.#error, '');
    this.#finder.draw();
  }

  async #done(): Promise<void> {
    const [ids, channel] = [this.#ids, this.#channel];
    if (ids.length === 0) {
      return;
    }
    if (channel === null) {
      this.#finder.close();
      await this.write(ids);
      return;
    }
    try {
      await this.#client.api.call('conversations.invite', { channel: channel.id, users: ids.join(',') });
      this.#finder.close();
    } catch (failure) {
      setText(this.#error, reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    }
  }
}
