/** Who is watching: where each of them is, how far from the room, who talks, and what the owner may do with them. */

import { find, make, setText } from '../../dom.js';
import type { Participant } from '../protocol.js';
import { driftGrade, driftText, fineClockText } from '../text.js';
import { avatar } from './avatar.js';

/** A position that nobody has confirmed for so long is not shown any more. */
const STALE_MS = 6_000;

/** What is known about where a member is. */
export interface Whereabouts {
  mediaTimeMs: number;
  driftMs?: number | undefined;
  rttMs?: number | undefined;
  isPlaying: boolean;
  buffering: boolean;
  /** The rate at which the place moves on between two reports. */
  rate: number;
  /** When it was true, on this page's clock. */
  at: number;
}

export interface Member {
  participant: Participant;
  where: Whereabouts | null;
  voice: 'none' | 'in' | 'speaking';
}

export interface PeopleActions {
  mayControl(oderId: string, may: boolean): void;
}

interface Row {
  row: HTMLElement;
  name: HTMLElement;
  role: HTMLElement;
  place: HTMLElement;
  state: HTMLElement;
  drift: HTMLElement;
  mic: HTMLElement;
  grant: HTMLButtonElement;
}

export class PeopleView {
  readonly #actions: PeopleActions;
  readonly #list = find(document, '#people-list', HTMLElement);
  readonly #count = find(document, '#people-count', HTMLElement);
  readonly #badge = find(document, '#people-badge', HTMLElement);
  readonly #rows = new Map<string, Row>();

  constructor(actions: PeopleActions) {
    this.#actions = actions;
  }

  /** Shows the members in their order; `chooses` lets the owner hand out and take back the controls. */
  show(members: Member[], me: string, seats: number, chooses: boolean): void {
    setText(this.#count, `${members.length} of ${seats}`);
    setText(this.#badge, String(members.length));
    const present = new Set(members.map(({ participant }) => participant.oderId));
    for (const [oderId, { row }] of this.#rows) {
      if (!present.has(oderId)) {
        row.remove();
        this.#rows.delete(oderId);
      }
    }
    members.forEach((member, index) => {
      const shown = this.#row(member.participant);
      if (this.#list.children[index] !== shown.row) {
        this.#list.insertBefore(shown.row, this.#list.children[index] ?? null);
      }
      fill(shown, member, me, chooses);
    });
  }

  #row(participant: Participant): Row {
    const known = this.#rows.get(participant.oderId);
    if (known !== undefined) {
      return known;
    }
    const { oderId } = participant;
    const shown: Row = {
      row: make('li', 'person'),
      name: make('span', 'person-name'),
      role: make('span', 'person-role'),
      place: make('span', 'person-place'),
      state: make('span', 'person-state'),
      drift: make('span', 'person-drift'),
      mic: make('span', 'person-mic'),
      grant: make('button', 'textual person-grant'),
    };
    shown.row.dataset['member'] = oderId;
    shown.grant.type = 'button';
    shown.grant.addEventListener('click', () => {
      this.#actions.mayControl(oderId, shown.grant.getAttribute('aria-pressed') !== 'true');
    });
    const title = make('p', 'person-title');
    title.append(shown.name, shown.role, shown.mic);
    const facts = make('p', 'person-facts');
    facts.append(shown.state, shown.place, shown.drift);
    const body = make('div', 'person-body');
    body.append(title, facts);
    shown.row.append(avatar(oderId, participant.username), body, shown.grant);
    this.#rows.set(oderId, shown);
    return shown;
  }
}

function fill(shown: Row, member: Member, me: string, chooses: boolean): void {
  const { participant, where, voice } = member;
  const mine = participant.oderId === me;
  setText(shown.name, participant.username);
  const roles = [mine ? 'you' : '', participant.role === 'owner' ? 'host' : ''];
  setText(shown.role, roles.filter((role) => role !== '').join(', '));
  shown.row.dataset['voice'] = voice;
  shown.row.dataset['away'] = String(participant.status === 'away');
  setText(shown.mic, { none: '', in: 'on voice', speaking: 'speaking' }[voice]);
  const fresh = where !== null && performance.now() - where.at < STALE_MS ? where : null;
  setText(shown.place, fresh === null ? '–' : fineClockText(placeOf(fresh)));
  setText(shown.state, stateText(fresh, participant));
  shown.state.dataset['state'] = stateOf(fresh);
  const drift = fresh?.buffering ? undefined : fresh?.driftMs;
  shown.drift.dataset['grade'] = driftGrade(drift);
  setText(shown.drift, drift === undefined ? '' : driftText(drift));
  shown.drift.title =
    drift === undefined ? '' : 'How far ahead (+) or behind (−) of the room this video is';
  shown.grant.hidden = !chooses || participant.role === 'owner';
  shown.grant.setAttribute('aria-pressed', String(participant.canControl));
  setText(shown.grant, participant.canControl ? 'Take controls' : 'Give controls');
  shown.grant.setAttribute(
    'aria-label',
    `${participant.canControl ? 'Take the controls from' : 'Give the controls to'} ${participant.username}`,
  );
}

/** Where a member is now: it has gone on since the report. */
export function placeOf(where: Whereabouts): number {
  const moving = where.isPlaying && !where.buffering;
  return where.mediaTimeMs + (moving ? (performance.now() - where.at) * where.rate : 0);
}

function stateOf(where: Whereabouts | null): string {
  if (where === null) {
    return 'unknown';
  }
  return where.buffering ? 'buffering' : where.isPlaying ? 'playing' : 'paused';
}

function stateText(where: Whereabouts | null, participant: Participant): string {
  if (where === null) {
    return participant.status === 'away' ? 'away' : 'joining';
  }
  return where.buffering ? 'loading' : where.isPlaying ? 'playing' : 'paused';
}
