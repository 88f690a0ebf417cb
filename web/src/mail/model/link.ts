/** How the page is connected: a state machine without clock, socket or screen. */

export type Link =
  | { state: 'starting' }
  | { state: 'live'; since: number }
  /** Lost a moment ago; likely to be back at once. */
  | { state: 'reconnecting'; since: number }
  /** Away for longer, or without a network. `nextAt`: when it is tried again by itself. */
  | { state: 'offline'; since: number; nextAt: number | null }
  | { state: 'signed-out' }
  /** Newer tabs of this user have taken all places. */
  | { state: 'too-many' };

export type LinkInput =
  /** Begin, also after an end. */
  | { type: 'start' }
  | { type: 'ready'; at: number }
  | { type: 'lost'; at: number }
  | { type: 'waiting'; at: number; nextAt: number }
  /** The browser says that there is no network. */
  | { type: 'no-network'; at: number }
  | { type: 'tick'; at: number }
  | { type: 'signed-out' }
  | { type: 'too-many' };

/** So long a lost connection is not called offline. */
export const OFFLINE_AFTER_MS = 10_000;

export function nextLink(link: Link, input: LinkInput): Link {
  if (input.type === 'start') {
    return { state: 'starting' };
  }
  // These last until somebody begins again.
  if (link.state === 'signed-out' || link.state === 'too-many') {
    return link;
  }
  switch (input.type) {
    case 'ready':
      return { state: 'live', since: input.at };
    case 'lost':
      return link.state === 'reconnecting' || link.state === 'offline'
        ? link
        : { state: 'reconnecting', since: input.at };
    case 'waiting':
      return since(link, input.at, input.nextAt);
    case 'no-network':
      return { state: 'offline', since: awaySince(link, input.at), nextAt: null };
    case 'tick':
      return link.state === 'reconnecting' && input.at - link.since >= OFFLINE_AFTER_MS
        ? { state: 'offline', since: link.since, nextAt: null }
        : link;
    default:
      return { state: input.type };
  }
}

function since(link: Link, at: number, nextAt: number): Link {
  const away = awaySince(link, at);
  return link.state === 'offline' || at - away >= OFFLINE_AFTER_MS
    ? { state: 'offline', since: away, nextAt }
    : { state: 'reconnecting', since: away };
}

function awaySince(link: Link, at: number): number {
  return link.state === 'reconnecting' || link.state === 'offline' ? link.since : at;
}

/** The word beside the dot. */
export function linkText(link: Link, account: string, now: number): string {
  switch (link.state) {
    case 'starting':
      return 'Connecting';
    case 'live':
      return account === 'reconnect' ? 'Gmail disconnected' : account === 'syncing' ? 'Reading mailbox' : 'Live';
    case 'reconnecting':
      return `Reconnecting · ${Math.max(0, Math.floor((now - link.since) / 1_000))} s`;
    case 'offline':
      return 'Offline';
    case 'signed-out':
      return 'Signed out';
    case 'too-many':
      return 'Paused here';
  }
}
