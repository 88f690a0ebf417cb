/**
 * The official Centrifuge client and who is there: two users on two servers, one in JSON and the
 * other in Protobuf, see each other come, in lists and in counts; a lost connection shows nothing;
 * an unsubscribe does.
 */

import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node presence.mjs --url http://127.0.0.1:8000 --other http://127.0.0.1:8001 --channel NAME
  --url URL            one server
  --other URL          another one of the same cluster, or the same
  --channel NAME       a channel with presence and join_leave, and nobody in it
  --token JWT          the token of one user
  --other-token JWT    that of another
  --patience SECONDS   how long to wait for anything (20)`;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  channel: { type: 'string' },
  token: { type: 'string' },
  'other-token': { type: 'string' },
});
const clients = [];

await run('presence.mjs', checks, async () => {
  clients.forEach((client) => client.disconnect());
});

async function checks(done) {
  const here = await enter(Centrifuge, args.url, args.token);
  await until(args.patience, 'the own join', () => here.events.length === 1);
  const there = await enter(CentrifugeProtobuf, args.other, args['other-token']);
  await until(args.patience, 'the join of the other', () => here.events.length === 2);
  ensure(here.events.every(([kind]) => kind === 'join'), `joins: ${JSON.stringify(here.events)}`);
  const user = here.events[1][1];
  await until(args.patience, 'its own join', () => there.events.length === 1);
  ensureEqual(there.events, [['join', user]], 'what the other was told');
  done(`told that ${user} has joined`);

  for (const { subscription } of [here, there]) {
    await counted(subscription, 2, 2);
    const { clients: list } = await subscription.presence();
    const users = Object.values(list).map((info) => info.user);
    ensureEqual(users.sort(), here.events.map(([, name]) => name).sort(), 'who is there');
    Object.entries(list).forEach(([id, info]) => ensureEqual(info.client, id, 'its connection'));
  }
  done('both list both');

  there.client.disconnect();
  const again = await enter(CentrifugeProtobuf, args.url, args['other-token']);
  await until(args.patience, 'the lost connection to be gone', async () => {
    const { clients: list } = await here.subscription.presence();
    return Object.keys(list).length === 2 && again.id() in list;
  });
  ensureEqual(here.events.length, 2, 'events of a connection that was lost and made again');
  done('a connection that was lost and made again shows nothing');

  again.subscription.unsubscribe();
  await until(args.patience, 'the leave', () => here.events.length === 3);
  ensureEqual(here.events[2], ['leave', user], 'who left');
  await counted(here.subscription, 1, 1);
  done(`told that ${user} has left`);
}

async function enter(Client, url, token) {
  const endpoint = `${url.replace(/^http/, 'ws')}/connection/websocket`;
  const client = new Client(endpoint, { websocket: WebSocket, token });
  clients.push(client);
  const subscription = client.newSubscription(args.channel, { joinLeave: true });
  const events = [];
  let id;
  client.on('connected', (context) => {
    id = context.client;
  });
  subscription.on('join', ({ info }) => events.push(['join', info.user]));
  subscription.on('leave', ({ info }) => events.push(['leave', info.user]));
  subscription.subscribe();
  client.connect();
  await subscription.ready(args.patience);
  return { client, subscription, events, id: () => id };
}

async function counted(subscription, numClients, numUsers) {
  let last;
  await until(
    args.patience,
    `${numClients} connections of ${numUsers} users`,
    async () => {
      last = await subscription.presenceStats();
      return last.numClients === numClients && last.numUsers === numUsers;
    },
    () => `it said ${JSON.stringify(last)}`,
  );
}
