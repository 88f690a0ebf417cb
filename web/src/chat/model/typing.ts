/** Who is writing just now. It is never told that somebody has stopped: it ends by itself. */

/** Those who write on tell it again before this. */
const HOLDS_MS = 6_000;
/** More at once are nobody in particular. */
const NAMED_MAX = 50;

export class Typing {
  readonly #until = new Map<string, number>();

  began(user: string, now: number): void {
    if (this.#until.size < NAMED_MAX || this.#until.has(user)) {
      this.#until.set(user, now + HOLDS_MS);
    }
  }

  /** It was said: nothing is being written. */
  ended(user: string): void {
    this.#until.delete(user);
  }

  who(now: number): string[] {
    for (const [user, until] of this.#until) {
      if (until <= now) {
        this.#until.delete(user);
      }
    }
    return [...this.#until.keys()];
  }

  /** When the next one ends; null if nobody writes. */
  next(): number | null {
    return this.#until.size === 0 ? null : Math.min(...this.#until.values());
  }
}

export function typingText(names: readonly string[]): string {
  const [first = '', second = ''] = names;
  switch (names.length) {
    case 0:
      return '';
    case 1:
      return `${first} is typing…`;
    case 2:
      return `${first} and ${second} are typing…`;
    default:
      return 'Several people are typing…';
  }
}
