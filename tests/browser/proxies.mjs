/**
 * The official Centrifuge client and the application's own backend, in JSON and in Protobuf: it has no token, only a cookie;
 * the backend lets it in, into a channel, lets it publish, and answers its calls.
 */

import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node proxies.mjs --url http://127.0.0.1:8000
  --url URL            a server that asks a backend
  --patience SECONDS   how long to wait for anything (20)`;

const args = readArgs(USAGE, {});
const clients = [];

await run('proxies.mjs', checks, async () => {
  clients.forEach((client) => client.disconnect());
});

async function checks(done) {
  await works(Centrifuge, (value) => value);
  done('in JSON');
  await works(CentrifugeProtobuf, (bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  done('in Protobuf');
  await comesAgain();
  done('comes again when the backend was away');
  await refused();
  done('who is not wanted does not come again');
}

/** What the client does with a backend; `read` takes data as its encoding has it. */
async function works(Client, read) {
  const say = (value) => (Client === Centrifuge ? value : new TextEncoder().encode(JSON.stringify(value)));
  const client = open(Client, 'ada');
  let connected = null;
  const errors = [];
  client.on('connected', (context) => {
    connected = context;
  });
  client.on('error', ({ error }) => errors.push(error));
  const subscription = client.newSubscription('asked:yes', { data: say({ from: 'ada' }) });
  const publications = [];
  let subscribed = null;
  subscription.on('publication', ({ data }) => publications.push(read(data)));
  subscription.on('subscribed', (context) => {
    subscribed = context;
  });
  subscription.subscribe();
  client.connect();
  await until(args.patience, 'the client to be connected and subscribed', () => connected && subscribed);
  ensureEqual(read(connected.data), { welcome: 'ada' }, 'what the backend said at the connect');
  ensureEqual(read(subscribed.data), { topic: 'x' }, 'what it said at the subscribe');

  await subscription.publish(say('improve me'));
  await until(args.patience, 'the publication', () => publications.length > 0);
  ensureEqual(publications, [{ improved: true }], 'what was published');
  const refused = await subscription.publish(say('refuse me')).catch((error) => error);
  ensureEqual([refused.code, refused.message], [422, 'no'], 'a publish that was refused');
  const { data } = await client.rpc('sum', say([1, 2, 39]));
  ensureEqual(read(data), 42, 'the answer to a call');
  const unknown = await client.rpc('no such').catch((error) => error);
  ensureEqual(unknown.code, 400, 'a call that was refused');

  const denied = client.newSubscription('asked:no');
  let ended = null;
  denied.on('unsubscribed', ({ code, reason }) => {
    ended = [code, reason];
  });
  denied.subscribe();
  await until(args.patience, 'the subscription to be refused', () => ended);
  ensureEqual(ended, [403, 'not you'], 'a subscription that was refused');
  ensureEqual(errors.map(String), [], 'errors of the connection');
  client.disconnect();
}

async function comesAgain() {
  const client = open(Centrifuge, 'flaky');
  const subscription = client.newSubscription('asked:yes');
  let subscribed = false;
  let ended = null;
  subscription.on('subscribed', () => {
    subscribed = true;
  });
  client.on('disconnected', (context) => {
    ended = context;
  });
  subscription.subscribe();
  client.connect();
  await until(args.patience, 'the client to come again', () => subscribed || ended);
  ensureEqual(ended, null, 'the end of a client whose backend was away once');
  client.disconnect();
}

async function refused() {
  const client = open(Centrifuge, 'nobody');
  let ended = null;
  client.on('disconnected', ({ code, reason }) => {
    ended = [code, reason];
  });
  client.connect();
  await until(args.patience, 'the client to be sent away', () => ended);
  ensureEqual(ended, [4501, 'unauthorized'], 'why it was sent away');
  ensure(client.state === 'disconnected', client.state);
}

/** A client that shows a cookie, as a browser would. */
function open(Client, user) {
  class WithCookie extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { headers: { cookie: `session=${user}` } });
    }
  }
  const url = `${args.url.replace('http', 'ws')}/connection/websocket`;
  const client = new Client(url, { websocket: WithCookie });
  clients.push(client);
  return client;
}
