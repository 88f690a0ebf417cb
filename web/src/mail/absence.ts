/** The time in which the page heard nothing, and what comes of it after the return. */

import { Away, missedOne, Tail, type Missed } from './model/away.js';
import type { Applied } from './model/mailbox.js';
import type { MailEvent } from './model/protocol.js';

export class Absence {
  readonly #missed: (missed: Missed, since: number) => void;
  #away: Away | null = null;
  #tail: { tail: Tail; since: number } | null = null;

  constructor(missed: (missed: Missed, since: number) => void) {
    this.#missed = missed;
  }

  /** Since when nothing is heard; null while all is well. */
  get since(): number | null {
    return this.#away?.since ?? null;
  }

  /** Nothing is heard any more, and was not since then. */
  begin(since: number): void {
    this.#away ??= new Away(since);
  }

  /** Nothing more is said of it: everything is asked for anew. */
  forget(): void {
    this.#away = null;
  }

  /** When the stream was back behind `from`, the channel had come to `head`. */
  learnHead(head: number, from: number): void {
    this.#away?.learnHead(head, from);
    this.#endIfComplete();
  }

  /** Takes an event; true if it was missed, or may have been, and so did not happen just now. */
  takes(seq: number, applied: Applied | null, event: MailEvent): boolean {
    if (this.#away !== null) {
      this.#away.note(seq, applied);
      this.#endIfComplete();
      return true;
    }
    if (this.#tail?.tail.takes(event, Date.now()) === true && applied !== null) {
      this.#missed(missedOne(applied), this.#tail.since);
    }
    return false;
  }

  /** All that was missed is here. */
  end(): void {
    const away = this.#away;
    this.#away = null;
    if (away !== null) {
      this.#tail = { tail: new Tail(Date.now()), since: away.since };
      this.#missed(away.missed(), away.since);
    }
  }

  #endIfComplete(): void {
    if (this.#away?.complete === true) {
      this.end();
    }
  }
}
