/** The door: who is not signed in, and why. */

import { find, setText } from '../../dom.js';
import { LOGIN } from '../api.js';

/** What became of signing in, by the code that the server sends back with. */
const WORDS: Record<string, string> = {
  denied: 'You did not let Fanfare read the mailbox. Nothing was connected.',
  expired: 'Signing in took too long, or was begun in another browser. Please try once more.',
  state: 'That was the answer to another sign-in. Please try once more.',
  scope: 'Google was not asked to let mail be read. Please leave the box for Gmail ticked.',
  granted:
    'Google gave no lasting access, as this account had granted it before. Remove Fanfare at myaccount.google.com/connections, and sign in again.',
  unverified: 'Google does not vouch for the address of this account.',
  failed: 'Google did not accept the sign-in. Whoever runs this server finds the reason in its log.',
  unavailable: 'Google or this server cannot answer just now. Please try again in a moment.',
  too_many_requests: 'Too many sign-ins from here. Please wait a minute.',
};

export class DoorView {
  readonly #error = find(document, '#door-error', HTMLElement);
  readonly #signIn = find(document, '#sign-in', HTMLAnchorElement);
  readonly #retry = find(document, '#door-retry', HTMLButtonElement);
  readonly #title = find(document, '#door-title', HTMLElement);
  readonly #text = find(document, '#door-text', HTMLElement);
  readonly #facts = find(document, '#door-facts', HTMLElement);
  readonly #words = [this.#title.textContent ?? '', this.#text.textContent ?? ''] as const;

  constructor(retry: () => void) {
    this.#retry.addEventListener('click', retry);
  }

  /** `code`: why one is back here; `hint`: the account that was signed in. */
  signIn(code: string, hint: string): void {
    this.#show(...this.#words, true);
    this.#say(code === '' ? '' : (WORDS[code] ?? `Signing in did not work (${code}). Please try once more.`));
    this.#signIn.href = hint === '' ? LOGIN : `${LOGIN}?${new URLSearchParams({ login_hint: hint })}`;
  }

  ended(hint: string): void {
    this.signIn('', hint);
    this.#say('You are signed out. Nothing of your mailbox is left in this browser.');
  }

  /** Nothing is known: no server, and nothing kept. */
  unreachable(): void {
    this.#show('No connection', 'The server cannot be reached, and this browser keeps no list yet. It is tried again by itself.', false);
    this.#say('');
  }

  off(): void {
    this.#show('Live mail is off', 'This server is not set up for it: its settings have no section [mail], and it was not started with --dev.', false);
    this.#say('');
  }

  #show(title: string, text: string, signIn: boolean): void {
    setText(this.#title, title);
    setText(this.#text, text);
    this.#signIn.hidden = !signIn;
    this.#facts.hidden = !signIn;
    this.#retry.hidden = signIn;
  }

  #say(text: string): void {
    this.#error.hidden = text === '';
    setText(this.#error, text);
  }
}
