/**
 * The mailbox of a page, kept right: what was kept of it, the lists of the server, and the events of the channel, by one transport or two.
 *
 * Order is all: a list's answer names a position that was read before its rows, and the stream begins there. So nothing falls between, and what
 * comes twice is known by its version.
 */

import { Absence } from './absence.js';
import { askMe, askPage, RequestFailed } from './api.js';
import type { Arrival, FeedListener } from './feed/feed.js';
import { Feeds, type Transport } from './feed/feeds.js';
import { Later } from './later.js';
import { missedBetween, type Missed } from './model/away.js';
import { Backoff } from './model/backoff.js';
import { Counts } from './model/counts.js';
import { INBOX, type View } from './model/labels.js';
import { nextLink, type Link, type LinkInput } from './model/link.js';
import { Mailbox, type Applied } from './model/mailbox.js';
import { Comparison, contentOf, type Side } from './model/parity.js';
import { isBehind, parseId, type Position } from './model/position.js';
import { parseEnvelope, type Envelope, type Label, type MailEvent, type Me, type Page } from './model/protocol.js';
import * as snapshots from './model/snapshot.js';
import { Recent } from './recent.js';
import { forgetBox, keepBox, keptBox } from './storage.js';

/** Messages of one part of a list. */
const PART = 50;
/** The server counts again after changes; several tabs of one user share what it allows. */
const RECOUNT = { quiet: 1_500, latest: 8_000, every: 4_000 };
/** What the browser keeps is written so often. */
const KEEP = { quiet: 1_000, latest: 1_000, every: 0 };
/** Without the head of the channel, what has come this long after the return is held for all that was missed. */
const CAUGHT_UP_MS = 4_000;
export interface Watcher {
  /** Something is different: to be shown soon. */
  changed(): void;
  /** An event came live and had an effect. */
  happened(applied: Applied, event: MailEvent): void;
  /** All that was missed since then is here. */
  missed(missed: Missed, since: number): void;
  /** This server has no live mail. */
  switchedOff(): void;
  /** Nobody is signed in any more, or yet. */
  signedOut(): void;
}

export class MailClient {
  mailbox = new Mailbox();
  readonly counts = new Counts();
  labels: Label[] = [];
  me: Me | null = null;
  email = '';
  link: Link = { state: 'starting' };
  view: View = INBOX;
  position: Position | null = null;
  /** When the page last heard from the server, in milliseconds since 1970. */
  heardAt: number | null = null;
  /** A part of the list is on its way; or could not be had. */
  loading = false;
  loadFailed = false;
  /** How much of the mailbox the browser keeps, in characters; null if it keeps nothing. */
  keptChars: number | null = null;
  transport: Transport = 'sse';
  readonly recent = new Recent();
  comparison = new Comparison();
  readonly #feeds = new Feeds((side) => this.#listener(side));
  readonly #absence = new Absence((missed, since) => this.watcher.missed(missed, since));
  /** What the list was when a stream could not be resumed. */
  #before: { messages: ReturnType<Mailbox['list']>; since: number } | null = null;
  /** Events that come while everything is asked for again. */
  #buffer: Envelope[] | null = null;
  /** How often the stream has said that all is told. */
  #syncs = 0;
  /** Answers for an earlier mailbox come too late. */
  #generation = 0;
  #ended = false;
  readonly #backoff = new Backoff();
  #startTimer: number | undefined;
  readonly #recountLater = new Later(RECOUNT, () => void this.#recount());
  readonly #keepLater = new Later(KEEP, () => this.#keep());

  constructor(readonly watcher: Watcher) {}

  /** Begins with what is kept, and then with what the server says. */
  start(transport: Transport, view: View): void {
    this.transport = transport;
    this.view = view;
    const snapshot = snapshots.read(keptBox());
    if (snapshot !== null) {
      this.#restore(snapshot);
    }
    void this.#begin();
  }

  /** Tries again at once: the network is back, or somebody has asked for it. */
  retry(): void {
    if (this.link.state === 'too-many') {
      this.#input({ type: 'start' });
      this.#connect();
    } else if (!this.#feeds.retry()) {
      this.#backoff.reset();
      void this.#begin();
    }
  }

  use(transport: Transport): void {
    this.transport = transport;
    this.comparison = new Comparison();
    if (this.me !== null && this.link.state !== 'signed-out') {
      this.#input({ type: 'start' });
      this.#connect();
    }
  }

  show(view: View): void {
    this.view = view;
    this.loadFailed = false;
    this.watcher.changed();
    if (this.mailbox.end(view) === undefined && this.me !== null) {
      void this.more();
    }
    this.#recountLater.soon();
  }

  noNetwork(): void {
    this.#input({ type: 'no-network', at: Date.now() });
  }

  /** Once a second. */
  tick(): void {
    this.#input({ type: 'tick', at: Date.now() });
    if (this.#feeds.areUp) {
      this.comparison.expire(Date.now());
    }
    if (this.link.state === 'live' && Date.now() - this.link.since > CAUGHT_UP_MS) {
      this.#absence.end();
    }
  }

  /** The page goes, or comes back from where pages wait. */
  pause(): void {
    this.#keepLater.now();
    this.#feeds.close();
  }

  resume(): void {
    if (this.me !== null && !this.#ended) {
      this.#absence.begin(this.heardAt ?? Date.now());
      this.#connect();
    }
  }

  /** Nothing of the mailbox stays in this browser. */
  forget(): void {
    this.#ended = true;
    this.#keepLater.stop();
    this.#recountLater.stop();
    clearTimeout(this.#startTimer);
    this.#feeds.close();
    forgetBox();
    this.#generation += 1;
    this.mailbox = new Mailbox();
    this.counts.clear();
    this.me = null;
    this.email = '';
    this.position = null;
    this.keptChars = null;
  }

  /** The next part of the list. */
  async more(): Promise<void> {
    const { view } = this;
    const end = this.mailbox.end(view);
    if (this.loading || this.#buffer !== null || end?.next === null) {
      return;
    }
    this.loading = true;
    this.watcher.changed();
    const generation = this.#generation;
    try {
      const page = await askPage(view, PART, end?.next);
      if (generation === this.#generation) {
        this.mailbox.load(view, page.messages, page.next);
        this.#counted(view, page);
        this.loadFailed = false;
      }
    } catch (failure) {
      this.loadFailed = true;
      this.#failed(failure);
    }
    this.loading = false;
    this.#keepLater.soon();
    this.watcher.changed();
    if (view !== this.view && this.mailbox.end(this.view) === undefined) {
      // Somebody was quicker.
      void this.more();
    }
  }

  #restore(snapshot: snapshots.Snapshot): void {
    this.mailbox.restore(INBOX, snapshot.messages, snapshot.parts);
    this.counts.set(INBOX, snapshot);
    this.labels = snapshot.labels;
    this.email = snapshot.email;
    this.position = snapshot.position;
    this.heardAt = snapshot.at;
    this.#before = { messages: this.mailbox.list(INBOX), since: snapshot.at };
    this.watcher.changed();
  }

  async #begin(): Promise<void> {
    clearTimeout(this.#startTimer);
    const generation = this.#generation;
    try {
      const me = await askMe();
      if (generation !== this.#generation) {
        return;
      }
      this.#known(me);
      if (this.position !== null && Date.now() - (this.heardAt ?? 0) < snapshots.RESUME_MS_MAX) {
        this.#absence.begin(this.heardAt ?? Date.now());
        this.#before = null;
      } else {
        await this.#reload();
      }
      this.#backoff.reset();
      this.#connect();
      this.show(this.view);
    } catch (failure) {
      if (failure instanceof RequestFailed && failure.code === 'absent') {
        this.watcher.switchedOff();
      } else if (!this.#failed(failure)) {
        const pause = this.#backoff.next();
        this.#input({ type: 'waiting', at: Date.now(), nextAt: Date.now() + pause });
        clearTimeout(this.#startTimer);
        this.#startTimer = window.setTimeout(() => void this.#begin(), pause);
      }
    }
  }

  /** The server says who it is. What is kept of somebody else goes. */
  #known(me: Me): void {
    const kept = snapshots.read(keptBox());
    if (kept !== null && kept.user !== me.user) {
      this.forget();
      this.#before = null;
    }
    this.#ended = false;
    this.me = me;
    this.email = me.email;
    this.watcher.changed();
  }

  #connect(): void {
    this.#feeds.open(this.transport, () => this.position);
  }

  #listener(side: Side): FeedListener {
    return {
      ready: (epoch, seq) => this.#ready(side, epoch, seq),
      arrival: (arrival) => this.#arrived(side, arrival),
      alive: () => (this.heardAt = Date.now()),
      gap: () => void this.#gap(),
      lost: () => this.#lost({ type: 'lost', at: Date.now() }),
      waiting: (nextAt) => this.#lost({ type: 'waiting', at: Date.now(), nextAt }),
      refused: (why) => this.#refused(why),
      notice: (code, message) => console.info(`the server says ${code}: ${message}`),
    };
  }

  #ready(side: Side, epoch: string, seq: number): void {
    this.heardAt = Date.now();
    this.comparison.begin(side, epoch, seq, Date.now());
    if (this.position === null || this.position.epoch !== epoch) {
      this.position = { epoch, which: this.position?.which ?? '', seq };
    }
    if (this.link.state !== 'live') {
      this.#input({ type: 'ready', at: Date.now() });
    }
    this.#recountLater.now();
    void this.#askAgain();
    if (this.loadFailed) {
      void this.more();
    }
  }

  /** A mailbox that was not live when it was asked for may have become so before the stream began, which then says nothing of it. */
  async #askAgain(): Promise<void> {
    const [generation, syncs] = [this.#generation, this.#syncs];
    if (this.me === null || this.me.state === 'live') {
      return;
    }
    try {
      const me = await askMe();
      if (generation === this.#generation && syncs === this.#syncs) {
        this.me = me;
        this.watcher.changed();
      }
    } catch (failure) {
      this.#failed(failure);
    }
  }

  #lost(input: LinkInput): void {
    this.#absence.begin(this.heardAt ?? Date.now());
    this.#input(input);
  }

  #refused(why: 'signed-out' | 'too-many'): void {
    if (why === 'too-many') {
      this.#keepLater.now();
      this.#feeds.close();
      this.#absence.begin(Date.now());
      this.#input({ type: 'too-many' });
      return;
    }
    this.#signOut();
  }

  #signOut(): void {
    this.forget();
    this.#input({ type: 'signed-out' });
    this.watcher.signedOut();
  }

  /** Whether it is a failure after which nothing is tried by itself. */
  #failed(failure: unknown): boolean {
    if (failure instanceof RequestFailed && failure.code === 'unauthorized') {
      this.#signOut();
      return true;
    }
    return false;
  }

  #arrived(side: Side, { epoch, seq, data }: Arrival): void {
    if (this.transport === 'both') {
      this.comparison.bring(side, epoch, seq, contentOf(data), Date.now());
    }
    if (isBehind(this.position, epoch, seq)) {
      // The other side was quicker.
      this.watcher.changed();
      return;
    }
    this.position = { epoch, which: this.position?.which ?? '', seq };
    const envelope = parseEnvelope(data);
    if (envelope === null) {
      return;
    }
    this.#buffer?.push(envelope);
    const applied = this.#fold(envelope);
    this.recent.note(side, seq, envelope);
    const isMissed = this.#absence.takes(seq, applied, envelope.event);
    if (!isMissed && applied !== null && applied.kind !== 'old') {
      this.watcher.happened(applied, envelope.event);
    }
    this.#keepLater.soon();
    this.watcher.changed();
  }

  #fold({ event, timestamp }: Envelope): Applied | null {
    if (event.type === 'sync_complete' && this.me !== null) {
      this.#syncs += 1;
      this.me = { ...this.me, state: 'live', lastSync: timestamp, historyId: event.historyId };
    } else if (event.type === 'error' && event.code === 'reconnect' && this.me !== null) {
      this.me = { ...this.me, state: 'reconnect' };
    }
    const applied = this.mailbox.apply(event);
    if (applied !== null) {
      this.counts.adjust(applied);
      this.#recountLater.soon();
    }
    return applied;
  }

  // === What was missed ===

  /** The stream cannot be resumed: everything is asked for again. */
  async #gap(): Promise<void> {
    this.position = null;
    if (this.#buffer !== null) {
      return;
    }
    this.#before = { messages: this.mailbox.list(INBOX), since: this.#absence.since ?? Date.now() };
    this.#absence.forget();
    try {
      await this.#reload();
    } catch (failure) {
      if (!this.#failed(failure)) {
        // What came over the stream since then is worth nothing without what was before.
        this.#feeds.close();
        this.position = null;
        this.#input({ type: 'lost', at: Date.now() });
        const pause = this.#backoff.next();
        this.#startTimer = window.setTimeout(() => void this.#begin(), pause);
      }
    }
  }

  /** Replaces all that is known by what the server says, and by what has come since it was asked. */
  async #reload(): Promise<void> {
    this.#buffer = [];
    const { view } = this;
    try {
      const inbox = await askPage(INBOX, PART);
      const other = view === INBOX ? null : await askPage(view, PART);
      const mailbox = new Mailbox();
      mailbox.load(INBOX, inbox.messages, inbox.next);
      if (other !== null) {
        mailbox.load(view, other.messages, other.next);
      }
      this.mailbox = mailbox;
      this.#generation += 1;
      // Of a stream that is open already this is where it stands, or before.
      this.position ??= parseId(inbox.eventId);
      if (this.position?.which === '') {
        this.position.which = parseId(inbox.eventId)?.which ?? '';
      }
      this.#counted(INBOX, inbox);
      if (other !== null) {
        this.#counted(view, other);
      }
      this.#buffer.forEach((envelope) => this.#fold(envelope));
    } finally {
      this.#buffer = null;
    }
    if (this.#before !== null) {
      const { messages, since } = this.#before;
      this.#before = null;
      this.watcher.missed(missedBetween(messages, this.mailbox.list(INBOX)), since);
    }
    this.#keepLater.soon();
    this.watcher.changed();
  }

  // === Counts ===

  /** Lets the server count; what it answers also says how far the channel has come. */
  async #recount(): Promise<void> {
    if (this.link.state !== 'live') {
      return;
    }
    const generation = this.#generation;
    try {
      const views = [...new Set([INBOX, this.view])];
      const pages = await Promise.all(views.map((view) => askPage(view, 1)));
      if (generation !== this.#generation || this.#buffer !== null) {
        return;
      }
      pages.forEach((page, index) => this.#counted(views[index] ?? INBOX, page));
      const head = parseId(pages[0]?.eventId ?? '');
      if (head !== null && this.position !== null) {
        this.#absence.learnHead(head.seq, this.position.seq);
      }
      this.watcher.changed();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  /** A count is right if it is not older than what has come since; otherwise it is asked for once more. */
  #counted(view: View, page: Page): void {
    if (page.labels !== null) {
      this.labels = page.labels;
    }
    const counted = parseId(page.eventId);
    const old = counted !== null && isBehind(this.position, counted.epoch, counted.seq + 1);
    if (old && this.counts.get(view) !== undefined) {
      this.#recountLater.soon();
    } else {
      this.counts.set(view, page);
    }
  }

  // === What the browser keeps ===

  #keep(): void {
    const { me, position } = this;
    if (this.#ended || me === null || position === null || position.which === '' || this.#buffer !== null) {
      return;
    }
    const { unread = 0, total = 0 } = this.counts.get(INBOX) ?? {};
    const rest = { user: me.user, email: me.email, at: this.heardAt ?? Date.now(), position, unread, total, labels: this.labels };
    const snapshot = snapshots.take(this.mailbox, rest);
    if (snapshot !== null) {
      const text = snapshots.write(snapshot);
      this.keptChars = keepBox(text) ? text.length : null;
    }
  }

  #input(input: LinkInput): void {
    const next = nextLink(this.link, input);
    if (next !== this.link) {
      this.link = next;
      this.watcher.changed();
    }
  }
}
