/** What this page publishes, how it knows its own again, and how any payload is shown as text. */

/** The longest payload text that a row shows, in characters. */
export const MAX_SHOWN_CHARS = 400;

/** A message of this page. `page` and `sent` let it measure latency when the message is back. */
export interface PagePayload {
  text: string;
  /** Milliseconds of the sending page's clock. */
  sent: number;
  /** The sending page, one random name per load. */
  page: string;
}

/** A random name of 128 bits; also works where `crypto.randomUUID` is withheld (plain HTTP). */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** When `page` sent this payload, by its own clock; null for a payload of anyone else. */
export function sentAt(data: unknown, page: string): number | null {
  return isPagePayload(data) && data.page === page ? data.sent : null;
}

/** A payload as text: the words of a page's message, JSON for anything else. */
export function payloadText(data: unknown): string {
  const text = isPagePayload(data) ? data.text : (JSON.stringify(data) ?? '');
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
}

function isPagePayload(data: unknown): data is PagePayload {
  if (typeof data !== 'object' || data === null) {
    return false;
  }
  const value = data as Record<string, unknown>;
  return (
    typeof value['text'] === 'string' &&
    typeof value['sent'] === 'number' &&
    typeof value['page'] === 'string'
  );
}
