/** The page of who is signed in: its parts, and going about between them. */

import { find } from '../dom.js';
import type { Api } from './api.js';
import { ChatClient } from './client.js';
import { infoOf, titleOf, type Conversation } from './model/conversation.js';
import { isReply, type Message } from './model/message.js';
import { plain } from './model/mrkdwn.js';
import type { Fields } from './model/read.js';
import { routeOf } from './model/route.js';
import type { Ts } from './model/ts.js';
import { askChannels } from './requests.js';
import { Screen } from './screen.js';
import { ThreadScreen } from './thread.js';
import { Announcer } from './view/announce.js';
import { ChannelsView } from './view/channels.js';
import { DateView } from './view/date.js';
import { DetailsView, done } from './view/details.js';
import type { Finder } from './view/finder.js';
import { MeView } from './view/me.js';
import { Pane } from './view/pane.js';
import { Picker } from './view/picker.js';
import { goRound } from './view/regions.js';
import { authorName } from './view/row.js';
import { SearchView } from './view/search.js';
import { SideView } from './view/side.js';
import { PeopleView } from './view/start.js';
import { makeSwitcher } from './view/switcher.js';
import { namingOf } from './view/talk.js';

/** A connection that is back within this was never gone. */
const LOST_MS = 2_500;
/** What nobody sees is drawn as rarely as this. */
const HIDDEN_EVERY_MS = 250;
/** Where frames are rare, it is drawn without one. */
const FRAME_MS_MAX = 100;

/** What is on the page for who is signed in. */
export class Page {
  readonly #client: ChatClient;
  readonly #picker = new Picker();
  readonly #side = new SideView();
  readonly #pane = new Pane(() => this.#closed());
  readonly #announcer = new Announcer();
  readonly #banner = find(document, '#banner', HTMLElement);
  readonly #screen: Screen;
  readonly #thread: ThreadScreen;
  readonly #search: SearchView;
  readonly #details: DetailsView;
  readonly #channels: ChannelsView;
  readonly #people: PeopleView;
  readonly #switcher: Finder;
  readonly #me: MeView;
  readonly #date = new DateView((ts) => void done(() => this.#screen.goTo(ts)));
  #due = false;
  #bannerTimer: number | undefined;

  /** `boot`: what the server says of the workspace; `signedOut`: nobody is signed in any more. */
  constructor(api: Api, boot: Fields, signedOut: () => void) {
    this.#client = new ChatClient(api, boot, {
      changed: () => this.#drawSoon(),
      said: (conversation, message) => this.#said(conversation, message),
      signedOut: () => {
        this.#client.close();
        signedOut();
      },
    });
    const client = this.#client;
    this.#screen = new Screen(client, this.#picker, (root) => this.#openThread(this.#screen.openId, root));
    this.#thread = new ThreadScreen(client, this.#picker);
    this.#search = new SearchView({
      client: () => client,
      naming: namingOf(client),
      here: () => this.#screen.openId,
      jump: ({ channel, ts, threadTs }) => {
        this.#screen.go(channel, ts, threadTs);
        this.#pane.narrow && this.#pane.close();
      },
    });
    this.#channels = new ChannelsView(() => client, (channel) => this.#screen.go(channel));
    this.#people = new PeopleView(client, (channel) => this.#screen.go(channel));
    this.#details = new DetailsView({
      invite: (conversation) => this.#people.invite(conversation),
      write: (user) => void this.#people.write([user]),
    });
    this.#switcher = makeSwitcher(client, {
      go: (channel) => this.#screen.go(channel),
      write: (user) => void this.#people.write([user]),
    });
    this.#me = new MeView(client);
    this.#listen();
    document.body.dataset['view'] = 'chat';
    this.#route();
    void this.#learnChannels();
  }

  /** Channels of the workspace are named and found too, whoever is in them. */
  async #learnChannels(): Promise<void> {
    try {
      const infos = (await askChannels(this.#client.api)).flatMap((value) => infoOf(value) ?? []);
      infos.forEach((info) => this.#client.known.has(info.id) || this.#client.known.set(info.id, info));
      this.#client.people.version += 1;
      this.#drawSoon();
    } catch {
      // They are named by their labels, and found by browsing.
      return;
    }
  }

  // === Drawing ===

  /** Draws once for everything that happens until then. */
  #drawSoon(): void {
    if (this.#due) {
      return;
    }
    this.#due = true;
    const run = (): void => {
      if (this.#due) {
        this.#due = false;
        this.#draw();
      }
    };
    // A window that is covered has hardly any frames, and one that is hidden has none.
    setTimeout(run, document.hidden ? HIDDEN_EVERY_MS : FRAME_MS_MAX);
    requestAnimationFrame(run);
  }

  #draw(): void {
    const client = this.#client;
    const { openId, conversation } = this.#screen;
    const { version } = client.people;
    if (openId !== '' && conversation === null && this.#wasHere === openId) {
      this.#wasHere = '';
      this.#home();
      return;
    }
    this.#wasHere = conversation === null ? '' : openId;
    this.#side.draw(client, openId);
    this.#screen.draw(version);
    if (this.#pane.shown === 'thread') {
      client.thread === null ? this.#pane.close() : this.#thread.draw(version);
    }
    if (this.#pane.shown === 'details' && conversation !== null) {
      this.#details.draw(client, conversation);
    }
    this.#drawBanner();
    this.#drawTitle();
  }

  /** The conversation that was open: if it is gone, one is taken elsewhere. */
  #wasHere = '';

  #drawBanner(): void {
    const { lostAt } = this.#client;
    clearTimeout(this.#bannerTimer);
    const lost = lostAt === null ? 0 : Date.now() - lostAt;
    this.#banner.hidden = lost < LOST_MS;
    if (lostAt !== null && lost < LOST_MS) {
      this.#bannerTimer = window.setTimeout(() => this.#drawBanner(), LOST_MS - lost + 20);
    }
  }

  #drawTitle(): void {
    const client = this.#client;
    const all = [...client.conversations.values()];
    const calls = all.reduce((sum, { unread, direct }) => sum + (direct ? unread.count : unread.mentions), 0);
    const mark = calls > 0 ? `(${calls}) ` : all.some(({ unread }) => unread.count > 0) ? '• ' : '';
    const info = this.#screen.conversation?.info;
    const name = info === undefined ? '' : `${titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id)} · `;
    const title = `${mark}${name}${client.team.name}`;
    if (document.title !== title) {
      document.title = title;
    }
  }

  #said(conversation: Conversation, message: Message): void {
    const { thread } = this.#client;
    const inThread = isReply(message) && thread?.channel === conversation.id && thread.root === message.threadTs;
    if (conversation.id === this.#screen.openId && (inThread || !isReply(message))) {
      const naming = namingOf(this.#client);
      this.#announcer.say(`${authorName(message, naming)}: ${plain(message.text, naming)}`.slice(0, 300));
    }
  }

  // === Going about ===

  #route(): void {
    const route = routeOf(location.hash);
    if (route.channel === '') {
      this.#home();
      return;
    }
    this.#side.toggle(false);
    const { thread, ts, channel } = route;
    if (thread !== null) {
      this.#openThread(channel, thread, ts);
    } else if (this.#client.thread !== null && this.#client.thread.channel !== channel) {
      this.#pane.close();
    }
    const shown = { channel, ts: thread === null ? ts : thread, thread: null };
    this.#screen.show(shown).catch(() => undefined);
    if (ts === null && !this.#pane.narrow && window.matchMedia('(hover: hover)').matches) {
      this.#screen.composer.focus();
    }
  }

  /** Where one was last, or the channel that everybody is in. */
  #home(): void {
    const client = this.#client;
    const order = this.#side.order(client);
    const last = client.conversations.get(client.kept.channel);
    const first = last ?? order.find(({ info }) => info.general) ?? order[0];
    if (first === undefined) {
      this.#screen.openId = '';
      this.#drawSoon();
      void this.#channels.open();
    } else {
      history.replaceState(null, '', `#/${first.id}`);
      this.#route();
    }
  }

  #openThread(channel: string, root: Ts, reply: Ts | null = null): void {
    this.#pane.show('thread');
    this.#thread.open(channel, root, reply).catch(() => undefined);
    if (reply === null) {
      this.#thread.composer.focus();
    }
  }

  #closed(): void {
    this.#client.closeThread();
    this.#drawSoon();
  }

  #step(step: number, unread: boolean): void {
    const order = this.#side.order(this.#client);
    const at = order.findIndex(({ id }) => id === this.#screen.openId);
    for (let tried = 1; tried <= order.length; tried += 1) {
      const next = order[(at + step * tried + order.length * 2) % order.length];
      if (next !== undefined && (!unread || next.unread.count > 0)) {
        this.#screen.go(next.id);
        return;
      }
    }
  }

  // === What is pressed ===

  #listen(): void {
    const click = (selector: string, act: () => void): void => find(document, selector, HTMLElement).addEventListener('click', act);
    click('#open-switcher', () => this.#switcher.open());
    click('#open-browse', () => void this.#channels.open());
    click('#open-start', () => this.#people.open());
    click('#open-start-too', () => this.#people.open());
    click('#open-search', () => this.#openSearch());
    click('#open-date', () => this.#date.open());
    click('#open-me', () => this.#me.open());
    click('#open-details', () => this.#openDetails());
    click('#banner-retry', () => this.#client.retry());
    window.addEventListener('hashchange', () => this.#route());
    window.addEventListener('pagehide', () => this.#client.leaving());
    window.addEventListener('online', () => this.#client.retry());
    document.addEventListener('keydown', (event) => this.#key(event));
    for (const dialog of document.querySelectorAll('dialog')) {
      dialog.querySelector('[data-close]')?.addEventListener('click', () => dialog.close());
    }
  }

  #openSearch(): void {
    this.#pane.show('search');
    this.#search.open();
  }

  #openDetails(): void {
    const { conversation } = this.#screen;
    if (conversation !== null) {
      this.#pane.show('details');
      void this.#details.open(this.#client, conversation);
    }
  }

  #key(event: KeyboardEvent): void {
    const { key, altKey, shiftKey } = event;
    const command = event.ctrlKey || event.metaKey;
    const modal = document.querySelector('dialog[open]') !== null;
    if (command && key.toLowerCase() === 'k' && !shiftKey) {
      modal || this.#switcher.open();
    } else if (modal) {
      return;
    } else if (command && shiftKey && key.toLowerCase() === 'f') {
      this.#openSearch();
    } else if (key === 'F6') {
      goRound(shiftKey ? -1 : 1);
    } else if (altKey && (key === 'ArrowUp' || key === 'ArrowDown')) {
      this.#step(key === 'ArrowUp' ? -1 : 1, shiftKey);
    } else if (key === 'Escape') {
      this.#escape();
    } else {
      this.#typeAnywhere(event);
      return;
    }
    event.preventDefault();
  }

  /** Closes what is open, the last first. */
  #escape(): void {
    if (this.#side.isOpen) {
      this.#side.toggle(false);
    } else if (this.#pane.shown !== null) {
      this.#pane.close();
      this.#screen.composer.focus();
    } else if (document.activeElement !== this.#screen.composer.field) {
      this.#screen.composer.focus();
    } else if (!this.#screen.list.atEnd) {
      void this.#screen.toLive().catch(() => undefined);
    }
  }

  /** A letter that is typed where nothing takes it goes into the field. */
  #typeAnywhere({ key, ctrlKey, metaKey, altKey }: KeyboardEvent): void {
    const taken = document.activeElement?.matches('input, textarea, select, button, a, .row, [contenteditable]') ?? false;
    if (!taken && key.length === 1 && key !== ' ' && !ctrlKey && !metaKey && !altKey) {
      this.#screen.composer.focus();
    }
  }
}
