/** The dialog of channels: those that there are, joining them, and making one. */

import { find, make, setText } from '../../dom.js';
import { plural } from '../../mail/model/text.js';
import { RequestFailed } from '../api.js';
import type { ChatClient } from '../client.js';
import { infoOf, type Info } from '../model/conversation.js';
import { fit } from '../model/match.js';
import { reasonOf } from '../model/words.js';
import { fieldsOf, textOf } from '../model/read.js';
import { askChannels } from '../requests.js';
import { icon } from './icon.js';

const SHOWN_MAX = 200;

export class ChannelsView {
  readonly #dialog = find(document, '#browse', HTMLDialogElement);
  readonly #filter = find(document, '#browse-text', HTMLInputElement);
  readonly #list = find(document, '#browse-list', HTMLElement);
  readonly #name = find(document, '#create-name', HTMLInputElement);
  readonly #private = find(document, '#create-private', HTMLInputElement);
  readonly #error = find(document, '#create-error', HTMLElement);
  readonly #client: () => ChatClient | null;
  readonly #go: (channel: string) => void;
  #channels: Info[] = [];

  constructor(client: () => ChatClient | null, go: (channel: string) => void) {
    this.#client = client;
    this.#go = go;
    this.#filter.addEventListener('input', () => this.#draw());
    // What is typed becomes a name as channels have them.
    this.#name.addEventListener('input', () => {
      const { value, selectionStart } = this.#name;
      const name = value.toLowerCase().replace(/\s/g, '-');
      if (name !== value) {
        this.#name.value = name;
        this.#name.setSelectionRange(selectionStart, selectionStart);
      }
    });
    find(document, '#create', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#create();
    });
  }

  async open(): Promise<void> {
    const client = this.#client();
    if (client === null) {
      return;
    }
    this.#filter.value = '';
    this.#name.value = '';
    this.#private.checked = false;
    setText(this.#error, '');
    this.#channels = [];
    this.#list.replaceChildren(make('li', 'finder-none', 'Loading…'));
    this.#dialog.showModal();
    this.#filter.focus();
    try {
      this.#channels = (await askChannels(client.api)).flatMap((value) => infoOf(value) ?? []);
      this.#channels.forEach((info) => client.known.set(info.id, info));
      this.#draw();
    } catch (failure) {
      this.#list.replaceChildren(make('li', 'finder-none', reasonOf(failure instanceof RequestFailed ? failure.code : 'offline')));
    }
  }

  #draw(): void {
    const wanted = this.#filter.value;
    const fitting = this.#channels.filter(({ name, archived }) => !archived && fit(name, wanted) > 0).sort((left, right) => left.name.localeCompare(right.name));
    const lines = fitting.slice(0, SHOWN_MAX).map((info) => this.#line(info));
    this.#list.replaceChildren(...(lines.length > 0 ? lines : [make('li', 'finder-none', 'No channel of this name')]));
  }

  #line(info: Info): HTMLElement {
    const line = make('li', 'browse-line');
    const member = this.#client()?.conversations.has(info.id) ?? false;
    const words = make('div', 'browse-words');
    const name = make('p', 'browse-name');
    name.append(icon(info.kind === 'group' ? 'lock' : 'hash'), info.name);
    const facts = [member ? 'joined' : '', info.memberCount > 0 ? plural(info.memberCount, 'member') : '', info.purpose || info.topic];
    words.append(name, make('p', 'browse-note', facts.filter((fact) => fact !== '').join(' · ')));
    const button = make('button', 'button small', member ? 'Open' : 'Join');
    button.type = 'button';
    button.setAttribute('aria-label', `${member ? 'Open' : 'Join'} ${info.name}`);
    button.addEventListener('click', () => void this.#join(info, member));
    line.append(words, button);
    return line;
  }

  async #join({ id }: Info, member: boolean): Promise<void> {
    try {
      if (!member) {
        await this.#client()?.api.call('conversations.join', { channel: id });
      }
      this.#dialog.close();
      this.#go(id);
    } catch (failure) {
      setText(this.#error, reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    }
  }

  async #create(): Promise<void> {
    const name = this.#name.value.trim();
    setText(this.#error, '');
    try {
      const answer = await this.#client()?.api.call('conversations.create', { name, is_private: this.#private.checked });
      this.#dialog.close();
      this.#go(textOf(fieldsOf(answer?.['channel'])['id']));
    } catch (failure) {
      setText(this.#error, reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    }
  }
}
