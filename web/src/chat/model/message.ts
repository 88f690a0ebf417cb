/** A message as history and events give it, and what it is. */

import { countOf, fieldsOf, listOf, textOf, textsOf, type Fields } from './read.js';
import { isTs, type Ts } from './ts.js';

export interface Reaction {
  readonly name: string;
  readonly users: readonly string[];
  /** May be more than the users that are named. */
  readonly count: number;
}

export interface Message {
  readonly ts: Ts;
  /** Who wrote it; empty for what has no user. */
  readonly user: string;
  readonly text: string;
  readonly subtype: string;
  readonly threadTs: Ts | null;
  readonly edited: Ts | null;
  readonly reactions: readonly Reaction[];
  readonly replyCount: number;
  readonly replyUsers: readonly string[];
  readonly latestReply: Ts | null;
  readonly clientMsgId: string;
  /** The name that a bot gave itself. */
  readonly username: string;
  readonly bot: boolean;
}

/** What a conversation says when somebody comes, goes or changes it. */
const NOTICES = new Set([
  'channel_join',
  'channel_leave',
  'channel_topic',
  'channel_purpose',
  'channel_name',
  'channel_archive',
  'channel_unarchive',
  'group_join',
  'group_leave',
  'group_topic',
  'group_purpose',
  'group_name',
  'group_archive',
  'group_unarchive',
]);

/** The message, or null for what is none. */
export function messageOf(value: unknown): Message | null {
  const from = fieldsOf(value);
  if (!isTs(from['ts'])) {
    return null;
  }
  const edited = fieldsOf(from['edited'])['ts'];
  const replyCount = countOf(from['reply_count']);
  // A parent whose replies are all gone is one no more.
  const threadTs = from['thread_ts'] === from['ts'] && replyCount === 0 ? null : from['thread_ts'];
  return {
    ts: from['ts'],
    user: textOf(from['user']),
    text: bodyOf(from),
    subtype: textOf(from['subtype']),
    threadTs: isTs(threadTs) ? threadTs : null,
    edited: isTs(edited) ? edited : null,
    reactions: listOf(from['reactions']).flatMap(reactionOf),
    replyCount,
    replyUsers: textsOf(from['reply_users']),
    latestReply: isTs(from['latest_reply']) ? from['latest_reply'] : null,
    clientMsgId: textOf(from['client_msg_id']),
    username: textOf(from['username']),
    bot: textOf(from['bot_id']) !== '',
  };
}

export function messagesOf(value: unknown): Message[] {
  return listOf(value).flatMap((entry) => messageOf(entry) ?? []);
}

/** A reply that is in its thread only, not in the conversation. */
export function isReply({ ts, threadTs, subtype }: Message): boolean {
  return threadTs !== null && threadTs !== ts && subtype !== 'thread_broadcast';
}

export function isNotice({ subtype }: Message): boolean {
  return NOTICES.has(subtype);
}

export function isTombstone({ subtype }: Message): boolean {
  return subtype === 'tombstone';
}

/** Something that somebody said: it may be answered, marked with a reaction, and counts as unread. */
export function isSaid(message: Message): boolean {
  return !isNotice(message) && !isTombstone(message);
}

/** Whether this calls the user, by name or with everybody. */
export function calls(text: string, user: string): boolean {
  return text.includes(`<@${user}>`) || text.includes(`<@${user}|`) || /<!(?:here|channel|everyone)(?:\||>)/.test(text);
}

/** The text; where there is none, that of its attachments or blocks, which may stand alone. */
function bodyOf(from: Fields): string {
  const text = textOf(from['text']);
  if (text !== '') {
    return text;
  }
  const attached = listOf(from['attachments']).map((entry) => {
    const { text: said, fallback } = fieldsOf(entry);
    return textOf(said) || textOf(fallback);
  });
  const blocks = listOf(from['blocks']).map((entry) => textOf(fieldsOf(fieldsOf(entry)['text'])['text']));
  return [...blocks, ...attached].filter((part) => part !== '').join('\n');
}

function reactionOf(value: unknown): Reaction[] {
  const from = fieldsOf(value);
  const name = textOf(from['name']);
  const users = textsOf(from['users']);
  const count = Math.max(users.length, countOf(from['count']));
  return name === '' || count === 0 ? [] : [{ name, users, count }];
}
