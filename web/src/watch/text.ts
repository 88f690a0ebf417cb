/** How times, differences and people are written. */

/** A place in the media: `1:02:03`, `2:03`. */
export function clockText(ms: number): string {
  if (!Number.isFinite(ms)) {
    return '–:––';
  }
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const [h, m, s] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (value: number): string => String(value).padStart(2, '0');
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** The same with tenths: `2:03.4`. */
export function fineClockText(ms: number): string {
  const tenths = Math.max(0, Math.floor(ms / 100));
  return `${clockText(tenths * 100)}.${tenths % 10}`;
}

/** A difference: `+12 ms`, `−1.4 s`. */
export function driftText(ms: number): string {
  const size = Math.abs(ms);
  const sign = Math.round(ms) === 0 ? '±' : ms > 0 ? '+' : '−';
  if (size < 995) {
    return `${sign}${Math.round(size)} ms`;
  }
  return size < 99_500 ? `${sign}${(size / 1_000).toFixed(1)} s` : `${sign}${clockText(size)}`;
}

export type DriftGrade = 'none' | 'good' | 'fair' | 'bad';

/** What a difference means to those who watch. */
export function driftGrade(ms: number | null | undefined): DriftGrade {
  if (ms === null || ms === undefined) {
    return 'none';
  }
  const size = Math.abs(ms);
  return size <= 100 ? 'good' : size <= 500 ? 'fair' : 'bad';
}

/** The letters that stand for a name: one or two, whole characters. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).filter((word) => word !== '');
  const letters = words.slice(0, 2).map((word) => Array.from(word)[0] ?? '');
  return letters.join('').toUpperCase() || '?';
}

/** One of `count` colours, always the same for one member. */
export function colourOf(id: string, count: number): number {
  let sum = 0;
  for (const letter of id) {
    sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  }
  return sum % count;
}

/** Who is doing something: `Ada`, `Ada and Ben`, `Ada, Ben and 2 more`. */
export function namesText(names: string[]): string {
  const [first = '', second = '', ...rest] = names;
  if (names.length <= 2) {
    return names.length === 2 ? `${first} and ${second}` : first;
  }
  return `${first}, ${second} and ${rest.length} more`;
}
/** A room code as it is meant, from what somebody has typed or pasted: a code or a link; null for neither. */
export function codeOf(typed: string): string | null {
  const last = typed.trim().replace(/[?#].*$/, '').replace(/\/+$/, '').split('/').at(-1) ?? '';
  const code = last.replace(/[\s-]/g, '').toUpperCase();
  return /^[A-HJ-NP-Z2-9]{8}$/.test(code) ? code : null;
}

/** A part of a URL as it reads; as it is where its escapes are none. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
