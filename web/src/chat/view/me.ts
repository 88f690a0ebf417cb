/** The user's own dialog: being away, inviting, signing out, and the keys. */

import { find, setText } from '../../dom.js';
import type { ChatClient } from '../client.js';
import { textOf } from '../model/read.js';
import { fixtureToken } from '../storage.js';
import { ask } from './confirm.js';
import { done } from './details.js';

export class MeView {
  readonly #dialog = find(document, '#me', HTMLDialogElement);
  readonly #away = find(document, '#me-away', HTMLButtonElement);
  readonly #invite = find(document, '#me-invite', HTMLButtonElement);
  readonly #said = find(document, '#me-said', HTMLElement);
  readonly #client: ChatClient;

  constructor(client: ChatClient) {
    this.#client = client;
    this.#away.addEventListener('click', () => void this.#setAway());
    this.#invite.addEventListener('click', () => void this.#makeInvitation());
    find(document, '#me-out', HTMLButtonElement).addEventListener('click', () => void this.#signOut());
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
  }

  open(): void {
    const { self, team } = this.#client;
    setText(find(document, '#me-title', HTMLElement), this.#client.nameOf(self.id));
    const handle = this.#client.people.get(self.id)?.handle ?? self.id;
    setText(find(document, '#me-note', HTMLElement), `@${handle} in ${team.name}${self.admin ? ', administrator' : ''}`);
    this.#invite.hidden = !self.admin;
    setText(this.#said, '');
    this.#draw();
    this.#dialog.showModal();
  }

  #draw(): void {
    setText(this.#away, this.#client.away ? 'Show me as here' : 'Show me as away');
  }

  async #setAway(): Promise<void> {
    await done(() => this.#client.setAway(!this.#client.away));
    this.#draw();
  }

  async #makeInvitation(): Promise<void> {
    await done(async () => {
      const url = textOf((await this.#client.api.call('chat.invite'))['url']);
      const whole = new URL(url, location.origin).href;
      setText(this.#said, `Whoever opens this may join: ${whole}`);
      await navigator.clipboard.writeText(whole).catch(() => undefined);
    });
  }

  async #signOut(): Promise<void> {
    const unsent = this.#client.outbox.all.length;
    if (unsent > 0) {
      this.#dialog.close();
      const yes = await ask({ title: 'Sign out?', text: 'Some of what you wrote is not sent yet. It is lost when you sign out.', yes: 'Sign out' });
      if (!yes) {
        return;
      }
    }
    const dev = fixtureToken.read() !== '';
    // A fixture's token is not to be taken back: it belongs to the server.
    if (dev || (await done(() => this.#client.api.call('chat.logOut')))) {
      fixtureToken.write('');
      this.#client.kept.forget();
      this.#client.close();
      location.assign('/chat');
    }
  }
}
