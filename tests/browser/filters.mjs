/**
 * The official Centrifuge client with a filter of tags, in JSON and in Protobuf: it is given what it wants and nothing else,
 * live, after a loss, and from far back; and what is no filter is refused.
 */

import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node filters.mjs --url http://127.0.0.1:8000
  --url URL            a server in development mode, with filters in the namespace demo and none in plain
  --patience SECONDS   how long to wait for anything (20)`;

const TICKERS = ['BTC', 'ETH', 'SOL', undefined];
/** How many come while a client is away: more than one page of the log. */
const MISSED = 280;

const args = readArgs(USAGE, {});
const endpoint = `${args.url.replace(/^http/, 'ws')}/connection/websocket`;
const api = new Api(args.url);
const clients = [];

await run('filters.mjs', checks, async () => {
  clients.forEach((client) => client.disconnect());
});

async function checks(done) {
  await works(Centrifuge, 'in JSON', done);
  await works(CentrifugeProtobuf, 'in Protobuf', done);
}

async function works(Client, how, done) {
  const channel = freshChannel('filters');
  const cases = [
    [undefined, () => true],
    [{ key: 'ticker', cmp: 'eq', val: 'BTC' }, ({ ticker }) => ticker === 'BTC'],
    [{ key: 'ticker', cmp: 'in', vals: ['SOL', 'ETH'] }, ({ ticker }) => /SOL|ETH/.test(ticker)],
    [{ key: 'ticker', cmp: 'nex' }, ({ ticker }) => ticker === undefined],
    [
      {
        op: 'and',
        nodes: [
          { key: 'price', cmp: 'gte', val: '9.5' },
          { op: 'not', nodes: [{ key: 'ticker', cmp: 'sw', val: 'B' }] },
        ],
      },
      ({ price, ticker }) => Number(price) >= 9.5 && ticker !== 'BTC',
    ],
    [{ key: 'ticker', cmp: 'eq', val: 'XXX' }, () => false],
  ];
  const published = [];
  const subscriptions = [];
  for (const [tagsFilter, wants] of cases) {
    const subscription = await subscribed(Client, channel, tagsFilter ? { tagsFilter } : {});
    subscriptions.push({ ...subscription, seen: subscription.pubs, tagsFilter, wants });
  }
  const haveAll = async (subscribers, when) => {
    for (const { seen, wants } of subscribers) {
      const wanted = published.filter(({ tags }) => wants(tags ?? {}));
      await until(
        args.patience,
        `${how}, ${when}: ${wanted.length} publications`,
        () => seen.length >= wanted.length,
        () => `${seen.length} came`,
      );
      ensureEqual(seen, wanted, `${how}, ${when}: what came`);
    }
  };
  await publish(channel, 24, published);
  await haveAll(subscriptions, 'live');
  done(`${how}: each is given what it wants, with its tags`);

  subscriptions.forEach(({ client }) => client.disconnect());
  await publish(channel, MISSED, published);
  subscriptions.forEach(({ client }) => client.connect());
  await publish(channel, 8, published);
  await haveAll(subscriptions, 'after a loss');
  done(`${how}: the same after ${MISSED} were missed`);

  const { epoch } = await api.head(channel);
  const late = [];
  for (const { tagsFilter, wants } of subscriptions) {
    const options = { since: { offset: 0, epoch }, ...(tagsFilter ? { tagsFilter } : {}) };
    const { client, pubs } = await subscribed(Client, channel, options);
    late.push({ client, seen: pubs, wants });
  }
  await publish(channel, 8, published);
  await haveAll(late, 'from the beginning');
  await haveAll(subscriptions, 'live again');
  done(`${how}: the same from the beginning`);

  const all = subscriptions[0];
  const page = await all.sdk.history({ limit: 8, reverse: true });
  ensureEqual(
    page.publications.map(({ offset, tags }) => ({ offset, tags: present(tags) })),
    published.slice(-8).reverse(),
    `${how}: history with its tags`,
  );
  done(`${how}: history has tags`);

  const refused = (where, tagsFilter) => refusal(Client, where, { tagsFilter });
  for (const [where, filter, words] of [
    [channel, { op: 'xor', nodes: [{ key: 'a', cmp: 'ex' }] }, 'op must be'],
    [channel, { key: 'a', cmp: 'gt', val: 'much' }, 'decimal number'],
    [channel, { key: 'a', cmp: 'eq' }, 'needs val'],
    [channel, { op: 'or', nodes: Array(100).fill({ key: 'a', cmp: 'ex' }) }, '100 nodes'],
    ['plain:x', { key: 'a', cmp: 'ex' }, 'does not allow'],
  ]) {
    const { code, reason } = await refused(where, filter);
    ensureEqual([code, reason.includes(words)], [107, true], `${how}: ${reason}`);
  }
  done(`${how}: what is no filter is refused, and told why`);
  [...subscriptions, ...late].forEach(({ client }) => client.disconnect());
}

async function publish(channel, count, published) {
  for (let index = 0; index < count; index += 1) {
    const ticker = TICKERS[published.length % TICKERS.length];
    const tags = { price: String(published.length / 4), ...(ticker ? { ticker } : {}) };
    const { offset } = await api.call('publish', { channel, data: { index }, tags });
    published.push({ offset, tags });
  }
}

/** Tags as they were published: an object that has only what was said. */
function present(tags) {
  return Object.fromEntries(Object.entries(tags ?? {}).sort(([one], [other]) => (one < other ? -1 : 1)));
}

async function subscribed(Client, channel, options) {
  const client = new Client(endpoint, { websocket: WebSocket });
  clients.push(client);
  const sdk = client.newSubscription(channel, { recoverable: true, ...options });
  const pubs = [];
  let context = null;
  sdk.on('subscribed', (subscribedContext) => (context = subscribedContext));
  sdk.on('publication', ({ offset, tags }) => pubs.push({ offset, tags: present(tags) }));
  sdk.subscribe();
  client.connect();
  await until(args.patience, `subscribed to ${channel}`, () => context);
  return { client, sdk, pubs };
}

/** How a subscribe ends that is refused. */
async function refusal(Client, channel, options) {
  const client = new Client(endpoint, { websocket: WebSocket });
  clients.push(client);
  const sdk = client.newSubscription(channel, options);
  let end = null;
  sdk.on('unsubscribed', (context) => (end = context));
  sdk.on('subscribed', () => (end = { code: 0, reason: 'it was not refused' }));
  sdk.subscribe();
  client.connect();
  await until(args.patience, `refused in ${channel}`, () => end);
  client.disconnect();
  return end;
}
