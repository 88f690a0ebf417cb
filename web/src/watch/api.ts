/** The two requests of the watch party: make a room, and ask what anybody with its code may know. */

import type { Control, Source } from './protocol.js';

export interface NewRoom {
  name: string;
  maxParticipants: number;
  password?: string;
  playbackControl: Control;
  source: Source;
}

export interface MadeRoom {
  code: string;
  ownerKey?: string;
}

export interface KnownRoom {
  code: string;
  name: string;
  hasPassword: boolean;
  maxParticipants: number;
  participantCount: number;
}

/** A request that was refused or not answered; `code` is one of the server's, or `OFFLINE`. */
export class RequestFailed extends Error {
  readonly code: string;
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, retryAfterMs?: number) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

export async function makeRoom(room: NewRoom): Promise<MadeRoom> {
  return await request<MadeRoom>('/watch/rooms', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(room),
  });
}

export async function lookUp(code: string): Promise<KnownRoom> {
  return (await request<{ room: KnownRoom }>(`/watch/rooms/${encodeURIComponent(code)}`)).room;
}

async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(10_000) });
  } catch {
    throw new RequestFailed('OFFLINE', 'The server cannot be reached. Check your connection.');
  }
  const body = (await response.json().catch(() => null)) as
    (T & { error?: { code: string; message: string; retryAfterMs?: number } }) | null;
  if (!response.ok || body === null) {
    const error = body?.error;
    throw new RequestFailed(
      error?.code ?? `HTTP_${response.status}`,
      error?.message ?? `The server answered ${response.status}. Is the watch party switched on there?`,
      error?.retryAfterMs,
    );
  }
  return body;
}
