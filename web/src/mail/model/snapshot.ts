/**
 * What a browser keeps of a mailbox, so that a page that is opened again shows something at once, also without a network, and goes on
 * where the last one was. Only whole parts of the inbox are kept: so there is no hole in them, and the next part follows.
 */

import { INBOX } from './labels.js';
import type { Mailbox, Part } from './mailbox.js';
import { parseMessage, type Label, type Message } from './protocol.js';
import { parseId, idOf, type Position } from './position.js';

/** Most messages that are kept. */
export const KEPT_MAX = 400;
/** A snapshot that is older is shown, but the stream is not resumed from it: the list is asked for again. */
export const RESUME_MS_MAX = 24 * 3_600_000;

const FORMAT = 1;

export interface Snapshot {
  user: string;
  email: string;
  /** When it was right, in milliseconds since 1970. */
  at: number;
  position: Position;
  unread: number;
  total: number;
  labels: Label[];
  messages: Message[];
  parts: Part[];
}

/** What to keep of a mailbox; null as long as its inbox is not loaded. */
export function take(
  mailbox: Mailbox,
  rest: Omit<Snapshot, 'messages' | 'parts'>,
): Snapshot | null {
  const all = mailbox.list(INBOX);
  const parts = mailbox.parts(INBOX);
  const fits = parts.filter(({ floor }) => all.filter(({ date }) => date >= floor).length <= KEPT_MAX);
  const last = fits.at(-1);
  if (last === undefined) {
    return null;
  }
  return { ...rest, messages: all.filter(({ date }) => date >= last.floor), parts: fits };
}

export function write(snapshot: Snapshot): string {
  // Infinity is not in JSON.
  const parts = snapshot.parts.map(({ floor, next }) => ({ floor: Number.isFinite(floor) ? floor : null, next }));
  return JSON.stringify({ ...snapshot, format: FORMAT, position: idOf(snapshot.position), parts });
}

/** A snapshot from what was kept; null if it is none, or of another format. */
export function read(text: string): Snapshot | null {
  let kept: Record<string, unknown>;
  try {
    kept = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return null;
  }
  const position = parseId(String(kept?.['position']));
  const { messages, parts, labels } = kept ?? {};
  const lists = [messages, parts, labels].every((list) => Array.isArray(list));
  if (kept?.['format'] !== FORMAT || position === null || !lists) {
    return null;
  }
  const rows = (messages as unknown[]).map(parseMessage).filter((message) => message !== null);
  return {
    ...(kept as unknown as Snapshot),
    position,
    messages: rows.slice(0, KEPT_MAX),
    parts: (parts as { floor: number | null; next: string | null }[]).map(({ floor, next }) => ({
      floor: floor ?? -Infinity,
      next,
    })),
  };
}
