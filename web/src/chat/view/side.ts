/** The conversations beside what is read: what is unread, who calls, who is here. */

import { find, make, setText } from '../../dom.js';
import { plural } from '../../mail/model/text.js';
import type { ChatClient } from '../client.js';
import { sections, titleOf, type Conversation } from '../model/conversation.js';
import { avatar, icon, presence } from './icon.js';

const COUNT_MAX = 99;

export class SideView {
  readonly #side = find(document, '#side', HTMLElement);
  readonly #channels = find(document, '#side-channels', HTMLElement);
  readonly #direct = find(document, '#side-direct', HTMLElement);
  readonly #team = find(document, '#team-name', HTMLElement);
  readonly #me = find(document, '#my-name', HTMLElement);
  readonly #here = find(document, '#my-presence', HTMLElement);
  readonly #menuBadge = find(document, '#menu-badge', HTMLElement);
  readonly #drawn = new Map<string, { element: HTMLElement; looks: string }>();

  constructor() {
    this.#side.addEventListener('keydown', (event) => this.#key(event));
    const close = (): void => this.toggle(false);
    find(document, '#open-side', HTMLButtonElement).addEventListener('click', () => this.toggle(true));
    find(document, '#shade', HTMLElement).addEventListener('click', close);
    this.#side.addEventListener('click', (event) => event.target instanceof Element && event.target.closest('a') !== null && close());
  }

  /** On a narrow page the conversations are a drawer. */
  toggle(open: boolean): void {
    document.body.dataset['side'] = open ? 'open' : 'closed';
    if (open) {
      this.focus();
    }
  }

  get isOpen(): boolean {
    return document.body.dataset['side'] === 'open';
  }

  focus(): void {
    const current = this.#side.querySelector<HTMLElement>('.side-entry[aria-current]') ?? this.#side.querySelector<HTMLElement>('.side-entry');
    current?.focus();
  }

  draw(client: ChatClient, openId: string): void {
    const { channels, direct } = sections(client.conversations.values());
    setText(this.#team, client.team.name);
    setText(this.#me, client.nameOf(client.self.id));
    this.#here.dataset['here'] = String(client.lostAt === null && !client.away);
    this.#list(this.#channels, channels, client, openId);
    this.#list(this.#direct, direct, client, openId);
    const others = [...channels, ...direct].filter(({ id }) => id !== openId);
    const calls = others.reduce((sum, { unread }) => sum + unread.mentions, 0);
    this.#menuBadge.hidden = calls === 0 && others.every(({ unread }) => unread.count === 0);
    setText(this.#menuBadge, calls === 0 ? '' : countText(calls));
  }

  /** The conversations in the order in which they stand. */
  order(client: ChatClient): Conversation[] {
    const { channels, direct } = sections(client.conversations.values());
    return [...channels, ...direct];
  }

  #list(list: HTMLElement, conversations: readonly Conversation[], client: ChatClient, openId: string): void {
    const lines = conversations.map((conversation) => this.#line(conversation, client, openId));
    const same = lines.length === list.children.length && lines.every((line, index) => line === list.children[index]);
    if (!same) {
      const focused = document.activeElement;
      list.replaceChildren(...lines);
      if (focused instanceof HTMLElement && list.contains(focused)) {
        focused.focus();
      }
    }
  }

  #line(conversation: Conversation, client: ChatClient, openId: string): HTMLElement {
    const { id, info, unread, direct } = conversation;
    const name = titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id);
    const here = info.kind === 'im' && client.people.isHere(info.user);
    const [count, calls] = [unread.count, direct ? unread.count : unread.mentions];
    const draft = client.kept.draft(id) !== '' && id !== openId;
    const unsent = client.outbox.all.some(({ channel, state }) => channel === id && state === 'refused');
    const looks = [name, here, count > 0, calls, id === openId, info.kind, draft, unsent].join('\n');
    const before = this.#drawn.get(id);
    if (before?.looks === looks) {
      return before.element;
    }
    const line = before?.element ?? make('li', '');
    const link = line.querySelector<HTMLAnchorElement>('a') ?? make('a', 'side-entry');
    link.href = `#/${id}`;
    link.dataset['channel'] = id;
    link.classList.toggle('unread', count + calls > 0);
    id === openId ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current');
    const said = calls > 0 ? `, ${plural(calls, direct ? 'unread message' : 'mention')}` : count > 0 ? ', unread' : '';
    link.setAttribute('aria-label', `${name}${info.kind === 'group' ? ', private' : ''}${here ? ', here' : ''}${said}${unsent ? ', something not sent' : ''}`);
    const parts: HTMLElement[] = [make('span', 'side-name', name)];
    if (unsent) {
      parts.push(make('span', 'side-unsent', '!'));
    } else if (draft) {
      const mark = make('span', 'side-draft');
      mark.append(icon('edit'));
      parts.push(mark);
    }
    if (calls > 0) {
      parts.push(make('span', 'badge', countText(calls)));
    }
    link.replaceChildren(sign(conversation, name, here), ...parts);
    line.append(link);
    this.#drawn.set(id, { element: line, looks });
    return line;
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const entries = [...this.#side.querySelectorAll<HTMLElement>('.side-entry')];
    const at = entries.indexOf(document.activeElement as HTMLElement);
    if (step !== undefined && at >= 0 && !event.altKey) {
      entries[at + step]?.focus();
      event.preventDefault();
    }
  }
}

function sign({ info }: Conversation, name: string, here: boolean): Element {
  if (info.kind === 'im') {
    const frame = make('span', 'side-face');
    frame.append(avatar(info.user, name, 'avatar small'), presence(here));
    return frame;
  }
  const frame = make('span', 'side-sign');
  frame.append(icon(info.kind === 'mpim' ? 'people' : info.kind === 'group' ? 'lock' : 'hash'));
  return frame;
}

function countText(count: number): string {
  return count > COUNT_MAX ? `${COUNT_MAX}+` : String(count);
}
