/**
 * The official Centrifuge client with Fossil deltas, in JSON and in Protobuf: what it decodes is what was published, live,
 * after a loss, and from far back; and what it was sent is a fraction of that.
 */

import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';

const USAGE = `usage: node deltas.mjs --url http://127.0.0.1:8000
  --url URL            a server in development mode, with deltas in the namespace demo and none in whole
  --patience SECONDS   how long to wait for anything (20)`;

/** How many publications come while the client is there. */
const LIVE = 10;
/** How many come while it is away: more than one page of the log. */
const MISSED = 300;

const args = readArgs(USAGE, {});
const endpoint = `${args.url.replace(/^http/, 'ws')}/connection/websocket`;
const api = new Api(args.url);
const clients = [];

await run('deltas.mjs', checks, async () => {
  clients.forEach((client) => client.disconnect());
});

async function checks(done) {
  await works(Centrifuge, (value) => value, 'in JSON', done);
  await works(
    CentrifugeProtobuf,
    (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)),
    'in Protobuf',
    done,
  );
}

async function works(Client, decode, how, done) {
  const channel = freshChannel('deltas');
  const first = await subscribed(Client, decode, channel, { delta: 'fossil' });
  const plain = await subscribed(Client, decode, channel, {});
  const published = [];
  await publish(channel, LIVE, published);
  await comes(first, LIVE);
  const stats = first.sdk.deltaStats();
  ensureEqual(
    [stats.numFullPayloads, stats.numDeltaPayloads],
    [1, LIVE - 1],
    `${how}: whole ones and deltas`,
  );
  ensure(
    stats.bytesReceived * 4 < stats.bytesDecoded,
    `${how}: ${stats.bytesReceived} bytes for ${stats.bytesDecoded}`,
  );
  done(`${how}: ${LIVE} publications, ${stats.bytesReceived} bytes for ${stats.bytesDecoded}`);

  // Nothing in common, and less than a delta needs.
  for (const data of [7, 'ラ☃'.repeat(400), [], { text: '"\\\n\u0000é' }]) {
    await api.publish(channel, data);
    published.push(data);
  }
  await publish(channel, LIVE, published);
  await comes(first, published.length);
  done(`${how}: anything can follow anything`);

  first.client.disconnect();
  await publish(channel, MISSED, published);
  first.context = null;
  first.client.connect();
  await until(args.patience, 'subscribed again', () => first.context);
  ensureEqual(
    [first.context.wasRecovering, first.context.recovered],
    [true, true],
    'wasRecovering, recovered',
  );
  await comes(first, published.length);
  await publish(channel, LIVE, published);
  await comes(first, published.length);
  ensure(
    first.sdk.deltaStats().numDeltaPayloads > MISSED,
    `${how}: what was missed comes as deltas too`,
  );
  done(`${how}: ${MISSED} missed ones, then live`);

  const { epoch } = first.context.streamPosition;
  const late = await subscribed(Client, decode, channel, {
    delta: 'fossil',
    since: { offset: 0, epoch },
  });
  await comes(late, published.length);
  await comes(plain, published.length);
  for (const { pubs } of [first, late, plain]) {
    ensureSequence(
      pubs.map(({ offset }) => offset),
      1,
      published.length,
      `${how}: offsets`,
    );
    ensureEqual(
      pubs.map(({ data }) => data),
      published,
      `${how}: what was published`,
    );
  }
  const page = await first.sdk.history({ limit: 2, reverse: true });
  ensureEqual(
    page.publications.map(({ data }) => decode(data)),
    published.slice(-2).reverse(),
    `${how}: history has whole ones`,
  );
  done(`${how}: from the beginning, and for a client without deltas, the same`);

  const whole = `whole:${channel.replace(':', '-')}`;
  const without = await subscribed(Client, decode, whole, { delta: 'fossil' });
  const others = [];
  await publish(whole, 3, others);
  await comes(without, 3);
  ensureEqual(
    without.pubs.map(({ data }) => data),
    others,
    `${how}: where deltas are not allowed`,
  );
  ensureEqual(without.sdk.deltaStats().numPublications, 0, `${how}: nothing was negotiated there`);
  done(`${how}: where deltas are not allowed, all are whole`);
  [first, late, plain, without].forEach(({ client }) => client.disconnect());
}

/** Publishes what changes little from one to the next. */
async function publish(channel, count, published) {
  for (let index = 0; index < count; index += 1) {
    const number = published.length;
    const data = { number, padding: 'ä"x'.repeat(200), price: `${number * 7}.50 €` };
    await api.publish(channel, data);
    published.push(data);
  }
}

async function subscribed(Client, decode, channel, options) {
  const client = new Client(endpoint, { websocket: WebSocket });
  clients.push(client);
  const sdk = client.newSubscription(channel, { recoverable: true, ...options });
  const subscription = { client, sdk, context: null, pubs: [] };
  sdk.on('subscribed', (context) => (subscription.context = context));
  sdk.on('publication', ({ offset, data }) =>
    subscription.pubs.push({ offset, data: decode(data) }),
  );
  sdk.subscribe();
  client.connect();
  await until(args.patience, `subscribed to ${channel}`, () => subscription.context);
  return subscription;
}

function comes(subscription, count) {
  return until(
    args.patience,
    `${count} publications`,
    () => subscription.pubs.length >= count,
    () => `${subscription.pubs.length} came`,
  );
}
