/**
 * Socket Mode with the official clients of Slack: the client for sockets, and the bot of docs/chat-bot.mjs as it stands there.
 */

import { spawn } from 'node:child_process';
import { copyFile, mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';

import WebSocket from 'ws';

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { APP, APP_TOKEN, BOT, GENERAL, Listener, TOKENS, USERS, client, refuses } from './lib/slack.mjs';

const USAGE = `usage: node chat-sockets.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --patience SECONDS  how long to wait for anything (20)`;

const args = readArgs(USAGE);
const { url, patience } = args;
const alice = client(url, TOKENS.alice);
const bot = client(url, TOKENS.bot);
let child;

await run('chat-sockets.mjs', checks, async () => {
  child?.kill();
  await Listener.endAll();
});

async function checks(done) {
  await hears(done);
  await hearsAgain(done);
  await getsIn(done);
  await theBotOfThePage(done);
}

function say(text) {
  return alice.chat.postMessage({ channel: GENERAL, text });
}

async function hears(done) {
  const listener = await Listener.open(url, patience);
  await say(`hello <@${USERS.bot}>`);
  const message = await listener.hears('a message', ({ event }) => event.type === 'message');
  ensureEqual(message.type, 'event_callback', 'the wrapper');
  ensureEqual(message.api_app_id, APP, 'the app');
  ensureEqual(message.authorizations[0].user_id, USERS.bot, 'for whom');
  ensureEqual(message.event.channel, GENERAL, 'where');
  ensureEqual(message.event.user, USERS.alice, 'who');
  const mention = await listener.hears('a mention', ({ event }) => event.type === 'app_mention');
  ensureEqual(mention.event.ts, message.event.ts, 'both are of one message');
  ensure(mention.event_id !== message.event_id, 'each event has an id');
  done('a message comes, and once more if it calls the bot by name');

  await bot.chat.postMessage({ channel: GENERAL, text: 'I am here' });
  const own = await listener.hearsText('I am here');
  ensureEqual([own.event.bot_id, own.event.user], [BOT, USERS.bot], 'who said it');
  done('what the bot says itself comes with its bot_id');
  await listener.end();
}

async function hearsAgain(done) {
  const deaf = await Listener.open(url, patience, { acknowledges: ({ event }) => event.text !== 'remember' });
  await say('remember');
  const first = await deaf.hearsText('remember');
  const again = await deaf.hears('the same again', (it) => it.envelope_id === first.envelope_id && it.retry_num > 0);
  ensureEqual([again.retry_num, again.retry_reason, again.event_id], [1, 'timeout', first.event_id], 'the repetition');
  await deaf.end();
  await say('meanwhile');
  const listener = await Listener.open(url, patience);
  const other = await listener.hearsText('remember');
  ensureEqual(other.event_id, first.event_id, 'what was not acknowledged');
  await listener.hearsText('meanwhile');
  ensureEqual(listener.texts(), ['remember', 'meanwhile'], 'what the next connection hears');
  await listener.end();
  const last = await Listener.open(url, patience);
  await say('done');
  await last.hearsText('done');
  ensureEqual(last.texts(), ['done'], 'what was acknowledged is done');
  await last.end();
  done('what is not acknowledged comes again, on the same connection and on the next; the rest does not');
}

async function getsIn(done) {
  await refuses('not_allowed_token_type', bot.apps.connections.open());
  await refuses('invalid_auth', client(url, 'xapp-guessed').apps.connections.open());
  const { url: socket } = await client(url, APP_TOKEN).apps.connections.open();
  const status = (address) =>
    new Promise((resolve) => {
      const tried = new WebSocket(address);
      tried.on('unexpected-response', (_, response) => resolve(response.statusCode));
      tried.on('open', () => {
        tried.close();
        resolve(101);
      });
      tried.on('error', () => {});
    });
  ensureEqual(await status(socket), 101, 'a ticket');
  ensureEqual(await status(socket), 403, 'a ticket that was used');
  ensureEqual(await status(`${socket.slice(0, -4)}AAAA`), 403, 'a forged ticket');
  ensureEqual(await status(socket.split('?')[0]), 403, 'no ticket');
  done('tickets open one connection each, and only to an app');
}

async function theBotOfThePage(done) {
  // Where its package is found.
  const folder = new URL('node_modules/.checked/', import.meta.url);
  await mkdir(folder, { recursive: true });
  const script = new URL('chat-bot.mjs', folder);
  await copyFile(new URL('../../docs/chat-bot.mjs', import.meta.url), script);
  child = spawn(process.execPath, [script.pathname], {
    env: { ...process.env, FANFARE_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said = [];
  createInterface({ input: child.stdout }).on('line', (line) => said.push(line));
  await until(patience, 'the bot to listen', () => said.includes('the bot listens'));
  const { ts } = await say('Hello there');
  const answer = await until(patience, 'an answer in the thread', async () => {
    const { messages } = await alice.conversations.replies({ channel: GENERAL, ts });
    return messages.find((message) => message.user === USERS.bot);
  });
  ensureEqual(answer.text, `Hello, <@${USERS.alice}>!`, 'the answer');
  await say(`<@${USERS.bot}>?`);
  await until(patience, 'an answer to its name', async () => {
    const { messages } = await alice.conversations.history({ channel: GENERAL, limit: 5 });
    return messages.find(({ text, user }) => user === USERS.bot && text.endsWith('you called?'));
  });
  done('the bot of the documentation answers');
}
