/** A short word at the edge of the page that goes by itself. */

import { find, setText } from '../../dom.js';

const STAYS_MS = 4_000;
let over: ReturnType<typeof setTimeout> | undefined;

/** Says something; `action` is a button beside it. */
export function toast(text: string, action?: { label: string; run: () => void; staysMs?: number }): void {
  const place = find(document, '#toast', HTMLElement);
  clearTimeout(over);
  setText(place, text);
  if (action !== undefined) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'textual';
    button.textContent = action.label;
    button.addEventListener('click', () => {
      place.dataset['shown'] = 'false';
      action.run();
    });
    place.append(' ', button);
  }
  place.dataset['shown'] = 'true';
  over = setTimeout(() => (place.dataset['shown'] = 'false'), action?.staysMs ?? STAYS_MS);
}
