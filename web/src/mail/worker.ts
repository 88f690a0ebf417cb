/**
 * Keeps the page itself, so that it opens without a network and shows what the browser keeps of the mailbox. It never touches what the page asks of
 * the server: neither lists nor the stream pass here.
 *
 * The page is always asked for first, and taken from what is kept only if there is no answer; files with a checksum in their names never change.
 */

// What a worker has, as far as it is used; the library of types for workers cannot be had beside the one for pages.
interface Waiting extends Event {
  waitUntil(done: Promise<unknown>): void;
}
interface Asking extends Waiting {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface Worker {
  addEventListener(type: 'install' | 'activate', listen: (event: Waiting) => void): void;
  addEventListener(type: 'fetch', listen: (event: Asking) => void): void;
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void> };
  readonly location: Location;
}
const worker = self as unknown as Worker;

const KEPT = 'fanfare-mail';
const PAGE = '/mail';
/** A server that is so slow counts as none. */
const PATIENCE_MS = 4_000;

worker.addEventListener('install', (event) => {
  event.waitUntil(askPage().then(() => worker.skipWaiting()));
});

worker.addEventListener('activate', (event) => event.waitUntil(worker.clients.claim()));

worker.addEventListener('fetch', (event) => {
  const { method, mode, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== 'GET' || origin !== worker.location.origin) {
    return;
  }
  if (mode === 'navigate' && (pathname === PAGE || pathname === `${PAGE}/`)) {
    event.respondWith(page());
  } else if (pathname.startsWith('/assets/')) {
    event.respondWith(asset(event.request));
  }
});

async function page(): Promise<Response> {
  try {
    return await askPage();
  } catch (failure) {
    const kept = await (await caches.open(KEPT)).match(PAGE);
    if (kept === undefined) {
      throw failure;
    }
    return kept;
  }
}

/** The page from the server; it is kept, with what it is made of. */
async function askPage(): Promise<Response> {
  const answer = await fetch(PAGE, { cache: 'no-cache', signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) {
    throw new Error(`the server answered ${answer.status}`);
  }
  const html = await answer.clone().text();
  const files = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, file]) => file ?? '');
  const cache = await caches.open(KEPT);
  await cache.put(PAGE, answer.clone());
  for (const file of files) {
    if ((await cache.match(file)) === undefined) {
      await cache.add(file);
    }
  }
  for (const request of await cache.keys()) {
    const { pathname } = new URL(request.url);
    if (pathname !== PAGE && !files.includes(pathname)) {
      await cache.delete(request);
    }
  }
  return answer;
}

async function asset(request: Request): Promise<Response> {
  return (await (await caches.open(KEPT)).match(request)) ?? (await fetch(request));
}

export {};
