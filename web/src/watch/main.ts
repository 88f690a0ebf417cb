/** The watch party's page: the start page at `/watch`, the door and the room at `/watch/CODE`. */

import { find } from '../dom.js';
import { identity } from './identity.js';
import { RoomSession } from './room.js';
import { codeOf, decoded } from './text.js';
import { DoorView } from './view/door.js';
import { openLobby } from './view/lobby.js';
import { showTab, wireTabs } from './view/tabs.js';

let session: RoomSession | null = null;
let code: string | null = null;

const door = new DoorView((ticket) => {
  if (code !== null) {
    enter(code, ticket);
  }
});

function view(name: 'lobby' | 'door' | 'room'): void {
  document.body.dataset['view'] = name;
}

const parts = ['#lobby', '#room', '#settings'].map((selector) => {
  const pristine = find(document, selector, HTMLElement).cloneNode(true);
  return { selector, pristine };
});

/** Puts parts of the page back as they were at the start, with nothing wired to them. */
function renew(...selectors: string[]): void {
  for (const { selector, pristine } of parts) {
    if (selectors.includes(selector)) {
      find(document, selector, HTMLElement).replaceWith(pristine.cloneNode(true));
    }
  }
}

/** Shows what the address says. */
function route(made?: { password: string }): void {
  session?.close();
  session = null;
  const wanted = /^\/watch\/([^/]+)\/?$/.exec(location.pathname)?.[1];
  if (wanted === undefined) {
    code = null;
    document.title = 'Watch party · Fanfare';
    renew('#lobby');
    view('lobby');
    openLobby(go);
    return;
  }
  code = codeOf(decoded(wanted)) ?? wanted.toUpperCase();
  const name = identity.name;
  if (name !== '' && (made !== undefined || wasHere(code))) {
    view('room');
    enter(code, { name, password: made?.password ?? '' });
    return;
  }
  view('door');
  void door.show(code);
}

/** Goes to a room; who has made it is not asked at the door. */
function go(to: string, password?: string): void {
  history.pushState(null, '', `/watch/${to}`);
  route(password === undefined ? undefined : { password });
}

/** Whether this tab has been in the room: after a reload nobody wants to be asked again. */
function wasHere(room: string): boolean {
  return identity.here === room;
}

function enter(room: string, ticket: { name: string; password: string }): void {
  session?.close();
  renew('#room', '#settings');
  wireTabs((name) => name === 'chat' && session?.chat.seen());
  showTab('chat');
  const mine = new RoomSession(room, ticket, {
    entered: () => {
      identity.here = room;
      view('room');
    },
    refused: (refusal) => {
      session = null;
      if (identity.here === room) {
        identity.here = '';
      }
      if (refusal.code === 'ROOM_NOT_FOUND') {
        identity.forget(room);
      }
      view('door');
      void door.show(room).then(() => door.refuse(refusal));
    },
    left: () => {
      identity.here = '';
      session = null;
      history.pushState(null, '', '/watch');
      route();
    },
  });
  session = mine;
  mine.open();
}

/** Keys that belong to no field. */
function pressed(event: KeyboardEvent): void {
  const target = event.target instanceof Element ? event.target : document.body;
  const typing = target.closest('input:not([type=range]), textarea, select, dialog');
  if (session === null || document.body.dataset['view'] !== 'room' || typing !== null) {
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const { stage, chat, voice } = session;
  const onButton = target.closest('button, a, [role=tab]') !== null;
  const onRange = target.closest('input[type=range]') !== null;
  const keys: Record<string, () => void> = {
    ...(onButton ? {} : { ' ': () => session?.toggle() }),
    ...(onRange
      ? {}
      : {
          ArrowLeft: () => stage.step(-10_000),
          ArrowRight: () => stage.step(10_000),
          ArrowUp: () => stage.changeVolume(5),
          ArrowDown: () => stage.changeVolume(-5),
        }),
    k: () => session?.toggle(),
    m: () => stage.toggleSound(),
    f: () => stage.toggleFull(),
    v: () => (voice.state === 'on' ? voice.toggleMute() : void voice.join()),
    c: () => {
      showTab('chat');
      chat.focus();
    },
  };
  const act = keys[event.key];
  const scrolls = target.closest('.chat-scroll') !== null && event.key.startsWith('Arrow');
  if (act !== undefined && !scrolls) {
    event.preventDefault();
    act();
  }
}

addEventListener('popstate', () => route());
addEventListener('keydown', pressed);
document.addEventListener('visibilitychange', () => session?.visibility(document.hidden));
addEventListener('pagehide', () => session?.close());
addEventListener('pageshow', (event) => {
  if (event.persisted) {
    route();
  }
});
void identity.settle().then(() => route());
