/** Where one is in the page, as its address says it: `#/C…`, `#/C…/p1700000000000200`, with a thread `?thread_ts=…`. */

import { isTs, linkPart, ofLinkPart, type Ts } from './ts.js';

export interface Route {
  readonly channel: string;
  /** The message to show. */
  readonly ts: Ts | null;
  readonly thread: Ts | null;
}

const NOWHERE: Route = { channel: '', ts: null, thread: null };

export function routeOf(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?');
  const [, channel = '', part = ''] = path.split('/');
  if (!/^[CDG][A-Z0-9]{1,40}$/.test(channel)) {
    return NOWHERE;
  }
  const thread = new URLSearchParams(query).get('thread_ts');
  return { channel, ts: ofLinkPart(part), thread: isTs(thread) ? thread : null };
}

export function hashOf({ channel, ts, thread }: Route): string {
  const part = ts === null ? '' : `/${linkPart(ts)}`;
  const query = thread === null ? '' : `?thread_ts=${thread}`;
  return channel === '' ? '' : `#/${channel}${part}${query}`;
}
