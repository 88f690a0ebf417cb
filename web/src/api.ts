/** The two calls of the server API that the page makes: publish, and read a channel's head. */

import { randomId } from './payload.js';

/** How often one publish is tried; each try carries the same idempotency key. */
export const PUBLISH_ATTEMPTS = 3;
/** The pause before a publish is tried again, in milliseconds, times the tries so far. */
export const PUBLISH_RETRY_MS = 300;
/** How long one call may take, in milliseconds. */
export const CALL_TIMEOUT_MS = 10_000;

/** A place in a channel's log. */
export interface Position {
  epoch: string;
  offset: number;
}

/** The server's answer to a publish. */
export interface Published extends Position {
  /** True when an earlier try had been committed already. */
  duplicate: boolean;
}

/** Why a call failed, and whether trying again can help. */
export class ApiError extends Error {
  constructor(
    readonly kind: 'unauthorized' | 'refused' | 'unreachable',
    message: string,
  ) {
    super(message);
  }
}

/**
 * Publishes and waits for the commit. A lost answer is asked for again with the same idempotency
 * key, so the message is in the channel once whatever happened on the way.
 */
export async function publish(channel: string, data: unknown): Promise<Published> {
  const body = { channel, data, idempotency_key: randomId() };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const result = await call('publish', body);
      return { ...position(result), duplicate: result['duplicate'] === true };
    } catch (error) {
      const again = error instanceof ApiError && error.kind === 'unreachable';
      if (!again || attempt === PUBLISH_ATTEMPTS) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, PUBLISH_RETRY_MS * attempt));
    }
  }
}

/** The last position of a channel. */
export async function readHead(channel: string): Promise<Position> {
  return position(await call('history', { channel, limit: 0 }));
}

async function call(method: string, body: unknown): Promise<Record<string, unknown>> {
  let response: Response;
  let answer: unknown;
  try {
    response = await fetch(`/api/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    answer = response.status === 401 ? null : await response.json().catch(() => null);
  } catch {
    throw new ApiError('unreachable', 'The server does not answer.');
  }
  if (response.status === 401) {
    throw new ApiError('unauthorized', 'The server asks for an API key.');
  }
  const { error, result } = (answer ?? {}) as {
    error?: { code?: number; message?: string };
    result?: Record<string, unknown>;
  };
  if (error !== undefined) {
    throw new ApiError(
      'refused',
      `${error.message ?? 'refused'} (${error.code ?? response.status})`,
    );
  }
  if (response.status >= 500) {
    throw new ApiError('unreachable', `The server answered ${response.status}.`);
  }
  if (!response.ok || result === undefined) {
    throw new ApiError('refused', `The server answered ${response.status}.`);
  }
  return result;
}

function position(result: Record<string, unknown>): Position {
  return { epoch: String(result['epoch'] ?? ''), offset: Number(result['offset'] ?? 0) };
}
