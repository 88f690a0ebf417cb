/** What the browser keeps for the page. Storage may be switched off or full: then nothing is kept, and nothing breaks. */

import type { Shelf } from './model/outbox.js';

const PREFIX = 'fanfare.chat';

/** A place of its own for each user of a browser. */
export class Kept {
  readonly #user: string;

  constructor(team: string, user: string) {
    this.#user = `${PREFIX}.${team}.${user}`;
  }

  get outbox(): Shelf {
    const name = `${this.#user}.outbox`;
    return { read: () => read(store(() => window.localStorage), name), write: (text) => write(store(() => window.localStorage), name, text) };
  }

  /** What is written in a conversation or thread and not sent. */
  draft(place: string): string {
    return read(store(() => window.localStorage), `${this.#user}.draft.${place}`);
  }

  keepDraft(place: string, text: string): void {
    write(store(() => window.localStorage), `${this.#user}.draft.${place}`, text);
  }

  get channel(): string {
    return read(store(() => window.localStorage), `${this.#user}.channel`);
  }

  keepChannel(id: string): void {
    write(store(() => window.localStorage), `${this.#user}.channel`, id);
  }

  /** Nobody who comes after sees anything of the user. */
  forget(): void {
    try {
      const names = Object.keys(localStorage).filter((name) => name.startsWith(`${this.#user}.`));
      names.forEach((name) => localStorage.removeItem(name));
    } catch {
      return;
    }
  }
}

/** The token of a development server's user: of this tab alone, so that two tabs may be two users. */
export const fixtureToken = {
  read: (): string => read(store(() => window.sessionStorage), `${PREFIX}.token`),
  write: (token: string): void => write(store(() => window.sessionStorage), `${PREFIX}.token`, token),
};

function store(open: () => Storage): Storage | null {
  try {
    return open();
  } catch {
    return null;
  }
}

function read(storage: Storage | null, name: string): string {
  try {
    return storage?.getItem(name) ?? '';
  } catch {
    return '';
  }
}

function write(storage: Storage | null, name: string, text: string): void {
  try {
    text === '' ? storage?.removeItem(name) : storage?.setItem(name, text);
  } catch {
    return;
  }
}
