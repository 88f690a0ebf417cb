/** What is said above the list: what is wrong and what to do, what was missed, and how two transports compare. */

import { find, setText } from '../../dom.js';
import { LOGIN } from '../api.js';
import { missedText, type Missed } from '../model/away.js';
import type { Link } from '../model/link.js';
import type { Parity } from '../model/parity.js';
import type { Me } from '../model/protocol.js';
import { agoText, clockText, plural } from '../model/text.js';

/** What is wrong, if anything is. */
interface Trouble {
  title: string;
  text: string;
  action?: string;
  link?: { label: string; href: string };
  kind: 'bad' | 'plain';
}

export interface NoteActions {
  retry(): void;
  seen(): void;
}

export class NotesView {
  readonly #trouble = find(document, '#trouble', HTMLElement);
  readonly #title = find(document, '#trouble-title', HTMLElement);
  readonly #text = find(document, '#trouble-text', HTMLElement);
  readonly #action = find(document, '#trouble-action', HTMLButtonElement);
  readonly #link = find(document, '#trouble-link', HTMLAnchorElement);
  readonly #missed = find(document, '#missed', HTMLElement);
  readonly #missedText = find(document, '#missed-text', HTMLElement);
  readonly #parity = find(document, '#parity', HTMLElement);
  readonly #parityTitle = find(document, '#parity-title', HTMLElement);
  readonly #parityText = find(document, '#parity-text', HTMLElement);

  constructor(actions: NoteActions) {
    this.#action.addEventListener('click', () => actions.retry());
    find(document, '#missed-ok', HTMLButtonElement).addEventListener('click', () => actions.seen());
  }

  trouble(link: Link, me: Me | null, email: string, heardAt: number | null, now: number): void {
    const trouble = troubleOf(link, me, email, heardAt, now);
    this.#trouble.hidden = trouble === null;
    if (trouble === null) {
      return;
    }
    this.#trouble.dataset['kind'] = trouble.kind;
    setText(this.#title, trouble.title);
    setText(this.#text, trouble.text);
    this.#action.hidden = trouble.action === undefined;
    setText(this.#action, trouble.action ?? '');
    this.#link.hidden = trouble.link === undefined;
    setText(this.#link, trouble.link?.label ?? '');
    if (trouble.link !== undefined) {
      this.#link.href = trouble.link.href;
    }
  }

  missed(missed: Missed | null, since: number): void {
    const words = missed === null ? '' : missedText(missed);
    this.#missed.hidden = words === '';
    setText(this.#missedText, words === '' ? '' : `(since ${clockText(since)}): ${words}.`);
  }

  parity(parity: Parity | null): void {
    this.#parity.hidden = parity === null;
    if (parity === null) {
      return;
    }
    const { sse, websocket, same, different, waiting } = parity;
    this.#parity.dataset['kind'] = different > 0 ? 'bad' : 'plain';
    setText(this.#parityTitle, different > 0 ? 'The transports differ' : 'Both transports agree');
    const parts = [
      `events at ${sse ?? '–'}, WebSocket at ${websocket ?? '–'}`,
      `${plural(same, 'publication')} the same`,
      ...(different > 0 ? [`${different} different`] : []),
      ...(waiting > 0 ? [`${waiting} on one side so far`] : []),
    ];
    setText(this.#parityText, `${parts.join(' · ')}.`);
  }
}

function troubleOf(link: Link, me: Me | null, email: string, heardAt: number | null, now: number): Trouble | null {
  if (link.state === 'too-many') {
    return {
      title: 'Paused in this tab.',
      text: 'The mailbox is open in too many others. What is here is as of now, and no longer changes.',
      action: 'Go on here',
      kind: 'plain',
    };
  }
  if (link.state === 'offline') {
    const asOf = heardAt === null ? '' : ` The list is as of ${agoText(heardAt, now) === 'just now' ? clockText(heardAt) : agoText(heardAt, now)}.`;
    const seconds = link.nextAt === null ? 0 : Math.ceil((link.nextAt - now) / 1_000);
    const next = seconds > 0 ? ` Next attempt in ${seconds} s.` : '';
    return { title: 'No connection.', text: `What was loaded can be read.${asOf}${next}`, action: 'Try now', kind: 'bad' };
  }
  if (me?.state === 'reconnect') {
    const href = email === '' ? LOGIN : `${LOGIN}?${new URLSearchParams({ login_hint: email })}`;
    return {
      title: 'Gmail no longer lets us in.',
      text: 'Access was taken back, or has run out. Until it is given again, nothing new comes.',
      link: { label: 'Connect Gmail again', href },
      kind: 'bad',
    };
  }
  return null;
}
