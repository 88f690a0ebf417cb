/** The bar at the top of a room: its name and code, the state of the connection, the way in for others, the way out. */

import { find, setText } from '../../dom.js';
import { toast } from './toast.js';

export interface BarActions {
  leave(): void;
  settings(): void;
}

export class BarView {
  readonly #code: string;
  readonly #state = find(document, '#link-state', HTMLElement);

  constructor(code: string, actions: BarActions) {
    this.#code = code;
    const on = (selector: string, act: () => void): void => {
      // The bar outlives the room: what the last room wanted of it is replaced.
      find(document, selector, HTMLButtonElement).onclick = act;
    };
    on('#leave', () => actions.leave());
    on('#invite', () => void this.#invite());
    on('#open-settings', () => actions.settings());
  }

  room(name: string): void {
    document.title = `${name} · Watch party`;
    setText(find(document, '#room-name', HTMLElement), name);
    setText(find(document, '#room-code', HTMLElement), this.#code);
  }

  link(live: boolean): void {
    this.#state.dataset['state'] = live ? 'live' : 'connecting';
    setText(this.#state, live ? 'live' : navigator.onLine ? 'reconnecting' : 'offline');
  }

  async #invite(): Promise<void> {
    const link = `${location.origin}/watch/${this.#code}`;
    try {
      await navigator.clipboard.writeText(link);
      toast('The link is copied. Send it to your friends.');
    } catch {
      toast(`Send this to your friends: ${link}`);
    }
  }
}
