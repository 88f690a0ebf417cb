/**
 * Two nodes on one database: Redis is killed, then a node; or a node is told to stop. Whoever posts is not held up, and an app that listens
 * misses nothing.
 */

import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

import { readArgs } from './lib/args.mjs';
import { ensureEqual, run, until } from './lib/check.mjs';
import { GENERAL, Listener, TOKENS, apiUrl, client } from './lib/slack.mjs';

const USAGE = `usage: node chat-nodes.mjs --url URL --other URL (--redis PID --victim PID | --leaver PID)
  --url URL           a server in development mode
  --other URL         another one on the same database
  --redis PID         the Redis between them: it is killed
  --victim PID        the other server: it is killed
  --leaver PID        the other server: it is told to stop
  --patience SECONDS  how long to wait for anything (20)`;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  redis: { type: 'string' },
  victim: { type: 'string' },
  leaver: { type: 'string' },
});
const { url, other, patience } = args;
const here = client(url, TOKENS.alice);
const there = client(other, TOKENS.bob);

let live;

await run('chat-nodes.mjs', checks, async () => {
  live?.disconnect();
  await Listener.endAll();
});

async function checks(done) {
  await (args.leaver ? leaves(done) : survives(done));
}

async function leaves(done) {
  const far = await Listener.open(other, patience);
  await post('before');
  await far.hearsText('before');
  // As a balancer does: the address is that of any node.
  far.client.webClient.slackApiUrl = apiUrl(url);
  process.kill(Number(args.leaver), 'SIGTERM');
  for (let number = 0; number < 20; number += 1) {
    await post(`while it goes ${number}`);
  }
  await until(patience, 'another connection', () => far.hellos === 2);
  await post('after');
  await far.hearsText('after');
  const expected = ['before', ...Array.from({ length: 20 }, (_, number) => `while it goes ${number}`), 'after'];
  ensureEqual([...far.texts()].sort(), expected.sort(), 'what the app has heard');
  done('an app whose node stops goes on at another one, and misses nothing');
}

async function survives(done) {
  const far = await Listener.open(other, patience, { acknowledges: ({ event }) => event.text !== 'for the dead' });
  const shown = await watches(there, other);
  await post('over Redis');
  await far.hearsText('over Redis');
  process.kill(Number(args.redis), 'SIGKILL');
  const texts = [];
  for (let number = 0; number < 20; number += 1) {
    texts.push(`without Redis ${number}`);
    await post(texts.at(-1));
  }
  await far.hearsText(texts.at(-1));
  ensureEqual(far.texts(), ['over Redis', ...texts], 'what an app hears on the other node');
  const { messages } = await there.conversations.history({ channel: GENERAL, limit: 20 });
  ensureEqual(messages.map(({ text }) => text).reverse(), texts, 'what the other node loads');
  await until(patience, 'the last message, live', () => shown.at(-1) === texts.at(-1), () => shown.join());
  ensureEqual(shown, ['over Redis', ...texts], 'what somebody at the other node is shown live');
  done('without Redis posting works, and the other node shows and tells everything in order');

  const near = await Listener.open(url, patience);
  await far.end();
  const taken = await Listener.open(other, patience, { acknowledges: ({ event }) => event.text !== 'for the dead' });
  await post('for the dead');
  const first = await taken.hearsText('for the dead');
  process.kill(Number(args.victim), 'SIGKILL');
  const again = await until(patience, 'the envelope on the node that lives', () =>
    near.heard.find(({ envelope_id }) => envelope_id === first.envelope_id),
  );
  ensureEqual(again.event_id, first.event_id, 'the event');
  await post('after it');
  await near.hearsText('after it');
  done('what a dead node had not seen acknowledged comes on another one');
}

/** The texts that somebody is shown who follows the conversation. */
async function watches(who, at) {
  const { token } = await who.apiCall('client.token');
  const socket = `${at.replace(/^http/, 'ws')}/connection/websocket`;
  live = new Centrifuge(socket, { token, websocket: WebSocket });
  const room = live.newSubscription(`chat:${GENERAL}`);
  const texts = [];
  room.on('publication', ({ data }) => texts.push(data.text));
  room.subscribe();
  live.connect();
  await room.ready(patience);
  return texts;
}

async function post(text) {
  await here.chat.postMessage({ channel: GENERAL, text });
}
