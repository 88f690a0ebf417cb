/** A message's `ts`: `seconds.micros`, always ten digits and six, so that their order as text is their order in time. */

export type Ts = string;

/** Before everything: what a conversation that was never read has been read to. */
export const NEVER: Ts = '0000000000.000000';

const FORM = /^\d{10}\.\d{6}$/;

export function isTs(value: unknown): value is Ts {
  return typeof value === 'string' && FORM.test(value);
}

/** Milliseconds since 1970. */
export function millisOf(ts: Ts): number {
  return Math.floor(Number(ts) * 1_000);
}

/** The first `ts` of this millisecond. */
export function tsAt(millis: number): Ts {
  const seconds = Math.max(0, Math.floor(millis / 1_000));
  const micros = Math.max(0, Math.floor(millis % 1_000)) * 1_000;
  return `${String(seconds).padStart(10, '0')}.${String(micros).padStart(6, '0')}`;
}

export function laterOf(left: Ts, right: Ts): Ts {
  return left > right ? left : right;
}

/** In links: `p1700000000000200`. */
export function linkPart(ts: Ts): string {
  return `p${ts.replace('.', '')}`;
}

/** The `ts` of such a part of a link; null for anything else. */
export function ofLinkPart(part: string): Ts | null {
  const [, seconds, micros] = /^p(\d{10})(\d{6})$/.exec(part) ?? [];
  return seconds === undefined || micros === undefined ? null : `${seconds}.${micros}`;
}
