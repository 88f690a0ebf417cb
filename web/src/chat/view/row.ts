/** One message of a list: who, when, what, its reactions, and what hangs below it. */

import { make } from '../../dom.js';
import { agoText, clockText, plural, wholeTime } from '../../mail/model/text.js';
import { signOf } from '../model/emoji.js';
import { isBroadcast, type Item } from '../model/items.js';
import { calls, isNotice, isTombstone, type Message } from '../model/message.js';
import type { Pending } from '../model/outbox.js';
import { dayName, reasonOf } from '../model/words.js';
import { millisOf, type Ts } from '../model/ts.js';
import { avatar, icon, textButton } from './icon.js';
import { drawText, type Naming } from './text.js';

export interface RowActions {
  react(message: Message, name: string): void;
  pick(message: Message, beside: HTMLElement): void;
  thread(root: Ts): void;
  retry(pending: Pending): void;
  discard(pending: Pending): void;
}

export interface RowContext {
  readonly naming: Naming;
  readonly actions: RowActions;
  readonly self: string;
  /** The list is a thread: nothing in it leads into threads. */
  readonly inThread: boolean;
  readonly now: number;
}

export function drawItem(item: Item, context: RowContext): HTMLElement {
  switch (item.kind) {
    case 'day': {
      const divider = make('div', 'day');
      divider.setAttribute('role', 'separator');
      divider.append(make('span', '', dayName(item.at, context.now)));
      divider.setAttribute('aria-label', dayName(item.at, context.now));
      return divider;
    }
    case 'new': {
      const line = make('div', 'new-line');
      line.setAttribute('role', 'separator');
      line.setAttribute('aria-label', 'New messages');
      line.append(make('span', '', 'New'));
      return line;
    }
    case 'replies': {
      const line = make('div', 'replies-line');
      line.append(make('span', '', item.count === 0 ? 'No replies yet' : plural(item.count, 'reply', 'replies')));
      return line;
    }
    case 'message':
      return messageRow(item.message, item.head, context);
    case 'pending':
      return pendingRow(item.pending, item.head, context);
  }
}

/** Who a message is from, as it is shown. */
export function authorName(message: Pick<Message, 'user' | 'username' | 'bot'>, naming: Naming): string {
  return (message.bot ? message.username : '') || naming.user(message.user) || message.username || message.user || 'Somebody';
}

function messageRow(message: Message, head: boolean, context: RowContext): HTMLElement {
  const at = millisOf(message.ts);
  const name = authorName(message, context.naming);
  const row = frame(head, name, message.user || message.username, at, context);
  row.element.dataset['ts'] = message.ts;
  row.element.setAttribute('aria-label', `${name}, ${clockText(at)}`);
  if (message.bot && head) {
    row.head?.append(make('span', 'app-mark', 'App'));
  }
  if (isNotice(message) || isTombstone(message)) {
    row.element.classList.add('notice');
  }
  row.element.classList.toggle('called', message.user !== context.self && calls(message.text, context.self));
  if (isBroadcast(message) && !context.inThread) {
    row.body.prepend(textButton('replied to a thread', () => context.actions.thread(message.threadTs ?? message.ts), 'text-button reply-mark'));
  }
  const text = make('div', 'text');
  drawText(text, message.text, context.naming);
  if (message.subtype === 'me_message') {
    text.classList.add('me');
  }
  if (message.edited !== null && !isTombstone(message)) {
    const mark = make('span', 'edited', '(edited)');
    mark.title = wholeTime(millisOf(message.edited));
    (text.lastElementChild instanceof HTMLParagraphElement ? text.lastElementChild : text).append(' ', mark);
  }
  row.body.append(text);
  if (message.reactions.length > 0) {
    row.body.append(reactions(message, context));
  }
  if (message.replyCount > 0 && !context.inThread) {
    row.body.append(replies(message, context));
  }
  return row.element;
}

function pendingRow(pending: Pending, head: boolean, context: RowContext): HTMLElement {
  const row = frame(head, context.naming.user(context.self), context.self, pending.at, context);
  row.element.classList.add('pending');
  row.element.dataset['pending'] = pending.id;
  row.element.dataset['state'] = pending.state;
  const text = make('div', 'text');
  drawText(text, pending.text, context.naming);
  row.body.append(text);
  const failed = pending.state === 'refused' || pending.reason !== '';
  if (failed) {
    const line = make('p', 'unsent');
    line.setAttribute('role', 'status');
    const why = pending.reason === '' ? '' : reasonOf(pending.reason);
    line.append(make('b', '', 'Not sent.'), ` ${why} `);
    line.append(textButton('Retry', () => context.actions.retry(pending)), ' · ', textButton('Delete', () => context.actions.discard(pending)));
    row.body.append(line);
  }
  row.element.setAttribute('aria-label', `You, ${failed ? 'not sent' : 'sending'}`);
  return row.element;
}

interface Frame {
  element: HTMLElement;
  head: HTMLElement | null;
  body: HTMLElement;
}

function frame(head: boolean, name: string, id: string, at: number, context: RowContext): Frame {
  const element = make('article', head ? 'row first' : 'row');
  element.tabIndex = -1;
  const body = make('div', 'row-body');
  if (!head) {
    const time = clock(at, 'row-clock');
    element.append(time, body);
    return { element, head: null, body };
  }
  const line = make('div', 'row-head');
  const author = make('span', 'author', name);
  line.append(author, clock(at, 'row-time'));
  body.append(line);
  element.append(avatar(id, name), body);
  element.classList.toggle('own', id === context.self);
  return { element, head: line, body };
}

function clock(at: number, className: string): HTMLElement {
  const time = make('time', className, clockText(at));
  time.dateTime = new Date(at).toISOString();
  time.title = wholeTime(at);
  return time;
}

function reactions(message: Message, { naming, actions, self }: RowContext): HTMLElement {
  const line = make('div', 'reactions');
  for (const { name, users, count } of message.reactions) {
    const mine = users.includes(self);
    const chip = make('button', 'reaction');
    chip.type = 'button';
    chip.setAttribute('aria-pressed', String(mine));
    chip.dataset['reaction'] = name;
    const who = users.slice(0, 10).map((user) => (user === self ? 'you' : naming.user(user) || user));
    const more = count > who.length ? ` and ${count - who.length} more` : '';
    chip.title = `${who.join(', ')}${more} reacted with :${name}:`;
    chip.setAttribute('aria-label', `${name}, ${plural(count, 'reaction')}${mine ? ', yours among them' : ''}`);
    chip.append(make('span', 'reaction-sign', signOf(name)), make('span', 'reaction-count', String(count)));
    chip.addEventListener('click', () => actions.react(message, name));
    line.append(chip);
  }
  const add = make('button', 'reaction add');
  add.type = 'button';
  add.setAttribute('aria-label', 'Add a reaction');
  add.title = 'Add a reaction';
  add.append(icon('smile'));
  add.addEventListener('click', () => actions.pick(message, add));
  line.append(add);
  return line;
}

function replies(message: Message, { naming, actions, now }: RowContext): HTMLElement {
  const button = make('button', 'replies');
  button.type = 'button';
  const faces = make('span', 'faces');
  faces.append(...message.replyUsers.slice(0, 4).map((user) => avatar(user, naming.user(user) || user, 'avatar tiny')));
  const last = message.latestReply === null ? '' : `last ${agoText(millisOf(message.latestReply), now)}`;
  button.append(faces, make('span', 'replies-count', plural(message.replyCount, 'reply', 'replies')), make('span', 'replies-last', last));
  button.addEventListener('click', () => actions.thread(message.ts));
  return button;
}
