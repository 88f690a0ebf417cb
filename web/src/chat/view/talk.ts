/** What a conversation and a thread have in common: a list, a field, and what can be done with a message. */

import { make } from '../../dom.js';
import { ranked } from '../model/match.js';
import type { ChatClient } from '../client.js';
import { decode, encode, type Directory } from '../model/compose.js';
import { search } from '../model/emoji.js';
import { isNotice, isSaid, isTombstone, type Message } from '../model/message.js';
import { plain } from '../model/mrkdwn.js';
import { find as findMessage } from '../model/reduce.js';
import type { Pending } from '../model/outbox.js';
import { hashOf } from '../model/route.js';
import type { Ts } from '../model/ts.js';
import { Composer, type Offer } from './composer.js';
import { ask, toast } from './confirm.js';
import { done } from './details.js';
import { avatar, icon } from './icon.js';
import type { MessageList } from './messages.js';
import type { Picker } from './picker.js';
import type { RowActions, RowContext } from './row.js';
import type { ToolActions } from './tools.js';
import type { Naming } from './text.js';

const OFFERS_MAX = 8;

/** Where the open messages are. */
export interface Place {
  readonly channel: string;
  readonly list: MessageList;
  readonly composer: Composer;
  readonly messages: readonly Message[];
  /** The list is this thread. */
  readonly thread: Ts | null;
}

export class Talk {
  readonly #client: ChatClient;
  readonly #picker: Picker;
  readonly #place: () => Place;
  readonly #openThread: (root: Ts) => void;

  constructor(
    client: ChatClient,
    picker: Picker,
    place: () => Place,
    openThread: (root: Ts) => void,
  ) {
    this.#client = client;
    this.#picker = picker;
    this.#place = place;
    this.#openThread = openThread;
  }

  get naming(): Naming {
    return namingOf(this.#client);
  }

  context(): RowContext {
    return { naming: this.naming, actions: this.rows, self: this.#client.self.id, inThread: this.#place().thread !== null, now: Date.now() };
  }

  readonly rows: RowActions = {
    react: (message, name) => void this.react(message, name),
    pick: (message, beside) => this.#picker.open(beside, (name) => void this.react(message, name)),
    thread: (root) => this.#openThread(root),
    retry: (pending) => this.retry(pending),
    discard: (pending) => void this.discard(pending),
  };

  readonly tools: ToolActions = {
    react: (message, name) => void this.react(message, name),
    pick: (message, beside) => this.#picker.open(beside, (name) => void this.react(message, name)),
    thread: (message) => this.#openThread(message.threadTs ?? message.ts),
    edit: (message) => this.edit(message),
    remove: (message) => void this.remove(message),
    link: (message) => void this.link(message),
    may: (message) => {
      const own = message.user === this.#client.self.id && !message.bot;
      const said = isSaid(message);
      return { answer: said, edit: own && said, remove: (own || this.#client.self.admin) && !isTombstone(message) && !isNotice(message) };
    },
  };

  async react(message: Message, name: string): Promise<void> {
    const { channel } = this.#place();
    const now = findMessage(this.#place().messages, message.ts) ?? message;
    const mine = now.reactions.some((reaction) => reaction.name === name && reaction.users.includes(this.#client.self.id));
    const act = this.#client.api.call(mine ? 'reactions.remove' : 'reactions.add', { channel, name, timestamp: message.ts });
    await done(() => act);
  }

  /** Puts a field in the place of the message's text. */
  edit(message: Message): void {
    const { channel, list, composer } = this.#place();
    const row = list.rowOf(message.ts);
    const body = row?.querySelector('.row-body');
    if (row == null || body == null || row.classList.contains('editing')) {
      return;
    }
    const before = decode(message.text, directoryOf(this.#client));
    const end = (): void => {
      list.hold(null);
      editor.element.remove();
      row.classList.remove('editing');
      this.#client.changed();
      composer.focus();
    };
    const editor: Composer = new Composer({ id: 'editor', label: 'Edit the message', saves: true }, this.#picker, {
      send: (text) => {
        const sent = encode(text, directoryOf(this.#client));
        if (sent === message.text) {
          end();
          return;
        }
        void done(() => this.#client.api.call('chat.update', { channel, ts: message.ts, text: sent })).then((saved) => {
          saved ? end() : (editor.text = text);
        });
      },
      typed: () => undefined,
      editLast: () => false,
      offers: (naming) => offersOf(this.#client, naming),
      cancelled: end,
    });
    row.classList.add('editing');
    list.hold(message.ts);
    editor.text = before;
    body.append(editor.element);
    editor.focus();
    row.scrollIntoView({ block: 'nearest' });
  }

  editLast(): boolean {
    const own = [...this.#place().messages].reverse().find((message) => this.tools.may(message).edit);
    if (own !== undefined) {
      this.edit(own);
    }
    return own !== undefined;
  }

  async remove(message: Message): Promise<void> {
    const { channel } = this.#place();
    const quote = plain(message.text, this.naming).slice(0, 300);
    const yes = await ask({ title: 'Delete this message?', text: 'It is gone for everybody, and cannot be had back.', quote, yes: 'Delete' });
    if (yes) {
      await done(() => this.#client.api.call('chat.delete', { channel, ts: message.ts }));
    }
  }

  async link(message: Message): Promise<void> {
    const thread = message.threadTs === message.ts ? null : message.threadTs;
    const address = `${location.origin}/chat/${hashOf({ channel: this.#place().channel, ts: message.ts, thread })}`;
    try {
      await navigator.clipboard.writeText(address);
      toast('The link is copied.');
    } catch {
      toast(address);
    }
  }

  retry({ id, channel }: Pending): void {
    this.#client.outbox.set(id, 'waiting');
    this.#client.sender.all();
    this.#client.sender.send(channel);
    this.#client.changed();
  }

  async discard(pending: Pending): Promise<void> {
    const text = pending.state === 'refused' ? 'It was never sent.' : 'It may have been sent already; then it stays in the conversation.';
    if (await ask({ title: 'Delete what was not sent?', text, quote: plain(pending.text, this.naming).slice(0, 300), yes: 'Delete' })) {
      this.#client.outbox.remove(pending.id);
      this.#client.changed();
    }
  }

  /** Keys on a message that has the keyboard. */
  key(event: KeyboardEvent, message: Message | null): void {
    if (message === null || event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof HTMLElement) || !event.target.matches('.row')) {
      return;
    }
    const { answer, edit, remove } = this.tools.may(message);
    const act = {
      r: answer ? () => this.tools.pick(message, event.target as HTMLElement) : undefined,
      t: answer && this.#place().thread === null ? () => this.tools.thread(message) : undefined,
      Enter: answer && this.#place().thread === null ? () => this.tools.thread(message) : undefined,
      e: edit ? () => this.edit(message) : undefined,
      Delete: remove ? () => void this.remove(message) : undefined,
    }[event.key];
    if (act !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      act();
    }
  }
}

export function namingOf(client: ChatClient): Naming {
  return {
    self: client.self.id,
    user: (id) => (client.nameOf(id) === id ? '' : client.nameOf(id)),
    channel: (id) => client.known.get(id)?.name ?? '',
  };
}

export function directoryOf(client: ChatClient): Directory {
  return {
    userByHandle: (handle) => client.people.byHandle(handle)?.id ?? null,
    channelByName: (name) => [...client.known.values()].find((info) => info.name === name && (info.kind === 'channel' || info.kind === 'group'))?.id ?? null,
    handleOf: (id) => client.people.get(id)?.handle ?? null,
    channelName: (id) => client.known.get(id)?.name ?? null,
  };
}

/** What may be meant by what is being typed. */
export function offersOf(client: ChatClient, { sign, part }: { sign: string; part: string }): Offer[] {
  if (sign === ':') {
    return search(part, OFFERS_MAX).map(({ name, sign: shown }) => ({ insert: `:${name}:`, label: `:${name}:`, note: '', sign: shown }));
  }
  if (sign === '#') {
    const channels = [...client.known.values()].filter(({ kind, archived }) => (kind === 'channel' || kind === 'group') && !archived);
    return ranked(channels, part, ({ name }) => [name], OFFERS_MAX).map((info) => {
      const mark = make('span', 'offer-sign');
      mark.append(icon(info.kind === 'group' ? 'lock' : 'hash'));
      return { insert: `#${info.name}`, label: info.name, note: info.topic, sign: mark };
    });
  }
  const people = ranked(client.people.active(), part, ({ handle, name }) => [handle, name], OFFERS_MAX).map(({ id, handle, name }) => ({
    insert: `@${handle}`,
    label: name,
    note: `@${handle}`,
    sign: avatar(id, name, 'avatar tiny'),
  }));
  const everybody = ranked(['here', 'channel'], part || ' ', (name) => [name], 2).map((name) => ({
    insert: `@${name}`,
    label: `@${name}`,
    note: name === 'here' ? 'everybody who is here now' : 'everybody in the channel',
    sign: '@',
  }));
  return [...people, ...(part === '' ? [] : everybody)].slice(0, OFFERS_MAX);
}
