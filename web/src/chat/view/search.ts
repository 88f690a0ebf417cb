/** Searching: the words, filters that are put to them, and what was found. */

import { find, make, setText } from '../../dom.js';
import { plural, shortTime } from '../../mail/model/text.js';
import { RequestFailed } from '../api.js';
import type { ChatClient } from '../client.js';
import { titleOf } from '../model/conversation.js';
import { reasonOf } from '../model/words.js';
import { millisOf } from '../model/ts.js';
import { askSearch, type Match } from '../requests.js';
import { avatar, textButton } from './icon.js';
import { authorName } from './row.js';
import { drawText, type Naming } from './text.js';

export interface SearchActions {
  client(): ChatClient | null;
  naming: Naming;
  /** The conversation that is open. */
  here(): string;
  jump(match: Match): void;
}

const FILTERS = ['from:', 'in:', 'before:', 'after:', 'has:link', 'has:reaction', 'is:thread'] as const;

export class SearchView {
  readonly #form = find(document, '#search-form', HTMLFormElement);
  readonly #text = find(document, '#search-text', HTMLInputElement);
  readonly #count = find(document, '#search-count', HTMLElement);
  readonly #found = find(document, '#search-found', HTMLElement);
  readonly #more = find(document, '#search-more', HTMLButtonElement);
  readonly #actions: SearchActions;
  #page = 1;
  /** Answers to what was asked before are of no use. */
  #asked = 0;

  constructor(actions: SearchActions) {
    this.#actions = actions;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#search(1);
    });
    this.#form.addEventListener('change', (event) => event.target instanceof HTMLInputElement && event.target.name === 'sort' && void this.#search(1));
    this.#more.addEventListener('click', () => void this.#search(this.#page + 1));
    this.#found.addEventListener('keydown', (event) => this.#key(event));
    find(document, '#search-filters', HTMLElement).append(...FILTERS.map((filter) => textButton(filter, () => this.#filter(filter), 'filter')));
  }

  open(): void {
    this.#text.focus();
    this.#text.select();
  }

  clear(): void {
    this.#text.value = '';
    this.#found.replaceChildren();
    setText(this.#count, '');
    this.#more.hidden = true;
  }

  /** Puts a filter to the words; of the conversation that is open, where it is about one. */
  #filter(filter: string): void {
    const client = this.#actions.client();
    const info = client?.conversations.get(this.#actions.here())?.info;
    const here = info === undefined || client === null ? '' : info.kind === 'im' ? `@${client.people.get(info.user)?.handle ?? ''}` : `#${info.name}`;
    const value = filter === 'in:' ? here : filter === 'from:' ? '@' : filter.endsWith(':') ? new Date().toISOString().slice(0, 10) : '';
    const before = this.#text.value.trim();
    this.#text.value = `${before}${before === '' ? '' : ' '}${filter}${value}${filter.startsWith('from') ? '' : ' '}`;
    this.#text.focus();
  }

  async #search(page: number): Promise<void> {
    const client = this.#actions.client();
    const query = this.#text.value.trim();
    if (client === null || query === '') {
      return;
    }
    const asked = (this.#asked += 1);
    setText(this.#count, page === 1 ? 'Searching…' : (this.#count.textContent ?? ''));
    const best = new FormData(this.#form).get('sort') === 'score';
    try {
      const { matches, total, pages } = await askSearch(client.api, query, best ? 'score' : 'timestamp', page);
      if (asked !== this.#asked) {
        return;
      }
      this.#page = page;
      const rows = matches.map((match) => this.#row(match, client));
      page === 1 ? this.#found.replaceChildren(...rows) : this.#found.append(...rows);
      setText(this.#count, total === 0 ? 'Nothing found. Fewer words find more.' : plural(total, 'message'));
      this.#more.hidden = page >= pages;
    } catch (failure) {
      if (asked === this.#asked) {
        setText(this.#count, reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
      }
    }
  }

  #row(match: Match, client: ChatClient): HTMLElement {
    const { naming } = this.#actions;
    const line = make('li', '');
    const hit = make('div', 'hit');
    hit.tabIndex = 0;
    hit.setAttribute('role', 'link');
    const name = authorName({ user: match.user, username: match.username, bot: false }, naming);
    const info = client.conversations.get(match.channel)?.info;
    const where = info === undefined ? match.channelName : titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id);
    const direct = info?.kind === 'im' || info?.kind === 'mpim';
    const head = make('p', 'hit-head');
    const place = make('span', 'hit-where', `${direct ? '' : '#'}${where}${match.threadTs === null ? '' : ' · thread'}`);
    const at = millisOf(match.ts);
    const time = make('time', 'row-time', shortTime(at, Date.now()));
    time.dateTime = new Date(at).toISOString();
    head.append(place, time);
    const text = make('div', 'text');
    drawText(text, match.text, naming);
    const body = make('div', 'hit-body');
    body.append(make('span', 'author', name), text);
    const row = make('div', 'hit-row');
    row.append(avatar(match.user || name, name, 'avatar small'), body);
    hit.append(head, row);
    hit.addEventListener('click', (event) => {
      if (!(event.target instanceof Element) || event.target.closest('a') === null) {
        this.#actions.jump(match);
      }
    });
    hit.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && event.target === hit) {
        this.#actions.jump(match);
      }
    });
    line.append(hit);
    return line;
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const hits = [...this.#found.querySelectorAll<HTMLElement>('.hit')];
    const at = hits.indexOf(document.activeElement as HTMLElement);
    if (step !== undefined && at >= 0) {
      (hits[at + step] ?? this.#text).focus();
      event.preventDefault();
    }
  }
}
