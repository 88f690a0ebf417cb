/** The dialog: who is signed in, by which transport the page listens, the keys, and how everything is. */

import { find, make, setText } from '../../dom.js';
import { disconnectGmail, RequestFailed, signOut, syncNow } from '../api.js';
import type { MailClient } from '../client.js';
import type { Transport } from '../feed/feeds.js';
import { agoText, clockText, colourOf, initialsOf, wholeTime } from '../model/text.js';

export interface SettingsActions {
  transport(transport: Transport): void;
  /** The session is over; nothing may stay. */
  ended(): void;
}

export class SettingsView {
  readonly #dialog = find(document, '#settings', HTMLDialogElement);
  readonly #error = find(document, '#account-error', HTMLElement);
  readonly #name = find(document, '#account-name', HTMLElement);
  readonly #note = find(document, '#account-note', HTMLElement);
  readonly #avatars = ['#account-avatar', '#me'].map((selector) => find(document, selector, HTMLElement));
  readonly #facts = find(document, '#facts', HTMLElement);
  readonly #disconnect = find(document, '#disconnect', HTMLButtonElement);
  readonly #client: MailClient;
  #sure: number | undefined;

  constructor(client: MailClient, actions: SettingsActions) {
    this.#client = client;
    find(document, '#open-settings', HTMLButtonElement).addEventListener('click', () => this.open());
    find(document, '#settings-close', HTMLButtonElement).addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', (event) => event.target === this.#dialog && this.#dialog.close());
    for (const radio of this.#dialog.querySelectorAll<HTMLInputElement>('input[name=transport]')) {
      radio.addEventListener('change', () => actions.transport(radio.value as Transport));
    }
    this.#button('#sync-now', async () => {
      await syncNow();
      return 'Gmail is being asked.';
    });
    this.#button('#sign-out', async () => {
      await signOut();
      actions.ended();
      return '';
    });
    this.#button('#disconnect', async () => {
      if (this.#sure === undefined) {
        this.#ask();
        return 'This erases the list and the tokens here. Nothing changes in Gmail.';
      }
      await disconnectGmail();
      actions.ended();
      return '';
    });
  }

  open(): void {
    setText(this.#error, '');
    for (const radio of this.#dialog.querySelectorAll<HTMLInputElement>('input[name=transport]')) {
      radio.checked = radio.value === this.#client.transport;
    }
    if (!this.#dialog.open) {
      this.#dialog.showModal();
    }
    this.show(Date.now());
  }

  close(): void {
    this.#dialog.close();
  }

  show(now: number): void {
    const { email, me } = this.#client;
    for (const avatar of this.#avatars) {
      setText(avatar, initialsOf(email.split('@')[0] ?? ''));
      avatar.dataset['colour'] = String(colourOf(email));
    }
    if (!this.#dialog.open) {
      return;
    }
    setText(this.#name, email);
    const synced = me?.lastSync == null ? 'not read yet' : `up to date ${agoText(me.lastSync, now)}`;
    setText(this.#note, me?.dev === true ? `${synced}; a stand-in plays Google` : synced);
    this.#showFacts();
  }

  #showFacts(): void {
    const { me, position, heardAt, keptChars, mailbox } = this.#client;
    const facts: [string, string][] = [
      ['Position in the channel', position === null ? '–' : `${position.seq} of epoch ${position.epoch}`],
      ['Last heard', heardAt === null ? '–' : clockText(heardAt)],
      ['History of Gmail up to', me?.historyId ?? '–'],
      ['Gmail tells of changes until', me?.watchExpires == null ? '–' : wholeTime(me.watchExpires)],
      ['Mails in this page', mailbox.size.toLocaleString()],
      ['Kept to read offline', keptChars === null ? 'nothing' : `${Math.ceil(keptChars / 1_024)} KiB of the inbox`],
      ['Opens without a network', opensOffline()],
    ];
    if (this.#facts.childElementCount !== facts.length) {
      this.#facts.replaceChildren(
        ...facts.map(([term]) => {
          const entry = make('div', '');
          entry.append(make('dt', '', term), make('dd', ''));
          return entry;
        }),
      );
    }
    facts.forEach(([, words], index) => {
      const place = this.#facts.children[index]?.querySelector('dd');
      if (place) {
        setText(place, words);
      }
    });
  }

  /** A second press within a few seconds is meant. */
  #ask(): void {
    setText(this.#disconnect, 'Really disconnect?');
    this.#sure = window.setTimeout(() => {
      this.#sure = undefined;
      setText(this.#disconnect, 'Disconnect Gmail');
      setText(this.#error, '');
    }, 6_000);
  }

  #button(selector: string, run: () => Promise<string>): void {
    const button = find(this.#dialog, selector, HTMLButtonElement);
    button.addEventListener('click', () => {
      button.disabled = true;
      run()
        .then((words) => setText(this.#error, words))
        .catch((failure: unknown) => {
          const words = failure instanceof RequestFailed ? failure.message : 'That did not work.';
          setText(this.#error, words);
        })
        .finally(() => (button.disabled = false));
    });
  }
}

/** Only with a worker in between can the page itself be had without a network. */
function opensOffline(): string {
  if (!('serviceWorker' in navigator)) {
    return 'no: needs HTTPS, or 127.0.0.1';
  }
  return navigator.serviceWorker.controller === null ? 'after the next visit' : 'yes';
}
