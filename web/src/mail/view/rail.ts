/** The lists that one can look at, and how many are unread there. */

import { find, make, setText } from '../../dom.js';
import type { Counts } from '../model/counts.js';
import { ALL, FIXED, INBOX, isUserLabel, STARRED, UNREAD, type View } from '../model/labels.js';
import type { Label } from '../model/protocol.js';
import { colourOf } from '../model/text.js';

const ICONS: Record<View, string> = { [INBOX]: 'i-inbox', [UNREAD]: 'i-unread', [STARRED]: 'i-star', [ALL]: 'i-all' };

export class RailView {
  readonly #list = find(document, '#rail-list', HTMLElement);
  readonly #choose: (view: View) => void;
  #shown = '';

  constructor(choose: (view: View) => void) {
    this.#choose = choose;
  }

  /** The lists in their order. */
  static lists(labels: readonly Label[]): Label[] {
    const own = labels.filter(({ id }) => isUserLabel(id));
    return [...FIXED, ...own.sort((one, other) => one.name.localeCompare(other.name))];
  }

  show(labels: readonly Label[], current: View, counts: Counts): void {
    const lists = RailView.lists(labels);
    const shows = JSON.stringify(lists);
    if (shows !== this.#shown) {
      this.#shown = shows;
      this.#list.replaceChildren(...lists.map((list) => this.#entry(list)));
    }
    for (const entry of this.#list.querySelectorAll<HTMLButtonElement>('.rail-entry')) {
      const view = entry.dataset['list'] ?? '';
      const isCurrent = view === current;
      if ((entry.getAttribute('aria-current') === 'page') !== isCurrent) {
        isCurrent ? entry.setAttribute('aria-current', 'page') : entry.removeAttribute('aria-current');
        if (isCurrent) {
          entry.scrollIntoView({ block: 'nearest', inline: 'nearest' });
        }
      }
      // Only the inbox is always counted; of the others, the one that is looked at.
      const unread = view === INBOX || isCurrent ? (counts.get(view)?.unread ?? 0) : 0;
      setText(find(entry, '.rail-count', HTMLElement), unread > 0 ? unread.toLocaleString() : '');
    }
  }

  #entry({ id, name }: Label): HTMLElement {
    const item = make('li', '');
    const button = make('button', 'rail-entry');
    button.type = 'button';
    button.dataset['list'] = id;
    const icon = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    icon.setAttribute('class', 'icon');
    icon.setAttribute('aria-hidden', 'true');
    const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
    use.setAttribute('href', `#${ICONS[id] ?? 'i-label'}`);
    icon.append(use);
    if (ICONS[id] === undefined) {
      button.dataset['colour'] = String(colourOf(name));
    }
    button.append(icon, make('span', 'rail-name', name), make('span', 'rail-count'));
    button.addEventListener('click', () => this.#choose(id));
    item.append(button);
    return item;
  }
}
