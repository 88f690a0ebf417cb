/**
 * The workspace of a page, kept right: what the server gave, and the events of the log from the positions that came with it.
 *
 * Order is all. An answer names a position that was read before its rows, and events are applied from there on; whatever is told twice changes
 * nothing. So a connection may be lost at any time, and what is shown afterwards is what a fresh load would show.
 */

import { Backoff } from '../mail/model/backoff.js';
import { RequestFailed, type Api } from './api.js';
import { Link, type LinkListener } from './link.js';
import { Conversation, infoOf, positionOf, type Info } from './model/conversation.js';
import { eventOf, type ChatEvent, type MessageEvent } from './model/event.js';
import { Held, type Position } from './model/held.js';
import { isReply, type Message } from './model/message.js';
import { Outbox, type Pending } from './model/outbox.js';
import { People } from './model/people.js';
import { fieldsOf, listOf, textOf, type Fields } from './model/read.js';
import { laterOf, NEVER, type Ts } from './model/ts.js';
import { Reader } from './reader.js';
import { askHistory } from './requests.js';
import { Sender } from './sender.js';
import { Kept } from './storage.js';

/** What is read is told so often. */
const MARK_AFTER_MS = 400;
const TYPING_EVERY_MS = 3_000;
/** Users who are asked for one by one, as the first answer did not name them. */
const MEET_MAX = 200;
/** What only the user sees is not kept by anybody; so much of it is shown. */
const EPHEMERAL_MAX = 20;

export interface Watcher {
  /** Something is different: to be shown soon. */
  changed(): void;
  /** Somebody else said something just now. */
  said(conversation: Conversation, message: Message): void;
  signedOut(): void;
}

export interface Thread {
  readonly channel: string;
  readonly root: Ts;
  readonly held: Held;
}

export class ChatClient {
  readonly people = new People();
  readonly conversations = new Map<string, Conversation>();
  /** Channels that are known by name, the user's or not. */
  readonly known = new Map<string, Info>();
  readonly self: { id: string; admin: boolean };
  readonly team: { id: string; name: string };
  readonly kept: Kept;
  readonly outbox: Outbox;
  readonly sender: Sender;
  readonly reader: Reader;
  ephemeral: { channel: string; message: Message }[] = [];
  thread: Thread | null = null;
  /** Since when there is no connection, in milliseconds since 1970; null while there is one. */
  lostAt: number | null = Date.now();
  readonly #link: Link;
  readonly #watcher: Watcher;
  /** What is read and not told yet. */
  readonly #marks = new Map<Conversation, number>();
  readonly #asks = new Map<string, number>();
  readonly #met = new Set<string>();
  /** The newest event of each conversation: what was answered before it is no news. */
  readonly #heard = new Map<string, Ts>();
  readonly #endedBackoff = new Backoff();
  #endedTimer: number | undefined;
  #typedAt = 0;
  #refreshing = false;

  constructor(
    readonly api: Api,
    boot: Fields,
    watcher: Watcher,
  ) {
    const [self, team] = [fieldsOf(boot['self']), fieldsOf(boot['team'])];
    this.#watcher = watcher;
    this.self = { id: textOf(self['id']), admin: self['is_admin'] === true };
    this.team = { id: textOf(team['id']) || textOf(self['team_id']), name: textOf(team['name']) || 'Workspace' };
    this.kept = new Kept(this.team.id, this.self.id);
    this.outbox = new Outbox(this.kept.outbox);
    this.people.load(boot['users']);
    if (this.people.get(this.self.id) === null) {
      this.people.put(self);
    }
    this.people.setAway(this.self.id, self['manual_away'] === true);
    this.sender = new Sender(api, this.outbox, {
      changed: () => watcher.changed(),
      taken: (pending, message) => this.#taken(pending, message),
      signedOut: () => watcher.signedOut(),
    });
    this.reader = new Reader(api, () => watcher.changed());
    this.#link = new Link(this.#linkListener());
    this.#followOwn(self['position'], team['position']);
    listOf(boot['channels']).forEach((value) => this.#add(value));
    this.#link.open();
    this.sender.all();
  }

  close(): void {
    this.#link.close();
    this.sender.stop();
    clearTimeout(this.#endedTimer);
    for (const timer of [...this.#marks.values(), ...this.#asks.values()]) {
      clearTimeout(timer);
    }
  }

  retry(): void {
    this.#link.retry();
    this.sender.all();
  }

  /** The user wants to count as away. */
  get away(): boolean {
    return this.people.isSetAway(this.self.id);
  }

  /** Something that is kept here was changed from outside. */
  changed(): void {
    this.#watcher.changed();
  }

  /** The conversation, asked for if it is not known: one has just joined it, or it was just made. */
  async get(id: string): Promise<Conversation | null> {
    return this.conversations.get(id) ?? (await this.#learn(id));
  }

  // === Threads ===

  async openThread(channel: string, root: Ts): Promise<void> {
    if (this.thread?.channel !== channel || this.thread.root !== root) {
      this.thread = { channel, root, held: new Held(({ ts, threadTs }) => ts === root || threadTs === root) };
    }
    const { held } = this.thread;
    if (held.range === null) {
      await this.reader.thread(channel, root, held);
    }
  }

  closeThread(): void {
    this.thread = null;
    this.#watcher.changed();
  }

  // === Saying and reading ===

  say(channel: string, text: string, threadTs: Ts | null = null, broadcast = false): void {
    this.outbox.add({ id: crypto.randomUUID(), channel, threadTs, broadcast, text, at: Date.now() });
    this.#watcher.changed();
    this.sender.send(channel);
  }

  /** Everything up to here is read. */
  mark(conversation: Conversation, ts: Ts): void {
    if (!conversation.unread.mark(ts)) {
      return;
    }
    if (!this.#marks.has(conversation)) {
      this.#marks.set(conversation, window.setTimeout(() => this.#tellMark(conversation), MARK_AFTER_MS));
    }
    this.#watcher.changed();
  }

  /** The page goes: what was read is told now. */
  leaving(): void {
    [...this.#marks.keys()].forEach((conversation) => this.#tellMark(conversation));
  }

  typing(channel: string): void {
    const now = Date.now();
    if (now - this.#typedAt >= TYPING_EVERY_MS && this.lostAt === null) {
      this.#typedAt = now;
      this.api.call('conversations.typing', { channel }).catch(() => undefined);
    }
  }

  async setAway(away: boolean): Promise<void> {
    await this.api.call('users.setPresence', { presence: away ? 'away' : 'auto' });
    this.people.setAway(this.self.id, away);
    this.#watcher.changed();
  }

  /** The name is asked for where it is not known. */
  nameOf(user: string): string {
    if (user !== '' && this.people.get(user) === null && !this.#met.has(user) && this.#met.size < MEET_MAX) {
      this.#met.add(user);
      this.api.call('users.info', { user }).then(
        (answer) => {
          this.people.put(answer['user']);
          this.#watcher.changed();
        },
        () => undefined,
      );
    }
    return this.people.nameOf(user);
  }

  #tellMark(conversation: Conversation): void {
    clearTimeout(this.#marks.get(conversation));
    this.#marks.delete(conversation);
    const { id, unread } = conversation;
    // What cannot be told now is told with the next mark.
    this.api.call('conversations.mark', { channel: id, ts: unread.lastRead }, true).catch(() => undefined);
  }

  // === What comes ===

  #linkListener(): LinkListener {
    return {
      token: async () => textOf((await this.api.call('client.token'))['token']),
      live: () => {
        this.lostAt = null;
        this.#endedBackoff.reset();
        this.sender.all();
        this.#watcher.changed();
      },
      lost: () => {
        this.lostAt ??= Date.now();
        this.#watcher.changed();
      },
      told: (channel, position, data) => this.#told(channel, position, data),
      gap: (channel) => this.#gap(channel),
      ended: () => this.#ended(),
      presence: (clients) => {
        this.people.loadPresence(clients);
        this.#watcher.changed();
      },
      came: ({ user, client }) => {
        this.people.came(user, client);
        this.#watcher.changed();
      },
      left: ({ user, client }) => {
        this.people.left(user, client);
        this.#watcher.changed();
      },
      signedOut: () => this.#watcher.signedOut(),
    };
  }

  #told(channel: string, position: Position | null, data: unknown): void {
    const event = eventOf(data);
    if (event === null) {
      return;
    }
    const conversation = this.conversations.get(channel.replace(/^chat:/, ''));
    if (conversation !== undefined && channel.startsWith('chat:')) {
      this.#toldOf(conversation, position, event);
    } else {
      this.#toldOfAll(event);
    }
    this.#watcher.changed();
  }

  #toldOf(conversation: Conversation, position: Position | null, event: ChatEvent): void {
    switch (event.kind) {
      case 'posted':
      case 'changed':
      case 'deleted':
      case 'reacted':
        if (position !== null) {
          this.#happened(conversation, position.offset, event);
        }
        break;
      case 'typing':
        if (event.user !== this.self.id) {
          conversation.typing.began(event.user, Date.now());
        }
        break;
      case 'member':
        this.#later(conversation.id);
        break;
      default:
        this.#toldOfAll(event);
    }
  }

  #happened(conversation: Conversation, offset: number, event: MessageEvent): void {
    const { id, held, unread, typing, direct } = conversation;
    this.#heard.set(id, laterOf(this.#heard.get(id) ?? NEVER, event.at));
    held.apply({ offset, event });
    if (this.thread?.channel === id) {
      this.thread.held.apply({ offset, event });
    }
    const before = unread.count;
    unread.apply(event, this.self.id, direct);
    if (event.kind !== 'posted') {
      return;
    }
    const { message } = event;
    this.outbox.remove(message.clientMsgId);
    typing.ended(message.user);
    if (!isReply(message)) {
      conversation.latest = laterOf(conversation.latest, message.ts);
    }
    if (unread.count > before || (isReply(message) && message.user !== this.self.id)) {
      this.#watcher.said(conversation, message);
    }
    if (/^(?:channel|group)_(?:topic|purpose|name|archive|unarchive)$/.test(message.subtype)) {
      this.#later(id);
    }
  }

  #toldOfAll(event: ChatEvent): void {
    switch (event.kind) {
      case 'marked':
        this.conversations.get(event.channel)?.unread.marked(event.lastRead, event.unread, event.mentions);
        break;
      case 'conversation':
        event.joined ? void this.#come(event.channel) : this.#drop(event.channel);
        break;
      case 'channel':
        this.#renamed(event.channel, event.name, event.archived);
        break;
      case 'user':
        this.people.put(event.user);
        break;
      case 'presence':
        event.users.forEach((user) => this.people.setAway(user, !event.active));
        break;
      case 'ephemeral':
        this.ephemeral = [...this.ephemeral, { channel: event.channel, message: event.message }].slice(-EPHEMERAL_MAX);
        break;
      case 'signed-out':
        this.#watcher.signedOut();
        break;
      default:
        break;
    }
  }

  /** The answer to a message may be here before the message is told. */
  #taken(pending: Pending, message: Message): void {
    const heard = this.#heard.get(pending.channel) ?? NEVER;
    if (message.ts <= heard) {
      return;
    }
    const said = { ...message, user: message.user || this.self.id, threadTs: message.threadTs ?? pending.threadTs };
    const event: MessageEvent = { kind: 'posted', at: message.ts, message: said, parent: null };
    // It is newer than every answer that is on its way.
    const arrival = { offset: Number.MAX_SAFE_INTEGER, event };
    this.conversations.get(pending.channel)?.held.apply(arrival);
    if (this.thread?.channel === pending.channel) {
      this.thread.held.apply(arrival);
    }
  }

  /** The log no longer goes back to where this page was: what it holds of the channel is loaded again. */
  #gap(channel: string): void {
    this.#forget(channel);
    void this.#refresh();
  }

  #forget(channel: string): void {
    const conversation = this.conversations.get(channel.replace(/^chat:/, ''));
    if (conversation !== undefined) {
      this.#heard.delete(conversation.id);
      conversation.held.forget();
      if (this.thread?.channel === conversation.id) {
        this.thread.held.forget();
      }
    }
    this.#watcher.changed();
  }

  /** What is counted of every conversation, and which there are, is asked for once more. */
  async #refresh(): Promise<void> {
    if (this.#refreshing) {
      return;
    }
    this.#refreshing = true;
    try {
      const boot = await this.api.call('client.boot');
      this.people.load(boot['users']);
      const values = listOf(boot['channels']);
      const ids = new Set(values.map((value) => textOf(fieldsOf(value)['id'])));
      [...this.conversations.keys()].filter((id) => !ids.has(id)).forEach((id) => this.#drop(id));
      values.forEach((value) => this.#add(value));
    } catch {
      // The next gap or the next page asks again; what is held is right, only counts may be old.
    } finally {
      this.#refreshing = false;
      this.#watcher.changed();
    }
  }

  /** One was taken out of a conversation, or the right to it could not be judged just then. What is still there is followed again. */
  #ended(): void {
    this.#endedTimer ??= window.setTimeout(() => {
      this.#endedTimer = undefined;
      this.#followOwn();
      void this.#refresh();
    }, this.#endedBackoff.next());
  }

  /** What happens to the user, and to the workspace. */
  #followOwn(self: unknown = null, team: unknown = null): void {
    this.#link.follow(`chat.user:${this.self.id}`, positionOf(self));
    this.#link.follow(`chat.team:${this.team.id}`, positionOf(team), true);
  }

  #add(value: unknown): Conversation | null {
    const info = infoOf(value);
    if (info === null) {
      return null;
    }
    const conversation = this.conversations.get(info.id) ?? new Conversation(info);
    conversation.load(value);
    this.conversations.set(info.id, conversation);
    this.known.set(info.id, info);
    const position = positionOf(fieldsOf(value)['position']);
    if (position !== null && this.#link.follow(`chat:${info.id}`, position)) {
      // It begins here: what was held before does not reach so far.
      this.#forget(`chat:${info.id}`);
    }
    return conversation;
  }

  async #learn(id: string): Promise<Conversation | null> {
    try {
      const { channel } = await this.api.call('conversations.info', { channel: id, include_num_members: true });
      const info = infoOf(channel);
      if (info === null || !info.isMember) {
        return null;
      }
      const conversation = this.#add(channel);
      if (positionOf(fieldsOf(channel)['position']) === null) {
        const { position } = await askHistory(this.api, id, 1);
        this.#link.follow(`chat:${id}`, position);
      }
      this.#watcher.changed();
      return conversation;
    } catch (failure) {
      if (failure instanceof RequestFailed && failure.passes) {
        throw failure;
      }
      return null;
    }
  }

  /** Asks again what a conversation is: its name, topic or members are others. */
  #later(id: string): void {
    clearTimeout(this.#asks.get(id));
    const ask = async (): Promise<void> => {
      const { channel } = await this.api.call('conversations.info', { channel: id, include_num_members: true });
      const [info, conversation] = [infoOf(channel), this.conversations.get(id)];
      if (info !== null && conversation !== undefined) {
        conversation.info = info;
        this.known.set(id, info);
        this.#watcher.changed();
      }
    };
    this.#asks.set(id, window.setTimeout(() => void ask().catch(() => undefined), MARK_AFTER_MS));
  }

  async #come(id: string): Promise<void> {
    const known = this.conversations.get(id);
    if (known !== undefined) {
      known.info = { ...known.info, open: true };
    } else {
      await this.#learn(id).catch(() => this.#refresh());
    }
  }

  #renamed(id: string, name: string, archived: boolean | null): void {
    const change = (info: Info): Info => ({ ...info, name: name || info.name, archived: archived ?? info.archived });
    const [conversation, known] = [this.conversations.get(id), this.known.get(id)];
    if (conversation !== undefined) {
      conversation.info = change(conversation.info);
    }
    if (known !== undefined) {
      this.known.set(id, change(known));
    } else if (name !== '') {
      const made = infoOf({ id, name });
      made === null || this.known.set(id, made);
    }
  }

  #drop(id: string): void {
    this.conversations.delete(id);
    this.#link.leave(`chat:${id}`);
    if (this.thread?.channel === id) {
      this.thread = null;
    }
    this.#watcher.changed();
  }
}
