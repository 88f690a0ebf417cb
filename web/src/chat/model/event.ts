/** What happens, as the log tells it: Slack's event objects, taken apart. */

import { messageOf, type Message } from './message.js';
import { countOf, fieldsOf, textOf, textsOf } from './read.js';
import { isTs, type Ts } from './ts.js';

/** What a reply changes of its parent. */
export interface ParentChange {
  readonly ts: Ts;
  readonly replyCount: number;
  readonly replyUsers: readonly string[];
  readonly latestReply: Ts | null;
}

/** What happens to the messages of a conversation. */
export type MessageEvent =
  | { kind: 'posted'; at: Ts; message: Message; parent: ParentChange | null }
  | { kind: 'changed'; at: Ts; message: Message }
  | { kind: 'deleted'; at: Ts; ts: Ts; parent: ParentChange | null; threadTs: Ts | null }
  | { kind: 'reacted'; at: Ts; ts: Ts; name: string; user: string; added: boolean };

export type ChatEvent =
  | MessageEvent
  | { kind: 'typing'; user: string; threadTs: Ts | null }
  | { kind: 'member'; user: string; joined: boolean }
  | { kind: 'ephemeral'; channel: string; message: Message }
  | { kind: 'marked'; channel: string; lastRead: Ts; unread: number; mentions: number }
  /** The user has this conversation now, or has it no more. */
  | { kind: 'conversation'; channel: string; joined: boolean }
  /** A channel of the workspace is new, or is called or treated differently. */
  | { kind: 'channel'; channel: string; name: string; archived: boolean | null }
  | { kind: 'user'; user: unknown }
  | { kind: 'presence'; users: string[]; active: boolean }
  | { kind: 'signed-out' };

/** The event; null for what this page does not know, which changes nothing. */
export function eventOf(data: unknown): ChatEvent | null {
  const from = fieldsOf(data);
  const at = isTs(from['event_ts']) ? from['event_ts'] : isTs(from['ts']) ? from['ts'] : null;
  switch (from['type']) {
    case 'message':
      return at === null ? null : messageEvent(from, at);
    case 'reaction_added':
    case 'reaction_removed': {
      const { ts } = fieldsOf(from['item']);
      const [name, user] = [textOf(from['reaction']), textOf(from['user'])];
      const known = at !== null && isTs(ts) && name !== '' && user !== '';
      return known ? { kind: 'reacted', at, ts, name, user, added: from['type'] === 'reaction_added' } : null;
    }
    case 'user_typing':
      return { kind: 'typing', user: textOf(from['user']), threadTs: isTs(from['thread_ts']) ? from['thread_ts'] : null };
    case 'member_joined_channel':
    case 'member_left_channel':
      return { kind: 'member', user: textOf(from['user']), joined: from['type'] === 'member_joined_channel' };
    case 'channel_marked':
    case 'group_marked':
    case 'im_marked':
    case 'mpim_marked':
      return marked(from);
    case 'conversation_joined':
    case 'channel_joined':
    case 'group_joined':
    case 'im_open':
    case 'im_created':
    case 'mpim_open':
    case 'group_open':
      return conversation(from, true);
    case 'conversation_left':
    case 'channel_left':
    case 'group_left':
    case 'im_close':
    case 'mpim_close':
    case 'group_close':
      return conversation(from, false);
    case 'channel_created':
    case 'channel_rename':
    case 'group_rename':
    case 'channel_archive':
    case 'group_archive':
    case 'channel_unarchive':
    case 'group_unarchive':
      return channel(from, String(from['type']));
    case 'team_join':
    case 'user_change':
      return { kind: 'user', user: from['user'] };
    case 'presence_change':
    case 'manual_presence_change': {
      const users = textsOf(from['users']);
      const user = textOf(from['user']);
      return { kind: 'presence', users: user === '' ? users : [...users, user], active: from['presence'] === 'active' };
    }
    case 'team_left':
    case 'account_deactivated':
      return { kind: 'signed-out' };
    default:
      return null;
  }
}

function messageEvent(from: Readonly<Record<string, unknown>>, at: Ts): ChatEvent | null {
  if (from['subtype'] === 'message_changed') {
    const message = messageOf(from['message']);
    return message === null ? null : { kind: 'changed', at, message };
  }
  if (from['subtype'] === 'message_deleted') {
    const ts = from['deleted_ts'];
    const before = messageOf(from['previous_message']);
    return isTs(ts) ? { kind: 'deleted', at, ts, parent: parentOf(from['parent']), threadTs: before?.threadTs ?? null } : null;
  }
  const message = messageOf(from);
  if (message === null) {
    return null;
  }
  if (from['is_ephemeral'] === true || from['subtype'] === 'ephemeral') {
    return { kind: 'ephemeral', channel: textOf(from['channel']), message };
  }
  return { kind: 'posted', at, message, parent: parentOf(from['parent']) };
}

function parentOf(value: unknown): ParentChange | null {
  const from = fieldsOf(value);
  if (!isTs(from['ts'])) {
    return null;
  }
  return {
    ts: from['ts'],
    replyCount: countOf(from['reply_count']),
    replyUsers: textsOf(from['reply_users']),
    latestReply: isTs(from['latest_reply']) ? from['latest_reply'] : null,
  };
}

function marked(from: Readonly<Record<string, unknown>>): ChatEvent | null {
  const lastRead = from['ts'];
  if (!isTs(lastRead)) {
    return null;
  }
  return {
    kind: 'marked',
    channel: textOf(from['channel']),
    lastRead,
    unread: countOf(from['unread_count_display']),
    mentions: countOf(from['mention_count_display']),
  };
}

function conversation(from: Readonly<Record<string, unknown>>, joined: boolean): ChatEvent | null {
  const channel = idOf(from['channel']);
  return channel === '' ? null : { kind: 'conversation', channel, joined };
}

function channel(from: Readonly<Record<string, unknown>>, type: string): ChatEvent | null {
  const id = idOf(from['channel']);
  const archived = type.endsWith('_archive') ? true : type.endsWith('_unarchive') ? false : null;
  return id === '' ? null : { kind: 'channel', channel: id, name: textOf(fieldsOf(from['channel'])['name']), archived };
}

/** Slack names a channel by its id in some events, and gives the object in others. */
function idOf(value: unknown): string {
  return textOf(value) || textOf(fieldsOf(value)['id']);
}
