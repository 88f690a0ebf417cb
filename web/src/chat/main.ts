/** The chat page at `/chat`: who is signed in, and everything that is on the page for them. */

import { find, setText } from '../dom.js';
import { Backoff } from '../mail/model/backoff.js';
import { Api, RequestFailed } from './api.js';
import { ChatClient } from './client.js';
import { infoOf, titleOf, type Conversation } from './model/conversation.js';
import { plain } from './model/mrkdwn.js';
import { ranked } from './model/match.js';
import { isReply, type Message } from './model/message.js';
import type { Fields } from './model/read.js';
import { routeOf } from './model/route.js';
import { NEVER, tsAt, type Ts } from './model/ts.js';
import { askChannels } from './requests.js';
import { Screen } from './screen.js';
import { fixtureToken } from './storage.js';
import { ThreadScreen } from './thread.js';
import { Announcer } from './view/announce.js';
import { ChannelsView } from './view/channels.js';
import { DetailsView, done } from './view/details.js';
import { DoorView } from './view/door.js';
import { Finder, type Choice } from './view/finder.js';
import { avatar, icon } from './view/icon.js';
import { MeView } from './view/me.js';
import { Pane } from './view/pane.js';
import { PeopleView } from './view/start.js';
import { Picker } from './view/picker.js';
import { goRound } from './view/regions.js';
import { authorName } from './view/row.js';
import { SearchView } from './view/search.js';
import { SideView } from './view/side.js';
import { namingOf } from './view/talk.js';

/** A connection that is back within this was never gone. */
const LOST_MS = 2_500;
/** What nobody sees is drawn as rarely as this. */
const HIDDEN_EVERY_MS = 250;
/** Where frames are rare, it is drawn without one. */
const FRAME_MS_MAX = 100;
const FOUND_MAX = 30;

const api = new Api();
api.token = fixtureToken.read();
const backoff = new Backoff();
const door = new DoorView(api, () => (page === null ? enter() : location.reload()));
let page: Page | null = null;

function enter(): void {
  api.token = fixtureToken.read();
  void start();
}

async function start(): Promise<void> {
  try {
    const boot = await api.call('client.boot');
    page = new Page(boot);
  } catch (failure) {
    const { code, signedOut, passes } = failure instanceof RequestFailed ? failure : new RequestFailed('offline');
    if (!(failure instanceof RequestFailed)) {
      throw failure;
    }
    if (signedOut) {
      fixtureToken.write('');
      api.token = '';
      document.body.dataset['view'] = 'door';
      await door.show();
    } else if (passes) {
      door.unreachable();
      document.body.dataset['view'] = 'door';
      setTimeout(() => void start(), backoff.next());
    } else {
      code.startsWith('http_4') || code === 'unknown_method' ? door.off() : await door.show(code);
      document.body.dataset['view'] = 'door';
    }
  }
}

class Page {
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
  #due = false;
  #bannerTimer: number | undefined;

  constructor(boot: Fields) {
    this.#client = new ChatClient(api, boot, {
      changed: () => this.#drawSoon(),
      said: (conversation, message) => this.#said(conversation, message),
      signedOut: () => void this.#signedOut(),
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
    this.#switcher = new Finder('switcher', (text) => this.#found(text), (choice) => this.#switch(choice));
    this.#me = new MeView(client);
    this.#listen();
    document.body.dataset['view'] = 'chat';
    this.#route();
    void this.#learnChannels();
  }

  /** Channels of the workspace are named and found too, whoever is in them. */
  async #learnChannels(): Promise<void> {
    try {
      const infos = (await askChannels(api)).flatMap((value) => infoOf(value) ?? []);
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

  // === The quick switcher ===

  #found(text: string): Choice[] {
    const client = this.#client;
    const own = [...client.conversations.values()].sort((left, right) => right.unread.mentions - left.unread.mentions || (left.latest < right.latest ? 1 : -1));
    const talks = own.map((conversation) => {
      const { info } = conversation;
      const label = titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id);
      const note = conversation.unread.count > 0 ? 'unread' : info.kind === 'im' ? `@${client.people.get(info.user)?.handle ?? ''}` : '';
      return { id: info.id, label, note, user: info.user, kind: info.kind };
    });
    const known = new Set(talks.flatMap(({ user, id }) => [user, id]));
    const channels = [...client.known.values()]
      .filter(({ id, kind, archived }) => !known.has(id) && kind === 'channel' && !archived)
      .map(({ id, name }) => ({ id, label: name, note: 'not joined', user: '', kind: 'channel' as const }));
    const people = client.people
      .active()
      .filter(({ id }) => !known.has(id))
      .map(({ id, name, handle }) => ({ id, label: name, note: `@${handle}`, user: id, kind: 'im' as const }));
    return ranked([...talks, ...channels, ...people], text, ({ label, note }) => [label, note.replace(/^@/, '')], FOUND_MAX).map(({ id, label, note, user, kind }) => {
      const sign = kind === 'im' ? avatar(user, label, 'avatar tiny') : icon(kind === 'mpim' ? 'people' : kind === 'group' ? 'lock' : 'hash');
      return { id, label, note, sign };
    });
  }

  #switch({ id }: Choice): void {
    this.#switcher.close();
    if (id.startsWith('U') || id.startsWith('W')) {
      void this.#people.write([id]);
    } else {
      this.#screen.go(id);
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
    click('#open-date', () => this.#openDate());
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
    this.#listenDate();
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

  #openDate(): void {
    const field = find(document, '#date-day', HTMLInputElement);
    field.max = new Date().toISOString().slice(0, 10);
    find(document, '#date', HTMLDialogElement).showModal();
    field.focus();
  }

  #listenDate(): void {
    const dialog = find(document, '#date', HTMLDialogElement);
    const jump = (ts: Ts): void => {
      dialog.close();
      void done(() => this.#screen.goTo(ts));
    };
    find(document, '#date-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      const [year = 1970, month = 1, day = 1] = find(document, '#date-day', HTMLInputElement).value.split('-').map(Number);
      jump(tsAt(new Date(year, month - 1, day).getTime()));
    });
    for (const button of dialog.querySelectorAll<HTMLElement>('[data-days]')) {
      button.addEventListener('click', () => {
        const days = button.dataset['days'];
        const midnight = new Date(new Date().setHours(0, 0, 0, 0));
        jump(days === 'all' ? NEVER : tsAt(midnight.setDate(midnight.getDate() - Number(days))));
      });
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

  async #signedOut(): Promise<void> {
    this.#client.close();
    api.token = '';
    fixtureToken.write('');
    document.body.dataset['view'] = 'door';
    await door.show('not_authed');
  }
}

/** Keys are named as on the reader's keyboard. */
if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  setText(find(document, '#switch-key', HTMLElement), '⌘ K');
}
void start();
