/** The door: signing in, making an account, or coming in as somebody of the demonstration. */

import { find, make, setText } from '../../dom.js';
import { askFixtures, RequestFailed, type Api } from '../api.js';
import { fieldsOf, textOf } from '../model/read.js';
import { reasonOf } from '../model/words.js';
import { fixtureToken } from '../storage.js';
import { avatar } from './icon.js';

/** Where who is signed in at another provider is asked. */
const OIDC = '/chat/oidc/begin';
/** An invitation stands in the address: `/chat/?invite=…`. */
const INVITE = 'invite';

export class DoorView {
  readonly #api: Api;
  readonly #entered: () => void;
  readonly #form = find(document, '#door-form', HTMLFormElement);
  readonly #error = find(document, '#door-error', HTMLElement);
  readonly #go = find(document, '#door-go', HTMLButtonElement);
  readonly #title = find(document, '#door-title', HTMLElement);
  readonly #text = find(document, '#door-text', HTMLElement);
  readonly #switch = find(document, '#door-switch', HTMLButtonElement);
  readonly #password = find(document, '#door-password', HTMLInputElement);
  readonly #words = this.#text.textContent ?? '';
  #invite = new URLSearchParams(location.search).get(INVITE) ?? '';
  /** Why a login by another system came to nothing: `/chat/?error=…`. */
  readonly #lost = /[?&]error=([a-z_]{1,40})(&|$)/.exec(location.search)?.[1] ?? '';
  #making = false;
  #asked = false;
  #canJoin = true;

  constructor(api: Api, entered: () => void) {
    this.#api = api;
    this.#entered = entered;
    this.#switch.addEventListener('click', () => this.#make(!this.#making));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#enter();
    });
    this.#make(this.#invite !== '');
  }

  /** Shows the door. `why`: a code that says why one is here, if it is not the beginning. */
  async show(why = this.#lost): Promise<void> {
    this.#closed(false);
    setText(this.#error, why === '' ? '' : reasonOf(why));
    if (!this.#asked) {
      this.#asked = true;
      await Promise.all([this.#fixtures(), this.#offers()]);
    }
  }

  /** Nothing is known: the server does not answer. */
  unreachable(): void {
    this.#closed(true);
    setText(this.#title, 'No connection');
    setText(this.#text, 'The server cannot be reached. It is tried again by itself.');
  }

  off(): void {
    this.#closed(true);
    setText(this.#title, 'Chat is off');
    setText(this.#text, 'This server is not set up for it: its settings have no section [chat], and it was not started with --dev.');
  }

  #closed(closed: boolean): void {
    this.#form.hidden = closed;
    find(document, '#door-switch-line', HTMLElement).hidden = closed || !this.#canJoin;
    if (closed) {
      find(document, '#door-dev', HTMLElement).hidden = true;
    } else {
      setText(this.#text, this.#words);
      this.#make(this.#making);
    }
  }

  async #fixtures(): Promise<void> {
    const users = await askFixtures();
    find(document, '#door-users', HTMLElement).replaceChildren(
      ...users.map(({ name, token }) => {
        const button = make('button', 'button door-user');
        button.type = 'button';
        button.append(avatar(name, name, 'avatar small'), make('span', '', name));
        button.addEventListener('click', () => {
          fixtureToken.write(token);
          this.#entered();
        });
        return button;
      }),
    );
    find(document, '#door-dev', HTMLElement).hidden = users.length === 0;
  }

  /** What this server lets one in with. */
  async #offers(): Promise<void> {
    let offers;
    try {
      offers = await this.#api.call('chat.door');
    } catch {
      return;
    }
    const oidc = fieldsOf(offers['oidc']);
    const link = find(document, '#door-oidc', HTMLAnchorElement);
    const name = textOf(oidc['name']);
    link.hidden = name === '';
    const path = ownPath(textOf(oidc['url'])) ?? OIDC;
    link.href = this.#invite === '' ? path : `${path}?${INVITE}=${encodeURIComponent(this.#invite)}`;
    setText(link, `Continue with ${name}`);
    this.#form.hidden = offers['password'] === false;
    this.#canJoin = offers['sign_up'] !== false || this.#invite !== '';
    find(document, '#door-switch-line', HTMLElement).hidden = !this.#canJoin || this.#form.hidden;
  }

  #make(making: boolean): void {
    this.#making = making;
    setText(this.#title, making ? (this.#invite === '' ? 'Create an account' : 'Join the workspace') : 'Sign in to chat');
    setText(this.#go, making ? 'Create the account' : 'Sign in');
    setText(find(document, '#door-switch-text', HTMLElement), making ? 'You have one?' : 'New here?');
    setText(this.#switch, making ? 'Sign in' : 'Create an account');
    find(document, '#door-name-field', HTMLElement).hidden = !making;
    find(document, '#door-team-field', HTMLElement).hidden = !making || this.#invite !== '';
    this.#password.autocomplete = making ? 'new-password' : 'current-password';
    setText(this.#error, '');
  }

  async #enter(): Promise<void> {
    const value = (name: string): string => find(document, `#door-${name}`, HTMLInputElement).value.trim();
    const [email, password] = [value('email'), this.#password.value];
    const joins = this.#invite === '' ? { team_name: value('team') || `${value('name') || email}’s workspace` } : { invite: this.#invite };
    const account = { email, password, name: value('name') || (email.split('@')[0] ?? email), ...joins };
    this.#go.disabled = true;
    setText(this.#error, '');
    try {
      await this.#api.call(this.#making ? 'chat.signUp' : 'chat.logIn', this.#making ? account : { email, password });
      this.#password.value = '';
      this.#invite = '';
      history.replaceState(null, '', `${location.pathname}${location.hash}`);
      this.#entered();
    } catch (failure) {
      setText(this.#error, reasonOf(failure instanceof RequestFailed ? failure.code : 'offline'));
    } finally {
      this.#go.disabled = false;
    }
  }
}

/** A path of this server; null for any other address. */
function ownPath(url: string): string | null {
  return /^\/(?![/\\])/.test(url) ? url : null;
}
