/**
 * Prints what the official Centrifuge client says in Protobuf, and how its own encoder writes what
 * a server answers:
 *
 *     node protobuf-vectors.mjs > ../../crates/wire/tests/centrifuge_protobuf/official-client.txt
 *
 * No server is needed: the client speaks to a socket that answers every command with success, and
 * what it sends is printed as it is. A line is a name and a frame in hexadecimal.
 */

import { createRequire } from 'node:module';

import { Centrifuge } from 'centrifuge/build/protobuf';

const { version } = createRequire(import.meta.url)('./node_modules/centrifuge/package.json');

const CLIENT = '8d2a4c6e-0f1b-4a3c-9d5e-7b8091a2b3c4';
const EPOCH = 'g1dydLxPhQEApiJ6';
const TIME = 1795292131872;

const text = (string) => new TextEncoder().encode(string);
const json = (value) => text(JSON.stringify(value));
const show = (name, frame) => console.log(name, Buffer.from(frame).toString('hex'));
/** A moment. */
const glance = () => new Promise((resolve) => setTimeout(resolve, 20));
/** How long the client may take to send something, in milliseconds; a new token takes a second. */
const PATIENCE = 10_000;

/** What the socket answers to a command, by the command's member. */
const RESULTS = {
  connect: { client: CLIENT, version: '1', ping: 25, pong: true },
  subscribe: { recoverable: true, positioned: true, epoch: EPOCH, offset: 7 },
  refresh: { client: CLIENT },
  sub_refresh: {},
};

/** A socket that is a server. */
class Socket {
  /** What stands before each frame that is printed. */
  static names = [];
  static last = null;

  constructor(_endpoint, protocol) {
    console.log(`# subprotocol ${protocol}`);
    Socket.last = this;
    setTimeout(() => this.onopen());
  }

  send(frame) {
    show(Socket.names.shift() ?? 'command-unnamed', frame);
    const commands = codec.decodeCommands(frame).filter(({ id }) => id > 0);
    const replies = commands.map((command) => {
      const { id, ...asked } = command;
      const [method] = Object.keys(asked);
      return { id, [method]: RESULTS[method] ?? {} };
    });
    setTimeout(() => replies.length > 0 && this.say(replies));
  }

  say(replies) {
    const frame = codec.encodeReplies(replies);
    this.onmessage({ data: frame.buffer.slice(frame.byteOffset, frame.byteOffset + frame.length) });
  }

  close() {
    setTimeout(() => this.onclose({ code: 1000, reason: '' }));
  }
}

/** Names the frame that the client sends next, and lets it send that. */
async function captured(name, act) {
  Socket.names.push(name);
  await act();
  await until(() => Socket.names.length === 0, name);
  // What it is answered arrives before the next command.
  await glance();
}

async function until(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > end) {
      throw new Error(`waited in vain for ${what}`);
    }
    await glance();
  }
}

const client = new Centrifuge('ws://127.0.0.1/connection/websocket', {
  websocket: Socket,
  token: 'connection-token',
  name: 'vectors',
  version: '1.2',
  data: json({ lang: 'en' }),
  headers: { 'x-a': 'b' },
  getToken: async () => 'connection-token-2',
});
const codec = client._codec;

console.log(`# The official client, npm centrifuge ${version}, build/protobuf.`);
console.log('# Made by tests/browser/protobuf-vectors.mjs.');
console.log('# command-…: what it sends over its socket. reply-…: what its encoder makes of a reply.');
await commands();
replies();
process.exit(0);

async function commands() {
  const subscription = client.newSubscription('room:1', {
    token: 'subscription-token',
    since: { offset: 70_000, epoch: EPOCH },
    recoverable: true,
    positioned: true,
    joinLeave: true,
    data: json([1]),
    getToken: async () => 'subscription-token-2',
  });
  subscription.subscribe();
  await captured('command-connect-subscribe', () => client.connect());
  await captured('command-publish', () => subscription.publish(json({ text: 'Zoë' })));
  await captured('command-publish-three', () => {
    client.startBatching();
    const all = [1, 'two', null].map((value) => client.publish('room:2', json(value)));
    client.stopBatching();
    return Promise.all(all);
  });
  const binary = new Uint8Array([0xff, 0]);
  await captured('command-publish-binary', () => client.publish('room:2', binary));
  await captured('command-publish-empty', () => client.publish('room:2', new Uint8Array()));
  await captured('command-history-all', () => subscription.history({ limit: -1 }));
  await captured('command-history-since', () =>
    subscription.history({ limit: 10, reverse: true, since: { offset: 300, epoch: EPOCH } }),
  );
  await captured('command-presence', () => subscription.presence());
  await captured('command-presence-stats', () => subscription.presenceStats());
  await captured('command-rpc', () => client.rpc('method', json({})));
  await captured('command-send', () => client.send(json({ a: 1 })));
  await captured('command-pong', () => Socket.last.say([{}]));
  await captured('command-unsubscribe', () => subscription.unsubscribe());
  client.disconnect();

  RESULTS.connect = { ...RESULTS.connect, expires: true, ttl: 1 };
  await captured('command-connect', () => client.connect());
  await captured('command-refresh', () => {});
  RESULTS.subscribe = { ...RESULTS.subscribe, expires: true, ttl: 1 };
  await captured('command-subscribe', () => subscription.subscribe());
  await captured('command-sub-refresh', () => {});
}

/** Frames as the client's encoder writes them; what has its default value is not given. */
function replies() {
  const reply = (name, ...frames) => show(`reply-${name}`, codec.encodeReplies(frames));
  const info = { user: 'Zoë', client: CLIENT, conn_info: json({ name: 'z' }) };
  const publication = { data: json({ x: 1 }), offset: 7, time: TIME };
  const push = (name, body) => reply(`push-${name}`, { push: { channel: 'room:1', ...body } });

  reply('connect', {
    id: 1,
    connect: {
      client: CLIENT,
      version: '0.1.0',
      expires: true,
      ttl: 3600,
      ping: 25,
      pong: true,
      node: 'n1',
      time: TIME,
    },
  });
  reply('subscribe', { id: 2, subscribe: { epoch: EPOCH, positioned: true } });
  reply('subscribe-recovered', {
    id: 2,
    subscribe: {
      expires: true,
      ttl: 60,
      recoverable: true,
      epoch: EPOCH,
      recovered: true,
      offset: 70_000,
      positioned: true,
      was_recovering: true,
    },
  });
  reply('unsubscribe', { id: 3, unsubscribe: {} });
  reply('publish', { id: 4, publish: {} });
  reply('ping', { id: 5, ping: {} });
  reply('history', {
    id: 6,
    history: {
      publications: [publication, { ...publication, offset: 8, info, tags: { a: 'b' } }],
      epoch: EPOCH,
      offset: 8,
    },
  });
  reply('presence', { id: 300, presence: { presence: { [CLIENT]: info } } });
  reply('presence-stats', { id: 7, presence_stats: { num_clients: 3, num_users: 2 } });
  reply('refresh', { id: 8, refresh: { client: CLIENT, expires: true, ttl: 60 } });
  reply('sub-refresh', { id: 9, sub_refresh: { expires: true, ttl: 60 } });
  reply('error', { id: 10, error: { code: 111, message: 'too many requests', temporary: true } });
  reply('pong', {});
  push('publication', { pub: publication });
  push('publication-tagged', { pub: { ...publication, info, tags: { event: 'typing', '': '' } } });
  push('publication-long', { pub: { ...publication, data: json('x'.repeat(300)) } });
  push('message', { pub: { data: json([1]), info } });
  push('join', { join: { info } });
  push('leave', { leave: { info } });
  push('unsubscribe', { unsubscribe: { code: 2500, reason: 'insufficient state' } });
}
