/**
 * Decides whether a publication came live or by recovery. A connection that has come back is first
 * given what it missed; nothing on the wire marks where that ends, so the page works it out from
 * what it knows. It knows nothing of connections or of the screen.
 */

/** How a publication reached a pane. */
export type Via = 'live' | 'recovered';

/** One return of a connection. */
export class Resume {
  /** The channel's head as known around the return: what is at or below it was missed. */
  #head: number;

  /**
   * @param at when the connection was back, in milliseconds of the page's clock
   * @param head the highest sequence known to exist at that moment
   */
  constructor(
    readonly at: number,
    head: number,
  ) {
    this.#head = head;
  }

  /** The server has said that the channel had come to `head` at the time of the return. */
  learnHead(head: number): void {
    this.#head = Math.max(this.#head, head);
  }

  /**
   * How a publication came. For those of this page the moment of publishing tells; for others,
   * whether the channel had come so far when the connection returned.
   */
  via(seq: number, sentByPageAt: number | null): Via {
    if (sentByPageAt !== null) {
      return sentByPageAt < this.at ? 'recovered' : 'live';
    }
    return seq <= this.#head ? 'recovered' : 'live';
  }
}
