/** Beside a conversation: what it is for, who is in it, and what can be done with it. */

import { find, make, setText } from '../../dom.js';
import { RequestFailed } from '../api.js';
import type { ChatClient } from '../client.js';
import { titleOf, type Conversation } from '../model/conversation.js';
import { textsOf } from '../model/read.js';
import { reasonOf } from '../model/words.js';
import { ask, toast } from './confirm.js';
import { avatar, presence, textButton } from './icon.js';

const MEMBERS = 200;

export interface DetailsActions {
  invite(conversation: Conversation): void;
  write(user: string): void;
}

export class DetailsView {
  readonly #body = find(document, '#details-body', HTMLElement);
  readonly #title = find(document, '#details-title', HTMLElement);
  readonly #actions: DetailsActions;
  #members: { channel: string; ids: string[] } = { channel: '', ids: [] };
  #drawn = '';

  constructor(actions: DetailsActions) {
    this.#actions = actions;
  }

  async open(client: ChatClient, conversation: Conversation): Promise<void> {
    this.#members = { channel: conversation.id, ids: [] };
    this.#drawn = '';
    this.draw(client, conversation);
    try {
      const answer = await client.api.call('conversations.members', { channel: conversation.id, limit: MEMBERS });
      if (this.#members.channel === conversation.id) {
        this.#members = { channel: conversation.id, ids: textsOf(answer['members']) };
        this.draw(client, conversation);
      }
    } catch (failure) {
      toast(reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    }
  }

  draw(client: ChatClient, conversation: Conversation): void {
    const { info, direct } = conversation;
    const ids = this.#members.channel === conversation.id ? this.#members.ids : [];
    const looks = JSON.stringify([info, ids.map((id) => [client.nameOf(id), client.people.isHere(id)])]);
    if (looks === this.#drawn) {
      return;
    }
    this.#drawn = looks;
    setText(this.#title, `${direct ? '' : '#'}${titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id)}`);
    const parts: HTMLElement[] = [];
    if (!direct) {
      parts.push(this.#words(client, conversation, 'Topic', info.topic), this.#words(client, conversation, 'Purpose', info.purpose));
    }
    parts.push(this.#people(client, conversation, ids));
    if (!direct && !info.general) {
      parts.push(textButton('Leave the channel', () => void this.#leave(client, conversation), 'button small danger'));
    }
    this.#body.replaceChildren(...parts);
  }

  /** A text that can be set. */
  #words(client: ChatClient, { id }: Conversation, what: 'Topic' | 'Purpose', text: string): HTMLElement {
    const form = make('form', 'details-part');
    const label = make('label', 'field');
    const field = make('input', '');
    field.value = text;
    field.maxLength = 250;
    field.placeholder = 'None yet';
    label.append(make('span', 'field-label', what), field);
    form.append(label);
    const save = async (): Promise<void> => {
      if (field.value !== text) {
        await done(() => client.api.call(`conversations.set${what}`, { channel: id, [what.toLowerCase()]: field.value }));
      }
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      field.blur();
    });
    field.addEventListener('change', () => void save());
    return form;
  }

  #people(client: ChatClient, conversation: Conversation, ids: readonly string[]): HTMLElement {
    const part = make('section', 'details-part');
    const head = make('header', 'details-head');
    const count = Math.max(conversation.info.memberCount, ids.length);
    head.append(make('h3', '', count > 0 ? `Members · ${count}` : 'Members'));
    if (!conversation.direct) {
      head.append(textButton('Add people', () => this.#actions.invite(conversation), 'button small'));
    }
    const list = make('ul', 'details-people');
    list.append(
      ...ids.map((id) => {
        const line = make('li', '');
        const button = make('button', 'details-person');
        button.type = 'button';
        const name = client.nameOf(id);
        const face = make('span', 'side-face');
        face.append(avatar(id, name, 'avatar small'), presence(client.people.isHere(id)));
        button.append(face, make('span', '', id === client.self.id ? `${name} (you)` : name));
        button.addEventListener('click', () => this.#actions.write(id));
        line.append(button);
        return line;
      }),
    );
    part.append(head, list);
    return part;
  }

  async #leave(client: ChatClient, { id, info }: Conversation): Promise<void> {
    const text = info.kind === 'group' ? 'Only somebody in it can let you in again.' : 'You can join it again at any time.';
    if (await ask({ title: `Leave #${info.name}?`, text, yes: 'Leave' })) {
      await done(() => client.api.call('conversations.leave', { channel: id }));
    }
  }
}

/** Does it, and says if it could not be done. */
export async function done(act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (failure) {
    toast(reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    return false;
  }
}
