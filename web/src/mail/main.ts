/** The mail page at `/mail`: what is signed in, the list that changes, and everything around it. */

import { find, setText } from '../dom.js';
import { MailClient } from './client.js';
import type { Transport } from './feed/feeds.js';
import { missedBoth, type Missed } from './model/away.js';
import { ALL, belongs, INBOX, UNREAD, type View } from './model/labels.js';
import { linkText } from './model/link.js';
import type { Message } from './model/protocol.js';
import { keepTransport, keptTransport } from './storage.js';
import { Announcer } from './view/announce.js';
import { BadgeView } from './view/badge.js';
import { DevView } from './view/dev.js';
import { DoorView } from './view/door.js';
import { ListView } from './view/list.js';
import { NotesView } from './view/notes.js';
import { RailView } from './view/rail.js';
import { nameOf } from './view/row.js';
import { SettingsView } from './view/settings.js';
import { StreamView } from './view/stream.js';

/** An absence that is shorter is not spoken of, unless the page was opened anew. */
const ABSENCE_MS_MIN = 3_000;
/** Where the drawer would cover the list, it begins closed. */
const NARROW = '(max-width: 1180px)';
/** What nobody sees is drawn as rarely as this. */
const HIDDEN_EVERY_MS = 250;
const SECOND_MS = 1_000;

const address = new URL(location.href);
const state = find(document, '#state', HTMLElement);
const title = find(document, '#title', HTMLElement);
const count = find(document, '#count', HTMLElement);
const empty = find(document, '#empty', HTMLElement);
const end = find(document, '#end', HTMLElement);
const aside = find(document, '#aside', HTMLElement);

let missed: { what: Missed; since: number } | null = null;
let due = false;
let lastEmail = '';

const client = new MailClient({
  changed: drawSoon,
  happened: (applied, event) => {
    const before = applied.before ?? [];
    const visible = [before, applied.after ?? []].some((labels) => belongs(client.view, labels));
    if (visible && applied.kind !== 'deleted') {
      list.flash(applied.id);
    }
    if (client.me?.state !== 'syncing') {
      announcer.happened(applied, event);
    }
  },
  missed: (what, since) => {
    const any = what.new + what.changed + what.deleted > 0;
    const before = missed;
    if (any && (Date.now() - since >= ABSENCE_MS_MIN || before !== null)) {
      missed = { what: before === null ? what : missedBoth(before.what, what), since: before?.since ?? since };
    }
    drawSoon();
  },
  switchedOff: () => {
    door.off();
    view('door');
  },
  signedOut: () => left(lastEmail !== ''),
});

const announcer = new Announcer();
const badge = new BadgeView();
const list = new ListView({ more: () => !client.loadFailed && void client.more(), chosen: drawSoon });
const rail = new RailView(choose);
const notes = new NotesView({ retry: () => client.retry(), seen: forgetMissed });
const door = new DoorView(() => client.retry());
const dev = new DevView(client, () => list.chosen);
const stream = new StreamView();
const settings = new SettingsView(client, {
  transport: (transport) => {
    keepTransport(transport);
    address.searchParams.set('transport', transport);
    history.replaceState(null, '', address);
    client.use(transport);
  },
  ended: () => {
    client.forget();
    left(true);
  },
});

// === Drawing ===

/** Draws once for everything that happens until then. A page that nobody sees has no frames, but its badge counts on. */
function drawSoon(): void {
  if (due) {
    return;
  }
  due = true;
  const run = (): void => {
    due = false;
    draw();
  };
  document.hidden ? setTimeout(run, HIDDEN_EVERY_MS) : requestAnimationFrame(run);
}

function draw(): void {
  const now = Date.now();
  const { link, me, email } = client;
  drawState(now);
  if (link.state === 'signed-out') {
    return;
  }
  const known = me !== null || client.position !== null;
  if (!known) {
    if (link.state === 'offline' || link.state === 'reconnecting') {
      door.unreachable();
      view('door');
    }
    return;
  }
  lastEmail = email;
  view('mail');
  const messages = client.mailbox.list(client.view);
  const counted = client.counts.get(client.view);
  const name = nameOfView(client.view);
  rail.show(client.labels, client.view, client.counts);
  setText(title, name);
  setText(count, countText(counted?.total, counted?.unread));
  notes.trouble(link, me, email, client.heardAt, now);
  notes.missed(missed?.what ?? null, missed?.since ?? 0);
  notes.parity(client.transport === 'both' ? client.comparison.state : null);
  list.show(messages, counted?.total, missed?.what.marks ?? new Map(), {
    now,
    labels: client.labels,
    address: me?.dev === true || email === '' ? null : inGmail,
  });
  drawEmpty(messages);
  drawEnd(messages.length);
  drawAside();
  settings.show(now);
  // A moment without a connection is no reason to worry anybody who looks at the tab alone.
  badge.show(client.counts.get(INBOX)?.unread ?? 0, name, link.state !== 'offline' && link.state !== 'too-many');
}

function drawState(now: number): void {
  const { link, me } = client;
  const account = link.state === 'live' ? (me?.state ?? '') : '';
  state.dataset['state'] = account === 'reconnect' || account === 'syncing' ? account : link.state;
  setText(state, linkText(link, me?.state ?? '', now));
}

function drawEmpty(messages: readonly Message[]): void {
  const { view: current, me } = client;
  const loaded = client.mailbox.end(current) !== undefined && !client.loading;
  empty.hidden = messages.length > 0 || !loaded;
  const [head, words] =
    me?.state === 'syncing'
      ? ['Reading your mailbox …', 'Mails appear as they are read. This is the only time that it takes a while.']
      : current === INBOX
        ? ['Nothing in the inbox', 'Enjoy it. The next mail appears here by itself.']
        : current === UNREAD
          ? ['All read', 'Nothing is waiting for you.']
          : ['Nothing here', `Mails with “${nameOfView(current)}” appear here by themselves.`];
  setText(find(empty, '#empty-title', HTMLElement), head);
  setText(find(empty, '#empty-text', HTMLElement), words);
}

function drawEnd(shown: number): void {
  const part = client.mailbox.end(client.view);
  const { loading, loadFailed } = client;
  end.dataset['state'] = loading ? 'loading' : loadFailed ? 'failed' : part === undefined ? 'loading' : part.next === null ? 'end' : 'more';
  if (loadFailed) {
    setText(end, 'Older mail needs a connection; it is loaded when there is one.');
  } else if (loading || (part === undefined && client.link.state !== 'offline')) {
    setText(end, 'Loading …');
  } else if (part === undefined) {
    setText(end, 'Offline, only what the inbox has shown can be looked through.');
  } else {
    setText(end, part.next === null && shown > 0 ? 'That is all that is kept.' : '');
  }
}

function drawAside(): void {
  const isDev = client.me?.dev === true;
  aside.hidden = !isDev && client.transport !== 'both';
  find(aside, '#dev', HTMLElement).hidden = !isDev;
  document.body.dataset['aside'] = String(!aside.hidden);
  if (!aside.hidden) {
    dev.show();
    stream.show(client);
  }
}

function countText(total: number | undefined, unread: number | undefined): string {
  if (total === undefined || unread === undefined) {
    return '';
  }
  return unread > 0 && client.view !== UNREAD ? `${unread.toLocaleString()} unread of ${total.toLocaleString()}` : total.toLocaleString();
}

function view(name: 'loading' | 'door' | 'mail'): void {
  if (document.body.dataset['view'] !== name) {
    document.body.dataset['view'] = name;
  }
}

function nameOfView(of: View): string {
  return of === ALL ? 'All mail' : nameOf(of, client.labels);
}

function inGmail({ threadId, id }: Message): string {
  return `https://mail.google.com/mail/?authuser=${encodeURIComponent(client.email)}#all/${encodeURIComponent(threadId || id)}`;
}

// === What one does ===

function choose(of: View): void {
  if (of !== client.view) {
    if (of === INBOX) {
      address.searchParams.delete('label');
    } else {
      address.searchParams.set('label', of);
    }
    history.pushState(null, '', address);
    list.clear();
    client.show(of);
  }
}

function forgetMissed(): void {
  missed = null;
  drawSoon();
}

/** Nobody is signed in: the door, with why. */
function left(was: boolean): void {
  missed = null;
  settings.close();
  list.clear();
  badge.clear();
  aside.hidden = true;
  const code = address.searchParams.get('error') ?? '';
  was && code === '' ? door.ended(lastEmail) : door.signIn(code, '');
  lastEmail = '';
  if (code !== '') {
    address.searchParams.delete('error');
    history.replaceState(null, '', address);
  }
  drawState(Date.now());
  view('door');
}

/** Keys that belong to no field. */
function pressed(event: KeyboardEvent): void {
  const target = event.target instanceof Element ? event.target : document.body;
  const elsewhere = target.closest('input, select, textarea, dialog, summary') !== null;
  if (document.body.dataset['view'] !== 'mail' || elsewhere || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const onControl = target.closest('button, a') !== null;
  const digit = /^[1-9]$/.test(event.key) ? RailView.lists(client.labels)[Number(event.key) - 1] : undefined;
  const keys: Record<string, () => void> = {
    j: () => list.step(1),
    k: () => list.step(-1),
    ArrowDown: () => list.step(1),
    ArrowUp: () => list.step(-1),
    Home: () => list.first(),
    End: () => list.last(),
    ...(onControl ? {} : { Enter: () => list.toggle() }),
    Escape: () => list.closeAll(),
    o: openInGmail,
    '?': () => settings.open(),
    ...(digit === undefined ? {} : { [event.key]: () => choose(digit.id) }),
  };
  const act = keys[event.key];
  if (act !== undefined) {
    event.preventDefault();
    act();
  }
}

function openInGmail(): void {
  const message = client.mailbox.get(list.chosen ?? '');
  if (message !== undefined && client.me?.dev === false) {
    open(inGmail(message), '_blank', 'noreferrer');
  }
}

function transportOf(name: string | null): Transport | null {
  return name === 'sse' || name === 'websocket' || name === 'both' ? name : null;
}

/** The page itself is kept, so that it opens without a network. Where that is impossible everything else works. */
function keepPage(): void {
  if ('serviceWorker' in navigator && import.meta.env.PROD) {
    navigator.serviceWorker.register('/mail/worker.js', { scope: '/mail' }).catch(() => undefined);
  }
}

addEventListener('keydown', pressed);
addEventListener('offline', () => client.noNetwork());
addEventListener('online', () => client.retry());
addEventListener('pagehide', () => client.pause());
addEventListener('pageshow', (event) => event.persisted && client.resume());
addEventListener('popstate', () => {
  address.href = location.href;
  list.clear();
  client.show(address.searchParams.get('label') ?? INBOX);
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) {
    drawSoon();
  }
});
setInterval(() => {
  client.tick();
  const { link } = client;
  const isCounting = link.state === 'reconnecting' || link.state === 'offline';
  // Elsewhere nothing but a word like "4 min ago" changes with time.
  if (!document.hidden && (isCounting || Math.floor(Date.now() / SECOND_MS) % 20 === 0)) {
    drawSoon();
  }
}, SECOND_MS);

const wanted = address.searchParams.get('label') ?? INBOX;
client.start(transportOf(address.searchParams.get('transport')) ?? transportOf(keptTransport()) ?? 'sse', wanted);
find(document, '#dev', HTMLDetailsElement).open = !matchMedia(NARROW).matches;
keepPage();
drawSoon();
