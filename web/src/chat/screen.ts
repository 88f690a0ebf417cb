/** The open conversation: its messages, what is written, what is read, and where one goes. */

import { find, make, setText } from '../dom.js';
import { plural } from '../mail/model/text.js';
import { Again } from './again.js';
import type { ChatClient } from './client.js';
import { titleOf, type Conversation, type Info } from './model/conversation.js';
import { encode } from './model/compose.js';
import { countAfter, type Range } from './model/held.js';
import { itemsOf } from './model/items.js';
import type { Message } from './model/message.js';
import { find as findMessage, merge } from './model/reduce.js';
import { hashOf, type Route } from './model/route.js';
import { laterOf, NEVER, type Ts } from './model/ts.js';
import { typingText } from './model/typing.js';
import { Composer } from './view/composer.js';
import { done } from './view/details.js';
import { MessageList } from './view/messages.js';
import type { Picker } from './view/picker.js';
import { directoryOf, offersOf, Talk } from './view/talk.js';
import { RowTools } from './view/tools.js';

/** With more that is unread, what is shown first is where it begins. */
const UNREAD_FAR = 40;

export class Screen {
  openId = '';
  readonly composer: Composer;
  readonly list: MessageList;
  readonly #client: ChatClient;
  readonly #talk: Talk;
  readonly #title = find(document, '#title', HTMLElement);
  readonly #topic = find(document, '#topic', HTMLElement);
  readonly #members = find(document, '#member-count', HTMLElement);
  readonly #typing = find(document, '#typing', HTMLElement);
  readonly #toLive = find(document, '#to-live', HTMLButtonElement);
  readonly #toLiveText = find(document, '#to-live-text', HTMLElement);
  readonly #join = find(document, '#join', HTMLElement);
  readonly #joinText = find(document, '#join-text', HTMLElement);
  readonly #joinButton = find(document, '#join-button', HTMLButtonElement);
  /** What stands above is read; the line of what is new stands here. */
  #line: Ts | null = null;
  #typingTimer: number | undefined;
  /** Where one was on the way to; whoever goes elsewhere is not taken there. */
  #way = 0;
  /** It is being opened: what is shown first is not decided yet. */
  #opening = false;
  readonly #again = new Again(() => this.#client.changed());

  constructor(client: ChatClient, picker: Picker, openThread: (root: Ts) => void) {
    this.#client = client;
    this.composer = new Composer({ id: 'composer', label: 'Write a message' }, picker, {
      send: (text) => this.#say(text),
      typed: (text) => this.#typed(text),
      editLast: () => this.#talk.editLast(),
      offers: (naming) => offersOf(client, naming),
    });
    find(document, '#composer', HTMLElement).replaceChildren(this.composer.element);
    this.#talk = new Talk(client, picker, () => this.#place(), openThread);
    const tools = new RowTools(this.#talk.tools, false);
    this.list = new MessageList(find(document, '#messages', HTMLElement), 'Messages', {
      older: () => this.#more('older'),
      newer: () => this.#more('newer'),
      moved: () => this.#moved(),
      entered: (row, message) => tools.show(row, message),
      key: (event, message) => this.#talk.key(event, message),
    });
    this.#toLive.addEventListener('click', () => void this.toLive());
    this.#joinButton.addEventListener('click', () => void this.#joinIt());
    for (const name of ['focus', 'blur']) {
      window.addEventListener(name, () => this.#moved());
    }
    document.addEventListener('visibilitychange', () => this.#moved());
  }

  get conversation(): Conversation | null {
    return this.#client.conversations.get(this.openId) ?? null;
  }

  get naming() {
    return this.#talk.naming;
  }

  /** Shows a conversation, and a message of it if one is named. */
  async show(route: Route): Promise<void> {
    const way = (this.#way += 1);
    this.#opening = true;
    try {
      await this.#open(route, way);
    } finally {
      if (way === this.#way) {
        this.#opening = false;
        this.#client.changed();
      }
    }
  }

  async #open({ channel, ts }: Route, way: number): Promise<void> {
    const other = channel !== this.openId;
    this.openId = channel;
    if (other) {
      this.#line = null;
      this.composer.text = this.#client.kept.draft(channel);
    }
    this.#client.changed();
    const conversation = await this.#client.get(channel);
    if (conversation === null || way !== this.#way) {
      this.#client.changed();
      return;
    }
    this.#client.kept.keepChannel(channel);
    if (ts !== null) {
      await this.#reach(conversation, ts);
    } else if (other) {
      await this.#begin(conversation);
    } else {
      await this.toLive();
    }
  }

  /** Shows what was said at a time, or first after it. */
  async goTo(ts: Ts): Promise<void> {
    const { conversation } = this;
    if (conversation !== null) {
      await this.#reach(conversation, ts);
      this.#client.changed();
    }
  }

  async toLive(): Promise<void> {
    const { conversation } = this;
    if (conversation !== null) {
      if (conversation.held.range?.to !== null) {
        await this.#client.reader.newest(conversation);
        this.draw(this.#version);
      }
      this.list.toEnd();
      this.#client.changed();
    }
  }

  async #begin(conversation: Conversation): Promise<void> {
    const { unread, held } = conversation;
    const [count, read] = [unread.count, unread.lastRead];
    this.#line = count > 0 ? read : null;
    if (count > UNREAD_FAR && read !== NEVER) {
      await this.#client.reader.around(conversation, read);
    } else if (held.range?.to !== null) {
      await this.#client.reader.newest(conversation);
    }
    const first = held.range?.messages.find((message) => message.ts > read && message.user !== this.#client.self.id);
    if (count > 0 && first !== undefined && held.range !== null && countAfter(held.range, first.ts) > 5) {
      this.list.goTo(first.ts, false);
    }
  }

  async #reach(conversation: Conversation, ts: Ts): Promise<void> {
    const { held } = conversation;
    if (held.range === null || !covers(held.range, ts)) {
      await this.#client.reader.around(conversation, ts);
    }
    this.list.goTo(ts, findMessage(held.range?.messages ?? [], ts) !== null);
  }

  // === Drawing ===

  #version = 0;

  draw(version: number): void {
    this.#version = version;
    const { conversation } = this;
    const info = conversation?.info ?? this.#client.known.get(this.openId) ?? null;
    this.#drawHead(info);
    this.#drawJoin(conversation, info);
    if (conversation === null) {
      this.list.draw({ name: this.openId, items: [], live: true, whole: true, intro: null, loading: false, version, context: this.#talk.context() });
      return;
    }
    const { held, unread } = conversation;
    if (held.range === null && !this.#opening) {
      // It could not be had, or what was held is not to be trusted any more.
      this.#again.soon(
        () => this.#client.reader.newest(conversation),
        () => undefined,
      );
    }
    if (unread.count > 0 && !this.#reads(conversation) && this.#line !== unread.lastRead && held.range !== null) {
      this.#line = unread.lastRead;
    }
    const range = held.range ?? { messages: [], from: '', to: null };
    const known = new Set(range.messages.map(({ clientMsgId }) => clientMsgId));
    const pending = this.#client.outbox.all.filter(({ channel, threadTs, id }) => channel === this.openId && threadTs === null && !known.has(id));
    this.list.draw({
      name: this.openId,
      items: itemsOf({
        messages: this.#withEphemeral(range),
        pending: range.to === null ? pending : [],
        self: this.#client.self.id,
        newAfter: this.#line,
        thread: null,
      }),
      live: range.to === null,
      whole: held.range !== null && range.from === NEVER,
      intro: info === null ? null : this.#intro(info),
      loading: held.range === null || this.#client.reader.isLoading(this.openId),
      version,
      context: this.#talk.context(),
    });
    this.#drawTyping(conversation);
  }

  #drawHead(info: Info | null): void {
    const name = info === null ? '' : titleOf(info, { nameOf: (user) => this.#client.nameOf(user) }, this.#client.self.id);
    const direct = info?.kind === 'im' || info?.kind === 'mpim';
    setText(this.#title, info === null ? '' : `${direct ? '' : info.kind === 'group' ? '🔒 ' : '# '}${name}`);
    setText(this.#topic, info?.topic ?? '');
    setText(this.#members, info === null || direct || info.memberCount === 0 ? '' : String(info.memberCount));
    this.composer.placeholder = info === null ? 'Write a message' : `Message ${direct ? '' : '#'}${name}`;
  }

  #drawJoin(conversation: Conversation | null, info: Info | null): void {
    const open = conversation !== null && !conversation.info.archived;
    this.composer.element.hidden = !open;
    this.#join.hidden = open || this.openId === '';
    this.#joinButton.hidden = conversation !== null || info === null || info.kind !== 'channel';
    if (!open) {
      const there = info !== null && info.kind === 'channel';
      const text = conversation !== null ? 'This channel is archived: it can be read, and nothing is added.' : 'This conversation does not exist, or is not open to you.';
      setText(this.#joinText, conversation === null && there ? `You are not in #${info.name}.` : text);
    }
  }

  #intro(info: Info): HTMLElement {
    const intro = make('div', 'intro-of');
    const name = titleOf(info, { nameOf: (user) => this.#client.nameOf(user) }, this.#client.self.id);
    const direct = info.kind === 'im' || info.kind === 'mpim';
    intro.append(make('h2', '', direct ? name : `#${name}`));
    const text = direct ? `Here begins what you say to ${name}.` : `Here begins the ${info.kind === 'group' ? 'private ' : ''}channel #${name}.${info.purpose === '' ? '' : ` ${info.purpose}`}`;
    intro.append(make('p', '', text));
    return intro;
  }

  #withEphemeral(range: Range): readonly Message[] {
    const own = this.#client.ephemeral.filter(({ channel, message }) => channel === this.openId && message.ts >= range.from && range.to === null);
    return own.length === 0 ? range.messages : merge(own.map(({ message }) => message), range.messages);
  }

  #drawTyping(conversation: Conversation): void {
    const now = Date.now();
    setText(this.#typing, typingText(conversation.typing.who(now).map((user) => this.#client.nameOf(user))));
    clearTimeout(this.#typingTimer);
    const next = conversation.typing.next();
    if (next !== null) {
      this.#typingTimer = window.setTimeout(() => this.#drawTyping(conversation), next - now + 50);
    }
  }

  // === Reading ===

  /** What comes is seen at once. */
  #reads({ held }: Conversation): boolean {
    return held.range?.to === null && this.list.atEnd && document.hasFocus() && !document.hidden;
  }

  #moved(): void {
    const { conversation } = this;
    if (conversation === null) {
      this.#toLive.hidden = true;
      return;
    }
    const { held, unread } = conversation;
    if (held.range !== null && unread.count + unread.mentions > 0 && this.#reads(conversation)) {
      this.#client.mark(conversation, [unread.newest, ...held.range.messages.map(newestOf)].reduce(laterOf));
    }
    if (held.range?.to === null && this.list.atEnd) {
      this.#client.reader.shorten(conversation);
    }
    this.#toLive.hidden = held.range === null || this.list.atEnd;
    setText(this.#toLiveText, unread.count > 0 ? plural(unread.count, 'new message') : 'Newest messages');
  }

  #more(which: 'older' | 'newer'): void {
    const { conversation } = this;
    if (conversation !== null && this.#client.lostAt === null) {
      this.#client.reader[which](conversation).catch(() => undefined);
    }
  }

  // === Writing ===

  #place() {
    const messages = this.conversation?.held.range?.messages ?? [];
    return { channel: this.openId, list: this.list, composer: this.composer, messages, thread: null };
  }

  #say(text: string): void {
    const { conversation } = this;
    if (conversation === null) {
      return;
    }
    this.#client.kept.keepDraft(this.openId, '');
    this.#line = null;
    this.#client.say(this.openId, encode(text, directoryOf(this.#client)));
    void this.toLive().catch(() => undefined);
  }

  #typed(text: string): void {
    this.#client.kept.keepDraft(this.openId, text);
    if (text.trim() !== '') {
      this.#client.typing(this.openId);
    }
  }

  async #joinIt(): Promise<void> {
    const channel = this.openId;
    if (await done(() => this.#client.api.call('conversations.join', { channel }))) {
      await this.show({ channel, ts: null, thread: null });
      await this.toLive();
    }
  }

  /** The address of a conversation; going there is what the page does when it changes. */
  go(channel: string, ts: Ts | null = null, thread: Ts | null = null): void {
    const hash = hashOf({ channel, ts, thread });
    if (location.hash === hash) {
      void this.show({ channel, ts, thread });
    } else {
      location.hash = hash;
    }
  }
}

/** When it, or the last reply to it, was said. */
function newestOf({ ts, latestReply }: Message): Ts {
  return laterOf(ts, latestReply ?? NEVER);
}

function covers({ from, to }: Range, ts: Ts): boolean {
  return ts >= from && (to === null || ts <= to);
}
