/**
 * Two transports side by side: whether both bring the same publications at the same positions. What is compared is remembered only until
 * the other side has brought it.
 */

export type Side = 'sse' | 'websocket';

/** What only one side has brought after this is a fault, if both are connected. */
export const LATE_MS = 30_000;
/** Most publications that wait for the other side; older ones are counted as missing there. */
export const WAITING_MAX = 5_000;

export interface Parity {
  /** Where each side stands; null before it has brought anything. */
  sse: number | null;
  websocket: number | null;
  /** Brought by both, at the same position, with the same content. */
  same: number;
  /** At the same position with other content, or in another order, or never brought by one of them. */
  different: number;
  /** Brought by one side only, so far. */
  waiting: number;
}

export class Comparison {
  #epoch: string | null = null;
  readonly #at: Record<Side, number | null> = { sse: null, websocket: null };
  /** Behind this a side brings everything. */
  readonly #from: Record<Side, number | null> = { sse: null, websocket: null };
  readonly #waiting = new Map<number, { side: Side; content: string; at: number }>();
  #same = 0;
  #different = 0;

  /** A side begins, or begins again, behind `seq`. What the other one has brought meanwhile it is given time for. */
  begin(side: Side, epoch: string, seq: number, now: number): void {
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#waiting.clear();
      this.#from.sse = this.#from.websocket = this.#at.sse = this.#at.websocket = null;
    }
    this.#from[side] ??= seq;
    for (const [at, waiting] of this.#waiting) {
      waiting.at = now;
      // That was before this side's time.
      if (at <= this.#from[side]) {
        this.#waiting.delete(at);
      }
    }
    this.#at[side] = Math.max(this.#at[side] ?? 0, seq);
  }

  /** A side has brought a publication. `content` is equal if and only if it is the same one. */
  bring(side: Side, epoch: string, seq: number, content: string, now: number): void {
    if (epoch !== this.#epoch) {
      this.begin(side, epoch, seq - 1, now);
    }
    const at = this.#at[side];
    if (at !== null && seq <= at) {
      // Brought again by a side that has come back.
      return;
    }
    if (at !== null && seq !== at + 1) {
      this.#different += 1;
    }
    this.#at[side] = seq;
    const other = side === 'sse' ? 'websocket' : 'sse';
    const from = this.#from[other];
    const waiting = this.#waiting.get(seq);
    if (waiting !== undefined && waiting.side === other) {
      this.#waiting.delete(seq);
      waiting.content === content ? (this.#same += 1) : (this.#different += 1);
    } else if (from === null || seq > from) {
      this.#waiting.set(seq, { side, content, at: now });
      this.#bound();
    }
  }

  /** Both sides are connected: whatever has not come by now does not come. */
  expire(now: number): void {
    for (const [seq, { at }] of this.#waiting) {
      if (now - at > LATE_MS) {
        this.#waiting.delete(seq);
        this.#different += 1;
      }
    }
  }

  get state(): Parity {
    return {
      sse: this.#at.sse,
      websocket: this.#at.websocket,
      same: this.#same,
      different: this.#different,
      waiting: this.#waiting.size,
    };
  }

  #bound(): void {
    for (const seq of this.#waiting.keys()) {
      if (this.#waiting.size <= WAITING_MAX) {
        return;
      }
      this.#waiting.delete(seq);
      this.#different += 1;
    }
  }
}

/** The same for the same data, however its keys are ordered. */
export function contentOf(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
      : inner,
  );
}
