/**
 * The official Centrifuge client and subscriptions that the server makes: those of its token, and those that the application asks
 * for while it is connected. Its node is killed; it goes on at another one, from where it was, and misses nothing.
 */

import { Centrifuge as CentrifugeJson } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { Api } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Balancer } from './lib/balancer.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';

const USAGE = `usage: node server-subs.mjs --url http://127.0.0.1:8000 --other http://127.0.0.1:8001 --pid 1234 --token JWT
  --url URL           a server, which is killed
  --other URL         another one on the same database
  --pid PID           the process of the first one
  --api-key KEY       of both
  --user NAME         the user of the token
  --token JWT         subscribes to news:feed, and to news:alerts with data
  --protobuf          speak Protobuf
  --missed COUNT      how many messages are missed while the client is away (500)
  --patience SECONDS  how long to wait for anything (20)`;

/** Closed by the application, for good. */
const FORCE_DISCONNECT = 3503;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  pid: { type: 'string' },
  user: { type: 'string' },
  token: { type: 'string' },
  protobuf: { type: 'boolean', default: false },
  missed: { type: 'string', default: '500' },
});
const [FEED, ALERTS, CALLED] = ['news:feed', 'news:alerts', 'news:called'];
const api = new Api(args.other, args['api-key']);
const fromClient = args.protobuf
  ? (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  : (value) => value;
let client;
let balancer;

await run('server-subs.mjs', checks, async () => {
  client?.disconnect();
  await balancer?.close();
});

async function checks(done) {
  // The first request goes to the first server.
  balancer = await Balancer.over([args.url, args.other]);
  const endpoint = `${balancer.url.replace(/^http/, 'ws')}/connection/websocket`;
  const Client = args.protobuf ? CentrifugeProtobuf : CentrifugeJson;
  client = new Client(endpoint, { websocket: WebSocket, minReconnectDelay: 50, token: args.token });
  const seen = watch();
  // There before anybody listens: a subscription that says where it stands is told of them.
  const before = await api.publishMany(CALLED, 20, (number) => number);

  client.connect();
  await until(args.patience, 'both subscriptions', () => seen.subscribed(FEED) && seen.subscribed(ALERTS));
  const alerts = seen.subscribed(ALERTS);
  ensureEqual(fromClient(alerts.data), { severity: 'all' }, 'what is said with the subscription');
  ensure(alerts.recoverable && alerts.positioned && alerts.streamPosition.epoch, 'it has no position');
  done('the token subscribes its client');

  let last = await api.publishMany(FEED, 50, (number) => number);
  await seen.comes(FEED, last.offset);
  ensureSequence(seen.offsets(FEED), 1, 50, 'the feed');

  const since = { offset: 5, epoch: before.epoch };
  await api.call('subscribe', { user: args.user, channel: CALLED, data: { why: 'called' }, recover_since: since });
  await until(args.patience, 'the subscription that the application asks for', () => seen.subscribed(CALLED));
  ensureEqual(fromClient(seen.subscribed(CALLED).data), { why: 'called' }, 'what is said with it');
  await seen.comes(CALLED, before.offset);
  ensureSequence(seen.offsets(CALLED), 6, before.offset, 'from the position on');
  await api.call('unsubscribe', { user: args.user, channel: CALLED });
  await until(args.patience, 'its end', () => seen.unsubscribed.includes(CALLED));
  done('the application subscribes it from a position, and unsubscribes it, through another node');

  seen.forgetSubscribed();
  process.kill(Number(args.pid), 'SIGKILL');
  last = await api.publishMany(FEED, Number(args.missed), (number) => number);
  const alert = await api.publish(ALERTS, 'missed');
  await until(args.patience, 'both subscriptions again', () => seen.subscribed(FEED) && seen.subscribed(ALERTS));
  await seen.comes(FEED, last.offset);
  await seen.comes(ALERTS, alert.offset);
  ensureSequence(seen.offsets(FEED), 1, last.offset, 'the feed over the death of a node');
  ensureEqual(seen.offsets(ALERTS), [1], 'the alerts');
  for (const channel of [FEED, ALERTS]) {
    const { wasRecovering, recovered } = seen.subscribed(channel);
    // Without a publication there was no position to come back to but the first one.
    ensureEqual([wasRecovering, recovered], [true, true], `${channel}: wasRecovering, recovered`);
  }
  done(`its node is killed; ${args.missed} were missed, and all came, each once and in order`);

  const count = seen.offsets(FEED).length;
  const own = client.newSubscription(FEED);
  const taken = [];
  own.on('publication', ({ offset }) => taken.push(offset));
  own.subscribe();
  await own.ready(args.patience);
  last = await api.publish(FEED, 'own');
  await until(args.patience, 'a publication of its own subscription', () => taken.includes(last.offset));
  ensureEqual([taken, seen.offsets(FEED).length], [[last.offset], count], 'who was told of it');
  done('a subscription of its own takes the place of the one that the server made');

  let end = null;
  client.on('disconnected', ({ code }) => {
    end = code;
  });
  await api.call('disconnect', { user: args.user });
  await until(args.patience, 'the end', () => end !== null);
  ensureEqual(end, FORCE_DISCONNECT, 'the code of the end');
  done('the application disconnects it');
}

/** What the client is told of subscriptions that it has not made. */
function watch() {
  let subscribed = new Map();
  const unsubscribed = [];
  const pubs = [];
  client.on('subscribed', (context) => subscribed.set(context.channel, context));
  client.on('unsubscribed', ({ channel }) => unsubscribed.push(channel));
  client.on('publication', ({ channel, offset }) => pubs.push({ channel, offset }));
  const offsets = (channel) => pubs.filter((pub) => pub.channel === channel).map(({ offset }) => offset);
  return {
    unsubscribed,
    offsets,
    subscribed: (channel) => subscribed.get(channel),
    forgetSubscribed: () => {
      subscribed = new Map();
    },
    comes: (channel, offset) =>
      until(
        args.patience,
        `number ${offset} of ${channel}`,
        () => offsets(channel).at(-1) >= offset,
        () => `the last was ${offsets(channel).at(-1)}`,
      ),
  };
}
