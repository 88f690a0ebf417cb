/** The video's frame: the controls, the curtain over the picture, sound, and what is said about the connection. */

import { find, setText } from '../../dom.js';
import type { PlayerFacts } from '../player.js';
import { clockText, driftGrade, driftText } from '../text.js';

/** The needle of the drift meter is at its end at this difference. */
const METER_MS = 300;
/** A picture that waits less than this shows no curtain. */
const CURTAIN_AFTER_MS = 350;
/** The drift that is shown moves by this share of the new one. */
const CALM = 0.35;

export interface StageActions {
  toggle(): void;
  /** Seeks to a place, in milliseconds. */
  seek(mediaTime: number): void;
  rate(rate: number): void;
  unsilence(): void;
  /** The button of the curtain. */
  curtain(): void;
}

/** What covers the picture. */
export interface Curtain {
  kind: 'wait' | 'problem' | 'invite';
  title: string;
  text?: string;
  action?: string;
}

/** How everybody else stands on the line of the media: 0 to 1. */
export interface Other {
  oderId: string;
  name: string;
  colour: number;
  share: number;
}

export class StageView {
  readonly video = find(document, '#video', HTMLVideoElement);
  readonly #actions: StageActions;
  readonly #stage = find(document, '#stage', HTMLElement);
  readonly #controls = find(document, '#controls', HTMLElement);
  readonly #play = find(document, '#play', HTMLButtonElement);
  readonly #playIcon = find(document, '#play-icon', SVGUseElement);
  readonly #back = find(document, '#back', HTMLButtonElement);
  readonly #forward = find(document, '#forward', HTMLButtonElement);
  readonly #seek = find(document, '#seek', HTMLInputElement);
  readonly #played = find(document, '#seek-played', HTMLElement);
  readonly #buffered = find(document, '#seek-buffered', HTMLElement);
  readonly #others = find(document, '#seek-others', HTMLElement);
  readonly #now = find(document, '#time-now', HTMLElement);
  readonly #all = find(document, '#time-all', HTMLElement);
  readonly #drift = find(document, '#drift', HTMLElement);
  readonly #driftText = find(document, '#drift-text', HTMLElement);
  readonly #needle = find(document, '#drift-needle', HTMLElement);
  readonly #rate = find(document, '#rate', HTMLSelectElement);
  readonly #sound = find(document, '#sound', HTMLButtonElement);
  readonly #soundIcon = find(document, '#sound-icon', SVGUseElement);
  readonly #volume = find(document, '#volume', HTMLInputElement);
  readonly #soundCall = find(document, '#sound-call', HTMLButtonElement);
  readonly #full = find(document, '#full', HTMLButtonElement);
  readonly #note = find(document, '#control-note', HTMLElement);
  readonly #curtain = find(document, '#curtain', HTMLElement);
  readonly #curtainSpinner = find(document, '#curtain-spinner', HTMLElement);
  readonly #curtainTitle = find(document, '#curtain-title', HTMLElement);
  readonly #curtainText = find(document, '#curtain-text', HTMLElement);
  readonly #curtainAction = find(document, '#curtain-action', HTMLButtonElement);
  readonly #banner = find(document, '#link-banner', HTMLElement);
  #seeking = false;
  #duration = Infinity;
  #step = { from: -Infinity, to: 0 };
  #stepTimer: ReturnType<typeof setTimeout> | undefined;
  #curtainSince: number | null = null;
  #calm: number | null = null;

  constructor(actions: StageActions) {
    this.#actions = actions;
    this.#play.addEventListener('click', () => actions.toggle());
    this.#back.addEventListener('click', () => this.step(-10_000));
    this.#forward.addEventListener('click', () => this.step(10_000));
    this.#seek.addEventListener('input', () => {
      this.#seeking = true;
      this.#showPlace(this.#placeOfInput());
    });
    this.#seek.addEventListener('change', () => {
      this.#seeking = false;
      actions.seek(this.#placeOfInput());
    });
    this.#rate.addEventListener('change', () => actions.rate(Number(this.#rate.value)));
    this.#sound.addEventListener('click', () => this.toggleSound());
    this.#soundCall.addEventListener('click', () => actions.unsilence());
    this.#volume.addEventListener('input', () => this.#setVolume(Number(this.#volume.value)));
    this.#full.addEventListener('click', () => this.toggleFull());
    this.#curtainAction.addEventListener('click', () => actions.curtain());
    this.#full.hidden = !document.fullscreenEnabled;
    find(document, '#screen', HTMLElement).addEventListener('click', (event) => {
      if (event.target === this.video && !this.#play.disabled) {
        actions.toggle();
      }
    });
  }

  /** Moves the room by so many milliseconds; several steps in a row become one. */
  step(by: number): void {
    if (this.#seek.disabled) {
      return;
    }
    const now = performance.now();
    const from = now - this.#step.from < 400 ? this.#step.to : this.video.currentTime * 1_000;
    const to = Math.max(0, Math.min(this.#duration, from + by));
    this.#step = { from: now, to };
    this.#showPlace(to);
    clearTimeout(this.#stepTimer);
    this.#stepTimer = setTimeout(() => this.#actions.seek(to), 180);
  }

  toggleSound(): void {
    if (this.video.muted) {
      this.#actions.unsilence();
    } else {
      this.video.muted = true;
    }
  }

  changeVolume(by: number): void {
    this.#volume.value = String(Math.max(0, Math.min(100, Number(this.#volume.value) + by)));
    this.#setVolume(Number(this.#volume.value));
  }

  toggleFull(): void {
    if (document.fullscreenElement === null) {
      void this.#stage.requestFullscreen().catch(() => undefined);
    } else {
      void document.exitFullscreen();
    }
  }

  /** Lets the person control playback, or says why not. */
  allow(allowed: boolean, note: string): void {
    for (const control of [this.#play, this.#back, this.#forward, this.#seek, this.#rate]) {
      control.disabled = !allowed;
    }
    this.#controls.dataset['allowed'] = String(allowed);
    setText(this.#note, note);
  }

  show(facts: PlayerFacts): void {
    this.#duration = facts.duration;
    const playing = facts.playing && facts.trouble !== 'over';
    this.#playIcon.setAttribute('href', playing ? '#i-pause' : '#i-play');
    this.#play.setAttribute('aria-label', playing ? 'Pause for everybody' : 'Play for everybody');
    const stepping = performance.now() - this.#step.from < 600;
    if (!this.#seeking && !stepping) {
      this.#showPlace(facts.mediaTime);
    }
    setText(this.#all, ` / ${clockText(facts.duration)}`);
    this.#showBuffered();
    this.#showRate(facts.rate);
    this.#showSound(facts.silenced);
    this.#showDrift(facts);
  }

  /** Covers the picture, or uncovers it; what is short is not covered at all. */
  cover(curtain: Curtain | null): void {
    if (curtain === null) {
      this.#curtainSince = null;
      this.#curtain.dataset['shown'] = 'false';
      return;
    }
    const now = performance.now();
    this.#curtainSince ??= now;
    const shown = curtain.kind !== 'wait' || now - this.#curtainSince > CURTAIN_AFTER_MS;
    this.#curtain.dataset['shown'] = String(shown);
    if (!shown) {
      return;
    }
    this.#curtain.dataset['kind'] = curtain.kind;
    this.#curtainSpinner.hidden = curtain.kind !== 'wait';
    setText(this.#curtainTitle, curtain.title);
    setText(this.#curtainText, curtain.text ?? '');
    setText(this.#curtainAction, curtain.action ?? '');
    this.#curtainAction.hidden = curtain.action === undefined;
  }

  /** Says what is wrong with the connection, over the picture; nothing takes it away. */
  banner(text: string, tone: 'bad' | 'busy' | 'good' = 'busy'): void {
    this.#banner.hidden = text === '';
    this.#banner.dataset['tone'] = tone;
    setText(this.#banner, text);
  }

  showOthers(others: Other[]): void {
    const known = new Map<string, HTMLElement>();
    for (const mark of this.#others.querySelectorAll<HTMLElement>('[data-of]')) {
      known.set(mark.dataset['of'] ?? '', mark);
    }
    for (const other of others) {
      let mark = known.get(other.oderId);
      if (mark === undefined) {
        mark = document.createElement('span');
        mark.className = 'seek-other';
        mark.dataset['of'] = other.oderId;
        this.#others.append(mark);
      }
      known.delete(other.oderId);
      mark.dataset['colour'] = String(other.colour);
      mark.title = other.name;
      mark.style.insetInlineStart = `${(other.share * 100).toFixed(2)}%`;
    }
    known.forEach((mark) => mark.remove());
  }

  #placeOfInput(): number {
    return (Number(this.#seek.value) / 1_000) * (Number.isFinite(this.#duration) ? this.#duration : 0);
  }

  #showPlace(mediaTime: number): void {
    const share = Number.isFinite(this.#duration) ? Math.min(1, mediaTime / this.#duration) : 0;
    setText(this.#now, clockText(mediaTime));
    this.#played.style.transform = `scaleX(${share.toFixed(4)})`;
    if (!this.#seeking) {
      this.#seek.value = String(Math.round(share * 1_000));
    }
    this.#seek.setAttribute('aria-valuetext', `${clockText(mediaTime)} of ${clockText(this.#duration)}`);
  }

  #showBuffered(): void {
    const { buffered, currentTime } = this.video;
    let end = 0;
    for (let index = 0; index < buffered.length; index += 1) {
      if (buffered.start(index) <= currentTime + 0.5) {
        end = buffered.end(index);
      }
    }
    const share = Number.isFinite(this.#duration) ? Math.min(1, (end * 1_000) / this.#duration) : 0;
    this.#buffered.style.transform = `scaleX(${share.toFixed(3)})`;
  }

  #showRate(rate: number): void {
    if (document.activeElement === this.#rate) {
      return;
    }
    const value = String(rate);
    if (![...this.#rate.options].some((option) => option.value === value)) {
      this.#rate.add(new Option(`${rate}×`, value));
    }
    this.#rate.value = value;
  }

  #showSound(silenced: boolean): void {
    const { muted } = this.video;
    this.#soundCall.hidden = !silenced;
    this.#soundIcon.setAttribute('href', muted ? '#i-muted' : '#i-sound');
    this.#sound.setAttribute('aria-label', muted ? 'Sound on, for you' : 'Mute, for you');
  }

  #showDrift({ drift, playing, trouble }: PlayerFacts): void {
    const known = drift !== null && trouble !== 'loading' && trouble !== 'unplayable';
    if (!known) {
      this.#calm = null;
      this.#drift.dataset['grade'] = 'none';
      setText(this.#driftText, trouble === 'buffering' ? 'loading' : '–');
      return;
    }
    const jump = this.#calm === null || Math.abs(drift - this.#calm) > 400;
    this.#calm = jump ? drift : (this.#calm ?? 0) + CALM * (drift - (this.#calm ?? 0));
    const shown = this.#calm ?? 0;
    const grade = driftGrade(shown);
    this.#drift.dataset['grade'] = grade;
    setText(this.#driftText, driftText(shown));
    this.#drift.title = grade === 'good' ? 'You are in sync' : playing ? 'Catching up' : '';
    const share = Math.max(-1, Math.min(1, shown / METER_MS));
    this.#needle.style.transform = `translateX(${(share * 20).toFixed(1)}px)`;
  }

  #setVolume(volume: number): void {
    this.video.volume = volume / 100;
    if (volume > 0 && this.video.muted) {
      this.#actions.unsilence();
    }
  }
}
