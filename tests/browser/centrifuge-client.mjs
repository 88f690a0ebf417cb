/**
 * The official Centrifuge client in Node, in JSON or in Protobuf, over each of its transports: connect,
 * subscribe, publish, history, presence, recovery after a loss, from far back and from a foreign epoch;
 * or, with `--expect-refused`, that a client without a token gets nowhere. With `--other` a balancer
 * sends each request to the next of two nodes.
 */

import { Centrifuge as CentrifugeJson } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Balancer } from './lib/balancer.mjs';
import { CheckFailed, ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';
import { EventSource } from './lib/event-source.mjs';

const USAGE = `usage: node centrifuge-client.mjs --url http://127.0.0.1:8000
  --url URL                   the server
  --api-key KEY               for a server that asks for one to publish
  --token JWT                 connection token; without it the server must be in development mode
  --subscription-token JWT    subscription token, for the channel of --channel
  --channel NAME              the channel to use (a fresh one)
  --protobuf                  speak Protobuf
  --transport NAME            websocket, http_stream or sse (websocket)
  --other URL                 another node: requests go to both in turns
  --far COUNT                 how far back the far recovery goes (1000)
  --expect-refused            only check that a client without a token is refused
  --patience SECONDS          how long to wait for anything (20)`;

/** How many messages are missed in the plain recovery. */
const MISSED = 50;
/** How many publications one history page asks for. */
const PAGE = 10;
/** Errors of a connect that say "you may not": unauthorized, permission denied, token expired. */
const REFUSING_ERRORS = [101, 103, 109];
/** Close codes that say so: invalid token, permission denied, not available. */
const REFUSING_CLOSES = [3500, 3507, 3508];

const args = readArgs(USAGE, {
  token: { type: 'string' },
  'subscription-token': { type: 'string' },
  channel: { type: 'string' },
  'expect-refused': { type: 'boolean', default: false },
  protobuf: { type: 'boolean', default: false },
  transport: { type: 'string', default: 'websocket' },
  other: { type: 'string' },
  far: { type: 'string', default: '1000' },
});
/** How many messages lie between the position asked for and the head in the far recovery. */
const FAR = Number(args.far);
/** What a message is for the client: a value in JSON, bytes in Protobuf. */
const toClient = args.protobuf
  ? (value) => new TextEncoder().encode(JSON.stringify(value))
  : (value) => value;
const fromClient = args.protobuf
  ? (bytes) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  : (value) => value;
const isWebSocket = args.transport === 'websocket';
const balancer = args.other ? await Balancer.over([args.url, args.other]) : null;
const door = balancer?.url ?? args.url;
const endpoint = `${door.replace(/^http/, 'ws')}/connection/websocket`;
const api = new Api(args.url, args['api-key']);
const clients = [];

await run('centrifuge-client.mjs', args['expect-refused'] ? refused : checks, async () => {
  clients.forEach((client) => client.disconnect());
  await balancer?.close();
});

async function checks(done) {
  const channel = args.channel ?? freshChannel('sdk');
  const first = await connected();
  done('connect');
  const left = await subscribed(first, channel);
  ensure(
    left.context.recoverable && left.context.positioned,
    'the subscription is not recoverable',
  );
  const epoch = left.context.streamPosition?.epoch;
  ensure(epoch, 'the subscription has no epoch');
  const base = left.context.streamPosition.offset;
  done(`subscribe, recoverable, at ${base} of epoch ${epoch}`);

  await published(first, left, channel, base, done);
  if (args.protobuf && !args.token) {
    await notJson(first, channel, done);
  }
  await twoClients(left, channel, done);
  await history(left, epoch, done);
  if (!args.token) {
    await presence(left, done);
  }
  if (!args.protobuf && isWebSocket) {
    await pong(first, done);
  }
  await recovery(first, left, channel, done);
  if (!isWebSocket) {
    await cut(left, channel, done);
  }
  await far(channel, epoch, done);
  await foreignEpoch(channel, done);
  await unsubscribe(left, channel, done);
  if (balancer) {
    ensure(
      balancer.counts.every((count) => count > 0),
      `requests to the nodes: ${balancer.counts}`,
    );
    done(`requests went to both nodes: ${balancer.counts}`);
  }
}

async function published(client, subscription, channel, base, done) {
  const viaApi = await api.publish(channel, { from: 'api' });
  await comes(subscription, viaApi.offset);
  ensureEqual(viaApi.offset, base + 1, 'the first offset behind the position of the subscription');
  ensureEqual(subscription.pubs.at(-1).data, { from: 'api' }, 'data published through the API');
  const allowed = await granted('publish', () =>
    client.publish(channel, toClient({ from: 'client' })),
  );
  if (allowed) {
    await comes(subscription, base + 2);
    ensureEqual(subscription.pubs.at(-1).data, { from: 'client' }, 'data published by a client');
  }
  done(
    `publish through the API${allowed ? ' and by a client' : '; by a client it is not granted (103)'}`,
  );
}

async function twoClients(left, channel, done) {
  const right = await subscribed(await connected(), channel);
  const from = left.pubs.length;
  const last = await api.publishMany(channel, MISSED, (index) => ({ both: index }));
  await comes(left, last.offset);
  await comes(right, last.offset);
  ensureEqual(right.pubs, left.pubs.slice(from), 'what the second client saw');
  ensureEqual(right.pubs.length, MISSED, 'how many it saw');
  right.client.disconnect();
  done(`two clients see the same ${MISSED} publications with the same offsets`);
}

async function history(subscription, epoch, done) {
  let result = null;
  const allowed = await granted('history', async () => {
    result = await subscription.sdk.history({ limit: PAGE, reverse: true });
  });
  if (!allowed) {
    done('history by a client is not granted (103)');
    return;
  }
  const newest = subscription.pubs.slice(-PAGE).reverse();
  const plain = (pubs) => pubs.map(({ offset, data }) => ({ offset, data: fromClient(data) }));
  ensureEqual(plain(result.publications), newest, 'the newest page of the history');
  ensureEqual(
    { epoch: result.epoch, offset: result.offset },
    { epoch, offset: newest[0].offset },
    'its position',
  );
  const since = { epoch, offset: newest.at(-1).offset };
  const forward = await subscription.sdk.history({ limit: PAGE, since });
  ensureEqual(
    plain(forward.publications),
    [...newest].reverse().slice(1),
    'the page behind a position',
  );
  const head = await subscription.sdk.history({ limit: 0 });
  ensureEqual(
    [head.publications.length, head.offset],
    [0, newest[0].offset],
    'history with limit 0',
  );
  done('history: newest first, behind a position, and the position alone');
}

/** What only Protobuf can say is refused, and the connection stays. */
async function notJson(client, channel, done) {
  const code = (data) =>
    client.publish(channel, data).then(
      () => null,
      (error) => error.code,
    );
  ensureEqual(await code(new Uint8Array([0xff, 0])), 107, 'publish of bytes that are no JSON');
  ensureEqual(await code(new Uint8Array()), 107, 'publish of nothing');
  ensureEqual(client.state, 'connected', 'the state of the client');
  done('bytes that are no JSON are refused (107)');
}

/** The connect reply on the wire: it promises pings, and asks for pongs. */
async function pong(client, done) {
  const raw = await rawConnect(args.token);
  const { connect } = raw.reply;
  ensure(
    connect?.ping > 0 && connect.pong === true,
    `connect promises no ping: ${JSON.stringify(raw.reply)}`,
  );
  ensure(connect.client, 'connect gives no client id');
  raw.socket.close();
  ensureEqual(client.state, 'connected', 'the state of the client');
  done(`connect promises a ping every ${connect.ping} s and asks for a pong`);
}

async function recovery(client, subscription, channel, done) {
  const from = subscription.pubs.length;
  const position = subscription.pubs.at(-1).offset;
  subscription.context = null;
  client.disconnect();
  ensureEqual(client.state, 'disconnected', 'the state of the client');
  await api.publishInOrder(
    channel,
    Array.from({ length: MISSED }, (_, index) => ({ missed: index })),
  );
  ensureEqual(subscription.pubs.length, from, 'how many came while it was away');
  client.connect();
  const context = await until(args.patience, 'subscribed again', () => subscription.context);
  ensureEqual([context.wasRecovering, context.recovered], [true, true], 'wasRecovering, recovered');
  await comes(subscription, position + MISSED);
  const missed = subscription.pubs.slice(from);
  ensureSequence(
    missed.map(({ offset }) => offset),
    position + 1,
    position + MISSED,
    'recovered',
  );
  ensureSequence(
    missed.map(({ data }) => data.missed),
    0,
    MISSED - 1,
    'data of the recovered',
  );
  const live = await api.publish(channel, { after: 'recovery' });
  await comes(subscription, live.offset);
  ensureEqual(live.offset, position + MISSED + 1, 'the offset of the first live one');
  done(`recovery: ${MISSED} published while disconnected, all came in order, then live`);
}

async function presence(subscription, done) {
  const { client } = subscription;
  // Who has left may be there for a moment more.
  await until(args.patience, 'the client to be present, alone', async () => {
    const { clients: present } = await subscription.sdk.presence();
    return Object.keys(present).length === 1;
  });
  const { numClients } = await subscription.sdk.presenceStats();
  ensureEqual(numClients, 1, 'how many are counted');
  ensureEqual(client.state, 'connected', 'the state of the client');
  done('presence: the client is there, and alone');
}

/** The stream breaks in the middle; the client comes back by itself, where it was. */
async function cut(subscription, channel, done) {
  const position = subscription.pubs.at(-1).offset;
  subscription.context = null;
  balancer?.cut();
  if (!balancer) {
    subscription.client._transport.close();
  }
  await until(args.patience, 'the cut to be noticed', () => subscription.client.state !== 'connected');
  await api.publishInOrder(
    channel,
    Array.from({ length: MISSED }, (_, index) => ({ cut: index })),
  );
  const context = await until(args.patience, 'subscribed again', () => subscription.context);
  ensureEqual([context.wasRecovering, context.recovered], [true, true], 'wasRecovering, recovered');
  await comes(subscription, position + MISSED);
  const missed = subscription.pubs.filter(({ offset }) => offset > position);
  ensureSequence(
    missed.map(({ offset }) => offset),
    position + 1,
    position + MISSED,
    'after the cut',
  );
  done(`a stream that is cut: the client comes back by itself, and ${MISSED} came in order`);
}

async function far(channel, epoch, done) {
  const start = (await api.head(channel)).offset;
  const last = await api.publishMany(channel, FAR, (index) => ({ far: index }));
  ensureEqual(last.offset, start + FAR, 'the head behind the published ones');
  const late = await subscribed(await connected(), channel, { since: { offset: start, epoch } });
  ensureEqual(
    [late.context.wasRecovering, late.context.recovered],
    [true, true],
    'wasRecovering, recovered',
  );
  const live = await api.publish(channel, { after: 'far' });
  await comes(late, live.offset);
  ensureSequence(
    late.pubs.map(({ offset }) => offset),
    start + 1,
    live.offset,
    'from far back',
  );
  late.client.disconnect();
  done(`recovery from a position ${FAR} back: everything came in order, then live`);
}

async function foreignEpoch(channel, done) {
  const head = await api.head(channel);
  const lost = await subscribed(await connected(), channel, {
    since: { offset: 1, epoch: 'another' },
  });
  ensureEqual(
    [lost.context.wasRecovering, lost.context.recovered],
    [true, false],
    'wasRecovering, recovered',
  );
  ensureEqual(lost.context.streamPosition, head, 'the position after a failed recovery');
  const live = await api.publish(channel, { after: 'reset' });
  await comes(lost, live.offset);
  ensureEqual(
    lost.pubs.map(({ offset }) => offset),
    [head.offset + 1],
    'what came',
  );
  lost.client.disconnect();
  done('a foreign epoch is not recovered: the current position is told, and live goes on');
}

async function unsubscribe(subscription, channel, done) {
  await comes(subscription, (await api.head(channel)).offset);
  const before = subscription.pubs.length;
  subscription.sdk.unsubscribe();
  // The answer to a later command proves that the server has taken the unsubscribe.
  await until(args.patience, 'the unsubscribe to be taken', async () => {
    const error = await subscription.client.rpc('none', toClient({})).then(
      () => null,
      (reason) => reason,
    );
    return error === null || error.code >= 100;
  });
  const { offset } = await api.publish(channel, { after: 'unsubscribe' });
  const witness = await subscribed(await connected(), channel, {
    since: { offset: offset - 1, epoch: subscription.context.streamPosition.epoch },
  });
  await comes(witness, offset);
  ensureEqual(subscription.pubs.length, before, 'how many came after unsubscribe');
  ensureEqual(subscription.client.state, 'connected', 'the state of the client');
  subscription.context = null;
  subscription.sdk.subscribe();
  const context = await until(args.patience, 'subscribed anew', () => subscription.context);
  ensure(!context.wasRecovering || context.recovered, 'subscribing anew lost the position');
  done('unsubscribe: nothing comes any more, the connection stays, and subscribing again works');
}

/** That a client without a token is refused, on the wire and through the client. */
async function refused(done) {
  if (!isWebSocket) {
    await refusedClient(done);
    return;
  }
  const raw = await rawConnect(undefined);
  const code = raw.reply?.error?.code ?? null;
  const said = `error ${code ?? 'none'}, close ${raw.close ?? 'none'} ${raw.reason}`;
  ensure(!raw.reply?.connect, `connect without a token was accepted: ${JSON.stringify(raw.reply)}`);
  ensure(
    REFUSING_ERRORS.includes(code) || REFUSING_CLOSES.includes(raw.close),
    `connect without a token ended otherwise: ${said}`,
  );
  done(`without a token the wire says: ${said}`);
  await refusedClient(done);
}

async function refusedClient(done) {
  const client = newClient({});
  const seen = [];
  let end = null;
  client.on('connected', () => seen.push('connected'));
  client.on('error', ({ error }) => seen.push(error.code));
  client.on('disconnected', (context) => (end = context));
  client.connect();
  const known = (seenCode) => REFUSING_ERRORS.includes(seenCode);
  await until(
    args.patience,
    'the client to be refused',
    () => end ?? (seen.some(known) || seen.includes('connected')),
  );
  ensure(!seen.includes('connected'), 'the client connected without a token');
  // 1 is the client's own "unauthorized": error 109 without a way to get another token.
  const terminal = end !== null && (end.code === 1 || REFUSING_CLOSES.includes(end.code));
  ensure(
    terminal || seen.some(known),
    `the client saw ${seen} and ended with ${JSON.stringify(end)}`,
  );
  done(
    `without a token the client ends with: ${end ? `${end.code} ${end.reason}` : `error ${seen}`}`,
  );
}

/** One connect command on a bare socket: its reply, or how the socket was closed. */
async function rawConnect(token) {
  const socket = new WebSocket(endpoint);
  const seen = { socket, reply: null, close: null, reason: '', failure: null };
  socket.on('open', () => socket.send(JSON.stringify({ id: 1, connect: token ? { token } : {} })));
  socket.on('message', (data) => (seen.reply ??= JSON.parse(String(data).split('\n')[0])));
  socket.on('close', (code, reason) => {
    seen.close = code;
    seen.reason = String(reason);
  });
  socket.on('error', (error) => (seen.failure = error));
  await until(
    args.patience,
    'an answer to connect',
    () => seen.reply ?? seen.close ?? seen.failure,
  );
  if (seen.failure) {
    throw new CheckFailed(`${endpoint}: ${seen.failure.message}`);
  }
  return seen;
}

function newClient(options) {
  const Centrifuge = args.protobuf ? CentrifugeProtobuf : CentrifugeJson;
  const client = isWebSocket
    ? new Centrifuge(endpoint, { websocket: WebSocket, ...options })
    : new Centrifuge([{ transport: args.transport, endpoint: `${door}/connection/${args.transport}` }], {
        emulationEndpoint: `${door}/emulation`,
        eventsource: EventSource,
        ...options,
      });
  clients.push(client);
  return client;
}

/** A client that is connected. */
async function connected() {
  const client = newClient(args.token ? { token: args.token } : {});
  let end = null;
  const errors = [];
  client.on('disconnected', (context) => (end = context));
  client.on('error', ({ error }) => errors.push(`${error.code} ${error.message}`));
  client.connect();
  await until(
    args.patience,
    'connected',
    () => client.state === 'connected' || end,
    () => `it saw: ${errors.join(', ') || 'nothing'}`,
  );
  if (end) {
    throw new CheckFailed(`the server refused to connect: ${end.code} ${end.reason}`);
  }
  return client;
}

/** A subscription that is active, with all that comes over it. */
async function subscribed(client, channel, options = {}) {
  const token = args['subscription-token'];
  const sdk = client.newSubscription(channel, {
    recoverable: true,
    ...(token ? { token } : {}),
    ...options,
  });
  const subscription = { client, sdk, context: null, pubs: [] };
  let end = null;
  sdk.on('subscribed', (context) => (subscription.context = context));
  sdk.on('unsubscribed', (context) => (end = context));
  sdk.on('publication', ({ offset, data }) =>
    subscription.pubs.push({ offset, data: fromClient(data) }),
  );
  sdk.subscribe();
  await until(args.patience, `subscribed to ${channel}`, () => subscription.context ?? end);
  if (end) {
    throw new CheckFailed(`the server refused to subscribe: ${end.code} ${end.reason}`);
  }
  return subscription;
}

/** Waits until the publication with this offset has come. */
function comes(subscription, offset) {
  return until(
    args.patience,
    `offset ${offset}`,
    () => (subscription.pubs.at(-1)?.offset ?? 0) >= offset,
    () => `the last to come was ${subscription.pubs.at(-1)?.offset ?? 'none'}`,
  );
}

/** True when the act succeeded; false when a client with a token may not, as servers may say. */
async function granted(what, act) {
  try {
    await act();
    return true;
  } catch (error) {
    if (args.token && error.code === 103) {
      return false;
    }
    throw new CheckFailed(`${what} by a client: ${error.code} ${error.message}`);
  }
}
