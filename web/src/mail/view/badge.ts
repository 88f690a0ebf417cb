/** How many are unread, where it can be seen from outside: the title, the tab's icon, the icon of the installed page. */

import { find } from '../../dom.js';
import { faviconHref, titleText } from '../model/badge.js';

interface Badging {
  setAppBadge?: (count: number) => Promise<void>;
  clearAppBadge?: () => Promise<void>;
}

export class BadgeView {
  readonly #icon = find(document, '#icon', HTMLLinkElement);
  readonly #plain = this.#icon.href;
  #shown = '';

  show(unread: number, view: string, live: boolean): void {
    const title = titleText(unread, view, live);
    if (document.title !== title) {
      document.title = title;
    }
    const shows = `${unread} ${live}`;
    if (shows === this.#shown) {
      return;
    }
    this.#shown = shows;
    this.#icon.href = faviconHref(unread, live);
    const badging = navigator as Badging;
    const done = unread > 0 ? badging.setAppBadge?.(unread) : badging.clearAppBadge?.();
    // Only installed pages have one; others may be refused.
    done?.catch(() => undefined);
  }

  clear(): void {
    document.title = 'Fanfare mail';
    this.#icon.href = this.#plain;
    this.#shown = '';
    (navigator as Badging).clearAppBadge?.().catch(() => undefined);
  }
}
