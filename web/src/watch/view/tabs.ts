/** Chat or people, where there is room for one of them only. */

import { find } from '../../dom.js';

export type TabName = 'chat' | 'people';
const NAMES: readonly TabName[] = ['chat', 'people'];

const tab = (name: TabName): HTMLButtonElement => find(document, `#tab-${name}`, HTMLButtonElement);

export function showTab(name: TabName): void {
  for (const other of NAMES) {
    const chosen = other === name;
    tab(other).setAttribute('aria-selected', String(chosen));
    tab(other).tabIndex = chosen ? 0 : -1;
  }
  document.body.dataset['tab'] = name;
  chosen?.(name);
}

let chosen: ((name: TabName) => void) | null = null;

/** `onChosen` hears which one is shown. */
export function wireTabs(onChosen: (name: TabName) => void): void {
  chosen = onChosen;
  for (const name of NAMES) {
    tab(name).addEventListener('click', () => showTab(name));
    tab(name).addEventListener('keydown', (event) => {
      if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
        const other = name === 'chat' ? 'people' : 'chat';
        showTab(other);
        tab(other).focus();
        event.preventDefault();
      }
    });
  }
}
