/** The thread beside the conversation. */

import { find, setText } from '../dom.js';
import { Again } from './again.js';
import type { ChatClient } from './client.js';
import { titleOf } from './model/conversation.js';
import { encode } from './model/compose.js';
import { itemsOf } from './model/items.js';
import type { Ts } from './model/ts.js';
import { Composer } from './view/composer.js';
import { MessageList } from './view/messages.js';
import type { Picker } from './view/picker.js';
import { directoryOf, offersOf, Talk } from './view/talk.js';
import { RowTools } from './view/tools.js';

export class ThreadScreen {
  readonly composer: Composer;
  readonly list: MessageList;
  readonly #client: ChatClient;
  readonly #talk: Talk;
  readonly #where = find(document, '#thread-where', HTMLElement);
  readonly #again = new Again(() => this.#client.changed());
  #shown = '';

  constructor(client: ChatClient, picker: Picker) {
    this.#client = client;
    this.composer = new Composer({ id: 'reply', label: 'Reply', broadcast: true }, picker, {
      send: (text, broadcast) => this.#say(text, broadcast),
      typed: (text) => this.#typed(text),
      editLast: () => this.#talk.editLast(),
      offers: (naming) => offersOf(client, naming),
    });
    find(document, '#thread-composer', HTMLElement).replaceChildren(this.composer.element);
    this.#talk = new Talk(client, picker, () => this.#place(), () => undefined);
    const tools = new RowTools(this.#talk.tools, true);
    this.list = new MessageList(find(document, '#thread-messages', HTMLElement), 'Thread', {
      older: () => undefined,
      newer: () => undefined,
      moved: () => undefined,
      entered: (row, message) => tools.show(row, message),
      key: (event, message) => this.#talk.key(event, message),
    });
  }

  /** Opens a thread, at one of its replies if it is named. */
  async open(channel: string, root: Ts, reply: Ts | null): Promise<void> {
    if (reply !== null && reply !== root) {
      this.list.goTo(reply);
    }
    const opening = this.#client.openThread(channel, root);
    this.composer.text = this.#client.kept.draft(`${channel}.${root}`);
    this.#client.changed();
    await opening;
  }

  draw(version: number): void {
    const { thread } = this.#client;
    if (thread === null) {
      return;
    }
    const { channel, root, held } = thread;
    if (held.range === null) {
      this.#again.soon(
        () => this.#client.reader.thread(channel, root, held),
        () => this.#client.closeThread(),
      );
    }
    const info = this.#client.conversations.get(channel)?.info;
    const direct = info?.kind === 'im' || info?.kind === 'mpim';
    const name = info === undefined ? '' : titleOf(info, { nameOf: (user) => this.#client.nameOf(user) }, this.#client.self.id);
    setText(this.#where, `${direct ? '' : '#'}${name}`);
    this.composer.placeholder = 'Reply…';
    const messages = held.range?.messages ?? [];
    const known = new Set(messages.map(({ clientMsgId }) => clientMsgId));
    const pending = this.#client.outbox.all.filter((one) => one.channel === channel && one.threadTs === root && !known.has(one.id));
    const items = itemsOf({ messages, pending, self: this.#client.self.id, newAfter: null, thread: root });
    const loading = held.range === null;
    const name_ = `${channel} ${root}`;
    this.list.draw({ name: name_, items, live: true, whole: !loading, intro: null, loading, version, context: this.#talk.context() });
    this.#shown = name_;
  }

  #place() {
    const { thread } = this.#client;
    return {
      channel: thread?.channel ?? '',
      list: this.list,
      composer: this.composer,
      messages: thread?.held.range?.messages ?? [],
      thread: thread?.root ?? this.#shown,
    };
  }

  #say(text: string, broadcast: boolean): void {
    const { thread } = this.#client;
    if (thread !== null) {
      this.#client.kept.keepDraft(`${thread.channel}.${thread.root}`, '');
      this.list.toEnd();
      this.#client.say(thread.channel, encode(text, directoryOf(this.#client)), thread.root, broadcast);
    }
  }

  #typed(text: string): void {
    const { thread } = this.#client;
    if (thread !== null) {
      this.#client.kept.keepDraft(`${thread.channel}.${thread.root}`, text);
    }
  }
}
