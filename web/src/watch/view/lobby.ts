/** The start page: make a room, or go to one. */

import { find, make, setText } from '../../dom.js';
import { makeRoom, RequestFailed } from '../api.js';
import { identity } from '../identity.js';
import { adviceFor, type Control, type Source } from '../protocol.js';
import { probe, SAMPLE, sourceOf } from '../source.js';
import { codeOf } from '../text.js';

/** Goes into a room; `password` is known to those who have made it. */
export type Enter = (code: string, password?: string) => void;

export function openLobby(enter: Enter): void {
  const name = find(document, '#create-name', HTMLInputElement);
  const room = find(document, '#create-room', HTMLInputElement);
  name.value = identity.name;
  suggestRoomName(name, room);
  showRecent(enter);
  wireSource();
  wireCreate(enter);
  wireFind(enter);
  (name.value === '' ? name : room).focus({ preventScroll: true });
}

function suggestRoomName(name: HTMLInputElement, room: HTMLInputElement): void {
  let own = false;
  room.addEventListener('input', () => (own = room.value !== ''));
  const suggest = (): void => {
    if (!own) {
      const first = name.value.trim().split(/\s+/)[0] ?? '';
      room.value = first === '' ? 'Film night' : `${first}’s film night`;
    }
  };
  name.addEventListener('input', suggest);
  suggest();
}

function wireSource(): void {
  const field = find(document, '#create-url-field', HTMLElement);
  const url = find(document, '#create-url', HTMLInputElement);
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=source]')) {
    radio.addEventListener('change', () => {
      field.hidden = radio.value !== 'url';
      if (!field.hidden) {
        url.focus();
      }
    });
  }
}

function wireCreate(enter: Enter): void {
  const form = find(document, '#create-form', HTMLFormElement);
  const submit = find(document, '#create-submit', HTMLButtonElement);
  const error = find(document, '#create-error', HTMLElement);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (submit.disabled) {
      return;
    }
    setText(error, '');
    submit.disabled = true;
    create()
      .then(({ code, password }) => enter(code, password))
      .catch((failure: unknown) => setText(error, failureText(failure)))
      .finally(() => (submit.disabled = false));
  });
}

async function create(): Promise<{ code: string; password: string }> {
  const name = need('#create-name', 'Your name comes first.');
  const roomName = need('#create-room', 'The room needs a name.');
  const password = find(document, '#create-password', HTMLInputElement).value;
  const seats = Number(find(document, '#create-seats', HTMLInputElement).value);
  const control = find(document, '#create-control', HTMLSelectElement).value as Control;
  if (!Number.isInteger(seats) || seats < 1 || seats > 50) {
    throw new Refused('There are 1 to 50 seats in a room.');
  }
  const source = await chosenSource();
  identity.name = name;
  const made = await makeRoom({
    name: roomName,
    maxParticipants: seats,
    playbackControl: control,
    source,
    ...(password === '' ? {} : { password }),
  });
  if (made.ownerKey !== undefined) {
    identity.keepOwnerKey(made.code, made.ownerKey);
  }
  return { code: made.code, password };
}

/** The source that is chosen, with its length if it has one. */
async function chosenSource(): Promise<Source> {
  const choice = document.querySelector<HTMLInputElement>('input[name=source]:checked')?.value;
  if (choice === 'sample') {
    return SAMPLE;
  }
  const input = find(document, '#create-url', HTMLInputElement);
  const source = sourceOf(input.value);
  if ('problem' in source) {
    input.focus();
    throw new Refused(source.problem);
  }
  return await withLength(source);
}

/** A source with its length; refused when this browser cannot play it. */
export async function withLength(source: Source): Promise<Source> {
  try {
    const durationMs = await probe(source);
    return durationMs === null ? source : { ...source, durationMs };
  } catch {
    throw new Refused('This browser cannot play what is at that address. Is it a video file, and open to everybody?');
  }
}

function wireFind(enter: Enter): void {
  const form = find(document, '#find-form', HTMLFormElement);
  const input = find(document, '#find-code', HTMLInputElement);
  const error = find(document, '#find-error', HTMLElement);
  input.addEventListener('input', () => setText(error, ''));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const code = codeOf(input.value);
    if (code === null) {
      setText(error, 'A code has eight letters and digits, never O, I, 0 or 1.');
      input.focus();
    } else {
      enter(code);
    }
  });
}

function showRecent(enter: Enter): void {
  const rooms = identity.recent();
  const list = find(document, '#recent-list', HTMLElement);
  find(document, '#recent', HTMLElement).hidden = rooms.length === 0;
  list.replaceChildren(
    ...rooms.map(({ code, name }) => {
      const row = make('li', '');
      const link = make('a', 'recent-room');
      link.href = `/watch/${code}`;
      link.append(make('span', 'recent-name', name), make('span', 'recent-code', code));
      link.addEventListener('click', (event) => {
        if (!event.metaKey && !event.ctrlKey) {
          event.preventDefault();
          enter(code);
        }
      });
      row.append(link);
      return row;
    }),
  );
}

/** Something that the person has to put right. */
export class Refused extends Error {}

function need(selector: string, otherwise: string): string {
  const input = find(document, selector, HTMLInputElement);
  const value = input.value.trim();
  if (value === '') {
    input.focus();
    throw new Refused(otherwise);
  }
  return value;
}

/** What to say about a failure of any kind. */
export function failureText(failure: unknown): string {
  if (failure instanceof RequestFailed) {
    const { code, message, retryAfterMs } = failure;
    return adviceFor({ code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
  }
  return failure instanceof Refused ? failure.message : 'Something went wrong on this page. Reload it.';
}
