/** The quick switcher: conversations and people, by a few letters. */

import type { ChatClient } from '../client.js';
import { titleOf, type Kind } from '../model/conversation.js';
import { ranked } from '../model/match.js';
import { Finder, type Choice } from './finder.js';
import { avatar, icon } from './icon.js';

const FOUND_MAX = 30;

export interface SwitcherActions {
  go(channel: string): void;
  write(user: string): void;
}

interface Place {
  id: string;
  label: string;
  note: string;
  user: string;
  kind: Kind;
}

export function makeSwitcher(client: ChatClient, { go, write }: SwitcherActions): Finder {
  const found = (text: string): Choice[] => {
    const places = placesOf(client);
    return ranked(places, text, ({ label, note }) => [label, note.replace(/^@/, '')], FOUND_MAX).map(({ id, label, note, user, kind }) => {
      const sign = kind === 'im' ? avatar(user, label, 'avatar tiny') : icon(kind === 'mpim' ? 'people' : kind === 'group' ? 'lock' : 'hash');
      return { id, label, note, sign };
    });
  };
  const finder: Finder = new Finder('switcher', found, ({ id }) => {
    finder.close();
    /^[UW]/.test(id) ? write(id) : go(id);
  });
  return finder;
}

/** The user's conversations, those that call first; then channels that could be joined, and people. */
function placesOf(client: ChatClient): Place[] {
  const own = [...client.conversations.values()].sort((left, right) => right.unread.mentions - left.unread.mentions || (left.latest < right.latest ? 1 : -1));
  const talks = own.map(({ info, unread }): Place => {
    const label = titleOf(info, { nameOf: (user) => client.nameOf(user) }, client.self.id);
    const note = unread.count > 0 ? 'unread' : info.kind === 'im' ? `@${client.people.get(info.user)?.handle ?? ''}` : '';
    return { id: info.id, label, note, user: info.user, kind: info.kind };
  });
  const known = new Set(talks.flatMap(({ user, id }) => [user, id]));
  const channels = [...client.known.values()]
    .filter(({ id, kind, archived }) => !known.has(id) && kind === 'channel' && !archived)
    .map(({ id, name }): Place => ({ id, label: name, note: 'not joined', user: '', kind: 'channel' }));
  const people = client.people
    .active()
    .filter(({ id }) => !known.has(id))
    .map(({ id, name, handle }): Place => ({ id, label: name, note: `@${handle}`, user: id, kind: 'im' }));
  return [...talks, ...channels, ...people];
}
