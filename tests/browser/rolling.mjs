/**
 * The official Centrifuge client while its servers are restarted one after the other: it is told to
 * leave, comes back by itself, to the other server, and misses nothing. Somebody else publishes and
 * restarts; the last message says so.
 */

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';

const USAGE = `usage: node rolling.mjs --url http://127.0.0.1:8000 --other http://127.0.0.1:8001 --channel NAME
  --url URL           one server in development mode
  --other URL         another one on the same database
  --channel NAME      a channel without publications; the last one's data is "end"
  --restarts COUNT    how often the client is sent away at least (2)
  --patience SECONDS  how long to wait for the last message (20)`;

/** The close code of a server that is stopping. */
const SHUTDOWN = 3001;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  channel: { type: 'string' },
  restarts: { type: 'string', default: '2' },
});
const endpoint = (url) => `${url.replace(/^http/, 'ws')}/connection/websocket`;
let client;

await run('rolling.mjs', checks, async () => client?.disconnect());

async function checks(done) {
  const transports = [args.url, args.other].map((url) => ({
    transport: 'websocket',
    endpoint: endpoint(url),
  }));
  client = new Centrifuge(transports, { websocket: WebSocket, minReconnectDelay: 50 });
  const left = [];
  client.on('connecting', (context) => left.push(context.code));
  const subscription = client.newSubscription(args.channel, {
    since: { offset: 0, epoch: '' },
  });
  const pubs = [];
  const resumed = [];
  subscription.on('publication', (publication) => pubs.push(publication));
  subscription.on('subscribed', (context) => resumed.push(context.recovered));
  subscription.subscribe();
  client.connect();
  await subscription.ready(args.patience);
  // Whoever started this reads it, and begins.
  done('subscribed');

  await until(args.patience, 'the last message', () => pubs.at(-1)?.data === 'end');
  ensureSequence(
    pubs.map(({ offset }) => offset),
    1,
    pubs.length,
    'the publications',
  );
  done(`${pubs.length} publications, each once and in order`);
  const sentAway = left.filter((code) => code === SHUTDOWN).length;
  ensure(
    sentAway >= Number(args.restarts),
    `sent away by a stopping server ${sentAway} times: ${left}`,
  );
  ensureEqual(
    resumed.slice(1).filter((recovered) => !recovered),
    [],
    'subscriptions that were not recovered',
  );
  done(`sent away ${sentAway} times, and back each time where it was`);
}
