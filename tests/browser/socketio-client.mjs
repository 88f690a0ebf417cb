/**
 * The official Socket.IO client against one server or two on the same database: channels that it shares with clients of
 * the other protocols, both transports, acknowledgements and errors, what it is refused, and that it goes on where it was.
 */

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Balancer } from './lib/balancer.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';
import { Member } from './lib/socketio.mjs';

const USAGE = `usage: node socketio-client.mjs --url http://127.0.0.1:8000 [--other http://127.0.0.1:8001]
  --url URL           a server in development mode
  --other URL         another one on the same database; without it the same one is asked
  --patience SECONDS  how long to wait for anything (20)`;

/** The longest frame or request that the server takes, unless it is told otherwise. */
const MAX_PAYLOAD = 1_000_000;
/** Messages of a burst. */
const BURST = 200;

const args = readArgs(USAGE, { other: { type: 'string' } });
const other = args.other ?? args.url;
const api = new Api(other);
const cables = [];
const member = (url, options) => new Member(url, options, args.patience);

await run('socketio-client.mjs', checks, async () => {
  Member.endAll();
  await Promise.all(cables.map((cable) => cable.close()));
});

async function checks(done) {
  await sharesChannels(done);
  await asksAndIsRefused(done);
  await speaksNonsense(done);
  await goesOverToAWebSocket(done);
  await pollsThroughABalancer(done);
  await recoversAQuietChannel(done);
  await recoversSeveralChannels(done);
  await recoversOnlyWhatItMay(done);
}

async function cable(url = args.url) {
  const made = await Cable.to(url);
  cables.push(made);
  return made;
}

// === One channel for all protocols ===

async function sharesChannels(done) {
  const channel = freshChannel('shared');
  const centrifuge = new Centrifuge(`${other.replace(/^http/, 'ws')}/connection/websocket`, {
    websocket: WebSocket,
  });
  const seen = [];
  const subscription = centrifuge.newSubscription(channel);
  subscription.on('publication', ({ offset, data }) => seen.push([offset, data]));
  subscription.subscribe();
  centrifuge.connect();
  await subscription.ready(args.patience);
  const stream = await eventStream(`${other}/events?channel=${channel}`);

  const near = await member(args.url).connected();
  const far = await member(other).connected();
  const { epoch, offset, ok } = await near.do('subscribe', channel);
  ensure(ok && epoch, 'the subscription has no epoch');
  ensureEqual(offset, 0, 'the position of an empty channel');
  await far.do('subscribe', channel);

  await api.publish(channel, { n: 1 });
  const second = await near.do('publish', channel, { n: 2 }, { event: 'greeting' });
  ensureEqual(second, { offset: 2, epoch }, 'the answer to a publish');
  await subscription.publish({ n: 3 });

  for (const who of [near, far]) {
    await who.hears(channel, 3);
    ensureEqual(
      who.heard.map(([event, data, meta]) => [event, data.n, meta.offset, meta.epoch]),
      [
        ['message', 1, 1, epoch],
        ['greeting', 2, 2, epoch],
        ['message', 3, 3, epoch],
      ],
      'what Socket.IO clients hear',
    );
  }
  const expected = [1, 2, 3].map((n) => [n, { n }]);
  await until(args.patience, 'Centrifuge hears all', () => seen.length >= 3);
  ensureEqual(seen, expected, 'what Centrifuge clients hear');
  await until(args.patience, 'the event stream has all', () => stream.heard.length >= 3);
  ensureEqual(stream.heard, expected, 'what event streams carry');
  centrifuge.disconnect();
  stream.end();
  done('one channel for Socket.IO, Centrifuge and event streams, with the same positions');

  const burst = freshChannel('burst');
  await near.do('subscribe', burst);
  await far.do('subscribe', burst);
  const sent = Array.from({ length: BURST }, (_, n) => near.do('publish', burst, n));
  const offsets = (await Promise.all(sent)).map((answer) => answer.offset);
  ensureSequence(offsets, 1, BURST, 'publishes of one client in their order');
  for (const who of [near, far]) {
    await who.hears(burst, BURST);
    ensureSequence(who.offsets(burst), 1, BURST, 'a burst');
  }
  done(`${BURST} publishes at once, in order`);
}

/** Reads an event stream: `heard` has offset and data of each message. */
async function eventStream(url) {
  const controller = new AbortController();
  const response = await fetch(url, { signal: controller.signal });
  const heard = [];
  const read = async () => {
    let text = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) {
        const data = /^data: (.*)$/m.exec(event);
        if (data && !/^event: /m.test(event)) {
          const { offset, data: payload } = JSON.parse(data[1]);
          heard.push([offset, payload]);
        }
      }
    }
  };
  // Ended by `end`.
  read().catch(() => {});
  return { heard, end: () => controller.abort() };
}

// === Questions and refusals ===

async function asksAndIsRefused(done) {
  const channel = freshChannel('asks');
  const who = await member(args.url).connected();
  await who.do('subscribe', channel);
  ensureEqual(await who.refused('subscribe', channel), 105, 'subscribing twice');
  ensureEqual(await who.refused('subscribe', 'not a channel'), 107, 'a bad name');
  ensureEqual(await who.refused('subscribe'), 107, 'no name');
  ensureEqual(await who.refused('subscribe', channel, 7), 107, 'options that are none');
  ensureEqual(await who.refused('no such event'), 104, 'an unknown event');
  ensureEqual(await who.refused('publish', channel), 107, 'nothing to publish');
  ensureEqual(await who.refused('publish', channel, Buffer.from([1])), 107, 'binary data');
  ensureEqual(await who.refused('publish', channel, 1, { event: 'connect' }), 107, 'a reserved name');
  ensureEqual(await who.refused('publish', channel, 'x'.repeat(70_000)), 106, 'too much');
  const { presence } = await who.do('presence', channel);
  ensureEqual(Object.keys(presence).length, 1, 'members');
  ensureEqual((await who.do('presence_stats', channel)).num_clients, 1, 'how many there are');

  const first = await who.do('publish', channel, 'once', { idempotency_key: 'k' });
  const again = await who.do('publish', channel, 'twice', { idempotency_key: 'k' });
  ensureEqual(again, { ...first, duplicate: true }, 'the same key again');
  await who.do('publish', channel, 'text', { event: 'named' });
  const history = await who.do('history', channel, { limit: 10 });
  ensureEqual(
    history.publications.map(({ offset, data }) => [offset, data]),
    [
      [1, 'once'],
      [2, 'text'],
    ],
    'the history',
  );
  const late = await member(other).connected();
  const joined = await late.do('subscribe', channel, { since: { offset: 1, epoch: first.epoch } });
  ensure(joined.recovered && joined.recoverable, 'a subscription behind a position');
  await late.hears(channel, 2);
  ensureEqual(late.offsets(channel), [2], 'what follows the position');
  const foreign = await late.ask('subscribe', freshChannel('x'), { since: { offset: 1, epoch: 'y' } });
  ensureEqual(foreign.recovered, false, 'a position of another log');
  await late.do('unsubscribe', channel);
  await who.do('publish', channel, 'unheard');
  await who.hears(channel, 3);
  await late.do('history', channel);
  ensureEqual(late.offsets(channel), [2], 'what is heard after leaving');
  done('questions are answered, and refused with the codes of the other protocols');

  const lost = member(args.url, { namespace: '/nowhere' });
  await until(args.patience, 'a refusal', () => lost.refusals.length > 0);
  ensureEqual(lost.refusals[0].message, 'Invalid namespace', 'an unknown namespace');
  done('an unknown namespace is refused');
}

/** What no client of the library would send. */
async function speaksNonsense(done) {
  const bare = async () => {
    const socket = new WebSocket(`${args.url.replace(/^http/, 'ws')}/socket.io/?EIO=4&transport=websocket`);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.on('error', () => {});
    const texts = [];
    socket.on('message', (data, binary) => texts.push(binary ? data : data.toString()));
    await until(args.patience, 'a handshake', () => texts[0]?.startsWith('0{'));
    socket.send('40');
    await until(args.patience, 'a namespace', () => texts[1]?.startsWith('40{'));
    return { socket, closed, texts };
  };
  const nonsense = {
    'no packet': ['4x'],
    'no JSON': ['42["subscribe",'],
    'an event without a name': ['42[]'],
    'a reserved event': ['42["disconnect"]'],
    'too many attachments': ['4511-["publish",{"_placeholder":true,"num":0}]'],
    'an attachment of nothing': [Buffer.from([1])],
    'text instead of an attachment': ['451-["publish",{"_placeholder":true,"num":0}]', '42["x"]'],
    'too many arguments': [`42["x"${',1'.repeat(100)}]`],
    'a frame over the limit': [`42["x","${'y'.repeat(MAX_PAYLOAD)}"]`],
    'attachments over the limit': [
      '452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
      Buffer.alloc(MAX_PAYLOAD * 0.6),
      Buffer.alloc(MAX_PAYLOAD * 0.6),
    ],
    'the wrong direction of a ping': ['2'],
  };
  for (const [what, messages] of Object.entries(nonsense)) {
    const { socket, closed } = await bare();
    messages.forEach((message) => socket.send(message));
    const code = await closed;
    ensure([1002, 1009].includes(code), `${what}: closed with ${code}`);
  }
  // Deep, but JSON: nothing breaks over it.
  const { socket, texts } = await bare();
  socket.send(`42001["publish","deep",${'['.repeat(10_000)}${']'.repeat(10_000)}]`);
  await until(args.patience, 'an answer', () => texts.some((text) => text.startsWith('431[')));
  socket.close();
  done('whoever does not speak the protocol is cut off');

  const status = async (query, options) => {
    const response = await fetch(`${args.url}/socket.io/?${query}`, options);
    return [response.status, (await response.json()).code];
  };
  ensureEqual(await status('EIO=4&transport=pigeon'), [400, 0], 'an unknown transport');
  ensureEqual(await status('EIO=4&transport=polling&sid=none'), [400, 1], 'an unknown session');
  ensureEqual(await status('EIO=4&transport=polling', { method: 'POST' }), [400, 2], 'a handshake by POST');
  ensureEqual(await status('EIO=4&transport=websocket'), [400, 3], 'a websocket that is none');
  ensureEqual(await status('EIO=3&transport=polling'), [400, 5], 'an old protocol');
  const foreign = { headers: { origin: 'https://evil.example' } };
  ensureEqual(await status('EIO=4&transport=polling', foreign), [403, 4], 'a page of another origin');
  const sid = await pollOnce();
  const huge = { method: 'POST', body: '4'.repeat(MAX_PAYLOAD + 1) };
  ensureEqual((await status(`EIO=4&transport=polling&sid=${sid}`, huge))[0], 413, 'a body over the limit');
  done('requests are refused with the numbers of Engine.IO');
}

async function pollOnce() {
  const response = await fetch(`${args.url}/socket.io/?EIO=4&transport=polling`);
  return JSON.parse((await response.text()).slice(1)).sid;
}

// === Transports ===

async function goesOverToAWebSocket(done) {
  const channel = freshChannel('upgrade');
  const who = member(args.url, { transports: ['polling', 'websocket'] });
  const upgraded = new Promise((resolve) => {
    who.socket.io.on('open', () => who.socket.io.engine.on('upgrade', resolve));
  });
  await who.connected();
  // Messages come all the time while it goes over.
  let over = false;
  await who.do('subscribe', channel);
  const publishing = (async () => {
    let count = 0;
    while (!over || count < 20) {
      await api.publish(channel, count);
      count += 1;
    }
    return count;
  })();
  await upgraded;
  over = true;
  const count = await publishing;
  await who.hears(channel, count);
  ensureSequence(who.offsets(channel), 1, count, 'messages during the upgrade');
  ensureEqual(who.connects.length, 1, 'connections');
  ensureEqual(who.socket.io.engine.transport.name, 'websocket', 'the transport');
  done('goes over from long-polling to a websocket without losing a message');
}

async function pollsThroughABalancer(done) {
  const balancer = await Balancer.over([args.url, other]);
  cables.push(balancer);
  const channel = freshChannel('polling');
  const who = await member(balancer.url, { transports: ['polling'] }).connected();
  await who.do('subscribe', channel);
  for (let n = 1; n <= 30; n += 1) {
    const { offset } = await who.do('publish', channel, `n ${n}`);
    ensureEqual(offset, n, 'the answer to a publish');
  }
  await who.hears(channel, 30);
  ensureSequence(who.offsets(channel), 1, 30, 'what comes by long-polling');
  ensureEqual(who.connects.length, 1, 'connections');
  ensure(balancer.counts.every((count) => count > 10), `requests by server: ${balancer.counts}`);
  done(`long-polling without sticky sessions, requests by server: ${balancer.counts}`);

  // With an upgrade that may meet the wrong server, it stays with long-polling or goes over: both are right.
  const mixed = await member(balancer.url, { transports: ['polling', 'websocket'] }).connected();
  await mixed.do('subscribe', channel);
  await who.do('publish', channel, 'last');
  await mixed.hears(channel, 31);
  ensureEqual(mixed.connects.length, 1, 'connections');
  done(`behind such a balancer an upgrade ends with ${mixed.socket.io.engine.transport.name}`);
}

// === Connection state recovery ===

async function recoversAQuietChannel(done) {
  const channel = freshChannel('quiet');
  const line = await cable();
  const who = await member(line.url).connected();
  await who.do('subscribe', channel);
  let connects = 1;
  const away = async (meanwhile) => {
    line.cut();
    await until(args.patience, 'the loss', () => !who.socket.connected);
    await meanwhile();
    line.mend();
    connects += 1;
    await who.connected(connects);
    ensureEqual(who.connects.at(-1), true, 'recovered');
  };
  const before = who.socket.id;
  await away(() => api.publish(channel, 'missed'));
  await who.hears(channel, 1);
  ensure(who.socket.id !== before, 'a connection has an id of its own');
  done('recovers a channel in which it never heard anything');

  await away(async () => {});
  await away(async () => {});
  await api.publish(channel, 'after');
  await who.hears(channel, 2);
  ensureEqual(who.offsets(channel), [1, 2], 'what was heard');
  done('comes back twice in a row, and hears nothing twice');

  // Back before the server can know that it was gone.
  for (let turn = 0; turn < 5; turn += 1) {
    line.cut();
    line.mend();
    await api.publish(channel, turn);
    connects += 1;
    await who.connected(connects);
    ensureEqual(who.connects.at(-1), true, 'recovered at once');
  }
  await who.hears(channel, 7);
  ensureSequence(who.offsets(channel), 1, 7, 'what was heard');
  done('comes back at once, five times');

  line.cut();
  await until(args.patience, 'the loss', () => !who.socket.connected);
  await api.publishMany(channel, 500, (n) => n);
  line.mend();
  await who.connected(connects + 1);
  await who.hears(channel, 507);
  ensureSequence(who.offsets(channel), 1, 507, 'what was heard');
  done('recovers five hundred messages');
}

async function recoversSeveralChannels(done) {
  const channels = ['a', 'b', 'c'].map(freshChannel);
  const [quiet, busy, left] = channels;
  const line = await cable();
  const who = await member(line.url).connected();
  for (const channel of channels) {
    await who.do('subscribe', channel);
  }
  await api.publish(busy, 0);
  await api.publish(left, 0);
  await who.hears(left, 1);
  await who.do('unsubscribe', left);
  for (let turn = 1; turn <= 3; turn += 1) {
    // Traffic elsewhere, and cuts in the middle of it.
    const publishing = api.publishMany(busy, 100, (n) => n);
    line.cut();
    await publishing;
    await api.publish(quiet, turn);
    await api.publish(left, turn);
    line.mend();
    await who.connected(turn + 1);
    ensureEqual(who.connects.at(-1), true, 'recovered');
  }
  await who.hears(quiet, 3);
  await who.hears(busy, 301);
  ensureSequence(who.offsets(quiet), 1, 3, 'the quiet channel');
  ensureSequence(who.offsets(busy), 1, 301, 'the busy channel');
  ensureEqual(who.offsets(left), [1], 'the channel that was left');
  done('recovers several channels, and not the one that it left');

  await who.do('unsubscribe', busy);
  line.cut();
  await api.publish(busy, 'unheard');
  await api.publish(quiet, 4);
  line.mend();
  await who.connected(5);
  await who.hears(quiet, 4);
  ensureSequence(who.offsets(quiet), 1, 4, 'the quiet channel');
  ensureSequence(who.offsets(busy), 1, 301, 'the channel that was left');
  done('recovers the one channel that it is still in');
}

async function recoversOnlyWhatItMay(done) {
  const channel = freshChannel('forged');
  const last = await api.publishMany(channel, 3, (n) => n);
  const forge = async (offset, auth = {}) => {
    const forged = member(args.url, { auth: { ...auth, pid: 'forged', offset } });
    await forged.connected();
    return forged;
  };
  const far = await forge(`${last.epoch} 99 ${channel}`);
  const told = (who) => who.told.find(([event]) => event === 'fanfare:unrecovered')?.[1];
  await until(args.patience, 'why it is not recovered', () => told(far));
  ensureEqual(told(far), [{ channel, reason: 'reset' }], 'a position that is not there yet');
  const foreign = await forge(`another 1 ${channel}`);
  await until(args.patience, 'why it is not recovered', () => told(foreign));
  ensureEqual(told(foreign), [{ channel, reason: 'reset' }], 'a position of another log');
  for (const nonsense of ['', 'x', `${last.epoch} 1`, 'y'.repeat(30_000)]) {
    const who = await forge(nonsense);
    ensureEqual(await who.refused('publish'), 107, 'it works all the same');
  }
  // An honest client that makes use of the same freedom.
  const honest = await forge(`${last.epoch} 1 ${channel}`);
  await honest.hears(channel, 3);
  ensureEqual(honest.offsets(channel), [2, 3], 'what follows the position');
  done('what a client says that it has seen is checked');
}
