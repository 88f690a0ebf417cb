/** The chat panel: messages, older ones on scrolling up, who is typing, and the field to write in. */

import { find, make, setText } from '../../dom.js';
import type { ChatLog, Line } from '../chat-log.js';
import { namesText } from '../text.js';
import { avatar } from './avatar.js';

/** Messages of one member within this time stand under one name. */
const GROUP_MS = 3 * 60_000;
/** As near to the end as this counts as being there. */
const NEAR_END_PX = 60;
/** Older messages are fetched when the start is this near. */
const NEAR_START_PX = 160;
/** Typing is told again after this, and over after that without a key. */
const TYPING_EVERY_MS = 2_500;
const TYPING_OVER_MS = 4_000;
/** Others are shown as typing for so long after the last word of it. */
const TYPING_SHOWN_MS = 6_000;

export interface ChatActions {
  send(text: string): void;
  retry(key: string): void;
  withdraw(key: string): void;
  typing(isTyping: boolean): void;
  older(): void;
  unread(count: number): void;
}

export class ChatView {
  readonly #actions: ChatActions;
  readonly #log: ChatLog;
  readonly #scroll = find(document, '#chat-scroll', HTMLElement);
  readonly #list = find(document, '#chat-list', HTMLElement);
  readonly #empty = find(document, '#chat-empty', HTMLElement);
  readonly #older = find(document, '#chat-older', HTMLElement);
  readonly #new = find(document, '#chat-new', HTMLButtonElement);
  readonly #typing = find(document, '#typing', HTMLElement);
  readonly #form = find(document, '#chat-form', HTMLFormElement);
  readonly #input = find(document, '#chat-input', HTMLTextAreaElement);
  readonly #send = find(document, '#chat-send', HTMLButtonElement);
  readonly #error = find(document, '#chat-error', HTMLElement);
  readonly #rows = new Map<string, { row: HTMLElement; shows: string }>();
  readonly #typists = new Map<string, { name: string; timer: ReturnType<typeof setTimeout> }>();
  #mine = '';
  #hasMore = false;
  #loading = false;
  #typedAt = -Infinity;
  #typingOver: ReturnType<typeof setTimeout> | undefined;
  #unread = 0;
  #errorOver: ReturnType<typeof setTimeout> | undefined;

  constructor(log: ChatLog, actions: ChatActions) {
    this.#log = log;
    this.#actions = actions;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#submit();
      } else if (event.key === 'Escape') {
        this.#input.blur();
      }
    });
    this.#input.addEventListener('input', () => this.#typed());
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#scroll.addEventListener('focus', () => this.seen());
    this.#input.addEventListener('focus', () => this.seen());
    this.#new.addEventListener('click', () => this.toEnd());
    // The panel's height changes with the window and the field: who was at the end stays there.
    let wasAtEnd = true;
    this.#scroll.addEventListener('scroll', () => (wasAtEnd = this.#atEnd()), { passive: true });
    new ResizeObserver(() => wasAtEnd && this.toEnd()).observe(this.#scroll);
  }

  set me(oderId: string) {
    this.#mine = oderId;
  }

  set enabled(enabled: boolean) {
    this.#send.disabled = !enabled;
  }

  focus(): void {
    this.#input.focus();
  }

  /** Whether the messages can be seen: what comes while they cannot is counted as unread. */
  seen(): void {
    this.#unread = 0;
    this.#actions.unread(0);
  }

  /** Shows the log as it is now; `live` are messages that have just been said. */
  show(live = 0): void {
    const atEnd = this.#atEnd();
    const before = this.#scroll.scrollHeight;
    this.#place();
    this.#empty.hidden = this.#log.lines.length > 0;
    if (atEnd) {
      this.toEnd();
    } else if (live > 0) {
      this.#new.hidden = false;
    }
    if (this.#loading && !atEnd) {
      this.#scroll.scrollTop += this.#scroll.scrollHeight - before;
    }
    this.#loading = false;
    if (live > 0 && (this.#scroll.offsetParent === null || document.hidden)) {
      this.#unread += live;
      this.#actions.unread(this.#unread);
    }
  }

  /** Whether there are more messages before the first one shown. */
  hasMore(more: boolean): void {
    this.#hasMore = more;
    this.#loading = false;
    const start = this.#log.lines.length > 0 && !more ? 'This is where the chat begins' : '';
    setText(this.#older, more ? 'Older messages …' : start);
    // All of it may fit on the screen, with nothing to scroll.
    if (more && this.#scroll.scrollHeight <= this.#scroll.clientHeight) {
      this.#fetchOlder();
    }
  }

  someoneTypes(oderId: string, name: string, isTyping: boolean): void {
    clearTimeout(this.#typists.get(oderId)?.timer);
    this.#typists.delete(oderId);
    if (isTyping && oderId !== this.#mine) {
      const timer = setTimeout(() => this.someoneTypes(oderId, name, false), TYPING_SHOWN_MS);
      this.#typists.set(oderId, { name, timer });
    }
    const names = [...this.#typists.values()].map((typist) => typist.name);
    const verb = names.length === 1 ? 'is' : 'are';
    setText(this.#typing, names.length === 0 ? '' : `${namesText(names)} ${verb} typing …`);
  }

  problem(text: string): void {
    setText(this.#error, text);
    clearTimeout(this.#errorOver);
    this.#errorOver = setTimeout(() => setText(this.#error, ''), 6_000);
  }

  toEnd(): void {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#new.hidden = true;
  }

  #place(): void {
    const wanted: HTMLElement[] = [];
    let previous: Line | null = null;
    for (const line of this.#log.lines) {
      wanted.push(this.#row(line, previous));
      previous = line;
    }
    const rows = new Set<Element>(wanted);
    for (const [key, { row }] of this.#rows) {
      if (!rows.has(row)) {
        row.remove();
        this.#rows.delete(key);
      }
    }
    wanted.forEach((row, index) => {
      if (this.#list.children[index] !== row) {
        this.#list.insertBefore(row, this.#list.children[index] ?? null);
      }
    });
  }

  /** The row of a line; it is made anew only when it shows something else than before. */
  #row(line: Line, previous: Line | null): HTMLElement {
    const key = line.key ?? line.id;
    const follows =
      previous !== null &&
      previous.type === 'user' &&
      line.type === 'user' &&
      previous.oderId === line.oderId &&
      line.at - previous.at < GROUP_MS;
    const shows = `${line.sending}|${follows}|${line.at}`;
    const known = this.#rows.get(key);
    if (known?.shows === shows) {
      return known.row;
    }
    const row = line.type === 'system' ? systemRow(line) : this.#userRow(line, follows);
    known?.row.replaceWith(row);
    this.#rows.set(key, { row, shows });
    return row;
  }

  #userRow(line: Line, follows: boolean): HTMLElement {
    const row = make('li', 'line');
    row.dataset['mine'] = String(line.oderId === this.#mine);
    row.dataset['sending'] = line.sending;
    row.dataset['follows'] = String(follows);
    const body = make('div', 'line-body');
    if (!follows) {
      const head = make('p', 'line-head');
      const time = make('time', 'line-time', timeText(line.at));
      time.dateTime = new Date(line.at).toISOString();
      head.append(make('span', 'line-name', line.username), ' ', time);
      body.append(head);
    }
    body.append(make('p', 'line-text', line.text));
    if (line.sending === 'failed') {
      body.append(this.#failedNote(line.key ?? ''));
    }
    row.append(follows ? make('span', 'line-gap') : avatar(line.oderId, line.username), body);
    return row;
  }

  #failedNote(key: string): HTMLElement {
    const note = make('p', 'line-failed', 'Not sent. ');
    const retry = make('button', 'textual', 'Try again');
    retry.type = 'button';
    retry.addEventListener('click', () => this.#actions.retry(key));
    const withdraw = make('button', 'textual', 'Delete');
    withdraw.type = 'button';
    withdraw.addEventListener('click', () => this.#actions.withdraw(key));
    note.append(retry, ' ', withdraw);
    return note;
  }

  #submit(): void {
    const text = this.#input.value.trim();
    if (text === '' || this.#send.disabled) {
      return;
    }
    this.#input.value = '';
    this.#fit();
    this.#stopTyping();
    this.#actions.send(text);
    this.toEnd();
  }

  #typed(): void {
    this.#fit();
    if (this.#input.value.trim() === '') {
      this.#stopTyping();
      return;
    }
    const now = performance.now();
    if (now - this.#typedAt > TYPING_EVERY_MS) {
      this.#typedAt = now;
      this.#actions.typing(true);
    }
    clearTimeout(this.#typingOver);
    this.#typingOver = setTimeout(() => this.#stopTyping(), TYPING_OVER_MS);
  }

  #stopTyping(): void {
    clearTimeout(this.#typingOver);
    if (this.#typedAt > -Infinity) {
      this.#typedAt = -Infinity;
      this.#actions.typing(false);
    }
  }

  #fit(): void {
    this.#input.style.height = 'auto';
    this.#input.style.height = `${Math.min(this.#input.scrollHeight + 2, 120)}px`;
  }

  #scrolled(): void {
    if (this.#atEnd()) {
      this.#new.hidden = true;
    }
    if (this.#scroll.scrollTop < NEAR_START_PX) {
      this.#fetchOlder();
    }
  }

  #fetchOlder(): void {
    if (this.#hasMore && !this.#loading) {
      this.#loading = true;
      this.#actions.older();
    }
  }

  #atEnd(): boolean {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }
}

function systemRow(line: Line): HTMLElement {
  const row = make('li', 'line-system');
  row.append(make('span', '', line.text));
  return row;
}

function timeText(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}
