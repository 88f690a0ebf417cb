/** The requests of the page, in Slack's manner: `POST /v1/METHOD`, answered with `ok` or an error's code. */

import { countOf, fieldsOf, textOf, type Fields } from './model/read.js';

const PATIENCE_MS = 15_000;
/** Without a word from the server, a limit of rate is over after this. */
const PAUSE_S = 2;

/** A request that was refused or not answered. `code` is the server's, `offline`, or `timeout`. */
export class RequestFailed extends Error {
  constructor(
    readonly code: string,
    /** How long the server wants not to be asked, in seconds. */
    readonly pauseS = 0,
  ) {
    super(code);
  }

  /** Nobody knows whether it was done, or it may be done later: the same request may be made again. */
  get passes(): boolean {
    return PASSING.has(this.code) || this.code.startsWith('http_5');
  }

  get signedOut(): boolean {
    return SIGNED_OUT.has(this.code);
  }
}

const PASSING = new Set(['offline', 'timeout', 'ratelimited', 'rate_limited', 'service_unavailable', 'fatal_error', 'internal_error', 'request_timeout']);
const SIGNED_OUT = new Set(['not_authed', 'invalid_auth', 'token_revoked', 'token_expired', 'account_inactive']);

export class Api {
  /** A token to show instead of the browser's cookie. */
  token = '';

  /** `keepalive`: the request outlives the page. */
  async call(method: string, args: Readonly<Record<string, unknown>> = {}, keepalive = false): Promise<Fields> {
    const headers: Record<string, string> = { 'Content-Type': 'application/json; charset=utf-8' };
    if (this.token !== '') {
      headers['Authorization'] = `Bearer ${this.token}`;
    }
    const body = JSON.stringify(args);
    return await answerOf(`/v1/${method}`, { method: 'POST', headers, body, keepalive });
  }
}

/** A development server's users, with their tokens; none on any other server. */
export async function askFixtures(): Promise<{ name: string; token: string }[]> {
  try {
    const response = await fetch('/chat/dev', { signal: AbortSignal.timeout(PATIENCE_MS), credentials: 'same-origin' });
    const users = response.ok ? fieldsOf(await response.json())['users'] : [];
    return (Array.isArray(users) ? users : []).flatMap((entry: unknown) => {
      const from = fieldsOf(entry);
      const [name, token] = [textOf(from['real_name']) || textOf(from['name']), textOf(from['token'])];
      return token.startsWith('xoxp-') && name !== '' ? [{ name, token }] : [];
    });
  } catch {
    return [];
  }
}

async function answerOf(path: string, request: RequestInit): Promise<Fields> {
  let response: Response;
  let answer: Fields;
  try {
    response = await fetch(path, { ...request, credentials: 'same-origin', signal: AbortSignal.timeout(PATIENCE_MS) });
    answer = fieldsOf(await response.json().catch(() => null));
  } catch (failure) {
    const slow = failure instanceof DOMException && failure.name === 'TimeoutError';
    throw new RequestFailed(slow ? 'timeout' : 'offline');
  }
  if (answer['ok'] === true && response.ok) {
    return answer;
  }
  const code = textOf(answer['error']) || `http_${response.status}`;
  const pause = countOf(Number(response.headers.get('retry-after'))) || (response.status === 429 ? PAUSE_S : 0);
  throw new RequestFailed(response.status === 429 ? 'ratelimited' : code, pause);
}
