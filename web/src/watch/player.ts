/** Drives the media element: what the room plays is carried out at its instant, and held against drift. */

import { isOver, positionAt, type Playback } from './sync/anchor.js';
import type { ServerClock } from './sync/clock.js';
import { DriftController, SNAP_BEYOND_MS } from './sync/drift.js';
import type { Schedule } from './sync/schedule.js';

/** How often the position is compared with the room's. */
const LOOK_EVERY_MS = 250;
/** A paused picture that is further off is put right. */
const PAUSED_TOLERANCE_MS = 15;
/** It is tried again after this, when the last try has not brought it there. */
const HOLD_AGAIN_MS = 1_000;
/** A browser that has not enough data to go on: `HAVE_FUTURE_DATA` is enough. */
const HAS_ENOUGH = HTMLMediaElement.HAVE_FUTURE_DATA;
/** Instants that are nearer than this need no timer. */
const NOW_MS = 2;
/** A timer may be late: the last part of the way to an instant is waited for in steps of this. */
const FINE_MS = 8;
/** What an element says about its place right after a jump or a start is not to be relied on. */
const SETTLING_MS = 150;
/** How much of a new observation goes into what starting takes; the most that is believed. */
const START_GAIN = 0.5;
const START_MAX_MS = 250;

export type Trouble = 'none' | 'loading' | 'buffering' | 'unplayable' | 'over';

/** What is to be shown about the player. */
export interface PlayerFacts {
  playing: boolean;
  /** Where the element stands, in milliseconds. */
  mediaTime: number;
  /** Where it should stand; null while nothing is known. */
  expected: number | null;
  /** How far it is ahead of the room, in milliseconds; null while it cannot be said. */
  drift: number | null;
  duration: number;
  trouble: Trouble;
  rate: number;
  /** Whether the browser has refused to play with sound. */
  silenced: boolean;
}

export class Player {
  readonly video: HTMLVideoElement;
  readonly #clock: ServerClock;
  readonly #schedule: Schedule;
  readonly #changed: () => void;
  readonly #drift = new DriftController();
  #instant: ReturnType<typeof setTimeout> | undefined;
  #look: ReturnType<typeof setInterval> | undefined;
  #failed = false;
  #silenced = false;
  #starting = false;
  /** What it takes from `play()` until the picture moves, learned. */
  #startTakes = 0;
  #startedAt: number | null = null;
  #settlesAt = -Infinity;
  #waiting: ReturnType<typeof setTimeout> | undefined;
  #lastDrift: number | null = null;
  /** The place that a still picture was last sought to, and when. */
  #held: { place: number; at: number } | null = null;

  /** `changed` is called when there is something new to show. */
  constructor(
    video: HTMLVideoElement,
    clock: ServerClock,
    schedule: Schedule,
    changed: () => void,
  ) {
    this.video = video;
    this.#clock = clock;
    this.#schedule = schedule;
    this.#changed = changed;
    video.preservesPitch = true;
    for (const event of ['seeked', 'playing']) {
      video.addEventListener(event, () => this.#settle());
    }
    for (const event of ['loadedmetadata', 'canplay', 'seeked', 'ended', 'playing']) {
      video.addEventListener(event, () => this.look());
    }
    for (const event of ['waiting', 'stalled', 'seeking', 'pause', 'durationchange', 'volumechange']) {
      video.addEventListener(event, () => this.#changed());
    }
    video.addEventListener('error', () => {
      this.#failed = video.error !== null;
      this.#changed();
    });
  }

  start(): void {
    this.stop();
    this.#look = setInterval(() => this.look(), LOOK_EVERY_MS);
    this.look();
  }

  stop(): void {
    clearInterval(this.#look);
    clearTimeout(this.#instant);
    this.#waitNoMore();
    this.video.pause();
  }

  /** Another source begins: what was wrong with the last one is over. */
  sourceChanged(): void {
    this.#failed = false;
    this.#held = null;
    this.#lastDrift = null;
    this.#drift.expectJump(performance.now());
  }

  /** The source cannot be played, as whoever feeds the element has found out. */
  fail(): void {
    this.#failed = true;
    this.#changed();
  }

  /** The schedule or the clock has news: carry out what is due now, and wait for what is due later. */
  reschedule(jump = false): void {
    if (jump) {
      this.#drift.expectJump(performance.now());
    }
    clearTimeout(this.#instant);
    const next = this.#schedule.nextAt;
    if (next !== null) {
      const early = this.#willStart() ? this.#startTakes : 0;
      const wait = this.#clock.toLocal(next) - early - performance.now();
      if (wait <= NOW_MS) {
        this.#execute(next);
        return;
      }
      const coarse = wait > 3 * FINE_MS ? wait - 2 * FINE_MS : Math.min(wait, FINE_MS);
      this.#instant = setTimeout(() => this.reschedule(), coarse);
    }
    this.look();
  }

  /** Compares, and corrects. */
  look(): void {
    const { playback, changed } = this.#schedule.at(this.#clock.now());
    if (changed) {
      this.#held = null;
      this.#waitNoMore();
      this.#drift.expectJump(performance.now());
    }
    if (playback !== null && this.#clock.synced && !this.#failed && this.#hasPicture()) {
      if (playback.playing && !isOver(playback, this.#clock.now(), this.#duration())) {
        this.#follow(playback);
      } else {
        this.#hold(playback);
      }
    }
    this.#changed();
  }

  /** The sound is wanted: a gesture of the person allows it. */
  unsilence(): void {
    this.#silenced = false;
    this.video.muted = false;
    this.look();
  }

  facts(): PlayerFacts {
    const now = this.#clock.now();
    const { playback } = this.#schedule.at(now);
    const known = playback !== null && this.#clock.synced;
    const duration = this.#duration();
    const expected = known ? positionAt(playback, now, duration) : null;
    const mediaTime = this.video.currentTime * 1_000;
    const settled = !this.video.seeking && this.video.readyState >= 2;
    if (settled && expected !== null) {
      this.#lastDrift = mediaTime - expected;
    }
    return {
      playing: playback?.playing ?? false,
      mediaTime,
      expected,
      drift: settled ? this.#lastDrift : null,
      duration,
      trouble: this.#trouble(playback, now),
      rate: playback?.rate ?? 1,
      silenced: this.#silenced,
    };
  }

  #trouble(playback: Playback | null, now: number): Trouble {
    if (this.#failed) {
      return 'unplayable';
    }
    if (!this.#hasPicture()) {
      return 'loading';
    }
    if (playback !== null && isOver(playback, now, this.#duration())) {
      return 'over';
    }
    const dry = this.video.readyState < HAS_ENOUGH && !this.video.ended;
    return playback?.playing && dry ? 'buffering' : 'none';
  }

  /** What was due has come: from here on the look does the rest. */
  #execute(at: number): void {
    // A start is made early by what it takes; the schedule is asked as of the instant itself.
    this.#schedule.at(Math.max(at, this.#clock.now()));
    this.#held = null;
    this.#waitNoMore();
    this.#drift.expectJump(performance.now());
    this.reschedule();
  }

  #willStart(): boolean {
    return this.video.paused && (this.#schedule.newest?.playing ?? false);
  }

  #follow(playback: Playback): void {
    const { video } = this;
    if (this.#waiting !== undefined) {
      return;
    }
    if (video.paused && !this.#starting) {
      this.#begin(playback);
      return;
    }
    if (video.seeking || video.paused || video.readyState < HAS_ENOUGH) {
      return;
    }
    const now = performance.now();
    if (now < this.#settlesAt) {
      return;
    }
    const expected = positionAt(playback, this.#clock.now(), this.#duration());
    const actual = video.currentTime * 1_000;
    this.#learnStart(actual - expected, now);
    const correction = this.#drift.next({ now, expected, actual, rate: playback.rate });
    if (correction.kind === 'seek') {
      setRate(video, playback.rate);
      video.currentTime = Math.min(correction.to, this.#duration()) / 1_000;
    } else if (correction.kind === 'wait') {
      this.#wait(correction.for, playback.rate);
    } else {
      setRate(video, correction.rate);
    }
  }

  /** Stands still until the room has come to where this element is. */
  #wait(duration: number, rate: number): void {
    const { video } = this;
    setRate(video, rate);
    video.pause();
    const finished = (): void => {
      this.#waiting = undefined;
      this.look();
    };
    this.#waiting = setTimeout(finished, Math.max(0, duration - this.#startTakes));
  }

  #waitNoMore(): void {
    clearTimeout(this.#waiting);
    this.#waiting = undefined;
  }

  #settle(): void {
    this.#settlesAt = performance.now() + SETTLING_MS;
    setTimeout(() => this.look(), SETTLING_MS + 1);
  }

  /** Starts the element, from the right place. */
  #begin(playback: Playback): void {
    const { video } = this;
    const expected = positionAt(playback, this.#clock.now(), this.#duration());
    const near = Math.abs(video.currentTime * 1_000 - expected) <= SNAP_BEYOND_MS;
    if (near && video.ended) {
      // A little before the room at the end: `play()` would begin from the start.
      return;
    }
    if (!near && !video.seeking) {
      video.currentTime = (expected + this.#drift.lead * playback.rate) / 1_000;
      this.#drift.jumped(performance.now());
    }
    setRate(video, playback.rate);
    this.#starting = true;
    this.#startedAt = near ? performance.now() : null;
    video
      .play()
      .catch((error: unknown) => this.#refused(error))
      .finally(() => {
        this.#starting = false;
        this.#changed();
      });
  }

  /** A browser that wants a gesture before there is sound is given silence. */
  #refused(error: unknown): void {
    const wantsGesture = error instanceof DOMException && error.name === 'NotAllowedError';
    if (wantsGesture && !this.video.muted) {
      this.video.muted = true;
      this.#silenced = true;
      setTimeout(() => this.look(), 0);
    }
  }

  #learnStart(error: number, now: number): void {
    if (this.#startedAt === null || now - this.#startedAt > 1_000) {
      return;
    }
    this.#startedAt = null;
    const takes = this.#startTakes - error * START_GAIN;
    this.#startTakes = Math.max(0, Math.min(START_MAX_MS, takes));
  }

  /** Holds a picture still, the same for everybody. */
  #hold(playback: Playback): void {
    const { video } = this;
    this.#waitNoMore();
    if (!video.paused) {
      video.pause();
    }
    setRate(video, playback.rate);
    const expected = positionAt(playback, this.#clock.now(), this.#duration());
    const off = Math.abs(video.currentTime * 1_000 - expected) > PAUSED_TOLERANCE_MS;
    if (off && !video.seeking && this.#maySeekTo(expected, performance.now())) {
      video.currentTime = expected / 1_000;
    }
  }

  /** A file in which one cannot jump ends elsewhere: the same place is not sought again and again. */
  #maySeekTo(place: number, now: number): boolean {
    const last = this.#held;
    if (last !== null && last.place === place && now - last.at < HOLD_AGAIN_MS) {
      return false;
    }
    this.#held = { place, at: now };
    return true;
  }

  #hasPicture(): boolean {
    return this.video.readyState >= HTMLMediaElement.HAVE_METADATA;
  }

  #duration(): number {
    const { duration } = this.video;
    return Number.isFinite(duration) ? duration * 1_000 : Infinity;
  }
}

function setRate(video: HTMLVideoElement, rate: number): void {
  // Each change has the audio stretched anew: one that nobody can hear is not made.
  if (Math.abs(video.playbackRate - rate) > 0.001) {
    video.playbackRate = rate;
  }
}
