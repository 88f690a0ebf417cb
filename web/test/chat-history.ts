/** A small model of the server: a conversation, its log, and its history at any time. */

import { eventOf, type MessageEvent } from '../src/chat/model/event.js';
import type { Part } from '../src/chat/model/held.js';
import { messagesOf } from '../src/chat/model/message.js';

interface Row {
  ts: string;
  user: string;
  text: string;
  thread_ts?: string;
  subtype?: string;
  edited?: { user: string; ts: string };
  client_msg_id: string;
  reactions: { name: string; users: string[]; count: number }[];
  reply_count?: number;
  reply_users?: string[];
  latest_reply?: string;
}

/** Numbers that look random and are the same for one seed. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed * 2 + 1;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

export class Server {
  readonly log: object[] = [];
  #rows: Row[] = [];
  #at = 0;

  get offset(): number {
    return this.log.length;
  }

  /** What the log holds after an offset, as the page takes it in. */
  arrivals(after: number, upTo = this.offset): { offset: number; event: MessageEvent }[] {
    return this.log.slice(after, upTo).map((data, index) => ({ offset: after + index + 1, event: eventOf(data) as MessageEvent }));
  }

  get timestamps(): string[] {
    return this.#rows.map(({ ts }) => ts);
  }

  post(user: string, text: string, threadTs?: string, broadcast = false): string {
    const ts = this.#next();
    const row: Row = { ts, user, text, client_msg_id: `key ${ts}`, reactions: [] };
    if (threadTs !== undefined) {
      row.thread_ts = threadTs;
      if (broadcast) {
        row.subtype = 'thread_broadcast';
      }
    }
    this.#rows.push(row);
    this.#log({ type: 'message', ...row, event_ts: ts, ...this.#recount(threadTs) });
    return ts;
  }

  edit(ts: string, text: string): void {
    const row = this.#row(ts);
    if (row !== undefined && row.subtype !== 'tombstone') {
      row.text = text;
      row.edited = { user: row.user, ts: this.#next() };
      this.#changed(row);
    }
  }

  delete(ts: string): void {
    const row = this.#row(ts);
    if (row === undefined || row.subtype === 'tombstone') {
      return;
    }
    const event_ts = this.#next();
    if ((row.reply_count ?? 0) > 0) {
      Object.assign(row, { subtype: 'tombstone', text: 'This message was deleted.', reactions: [] });
      this.#changed(row);
      return;
    }
    this.#rows = this.#rows.filter((other) => other !== row);
    this.#log({
      type: 'message',
      subtype: 'message_deleted',
      ts: event_ts,
      event_ts,
      deleted_ts: ts,
      previous_message: row,
      ...this.#recount(row.thread_ts),
    });
  }

  react(ts: string, name: string, user: string): void {
    const row = this.#row(ts);
    if (row === undefined || row.subtype === 'tombstone') {
      return;
    }
    const before = row.reactions.find((reaction) => reaction.name === name);
    const added = !(before?.users.includes(user) ?? false);
    const users = added ? [...(before?.users ?? []), user] : (before?.users ?? []).filter((other) => other !== user);
    const after = { name, users, count: users.length };
    row.reactions = before === undefined ? [...row.reactions, after] : row.reactions.map((one) => (one === before ? after : one));
    row.reactions = row.reactions.filter(({ count }) => count > 0);
    const type = added ? 'reaction_added' : 'reaction_removed';
    this.#log({ type, user, reaction: name, item: { type: 'message', ts }, event_ts: this.#next() });
  }

  /** Something that may happen. */
  step(random: (below: number) => number): void {
    const any = this.#rows[random(this.#rows.length)]?.ts ?? '';
    const user = `U${random(3)}`;
    switch (random(10)) {
      case 0:
        return this.edit(any, `edited ${this.#at}`);
      case 1:
        return this.delete(any);
      case 2:
      case 3:
        return this.react(any, `sign${random(2)}`, user);
      case 4:
      case 5: {
        const parent = this.#rows.find(({ ts }) => ts === any);
        const root = parent?.thread_ts ?? parent?.ts;
        this.post(user, `reply ${this.#at}`, root, random(4) === 0);
        return;
      }
      default:
        this.post(user, `text ${this.#at}`);
    }
  }

  /** The newest `limit` before `latest`, or with `forward` the oldest after `oldest`. `behind`: how far back the position is that it names. */
  history(limit: number, bounds: { latest?: string; oldest?: string; forward?: boolean }, behind = 0): Part {
    const shown = this.#rows.filter(({ thread_ts, subtype, ts }) => {
      const inside = (bounds.latest === undefined || ts < bounds.latest) && (bounds.oldest === undefined || ts > bounds.oldest);
      return inside && (thread_ts === undefined || thread_ts === ts || subtype === 'thread_broadcast');
    });
    const messages = bounds.forward === true ? shown.slice(0, limit) : shown.slice(-limit);
    return this.#part(messages, shown.length > limit, behind);
  }

  replies(root: string, behind = 0): Part {
    return this.#part(this.#rows.filter(({ ts, thread_ts }) => ts === root || thread_ts === root), false, behind);
  }

  #part(rows: Row[], more: boolean, behind: number): Part {
    const messages = messagesOf(JSON.parse(JSON.stringify(rows)));
    return { messages, more, position: { offset: Math.max(0, this.offset - behind), epoch: 'e' } };
  }

  #row(ts: string): Row | undefined {
    return this.#rows.find((row) => row.ts === ts);
  }

  #changed(row: Row): void {
    const event_ts = this.#next();
    this.#log({ type: 'message', subtype: 'message_changed', hidden: true, ts: event_ts, event_ts, message: row });
  }

  /** What a reply that came or went makes of its parent. */
  #recount(root: string | undefined): { parent?: object } {
    const parent = root === undefined ? undefined : this.#row(root);
    if (parent === undefined) {
      return {};
    }
    const replies = this.#rows.filter(({ thread_ts, ts }) => thread_ts === root && ts !== root);
    delete parent.latest_reply;
    Object.assign(parent, {
      thread_ts: parent.ts,
      reply_count: replies.length,
      reply_users: [...new Set(replies.map(({ user }) => user))].slice(0, 5),
      ...(replies.length > 0 ? { latest_reply: replies.at(-1)?.ts } : {}),
    });
    if (replies.length === 0) {
      delete parent.thread_ts;
    }
    const { ts, reply_count, reply_users, latest_reply } = parent;
    return { parent: { ts, reply_count, reply_users, latest_reply } };
  }

  #next(): string {
    this.#at += 1;
    return `1700000000.${String(this.#at).padStart(6, '0')}`;
  }

  #log(data: object): void {
    this.log.push(JSON.parse(JSON.stringify(data)) as object);
  }
}
