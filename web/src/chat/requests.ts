/** What the page asks the server for, and what it understands of the answers. */

import type { Api } from './api.js';
import { positionOf } from './model/conversation.js';
import type { Part, Position } from './model/held.js';
import { messageOf, messagesOf, type Message } from './model/message.js';
import { countOf, fieldsOf, listOf, textOf, type Fields } from './model/read.js';
import { isTs, type Ts } from './model/ts.js';

/** Replies of one answer, and answers of one thread: what is longer is not shown whole. */
const REPLIES = 200;
const REPLY_PARTS_MAX = 25;
/** Channels of one answer, and answers: what is beyond is found by its name only. */
const CHANNELS = 500;
const CHANNEL_PARTS_MAX = 10;
/** From before the first position of any log: everything that is told later than now is new. */
const NOWHERE: Position = { offset: 0, epoch: '' };

export interface Bounds {
  latest?: Ts;
  oldest?: Ts;
  inclusive?: boolean;
  /** From `oldest` on, and not from the newest back. */
  forward?: boolean;
}

export async function askHistory(api: Api, channel: string, limit: number, bounds: Bounds = {}): Promise<Part> {
  const answer = await api.call('conversations.history', { channel, limit, ...bounds });
  const messages = messagesOf(answer['messages']).sort((left, right) => (left.ts < right.ts ? -1 : 1));
  return { messages, more: answer['has_more'] === true, position: positionOf(answer['position']) ?? NOWHERE };
}

/** A whole thread, its parent first. */
export async function askReplies(api: Api, channel: string, ts: Ts): Promise<Part> {
  const messages = new Map<Ts, Message>();
  let position: Position | null = null;
  let cursor = '';
  for (let part = 0; part < REPLY_PARTS_MAX; part += 1) {
    const answer = await api.call('conversations.replies', { channel, ts, limit: REPLIES, ...(cursor === '' ? {} : { cursor }) });
    // The first one was read first: nothing is missing from there on.
    position ??= positionOf(answer['position']);
    messagesOf(answer['messages']).forEach((message) => messages.set(message.ts, message));
    cursor = textOf(fieldsOf(answer['response_metadata'])['next_cursor']);
    if (cursor === '') {
      break;
    }
  }
  const sorted = [...messages.values()].sort((left, right) => (left.ts < right.ts ? -1 : 1));
  return { messages: sorted, more: false, position: position ?? NOWHERE };
}

/** Public channels of the workspace, and one's own, as the server describes them. */
export async function askChannels(api: Api): Promise<unknown[]> {
  const found: unknown[] = [];
  let cursor = '';
  for (let part = 0; part < CHANNEL_PARTS_MAX; part += 1) {
    const answer = await api.call('conversations.list', {
      types: 'public_channel,private_channel',
      exclude_archived: true,
      limit: CHANNELS,
      ...(cursor === '' ? {} : { cursor }),
    });
    found.push(...listOf(answer['channels']));
    cursor = textOf(fieldsOf(answer['response_metadata'])['next_cursor']);
    if (cursor === '') {
      break;
    }
  }
  return found;
}

export interface Match {
  readonly channel: string;
  readonly channelName: string;
  readonly user: string;
  readonly username: string;
  readonly text: string;
  readonly ts: Ts;
  readonly threadTs: Ts | null;
}

export interface Matches {
  readonly matches: Match[];
  readonly total: number;
  readonly page: number;
  readonly pages: number;
}

export async function askSearch(api: Api, query: string, sort: 'score' | 'timestamp', page: number): Promise<Matches> {
  const answer = await api.call('search.messages', { query, count: 20, page, sort, sort_dir: 'desc' });
  const found = fieldsOf(answer['messages']);
  const paging = fieldsOf(found['paging']);
  return {
    matches: listOf(found['matches']).flatMap(matchOf),
    total: countOf(found['total']),
    page: countOf(paging['page']) || page,
    pages: countOf(paging['pages']),
  };
}

/** A message as it was taken: what `chat.postMessage` answers. */
export function sentMessage(answer: Fields): Message | null {
  return messageOf({ ...fieldsOf(answer['message']), ts: answer['ts'] });
}

function matchOf(value: unknown): Match[] {
  const from = fieldsOf(value);
  const channel = fieldsOf(from['channel']);
  const [ts, permalink] = [from['ts'], textOf(from['permalink'])];
  if (!isTs(ts)) {
    return [];
  }
  const linked = new URLSearchParams(permalink.split('?')[1] ?? '').get('thread_ts');
  const thread = isTs(from['thread_ts']) ? from['thread_ts'] : isTs(linked) ? linked : null;
  return [
    {
      channel: textOf(channel['id']),
      channelName: textOf(channel['name']),
      user: textOf(from['user']),
      username: textOf(from['username']),
      text: textOf(from['text']),
      ts,
      threadTs: thread === ts ? null : thread,
    },
  ];
}
