/** How senders, times and numbers are written. */

export interface Sender {
  name: string;
  address: string;
}

/** Takes a `From` header apart: `"Lovelace, Ada" <ada@example.org>`, `ada@example.org`. */
export function senderOf(from: string): Sender {
  const [, quoted, plain, address] = /^\s*(?:"((?:[^"\\]|\\.)*)"|([^<"]*?))\s*<([^<>]*)>\s*$/.exec(from) ?? [];
  if (address === undefined) {
    const bare = from.trim();
    return { name: bare === '' ? 'unknown sender' : (bare.split('@')[0] ?? bare) || bare, address: bare };
  }
  const name = (quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '').trim();
  return { name: name === '' ? (address.split('@')[0] ?? address) || 'unknown sender' : name, address };
}

/** One or two letters that stand for a name. */
export function initialsOf(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter((word) => word !== '');
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined].map((word) => [...(word ?? '')][0] ?? '');
  return letters.join('').toUpperCase() || '?';
}

/** One of `count` colours, always the same for the same text. */
export function colourOf(text: string, count = 8): number {
  let sum = 7;
  for (const letter of text.toLowerCase()) {
    sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  }
  return sum % count;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const DAY = new Intl.DateTimeFormat('en', { month: 'short', day: 'numeric' });
const DAY_OF_YEAR = new Intl.DateTimeFormat('en', { month: 'short', day: 'numeric', year: 'numeric' });
const WEEKDAY = new Intl.DateTimeFormat('en', { weekday: 'long' });
const MONTH = new Intl.DateTimeFormat('en', { month: 'long' });
const MONTH_OF_YEAR = new Intl.DateTimeFormat('en', { month: 'long', year: 'numeric' });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });

export function clockText(at: number): string {
  return CLOCK.format(at);
}

/** In a row: the time of today, the day of this year, or the date. */
export function shortTime(at: number, now: number): string {
  if (daysBetween(at, now) === 0) {
    return CLOCK.format(at);
  }
  return (sameYear(at, now) ? DAY : DAY_OF_YEAR).format(at);
}

export function wholeTime(at: number): string {
  return WHOLE.format(at);
}

/** Above rows: `Today`, `Yesterday`, `Tuesday`, `Last week`, `October`. */
export function dayText(at: number, now: number): string {
  const days = daysBetween(at, now);
  if (days <= 0) {
    return 'Today';
  }
  if (days === 1) {
    return 'Yesterday';
  }
  if (days < 7) {
    return WEEKDAY.format(at);
  }
  if (days < 14) {
    return 'Last week';
  }
  return (sameYear(at, now) ? MONTH : MONTH_OF_YEAR).format(at);
}

/** `just now`, `4 min ago`, `2 h ago`, or when it was. */
export function agoText(at: number, now: number): string {
  const seconds = Math.max(0, Math.floor((now - at) / 1_000));
  if (seconds < 45) {
    return 'just now';
  }
  if (seconds < 3_570) {
    return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  }
  return seconds < 84_600 ? `${Math.round(seconds / 3_600)} h ago` : `on ${shortTime(at, now)}`;
}

/** Calendar days, where the reader is. */
export function daysBetween(at: number, now: number): number {
  const midnight = (time: number): number => new Date(time).setHours(0, 0, 0, 0);
  return Math.round((midnight(now) - midnight(at)) / 86_400_000);
}

function sameYear(one: number, other: number): boolean {
  return new Date(one).getFullYear() === new Date(other).getFullYear();
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
