/** The users of the workspace: what they are called, and who is here. */

import { fieldsOf, listOf, textOf } from './read.js';

export interface Person {
  readonly id: string;
  /** Without spaces, and unique: what is typed behind an `@`. */
  readonly handle: string;
  readonly name: string;
  readonly bot: boolean;
  readonly deleted: boolean;
  readonly admin: boolean;
}

export function personOf(value: unknown): Person | null {
  const from = fieldsOf(value);
  const profile = fieldsOf(from['profile']);
  const id = textOf(from['id']);
  if (id === '') {
    return null;
  }
  const handle = textOf(from['name']) || id;
  const shown = textOf(profile['display_name']);
  const name = (shown === handle ? '' : shown) || textOf(from['real_name']) || textOf(profile['real_name']) || handle;
  return { id, handle, name, bot: from['is_bot'] === true, deleted: from['deleted'] === true, admin: from['is_admin'] === true };
}

export class People {
  /** Counts changes of what somebody is called. */
  version = 0;
  readonly #people = new Map<string, Person>();
  /** Connections by user: who has one is here. */
  readonly #clients = new Map<string, Set<string>>();
  /** Who is here but wants to count as away. */
  readonly #away = new Set<string>();

  load(users: unknown): void {
    for (const user of listOf(users)) {
      this.put(user);
      const { id, manual_away: away } = fieldsOf(user);
      if (typeof away === 'boolean') {
        this.setAway(textOf(id), away);
      }
    }
  }

  put(user: unknown): void {
    const person = personOf(user);
    if (person !== null) {
      const before = this.#people.get(person.id);
      this.version += before?.name === person.name && before.handle === person.handle ? 0 : 1;
      this.#people.set(person.id, person);
    }
  }

  get(id: string): Person | null {
    return this.#people.get(id) ?? null;
  }

  /** The name of a user; the id of one who is not known yet. */
  nameOf(id: string): string {
    return this.#people.get(id)?.name ?? id;
  }

  byHandle(handle: string): Person | null {
    const wanted = handle.toLowerCase();
    return this.all().find((person) => person.handle.toLowerCase() === wanted) ?? null;
  }

  all(): Person[] {
    return [...this.#people.values()];
  }

  /** Those who can be spoken to. */
  active(): Person[] {
    return this.all().filter(({ deleted }) => !deleted);
  }

  isHere(id: string): boolean {
    return this.#clients.has(id) && !this.#away.has(id);
  }

  setAway(id: string, away: boolean): void {
    away ? this.#away.add(id) : this.#away.delete(id);
  }

  isSetAway(id: string): boolean {
    return this.#away.has(id);
  }

  /** Who is connected, as the server says: by user, its connections. */
  loadPresence(clients: Iterable<{ user: string; client: string }>): void {
    this.#clients.clear();
    for (const { user, client } of clients) {
      this.came(user, client);
    }
  }

  came(user: string, client: string): void {
    const clients = this.#clients.get(user) ?? new Set();
    this.#clients.set(user, clients.add(client));
  }

  left(user: string, client: string): void {
    const clients = this.#clients.get(user);
    clients?.delete(client);
    if (clients?.size === 0) {
      this.#clients.delete(user);
    }
  }
}
