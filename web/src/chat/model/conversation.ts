/** Channels, private channels, direct messages: what they are, and in which order they are shown. */

import { Held, type Position } from './held.js';
import { isReply } from './message.js';
import { countOf, fieldsOf, textOf, textsOf } from './read.js';
import { isTs, NEVER, type Ts } from './ts.js';
import { Typing } from './typing.js';
import { Unread } from './unread.js';

export type Kind = 'channel' | 'group' | 'im' | 'mpim';

/** A conversation as the server describes it. */
export interface Info {
  readonly id: string;
  readonly kind: Kind;
  readonly name: string;
  /** The other one of a direct message. */
  readonly user: string;
  /** Who is in a group direct message. */
  readonly members: readonly string[];
  readonly topic: string;
  readonly purpose: string;
  readonly archived: boolean;
  readonly general: boolean;
  readonly isMember: boolean;
  readonly memberCount: number;
  readonly creator: string;
  /** A direct message that was closed is not shown until somebody writes in it. */
  readonly open: boolean;
}

export function infoOf(value: unknown): Info | null {
  const from = fieldsOf(value);
  const id = textOf(from['id']);
  if (id === '') {
    return null;
  }
  const kind: Kind = from['is_im'] === true ? 'im' : from['is_mpim'] === true ? 'mpim' : from['is_private'] === true ? 'group' : 'channel';
  return {
    id,
    kind,
    name: textOf(from['name']),
    user: textOf(from['user']),
    members: textsOf(from['members'] ?? from['users']),
    topic: textOf(fieldsOf(from['topic'])['value']),
    purpose: textOf(fieldsOf(from['purpose'])['value']),
    archived: from['is_archived'] === true,
    general: from['is_general'] === true,
    isMember: from['is_member'] === true || kind === 'im' || kind === 'mpim',
    memberCount: countOf(from['num_members']),
    creator: textOf(from['creator']),
    open: from['is_open'] !== false,
  };
}

export function positionOf(value: unknown): Position | null {
  const { offset, epoch } = fieldsOf(value);
  const sound = typeof offset === 'number' && Number.isSafeInteger(offset) && offset >= 0 && typeof epoch === 'string';
  return sound ? { offset, epoch } : null;
}

/** A conversation that the user is in. */
export class Conversation {
  readonly unread = new Unread();
  readonly held = new Held((message) => !isReply(message));
  readonly typing = new Typing();
  /** The newest message that is known of. */
  latest: Ts = NEVER;

  constructor(public info: Info) {}

  get id(): string {
    return this.info.id;
  }

  get direct(): boolean {
    return this.info.kind === 'im' || this.info.kind === 'mpim';
  }

  /** Takes in what the server says of it. */
  load(value: unknown): void {
    const from = fieldsOf(value);
    this.info = infoOf(value) ?? this.info;
    const latest = fieldsOf(from['latest'])['ts'] ?? from['latest'];
    this.latest = isTs(latest) && latest > this.latest ? latest : this.latest;
    this.unread.load(
      isTs(from['last_read']) ? from['last_read'] : NEVER,
      isTs(latest) ? latest : NEVER,
      countOf(from['unread_count_display'] ?? from['unread_count']),
      countOf(from['mention_count_display'] ?? from['mention_count']),
    );
  }
}

export interface Names {
  nameOf(user: string): string;
}

/** What a conversation is called, by whom it is with if it has no name. */
export function titleOf({ kind, name, user, members, id }: Info, names: Names, self: string): string {
  if (kind === 'im') {
    return user === self ? `${names.nameOf(user)} (you)` : names.nameOf(user) || name || id;
  }
  if (kind === 'mpim') {
    const others = members.filter((member) => member !== self);
    return others.length > 0 ? others.map((other) => names.nameOf(other)).join(', ') : name || id;
  }
  return name || id;
}

export interface Sections {
  channels: Conversation[];
  direct: Conversation[];
}

/** Channels by name; direct messages by what was said last. */
export function sections(all: Iterable<Conversation>): Sections {
  const shown = [...all].filter(({ info, unread }) => !info.archived && (info.open || unread.count > 0));
  const channels = shown.filter(({ direct }) => !direct).sort((left, right) => left.info.name.localeCompare(right.info.name));
  const direct = shown.filter(({ direct: with_ }) => with_).sort((left, right) => (left.latest < right.latest ? 1 : left.latest > right.latest ? -1 : 0));
  return { channels, direct };
}
