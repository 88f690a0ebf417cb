/** The chat page at `/chat`: who is signed in, the door for who is not, and the page for who is. */

import { find, setText } from '../dom.js';
import { Backoff } from '../mail/model/backoff.js';
import { Api, RequestFailed } from './api.js';
import { Page } from './page.js';
import { fixtureToken } from './storage.js';
import { DoorView } from './view/door.js';

const api = new Api();
const backoff = new Backoff();
/** Whoever was signed in before has left things on the page. */
const door = new DoorView(api, () => (page === null ? void start() : location.reload()));
let page: Page | null = null;

async function start(): Promise<void> {
  api.token = fixtureToken.read();
  try {
    page = new Page(api, await api.call('client.boot'), () => void signedOut());
  } catch (failure) {
    if (!(failure instanceof RequestFailed)) {
      throw failure;
    }
    await turnedAway(failure);
  }
}

async function turnedAway({ code, signedOut: nobody, passes }: RequestFailed): Promise<void> {
  document.body.dataset['view'] = 'door';
  if (nobody) {
    forgetToken();
    await door.show();
  } else if (passes) {
    door.unreachable();
    setTimeout(() => void start(), backoff.next());
  } else if (code.startsWith('http_4') || code === 'unknown_method') {
    door.off();
  } else {
    await door.show(code);
  }
}

async function signedOut(): Promise<void> {
  forgetToken();
  document.body.dataset['view'] = 'door';
  await door.show('not_authed');
}

function forgetToken(): void {
  fixtureToken.write('');
  api.token = '';
}

/** Keys are named as on the reader's keyboard. */
if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  setText(find(document, '#switch-key', HTMLElement), '⌘ K');
}
void start();
