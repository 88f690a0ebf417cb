/** One pane: a connection, the proof that nothing is missing on it, and the drop. */

import { readHead, type Position } from './api.js';
import type { Arrival, Feed, FeedListener } from './feed.js';
import type { Head } from './head.js';
import { LatencyWindow, now } from './latency.js';
import type { PaneFacts, PaneState, Tone } from './pane-view.js';
import { PaneView } from './pane-view.js';
import { payloadText, sentAt } from './payload.js';
import { Resume } from './resume.js';
import { SequenceTracker, type Taken } from './sequence.js';

/** How long a dropped connection stays away, in milliseconds. */
export const DROP_MS = 5000;
/** How often the countdown moves, in milliseconds. */
const COUNTDOWN_STEP_MS = 100;
/** How long rows wait for the channel's head after a return, in milliseconds. */
const HEAD_PATIENCE_MS = 1000;
/** How many rows wait at most. */
const MAX_HELD = 5000;

/** What a pane is made of. */
export interface PaneParts {
  host: HTMLElement;
  name: string;
  title: string;
  subtitle: string;
  /** Connects a listener to a channel over this pane's wire. */
  open(channel: string, listener: FeedListener): Feed;
  /** The name by which this page knows its own messages. */
  page: string;
  /** Says something to those who cannot see the page. */
  announce(text: string): void;
}

/** A publication that waits until it is known whether it was missed. */
interface Held {
  arrival: Arrival;
  taken: Taken;
}

/** A return from a lost connection, until the next loss. */
interface Return {
  resume: Resume;
  /** The position the connection came back with. */
  from: number;
  /** The channel's head at the return: there the catching up ends. */
  target: number;
  recovered: number;
  /** What had gone wrong before this return. */
  before: { late: number; expired: number };
  held: Held[] | null;
  done: boolean;
}

/** Shows one channel at a time; `show` starts anew with another. */
export class Pane implements FeedListener {
  readonly #parts: PaneParts;
  readonly #view: PaneView;
  #channel = '';
  #head: Head | null = null;
  #feed: Feed | null = null;
  #tracker = new SequenceTracker();
  #latencies = new LatencyWindow();
  #epoch: string | null = null;
  #state: PaneState = 'connecting';
  #return: Return | null = null;
  #banner = '';
  #tone: Tone = 'quiet';
  #dropEnds = 0;
  #dropTimer: number | undefined;
  #justRestarted = false;

  constructor(parts: PaneParts) {
    this.#parts = parts;
    const { host, name, title, subtitle } = parts;
    this.#view = new PaneView(host, name, title, subtitle, () => this.#facts());
    this.#view.onButton(() => this.#pressed());
  }

  /** Leaves the channel shown before, if any, and shows this one from now on. */
  show(channel: string, head: Head): void {
    clearInterval(this.#dropTimer);
    this.#feed?.close();
    this.#channel = channel;
    this.#head = head;
    this.#tracker = new SequenceTracker();
    this.#latencies = new LatencyWindow();
    this.#epoch = null;
    this.#return = null;
    this.#state = 'connecting';
    this.#say('', 'quiet');
    this.#view.rows.clear();
    this.#feed = this.#parts.open(channel, this);
    this.#feed.connect();
  }

  /** The head has moved: what is shown of it has to follow. */
  headMoved(): void {
    this.#view.invalidate();
  }

  connecting(): void {
    this.#state = 'connecting';
    if (this.#tracker.position !== null) {
      this.#say('Connection lost. Reconnecting …', 'busy');
    }
    this.#view.invalidate();
  }

  live(start: Position): void {
    this.#state = 'live';
    this.#head?.learn(start);
    const position = this.#tracker.position;
    if (position === null) {
      this.#epoch = start.epoch;
      this.#tracker.startAfter(start.offset);
      this.#say('Connected. Whatever is published now arrives here.', 'quiet');
    } else if (this.#epoch !== start.epoch) {
      this.reset(start);
    } else {
      this.#returned(position);
    }
    this.#view.invalidate();
  }

  publication(arrival: Arrival): void {
    const taken = this.#tracker.take(arrival.seq);
    this.#justRestarted = false;
    this.#head?.learn({ epoch: this.#epoch ?? '', offset: arrival.seq });
    const held = this.#return?.held;
    if (held && held.length < MAX_HELD) {
      held.push({ arrival, taken });
    } else {
      this.#release();
      this.#show(arrival, taken);
    }
    this.#progress();
    this.#view.invalidate();
  }

  truncated(oldest: number): void {
    const lost = this.#tracker.expireBefore(oldest);
    if (lost > 0) {
      const text = `${lost} older messages are no longer kept; the channel goes on at ${oldest}`;
      this.#view.rows.note(text, 'bad');
      this.#announce(text);
    }
    this.#view.invalidate();
  }

  reset(start: Position): void {
    this.#release();
    this.#epoch = start.epoch;
    this.#return = null;
    this.#tracker.startAfter(start.offset);
    // The stream's start and its own word for it may both tell: one line is enough.
    if (!this.#justRestarted) {
      this.#justRestarted = true;
      const text = `The log is another one; the channel starts anew after ${start.offset}`;
      this.#view.rows.note(text, 'bad');
      this.#say('The log was replaced. Reading on from its new start.', 'bad');
      this.#announce(text);
    }
    this.#view.invalidate();
  }

  refused(reason: string): void {
    this.#state = 'refused';
    const text = `The server refused the connection: ${reason}. For a first try: fanfare serve --dev`;
    this.#say(text, 'bad');
    this.#announce(text);
    this.#view.invalidate();
  }

  #pressed(): void {
    if (this.#state === 'dropped' || this.#state === 'refused') {
      this.#reconnect();
    } else {
      this.#drop();
    }
  }

  #drop(): void {
    this.#release();
    this.#feed?.drop();
    this.#state = 'dropped';
    this.#dropEnds = now() + DROP_MS;
    this.#view.rows.note(`Connection dropped after ${this.#tracker.position ?? 0}`, 'quiet');
    this.#announce('connection dropped');
    this.#dropTimer = window.setInterval(() => {
      if (now() >= this.#dropEnds) {
        this.#reconnect();
      }
      this.#view.invalidate();
    }, COUNTDOWN_STEP_MS);
    this.#view.invalidate();
  }

  #reconnect(): void {
    clearInterval(this.#dropTimer);
    this.connecting();
    this.#feed?.connect();
  }

  /** Back behind a known position: what the channel has beyond it must come now. */
  #returned(position: number): void {
    this.#release();
    const target = Math.max(position, this.#head?.in(this.#epoch) ?? 0);
    const resume = new Resume(now(), target);
    const { late, expired } = this.#tracker;
    const back: Return = {
      resume,
      from: position,
      target,
      recovered: 0,
      before: { late, expired },
      held: [],
      done: false,
    };
    this.#return = back;
    this.#view.rows.note(`Back: asked for everything after ${position}`, 'quiet');
    const proceed = (): void => {
      if (this.#return === back) {
        this.#release();
        this.#progress();
        this.#view.invalidate();
      }
    };
    const learn = (head: Position): void => {
      if (this.#return === back && head.epoch === this.#epoch) {
        resume.learnHead(head.offset);
        back.target = Math.max(back.target, head.offset);
        this.#head?.learn(head);
      }
    };
    // A server that wants a key does not tell its head; then the page goes by what it has seen.
    readHead(this.#channel)
      .then(learn, () => undefined)
      .finally(proceed);
    setTimeout(proceed, HEAD_PATIENCE_MS);
  }

  /** Shows what waited for the channel's head. */
  #release(): void {
    const held = this.#return?.held;
    if (this.#return && held) {
      this.#return.held = null;
      for (const { arrival, taken } of held) {
        this.#show(arrival, taken);
      }
    }
  }

  #show({ seq, data, arrivedAt }: Arrival, taken: Taken): void {
    const sent = sentAt(data, this.#parts.page);
    const via = this.#return?.resume.via(seq, sent) ?? 'live';
    const latency = sent === null ? null : arrivedAt - sent;
    if (via === 'live' && latency !== null) {
      this.#latencies.add(latency);
    }
    if (this.#return && via === 'recovered' && taken.kind !== 'repeat') {
      this.#return.recovered += 1;
    }
    if (taken.kind === 'gap') {
      const { from, to } = taken;
      this.#view.rows.note(
        from === to ? `${from} is missing` : `${from} to ${to} are missing`,
        'bad',
      );
    }
    const problem =
      taken.kind === 'repeat' ? 'repeated' : taken.kind === 'late' ? 'out of order' : null;
    this.#view.rows.add({ seq, text: payloadText(data), via, latency, problem });
  }

  /** How far the catching up has come; says so once it is complete. */
  #progress(): void {
    const back = this.#return;
    const position = this.#tracker.position;
    if (back === null || back.done || position === null || this.#state === 'dropped') {
      return;
    }
    if (back.held !== null || position < back.target) {
      this.#state = 'catching up';
      const total = back.target - back.from;
      this.#say(total > 0 ? `Catching up: ${position - back.from} of ${total}` : 'Back.', 'busy');
      return;
    }
    back.done = true;
    this.#state = 'live';
    const { missing } = this.#tracker;
    const late = this.#tracker.late - back.before.late;
    const expired = this.#tracker.expired - back.before.expired;
    const whole = missing === 0 && late === 0 && expired === 0;
    const text = returnText(back.recovered, missing, late, expired);
    this.#say(text, whole ? 'good' : 'bad');
    this.#view.rows.note(`Caught up at ${position}`, whole ? 'good' : 'bad');
    this.#announce(text);
  }

  #say(text: string, tone: Tone): void {
    this.#banner = text;
    this.#tone = tone;
  }

  #announce(text: string): void {
    this.#parts.announce(`${this.#parts.title}: ${text}`);
  }

  #facts(): PaneFacts {
    const dropped = this.#state === 'dropped';
    const left = Math.max(0, this.#dropEnds - now());
    const { position, received, missing, repeated, late, expired } = this.#tracker;
    return {
      state: this.#state,
      epoch: this.#epoch,
      seq: position,
      head: this.#head?.in(this.#epoch) ?? 0,
      received,
      missing,
      repeated,
      late,
      expired,
      median: this.#latencies.median(),
      banner: dropped
        ? `Dropped. Back in ${Math.ceil(left / 1000)} s. Keep publishing.`
        : this.#banner,
      tone: dropped ? 'busy' : this.#tone,
      button: dropped
        ? 'Reconnect now'
        : this.#state === 'refused'
          ? 'Try again'
          : 'Drop my connection',
      countdown: dropped ? left / DROP_MS : null,
    };
  }
}

function returnText(recovered: number, missing: number, late: number, expired: number): string {
  const came =
    recovered === 0
      ? expired > 0
        ? 'None of the missed messages could come.'
        : 'Nothing was published meanwhile.'
      : recovered === 1
        ? 'The message missed has arrived.'
        : `${recovered} missed messages have arrived${late === 0 ? ', in order' : ''}.`;
  const lost = [
    missing > 0 ? `${missing} missing` : '',
    late > 0 ? `${late} out of order` : '',
    expired > 0 ? `${expired} no longer kept` : '',
  ].filter((part) => part !== '');
  return `${came} ${lost.length === 0 ? 'Nothing is missing.' : `${lost.join(', ')}.`}`;
}
