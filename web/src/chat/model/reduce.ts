/**
 * What an event makes of a list of messages. Pure: the list that comes out is another one, or the same when nothing is different.
 *
 * An event that is in the list already changes nothing in the end: an answer of the server may be ahead of the position it names, and
 * whoever applies everything from that position on arrives at the same list as who loads it afresh.
 */

import type { MessageEvent, ParentChange } from './event.js';
import type { Message, Reaction } from './message.js';
import type { Ts } from './ts.js';

/** Messages in the order of their `ts`, each once. */
export type Messages = readonly Message[];

/** Applies an event. `admits` says which new messages belong into this list. */
export function reduce(messages: Messages, event: MessageEvent, admits: (message: Message) => boolean): Messages {
  switch (event.kind) {
    case 'posted': {
      const known = find(messages, event.message.ts) !== null;
      const grown = known || !admits(event.message) ? messages : insert(messages, event.message);
      return withParent(grown, event.parent);
    }
    case 'changed':
      return update(messages, event.message.ts, (before) => changed(before, event.message));
    case 'deleted':
      return withParent(without(messages, event.ts), event.parent);
    case 'reacted':
      return update(messages, event.ts, (before) => reacted(before, event.name, event.user, event.added));
  }
}

/** Where a message with this `ts` is, or would be. */
export function placeOf(messages: Messages, ts: Ts): number {
  let [low, high] = [0, messages.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((messages[middle]?.ts ?? '') < ts) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

export function find(messages: Messages, ts: Ts): Message | null {
  const found = messages[placeOf(messages, ts)];
  return found?.ts === ts ? found : null;
}

/** Puts a message in, in place of one with the same `ts`. */
export function insert(messages: Messages, message: Message): Messages {
  const place = placeOf(messages, message.ts);
  const same = messages[place]?.ts === message.ts ? 1 : 0;
  return [...messages.slice(0, place), message, ...messages.slice(place + same)];
}

/** Two lists as one; where both have a message, it is the second one's. */
export function merge(older: Messages, newer: Messages): Messages {
  const all = new Map<Ts, Message>();
  for (const message of [...older, ...newer]) {
    all.set(message.ts, message);
  }
  return [...all.values()].sort((left, right) => (left.ts < right.ts ? -1 : 1));
}

function without(messages: Messages, ts: Ts): Messages {
  return find(messages, ts) === null ? messages : messages.filter((message) => message.ts !== ts);
}

function update(messages: Messages, ts: Ts, change: (before: Message) => Message): Messages {
  const place = placeOf(messages, ts);
  const before = messages[place];
  if (before?.ts !== ts) {
    return messages;
  }
  const after = change(before);
  return after === before ? messages : [...messages.slice(0, place), after, ...messages.slice(place + 1)];
}

/** The message as it is now. An edit that was overtaken by another is not shown again. */
function changed(before: Message, after: Message): Message {
  const overtaken = before.edited !== null && (after.edited ?? '') < before.edited && after.subtype !== 'tombstone';
  // The wire may leave out what an edit cannot change.
  return overtaken ? before : { ...after, clientMsgId: after.clientMsgId || before.clientMsgId };
}

function withParent(messages: Messages, parent: ParentChange | null): Messages {
  if (parent === null) {
    return messages;
  }
  const { ts, replyCount, replyUsers, latestReply } = parent;
  return update(messages, ts, (before) => {
    const same = before.replyCount === replyCount && before.latestReply === latestReply && sameTexts(before.replyUsers, replyUsers);
    const threadTs = replyCount > 0 ? ts : null;
    return same && threadTs === before.threadTs ? before : { ...before, threadTs, replyCount, replyUsers, latestReply };
  });
}

function reacted(before: Message, name: string, user: string, added: boolean): Message {
  const old = before.reactions.find((reaction) => reaction.name === name);
  if ((old?.users.includes(user) ?? false) === added) {
    return before;
  }
  return { ...before, reactions: added ? withReaction(before.reactions, old, name, user) : withoutReaction(before.reactions, name, user) };
}

function withReaction(reactions: readonly Reaction[], old: Reaction | undefined, name: string, user: string): Reaction[] {
  if (old === undefined) {
    return [...reactions, { name, users: [user], count: 1 }];
  }
  const grown = { name, users: [...old.users, user], count: old.count + 1 };
  return reactions.map((reaction) => (reaction === old ? grown : reaction));
}

function withoutReaction(reactions: readonly Reaction[], name: string, user: string): Reaction[] {
  return reactions.flatMap((reaction) => {
    if (reaction.name !== name) {
      return [reaction];
    }
    const users = reaction.users.filter((other) => other !== user);
    return reaction.count > 1 ? [{ name, users, count: reaction.count - 1 }] : [];
  });
}

function sameTexts(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((text, index) => text === right[index]);
}
