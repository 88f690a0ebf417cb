/** What the mail app of a server says: messages, events, and who is signed in. Parsed here once, and trusted nowhere else. */

/** One message, as a list shows it. */
export interface Message {
  id: string;
  threadId: string;
  from: string;
  subject: string;
  snippet: string;
  /** Ids of labels: `INBOX`, `UNREAD`, `STARRED`, and those of the user. */
  labels: string[];
  /** When Gmail received it, in milliseconds since 1970. */
  date: number;
  /** The last place of Gmail's history that is in it: a decimal number of up to 64 bits. */
  version: string;
}

/** What happened, in one envelope for every transport. */
export type MailEvent =
  | { type: 'new_email'; message: Message }
  | { type: 'email_update'; message: Message; added: string[]; removed: string[] }
  | { type: 'email_delete'; id: string; version: string }
  | { type: 'sync_complete'; historyId: string }
  | { type: 'error'; code: string; message: string };

/** An event, and when the server committed it. */
export interface Envelope {
  event: MailEvent;
  /** In milliseconds since 1970, by the server's clock. */
  timestamp: number;
}

/** Who is signed in, and how the mailbox is. */
export interface Me {
  user: string;
  email: string;
  /** `syncing`: the mailbox is being read; `live`; `reconnect`: Gmail must be connected again. */
  state: string;
  watchExpires: number | null;
  lastSync: number | null;
  historyId: string | null;
  /** The server has a stand-in for Google, on which this page may act. */
  dev: boolean;
}

export interface Label {
  id: string;
  name: string;
}

/** A part of a list, the newest first. */
export interface Page {
  messages: Message[];
  unread: number;
  total: number;
  /** Where the next part begins; nothing if this was the last. */
  next: string | null;
  labels: Label[] | null;
  /** A stream from here misses nothing that is not in this answer. */
  eventId: string;
}

/** The event of an envelope; null for what this page does not know, which it passes over. */
export function parseEnvelope(value: unknown): Envelope | null {
  const envelope = record(value);
  const event = parseEvent(text(envelope['type']), record(envelope['data']));
  return event === null ? null : { event, timestamp: time(envelope['timestamp']) ?? 0 };
}

function parseEvent(type: string, data: Record<string, unknown>): MailEvent | null {
  switch (type) {
    case 'new_email': {
      const message = parseMessage(data);
      return message && { type, message };
    }
    case 'email_update': {
      const message = parseMessage(data);
      const changes = record(data['changes']);
      return message && { type, message, added: texts(changes['added']), removed: texts(changes['removed']) };
    }
    case 'email_delete': {
      const [id, version] = [text(data['id']), versionOf(data['version'])];
      return id === '' || version === null ? null : { type, id, version };
    }
    case 'sync_complete':
      return { type, historyId: versionOf(data['historyId']) ?? '0' };
    case 'error':
      return { type, code: text(data['code']), message: text(data['message']) };
    default:
      return null;
  }
}

/** A message; null if it has no id or no version. */
export function parseMessage(value: unknown): Message | null {
  const message = record(value);
  const id = text(message['id']);
  const version = versionOf(message['version']);
  if (id === '' || version === null) {
    return null;
  }
  return {
    id,
    threadId: text(message['threadId']),
    from: text(message['from']),
    subject: text(message['subject']),
    snippet: text(message['snippet']),
    labels: texts(message['labels']),
    date: time(message['date']) ?? 0,
    version,
  };
}

export function parsePage(value: unknown): Page {
  const page = record(value);
  const messages = Array.isArray(page['messages']) ? page['messages'].map(parseMessage) : [];
  const labels = Array.isArray(page['labels']) ? page['labels'].map(record) : null;
  return {
    messages: messages.filter((message) => message !== null),
    unread: count(page['unread']),
    total: count(page['total']),
    next: text(page['next']) || null,
    labels: labels?.map(({ id, name }) => ({ id: text(id), name: text(name) })) ?? null,
    eventId: text(page['eventId']),
  };
}

export function parseMe(value: unknown): Me {
  const me = record(value);
  return {
    user: text(me['user']),
    email: text(me['email']),
    state: text(me['state']),
    watchExpires: time(me['watchExpires']),
    lastSync: time(me['lastSync']),
    historyId: versionOf(me['historyId']),
    dev: me['dev'] === true,
  };
}

/** Which of two versions is later: below 0 if it is the second. They are too large for numbers. */
export function compareVersions(one: string, other: string): number {
  return one.length - other.length || (one < other ? -1 : one > other ? 1 : 0);
}

function versionOf(value: unknown): string | null {
  const written = typeof value === 'number' ? String(value) : text(value);
  return /^\d{1,20}$/.test(written) ? written.replace(/^0+(?=\d)/, '') : null;
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function count(value: unknown): number {
  return typeof value === 'number' && value > 0 ? Math.floor(value) : 0;
}

/** Milliseconds since 1970, written as such or as a date. */
function time(value: unknown): number | null {
  const millis = typeof value === 'string' ? Date.parse(value) : value;
  return typeof millis === 'number' && Number.isFinite(millis) ? millis : null;
}
