/** What a screen reader says by itself: what came, in one sentence, and never a sentence for each of many. */

import { find } from '../../dom.js';
import { plural } from '../../mail/model/text.js';

const GATHER_MS = 1_200;

export class Announcer {
  readonly #place = find(document, '#announcer', HTMLElement);
  #said: string[] = [];
  #timer: number | undefined;

  say(text: string): void {
    this.#said.push(text);
    this.#timer ??= window.setTimeout(() => this.#speak(), GATHER_MS);
  }

  #speak(): void {
    this.#timer = undefined;
    this.#place.textContent = this.#said.length === 1 ? (this.#said[0] ?? '') : plural(this.#said.length, 'new message');
    this.#said = [];
  }
}
