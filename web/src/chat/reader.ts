/** Loads parts of conversations and threads, one at a time for each end. */

import type { Api } from './api.js';
import type { Conversation } from './model/conversation.js';
import { around, latest, withNewer, withOlder, type Held } from './model/held.js';
import { NEVER, type Ts } from './model/ts.js';
import { askHistory, askReplies } from './requests.js';

/** Messages of one part of the history. */
const PART = 50;
/** Messages that the page holds of one conversation; beyond this it lets go of what is furthest away. */
const HELD_MAX = 300;

export class Reader {
  readonly #api: Api;
  readonly #changed: () => void;
  /** What is being asked for. */
  readonly #asked = new Map<string, Promise<void>>();

  constructor(api: Api, changed: () => void) {
    this.#api = api;
    this.#changed = changed;
  }

  isLoading(channel: string): boolean {
    return [...this.#asked.keys()].some((name) => name.endsWith(channel));
  }

  /** What was said last, in place of all that is held. */
  async newest({ id, held }: Conversation): Promise<void> {
    await this.#once(`newest ${id}`, async () => {
      await held.load(() => askHistory(this.#api, id, PART), latest);
    });
  }

  async older({ id, held }: Conversation): Promise<void> {
    const from = held.range?.from ?? NEVER;
    if (from !== NEVER) {
      await this.#once(`older ${id}`, async () => {
        await held.load(() => askHistory(this.#api, id, PART, { latest: from }), withOlder);
        held.trim('oldest', HELD_MAX);
      });
    }
  }

  async newer({ id, held }: Conversation): Promise<void> {
    const to = held.range?.to ?? null;
    if (to !== null) {
      await this.#once(`newer ${id}`, async () => {
        await held.load(() => askHistory(this.#api, id, PART, { oldest: to, forward: true }), withNewer);
        held.trim('newest', HELD_MAX);
      });
    }
  }

  /** What is around a place in time, in place of all that is held. */
  async around({ id, held }: Conversation, ts: Ts): Promise<void> {
    const ask = async () => {
      const before = await askHistory(this.#api, id, PART / 2, { latest: ts });
      const after = await askHistory(this.#api, id, PART, { oldest: before.messages.at(-1)?.ts ?? NEVER, forward: true });
      return { before, after, position: before.position };
    };
    await this.#once(`around ${ts} ${id}`, async () => {
      await held.load(ask, around);
    });
  }

  async thread(channel: string, root: Ts, held: Held): Promise<void> {
    await this.#once(`thread ${root} ${channel}`, async () => {
      await held.load(() => askReplies(this.#api, channel, root), latest);
    });
  }

  /** The end of a conversation that is read live grows; its beginning may be had again. */
  shorten({ held }: Conversation): void {
    held.trim('newest', HELD_MAX);
  }

  async #once(name: string, ask: () => Promise<void>): Promise<void> {
    const asked = this.#asked.get(name);
    if (asked !== undefined) {
      return await asked;
    }
    const asking = ask().finally(() => {
      this.#asked.delete(name);
      this.#changed();
    });
    this.#asked.set(name, asking);
    this.#changed();
    await asking;
  }
}
