/** Reactions: the buttons, what floats over the picture, and the heat along the line of the media. */

import { find, make } from '../../dom.js';
import type { Reaction, TimelineBucket } from '../protocol.js';

/** What can be sent, and what it is called. */
export const EMOJI: readonly (readonly [string, string])[] = [
  ['😂', 'laughing'],
  ['😍', 'love it'],
  ['😮', 'wow'],
  ['😢', 'sad'],
  ['😱', 'scary'],
  ['🔥', 'fire'],
  ['👏', 'applause'],
  ['🎉', 'party'],
];

/** How wide a bar of the heat is, in media time: what the server counts by. */
const BUCKET_MS = 5_000;
/** More than so many at once are not floated: nobody could tell them apart. */
const FLOATING_MAX = 40;
const FLOAT_MS = 3_200;

export class ReactionsView {
  readonly #floaters = find(document, '#floaters', HTMLElement);
  readonly #heat = find(document, '#heat', HTMLElement);
  readonly #buttons: HTMLButtonElement[] = [];
  readonly #buckets = new Map<number, number>();
  #duration = Infinity;
  #drawn = '';

  constructor(send: (emoji: string) => void) {
    const host = find(document, '#reactions', HTMLElement);
    for (const [emoji, name] of EMOJI) {
      const button = make('button', 'reaction', emoji);
      button.type = 'button';
      button.setAttribute('aria-label', `React: ${name}`);
      button.addEventListener('click', () => send(emoji));
      host.append(button);
      this.#buttons.push(button);
    }
  }

  set enabled(enabled: boolean) {
    this.#buttons.forEach((button) => (button.disabled = !enabled));
  }

  /** The counts so far, as the server has them. */
  timeline(buckets: TimelineBucket[]): void {
    this.#buckets.clear();
    for (const { mediaTimeMs, reactions } of buckets) {
      const count = Object.values(reactions).reduce((sum, one) => sum + one, 0);
      this.#count(mediaTimeMs, count);
    }
    this.#draw();
  }

  /** One that has just been sent by somebody. */
  add(reaction: Reaction): void {
    this.#count(reaction.mediaTimeMs, 1);
    this.#draw();
    if (this.#floaters.childElementCount >= FLOATING_MAX || document.hidden) {
      return;
    }
    const floater = make('span', 'floater', reaction.emoji);
    floater.append(make('small', 'floater-name', reaction.username));
    const x = reaction.position?.x ?? Math.random();
    floater.style.insetInlineStart = `${(6 + 84 * Math.max(0, Math.min(1, x))).toFixed(1)}%`;
    this.#floaters.append(floater);
    setTimeout(() => floater.remove(), FLOAT_MS);
  }

  duration(duration: number): void {
    if (duration !== this.#duration) {
      this.#duration = duration;
      this.#draw();
    }
  }

  #count(mediaTimeMs: number, count: number): void {
    const bucket = Math.floor(mediaTimeMs / BUCKET_MS);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + count);
  }

  #draw(): void {
    const drawn = `${this.#duration}|${[...this.#buckets].flat().join()}`;
    if (drawn === this.#drawn) {
      return;
    }
    this.#drawn = drawn;
    this.#heat.replaceChildren();
    if (!Number.isFinite(this.#duration) || this.#duration <= 0) {
      return;
    }
    const most = Math.max(...this.#buckets.values(), 3);
    for (const [bucket, count] of this.#buckets) {
      const start = (bucket * BUCKET_MS) / this.#duration;
      if (start < 0 || start >= 1) {
        continue;
      }
      const bar = make('span', 'heat-bar');
      const width = Math.min(1 - start, BUCKET_MS / this.#duration);
      bar.style.insetInlineStart = `${(start * 100).toFixed(3)}%`;
      bar.style.inlineSize = `${(width * 100).toFixed(3)}%`;
      bar.style.blockSize = `${Math.round(20 + (80 * count) / most)}%`;
      this.#heat.append(bar);
    }
  }
}
