/**
 * The official Centrifuge client, unmodified, comes back after very many publications: it gets them all, each once and in order, by its own
 * reconnect, and then what is live.
 */

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node far-behind.mjs --url http://127.0.0.1:8000
  --url URL                   the server, in development mode
  --count COUNT               how many publications are missed (100000)
  --patience SECONDS          how long to wait for anything (20)`;

/** Publishes that are under way at once. */
const AT_ONCE = 1000;
/** Longer, and the client gives up waiting for the answer to a publish. */
const ANSWER_MS = 60_000;

const args = readArgs(USAGE, { count: { type: 'string', default: '100000' } });
const COUNT = Number(args.count);
const endpoint = `${args.url.replace(/^http/, 'ws')}/connection/websocket`;
const api = new Api(args.url);
const clients = [];

await run('far-behind.mjs', checks, async () => clients.forEach((client) => client.disconnect()));

async function checks(done) {
  const channel = freshChannel('far-behind');
  const client = await connected();
  const subscription = client.newSubscription(channel);
  let context = null;
  let wrong = null;
  let seen = 0;
  subscription.on('subscribed', (told) => (context = told));
  // Each is looked at as it comes, and nothing is kept of it.
  subscription.on('publication', ({ offset, data }) => {
    seen += 1;
    if (offset !== seen || data.n !== seen) {
      wrong ??= { due: seen, offset, data };
    }
  });
  subscription.subscribe();
  await until(args.patience, 'subscribed', () => context);
  await api.publish(channel, { n: 1 });
  await until(args.patience, 'the first publication', () => seen === 1);

  context = null;
  client.disconnect();
  const started = Date.now();
  await publish(channel, 2, COUNT + 1);
  done(`${COUNT} published in ${Date.now() - started} ms while the client was away`);
  ensureEqual(seen, 1, 'what came meanwhile');

  const back = Date.now();
  client.connect();
  await until(args.patience, 'subscribed again', () => context);
  ensureEqual([context.wasRecovering, context.recovered], [true, true], 'wasRecovering, recovered');
  await until(
    args.patience,
    'all that was missed',
    () => wrong || seen > COUNT,
    () => `${seen} came`,
  );
  ensure(!wrong, `out of order: ${JSON.stringify(wrong)}`);
  done(`all came, each once and in order, ${Date.now() - back} ms after it came back`);

  await api.publish(channel, { n: COUNT + 2 });
  await until(args.patience, 'what is live', () => wrong || seen === COUNT + 2);
  ensure(!wrong, `out of order: ${JSON.stringify(wrong)}`);
  done('and what is live behind them');
}

/** Publishes `{n: first}` to `{n: last}`, by a client of its own, many in a frame. */
async function publish(channel, first, last) {
  const publisher = await connected({ timeout: ANSWER_MS });
  for (let next = first; next <= last; next += AT_ONCE) {
    const frame = [];
    publisher.startBatching();
    for (let n = next; n < Math.min(next + AT_ONCE, last + 1); n += 1) {
      frame.push(publisher.publish(channel, { n }));
    }
    publisher.stopBatching();
    await Promise.all(frame);
  }
}

async function connected(options = {}) {
  const client = new Centrifuge(endpoint, { websocket: WebSocket, ...options });
  clients.push(client);
  client.connect();
  await client.ready(args.patience);
  return client;
}
