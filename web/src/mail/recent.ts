/** The last events, to be looked at. */

import type { Side } from './model/parity.js';
import type { Envelope } from './model/protocol.js';

/** Events that are remembered. */
const RECENT_MAX = 40;

/** An event as it came. */
export interface Seen {
  type: string;
  seq: number;
  side: Side;
  /** Between the commit and now, in milliseconds, by two clocks. */
  lag: number;
  subject: string;
}

export class Recent {
  /** The newest first. */
  readonly seen: Seen[] = [];

  note(side: Side, seq: number, { event, timestamp }: Envelope): void {
    const subject = 'message' in event && typeof event.message === 'object' ? event.message.subject : '';
    this.seen.unshift({ type: event.type, seq, side, lag: Date.now() - timestamp, subject });
    this.seen.length = Math.min(this.seen.length, RECENT_MAX);
  }
}
