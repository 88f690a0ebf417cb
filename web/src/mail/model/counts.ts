/**
 * How many messages a list has, and how many of them are unread. The server counts; between its counts, events are added and taken
 * away here, so that a badge does not wait.
 */

import { belongs, isUnread, type View } from './labels.js';
import type { Applied } from './mailbox.js';

export interface Count {
  unread: number;
  total: number;
}

export class Counts {
  readonly #counts = new Map<View, Count>();

  get(view: View): Count | undefined {
    return this.#counts.get(view);
  }

  /** The server has counted. */
  set(view: View, { unread, total }: Count): void {
    this.#counts.set(view, { unread, total });
  }

  /** An event has changed something. */
  adjust({ kind, before, after }: Applied): void {
    if (kind === 'old' || before === undefined) {
      return;
    }
    for (const [view, count] of this.#counts) {
      this.#counts.set(view, {
        total: Math.max(0, count.total + has(view, after) - has(view, before)),
        unread: Math.max(0, count.unread + hasUnread(view, after) - hasUnread(view, before)),
      });
    }
  }

  clear(): void {
    this.#counts.clear();
  }

  entries(): [View, Count][] {
    return [...this.#counts];
  }
}

function has(view: View, labels: readonly string[] | null): number {
  return labels !== null && belongs(view, labels) ? 1 : 0;
}

function hasUnread(view: View, labels: readonly string[] | null): number {
  return labels !== null && isUnread(labels) ? has(view, labels) : 0;
}
