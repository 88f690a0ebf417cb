/**
 * The official Centrifuge client, in JSON and in Protobuf, and `socket.io-client` in a channel of the kind `state`: each subscribe
 * is given the newest publication, once, and nothing that lies before it.
 */

import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import { io } from 'socket.io-client';
import WebSocket from 'ws';

import { randomUUID } from 'node:crypto';

import { Api } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node state.mjs --url http://127.0.0.1:8000
  --url URL            a server in development mode, whose namespace score is of the kind state
  --patience SECONDS   how long to wait for anything (20)`;

/** How many come while a client is away: more than one page of the log. */
const MISSED = 280;

const args = readArgs(USAGE, {});
const endpoint = `${args.url.replace(/^http/, 'ws')}/connection/websocket`;
const api = new Api(args.url);
const clients = [];

await run('state.mjs', checks, async () => {
  clients.forEach((client) => client.disconnect());
});

async function checks(done) {
  await works(Centrifuge, 'in JSON', done);
  await works(CentrifugeProtobuf, 'in Protobuf', done);
  await worksOverSocketIo(done);
}

async function works(Client, how, done) {
  const channel = `score:${randomUUID().slice(0, 8)}`;
  const early = await subscribed(Client, channel);
  ensureEqual(early.data, [], `${how}: a channel in which nothing was said`);
  await publish(channel, 1, 3);
  await until(args.patience, `${how}: live`, () => early.data.at(-1) === 3);

  const late = await subscribed(Client, channel);
  await until(args.patience, `${how}: the newest`, () => late.data.length > 0);
  ensureEqual(late.data, [3], `${how}: what who comes late is given`);
  ensureEqual(late.contexts[0], [false, true], `${how}: was it recovering, is it recovered`);
  done(`${how}: who subscribes is given the newest`);

  late.client.disconnect();
  await publish(channel, 4, 3 + MISSED);
  late.client.connect();
  await until(args.patience, `${how}: the newest, again`, () => late.data.length > 1);
  ensureEqual(late.data, [3, 3 + MISSED], `${how}: what who was away is given`);
  ensureEqual(late.contexts[1], [true, true], `${how}: who comes back is recovered`);
  done(`${how}: who was away is given the newest alone`);

  late.client.disconnect();
  late.client.connect();
  await until(args.patience, `${how}: subscribed a third time`, () => late.contexts.length === 3);
  await publish(channel, 1000, 1000);
  await until(args.patience, `${how}: what comes next`, () => late.data.at(-1) === 1000);
  ensureEqual(late.data, [3, 3 + MISSED, 1000], `${how}: who has missed nothing is given nothing`);
  done(`${how}: who has the newest is not given it again`);
  [early, late].forEach(({ client }) => client.disconnect());
}

async function worksOverSocketIo(done) {
  const channel = `score:${randomUUID().slice(0, 8)}`;
  await publish(channel, 1, 3);
  const socket = io(args.url, { transports: ['websocket'], reconnectionDelay: 50 });
  clients.push(socket);
  const data = [];
  socket.on('message', (value) => data.push(value));
  const answer = await socket.timeout(args.patience).emitWithAck('subscribe', channel);
  ensureEqual([answer.ok, answer.recovered], [true, true], 'Socket.IO: the answer to a subscribe');
  await until(args.patience, 'Socket.IO: the newest', () => data.length > 0);
  ensureEqual(data, [3], 'Socket.IO: what who comes late is given');

  // Away for a moment: the connection is lost, not ended.
  let back = null;
  socket.on('connect', () => (back = socket.recovered));
  socket.io.engine.close();
  await publish(channel, 4, 3 + MISSED);
  await until(args.patience, 'Socket.IO: back', () => back !== null);
  ensureEqual(back, true, 'Socket.IO: is the session recovered');
  await until(args.patience, 'Socket.IO: the newest, again', () => data.at(-1) === 3 + MISSED);
  await publish(channel, 1000, 1000);
  await until(args.patience, 'Socket.IO: what comes next', () => data.at(-1) === 1000);
  done('Socket.IO: the same, the recovery of a connection included');
}

/** In Protobuf data are bytes. */
function parsed(data) {
  return data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data)) : data;
}

async function publish(channel, first, last) {
  for (let data = first; data <= last; data += 1) {
    await api.publish(channel, data);
  }
}

async function subscribed(Client, channel) {
  const client = new Client(endpoint, { websocket: WebSocket });
  clients.push(client);
  const sdk = client.newSubscription(channel);
  const data = [];
  const contexts = [];
  sdk.on('subscribed', ({ wasRecovering, recovered }) => contexts.push([wasRecovering, recovered]));
  sdk.on('publication', (publication) => data.push(parsed(publication.data)));
  sdk.subscribe();
  client.connect();
  await until(args.patience, `subscribed to ${channel}`, () => contexts.length);
  return { client, data, contexts };
}
