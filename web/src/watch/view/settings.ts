/** The dialog of the room: what its owner may change, the keys, and the figures of the own sync. */

import { find, make, setText } from '../../dom.js';
import type { Control, Room, Source } from '../protocol.js';
import { SAMPLE, sourceOf } from '../source.js';
import { failureText, Refused, withLength } from './lobby.js';

export interface Changes {
  playbackControl?: Control;
  source?: Source;
}

export class SettingsView {
  readonly #dialog = find(document, '#settings', HTMLDialogElement);
  readonly #form = find(document, '#settings-form', HTMLFormElement);
  readonly #owner = find(document, '#settings-owner', HTMLFieldSetElement);
  readonly #control = find(document, '#settings-control', HTMLSelectElement);
  readonly #url = find(document, '#settings-url', HTMLInputElement);
  readonly #save = find(document, '#settings-save', HTMLButtonElement);
  readonly #error = find(document, '#settings-error', HTMLElement);
  readonly #note = find(document, '#settings-note', HTMLElement);
  readonly #facts = find(document, '#facts', HTMLElement);
  #room: Room | null = null;

  /** `save` resolves with what went wrong, or with nothing. */
  constructor(save: (changes: Changes) => Promise<string | null>) {
    find(document, '#settings-sample', HTMLButtonElement).addEventListener('click', () => {
      this.#url.value = SAMPLE.url;
    });
    this.#form.addEventListener('submit', (event) => {
      if (event.submitter !== this.#save) {
        return;
      }
      event.preventDefault();
      this.#save.disabled = true;
      setText(this.#error, '');
      this.#apply(save)
        .then((problem) => (problem === null ? this.#dialog.close() : setText(this.#error, problem)))
        .catch((failure: unknown) => setText(this.#error, failureText(failure)))
        .finally(() => (this.#save.disabled = false));
    });
    this.#dialog.addEventListener('click', (event) => {
      if (event.target === this.#dialog) {
        this.#dialog.close();
      }
    });
  }

  get open(): boolean {
    return this.#dialog.open;
  }

  show(room: Room, owner: boolean, ownerName: string | null): void {
    this.#room = room;
    this.#owner.hidden = !owner;
    this.#control.value = room.playbackControl;
    this.#url.value = room.source?.url ?? '';
    setText(this.#error, '');
    const host = ownerName === null ? 'Nobody is the host just now.' : `${ownerName} is the host.`;
    const away = 'Whoever is the host and stays away for a minute hands the room over to the one who has been in longest.';
    setText(this.#note, owner ? `You are the host. ${away}` : `${host} Who controls and what is played is up to the host.`);
    this.#dialog.showModal();
  }

  /** The figures; each is a name and a value. */
  facts(facts: [string, string][]): void {
    if (this.#facts.childElementCount !== facts.length) {
      this.#facts.replaceChildren(
        ...facts.map(([name]) => {
          const row = make('div', '');
          row.append(make('dt', '', name), make('dd', ''));
          return row;
        }),
      );
    }
    facts.forEach(([, value], index) => {
      const place = this.#facts.children[index]?.querySelector('dd');
      if (place) {
        setText(place, value);
      }
    });
  }

  async #apply(save: (changes: Changes) => Promise<string | null>): Promise<string | null> {
    const changes: Changes = {};
    const control = this.#control.value as Control;
    if (control !== this.#room?.playbackControl) {
      changes.playbackControl = control;
    }
    const url = this.#url.value.trim();
    if (url !== (this.#room?.source?.url ?? '')) {
      changes.source = await newSource(url);
    }
    return Object.keys(changes).length === 0 ? null : await save(changes);
  }
}

async function newSource(url: string): Promise<Source> {
  if (url === SAMPLE.url) {
    return SAMPLE;
  }
  const source = sourceOf(url);
  if ('problem' in source) {
    throw new Refused(source.problem);
  }
  return await withLength(source);
}
