/** The door of a room: what it is called, a name to go in with, and its password. */

import { find, setText } from '../../dom.js';
import { lookUp, RequestFailed } from '../api.js';
import { identity } from '../identity.js';
import { adviceFor } from '../protocol.js';
import { failureText } from './lobby.js';

export interface Ticket {
  name: string;
  password: string;
}

/** What keeps somebody out, and how it is shown. */
export interface Refusal {
  code: string;
  message: string;
  retryAfterMs?: number;
}

export class DoorView {
  readonly #form = find(document, '#join-form', HTMLFormElement);
  readonly #title = find(document, '#join-title', HTMLElement);
  readonly #text = find(document, '#join-text', HTMLElement);
  readonly #code = find(document, '#join-code', HTMLElement);
  readonly #name = find(document, '#join-name', HTMLInputElement);
  readonly #passwordField = find(document, '#join-password-field', HTMLElement);
  readonly #password = find(document, '#join-password', HTMLInputElement);
  readonly #error = find(document, '#join-error', HTMLElement);
  readonly #submit = find(document, '#join-submit', HTMLButtonElement);

  constructor(enter: (ticket: Ticket) => void) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const name = this.#name.value.trim();
      if (name === '') {
        setText(this.#error, 'Your name comes first.');
        this.#name.focus();
        return;
      }
      setText(this.#error, '');
      this.busy(true);
      identity.name = name;
      enter({ name, password: this.#password.value });
    });
  }

  /** Shows the door of a room, and asks who is behind it. */
  async show(code: string): Promise<void> {
    this.#form.dataset['state'] = 'open';
    setText(this.#code, code);
    setText(this.#title, 'You are invited');
    setText(this.#text, ' ');
    setText(this.#error, '');
    this.#name.value = identity.name;
    this.busy(false);
    this.#name.focus({ preventScroll: true });
    try {
      const room = await lookUp(code);
      setText(this.#title, room.name);
      this.#passwordField.hidden = !room.hasPassword;
      const { participantCount: inside, maxParticipants: seats } = room;
      const people = inside === 0 ? 'Nobody is in yet' : `${inside} of ${seats} seats are taken`;
      setText(this.#text, inside >= seats ? `It is full just now: ${people}.` : `${people}.`);
    } catch (failure) {
      if (failure instanceof RequestFailed && failure.code === 'ROOM_NOT_FOUND') {
        this.refuse(failure);
      } else {
        setText(this.#error, failureText(failure));
      }
    }
  }

  busy(busy: boolean): void {
    this.#submit.disabled = busy;
    setText(this.#submit, busy ? 'Joining …' : 'Join');
  }

  /** Somebody was kept out. */
  refuse(refusal: Refusal | RequestFailed): void {
    this.busy(false);
    const { code, message, retryAfterMs } = refusal;
    const text = adviceFor({ code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
    if (code === 'ROOM_NOT_FOUND') {
      this.#form.dataset['state'] = 'gone';
      setText(this.#title, 'No such room');
      setText(this.#text, text);
      setText(this.#error, '');
      return;
    }
    setText(this.#error, text);
    if (code === 'ROOM_FULL') {
      setText(this.#text, 'You can stay here and try again.');
    }
    if (code === 'INVALID_PASSWORD') {
      const asked = this.#passwordField.hidden;
      this.#passwordField.hidden = false;
      if (asked || this.#password.value === '') {
        setText(this.#error, 'This room has a password.');
      }
      this.#password.focus();
      this.#password.select();
    }
  }
}
