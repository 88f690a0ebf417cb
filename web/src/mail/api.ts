/** The requests of the page. Every one goes to the server that the page came from. */

import { ALL, type View } from './model/labels.js';
import { parseMe, parsePage, type Me, type Page } from './model/protocol.js';

const PATIENCE_MS = 10_000;

/** A request that was refused or not answered: `code` is one of the server's, `offline`, `absent`, or `unauthorized`. */
export class RequestFailed extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Where one signs in; a page, not a request. */
export const LOGIN = '/mail/login';

/** What the WebSocket gateway wants. */
export interface Ticket {
  token: string;
  channel: string;
}

export async function askMe(): Promise<Me> {
  return parseMe(await request('GET', '/mail/me'));
}

export async function askPage(view: View, limit: number, before?: string): Promise<Page> {
  const query = new URLSearchParams({ limit: String(limit), visible: 'true' });
  if (view !== ALL) {
    query.set('label', view);
  }
  if (before !== undefined) {
    query.set('before', before);
  }
  return parsePage(await request('GET', `/mail/messages?${query}`));
}

export async function askTicket(): Promise<Ticket> {
  const { token, channel } = (await request('GET', '/mail/token')) as Partial<Ticket>;
  if (typeof token !== 'string' || typeof channel !== 'string') {
    throw new RequestFailed('unexpected', 'The server gave no token.');
  }
  return { token, channel };
}

export async function syncNow(): Promise<void> {
  await request('POST', '/mail/sync');
}

/** Ends this session. */
export async function signOut(): Promise<void> {
  await request('POST', '/mail/logout');
}

/** Takes Gmail's consent back, and lets the server forget the mailbox. */
export async function disconnectGmail(): Promise<void> {
  await request('POST', '/mail/disconnect');
}

/** Lets something happen in the stand-in for Google. */
export async function act(what: string, body: object): Promise<unknown> {
  return await request('POST', `/mail/dev/${what}`, body);
}

async function request(method: string, path: string, body?: object): Promise<unknown> {
  const init: RequestInit = { method, signal: AbortSignal.timeout(PATIENCE_MS), cache: 'no-store' };
  if (body !== undefined) {
    init.headers = { 'content-type': 'application/json' };
    init.body = JSON.stringify(body);
  }
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new RequestFailed('offline', 'The server cannot be reached.');
  }
  const answer: unknown = await response.json().catch(() => null);
  if (response.ok) {
    return answer;
  }
  const error = (answer as { error?: { code?: unknown; message?: unknown } } | null)?.error;
  if (response.status === 401 && error?.code === 'unauthorized') {
    throw new RequestFailed('unauthorized', 'You are signed out.');
  }
  if (response.status === 404 || response.status === 401) {
    // Not the mail app's answer: there is none.
    throw new RequestFailed('absent', 'This server has no live mail.');
  }
  // A server that starts, ends, or has lost its database: the same as none.
  const code = response.status >= 502 && response.status <= 504 ? 'offline' : String(error?.code ?? response.status);
  throw new RequestFailed(code, String(error?.message ?? `The server answered ${response.status}.`));
}
