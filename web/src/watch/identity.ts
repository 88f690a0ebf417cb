/**
 * Who this tab is: a name, the key that makes it the same member again, and the rooms it has been in.
 * The first tab of a browser takes the key that the browser keeps; every further tab is somebody else.
 */

const NAME = 'fanfare.watch.name';
const KEY = 'fanfare.watch.key';
const OWNER_KEYS = 'fanfare.watch.owner-keys';
const HERE = 'fanfare.watch.here';
const RECENT = 'fanfare.watch.recent';
const RECENT_MAX = 5;

export interface RecentRoom {
  code: string;
  name: string;
}

class Identity {
  #key = read('session', KEY);
  #mayShare = false;
  /** Lets another tab take the key that the browser keeps. */
  release: () => void = () => undefined;

  /** Finds out whether this tab may use the key that the browser keeps. To be awaited before connecting. */
  async settle(): Promise<void> {
    if (!('locks' in navigator)) {
      return;
    }
    this.#mayShare = await new Promise<boolean>((resolve) => {
      void navigator.locks.request(KEY, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        // Held until the tab goes: a promise that nobody could resolve would be collected, and the lock with it.
        return lock === null ? undefined : new Promise<void>((release) => (this.release = release));
      });
    });
    if (this.#key === '' && this.#mayShare) {
      this.#key = read('local', KEY);
    }
  }

  get name(): string {
    return read('session', NAME) || read('local', NAME);
  }

  set name(name: string) {
    write('session', NAME, name);
    write('local', NAME, name);
  }

  /** The room that this tab is in, also after a reload. */
  get here(): string {
    return read('session', HERE);
  }

  set here(code: string) {
    write('session', HERE, code);
  }

  /** What the server is told about who connects. */
  credentials(): { resumeKey?: string } {
    return this.#key === '' ? {} : { resumeKey: this.#key };
  }

  /** Keeps the key that the server has given. */
  keep(key: string): void {
    this.#key = key;
    write('session', KEY, key);
    if (this.#mayShare) {
      write('local', KEY, key);
    }
  }

  /** The key that makes the maker of a room its owner; only this tab keeps it. */
  ownerKey(code: string): string | undefined {
    return readJson<Record<string, string>>('session', OWNER_KEYS, {})[code];
  }

  keepOwnerKey(code: string, key: string): void {
    write('session', OWNER_KEYS, JSON.stringify({ [code]: key }));
  }

  recent(): RecentRoom[] {
    const rooms = readJson<RecentRoom[]>('local', RECENT, []);
    return Array.isArray(rooms) ? rooms.slice(0, RECENT_MAX) : [];
  }

  remember(room: RecentRoom): void {
    const others = this.recent().filter(({ code }) => code !== room.code);
    write('local', RECENT, JSON.stringify([room, ...others].slice(0, RECENT_MAX)));
  }

  forget(code: string): void {
    write('local', RECENT, JSON.stringify(this.recent().filter((room) => room.code !== code)));
  }
}

/** This tab. */
export const identity = new Identity();

type Kept = 'session' | 'local';

function storage(kept: Kept): Storage {
  return kept === 'session' ? sessionStorage : localStorage;
}

// Storage may be switched off: then everything is forgotten with the page, and nothing breaks.
function read(kept: Kept, name: string): string {
  try {
    return storage(kept).getItem(name) ?? '';
  } catch {
    return '';
  }
}

function write(kept: Kept, name: string, value: string): void {
  try {
    storage(kept).setItem(name, value);
  } catch {
    return;
  }
}

function readJson<T>(kept: Kept, name: string, otherwise: T): T {
  try {
    return (JSON.parse(read(kept, name)) as T) ?? otherwise;
  } catch {
    return otherwise;
  }
}
