/**
 * The official client of Slack's Web API, unchanged but for its base URL: 10,000 messages page by page, limits that it honours by itself, and
 * refusals as its own exceptions.
 */

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run } from './lib/check.mjs';
import { BOT, GENERAL, TOKENS, USERS, apiUrl, client, refuses } from './lib/slack.mjs';

const USAGE = `usage: node chat-sdk.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --messages N        how many messages to page through (10000)
  --patience SECONDS  how long to wait for anything (20)`;

/** Posts under way while messages are made. */
const WIDTH = 64;
/** Posts of one person in one conversation that are always let through at once, in development mode. */
const BURST = 6_000;

const args = readArgs(USAGE, { messages: { type: 'string', default: '10000' } });
const { url } = args;
const count = Number(args.messages);
const alice = client(url, TOKENS.alice);
const bob = client(url, TOKENS.bob);
const bot = client(url, TOKENS.bot);

await run('chat-sdk.mjs', checks);

async function checks(done) {
  await knowsWhoCalls(done);
  await postsAndThreads(done);
  await pagesThroughAll(done);
  await honoursLimits(done);
}

async function knowsWhoCalls(done) {
  const self = await alice.auth.test();
  ensureEqual([self.ok, self.user_id, self.user], [true, USERS.alice, 'alice'], 'who alice is');
  ensureEqual((await bot.auth.test()).bot_id, BOT, 'the bot');
  await refuses('not_authed', client(url).auth.test());
  await refuses('invalid_auth', client(url, 'xoxp-guessed').auth.test());
  await refuses('unknown_method', alice.apiCall('chat.doNothing'));
  await refuses('my_error', alice.api.test({ error: 'my_error' }));
  done('tokens say who calls, and refusals are exceptions with their codes');
}

async function postsAndThreads(done) {
  const blocks = [{ type: 'section', text: { type: 'mrkdwn', text: '*bold*' } }];
  const parent = await alice.chat.postMessage({ channel: GENERAL, text: 'a question', blocks });
  ensureEqual(parent.message.blocks, blocks, 'structures come back');
  const reply = await bob.chat.postMessage({ channel: GENERAL, text: 'an answer', thread_ts: parent.ts });
  ensureEqual(reply.message.thread_ts, parent.ts, 'a reply names its parent');
  const { messages } = await alice.conversations.replies({ channel: GENERAL, ts: parent.ts });
  ensureEqual(messages.map(({ text }) => text), ['a question', 'an answer'], 'a thread');
  ensureEqual([messages[0].reply_count, messages[0].latest_reply], [1, reply.ts], 'what the parent says');
  const key = 'b5b6a1ee-4e1b-4f5e-9d3e-0d6f1f7b5a11';
  const [once, twice] = [0, 1].map(() => ({ channel: GENERAL, text: 'once', client_msg_id: key }));
  const first = await alice.chat.postMessage(once);
  const second = await alice.chat.postMessage(twice);
  ensureEqual([second.ts, second.duplicate], [first.ts, true], 'a message that was sent again');
  await refuses('channel_not_found', alice.chat.postMessage({ channel: 'C0NOTHERE00', text: 'x' }));
  await refuses('no_text', alice.chat.postMessage({ channel: GENERAL, text: '' }));
  await refuses('msg_too_long', alice.chat.postMessage({ channel: GENERAL, text: 'x'.repeat(40_001) }));
  await refuses('thread_not_found', alice.conversations.replies({ channel: GENERAL, ts: '1.000000' }));
  done('messages, threads and repeated sends');
}

async function pagesThroughAll(done) {
  const before = (await alice.conversations.history({ channel: GENERAL, limit: 1 })).messages[0].ts;
  await fill(count);
  const seen = [];
  let pages = 0;
  const options = { channel: GENERAL, oldest: before, limit: 999 };
  for await (const page of alice.paginate('conversations.history', options)) {
    pages += 1;
    seen.push(...page.messages);
  }
  ensureEqual(seen.length, count, 'messages of all pages');
  ensureEqual(pages, Math.ceil(count / 999), 'pages');
  ensure(
    seen.every(({ ts }, at) => at === 0 || ts < seen[at - 1].ts),
    'newest first, each once',
  );
  const texts = new Set(seen.map(({ text }) => text));
  ensure(texts.size === count && texts.has('message 0'), 'all of them');
  const range = { channel: GENERAL, oldest: seen[9].ts, latest: seen[4].ts, inclusive: true };
  const { messages } = await bob.conversations.history(range);
  ensureEqual(messages.map(({ ts }) => ts), seen.slice(4, 10).map(({ ts }) => ts), 'a range with its ends');
  await refuses('invalid_cursor', alice.conversations.history({ channel: GENERAL, cursor: 'no' }));
  done(`${count} messages in ${pages} pages, by cursor`);
}

async function honoursLimits(done) {
  const posts = (who, number) => raw(who, `limit ${number}`);
  // Uses up what is let through at once; what the filling has used is back in part.
  let refused = 0;
  for (let number = 0; refused === 0; number += WIDTH) {
    ensure(number < 20 * BURST, 'some post is one too many');
    const statuses = await Promise.all(Array.from({ length: WIDTH }, (_, at) => posts('alice', number + at)));
    refused = statuses.filter((status) => status === 429).length;
  }
  const waits = [];
  const patient = client(url, TOKENS.alice);
  patient.on('rate_limited', (seconds) => waits.push(seconds));
  const texts = Array.from({ length: 60 }, (_, number) => `patient ${number}`);
  const posted = await Promise.all(texts.map((text) => patient.chat.postMessage({ channel: GENERAL, text })));
  ensure(waits.length > 0 && waits.every((seconds) => seconds >= 1), `the client waits: ${waits}`);
  ensure(posted.every(({ ok, ts }) => ok && ts), 'and everything is posted in the end');
  done(`429 and Retry-After: the client waits ${waits.length} times and loses nothing`);
}

/** Posts so many messages, half of them by each of two people. */
async function fill(total) {
  let next = 0;
  const worker = async () => {
    for (let number = next++; number < total; number = next++) {
      const status = await raw(number % 2 === 0 ? 'alice' : 'bob', `message ${number}`);
      ensureEqual(status, 200, 'a post');
    }
  };
  await Promise.all(Array.from({ length: WIDTH }, worker));
}

/** Posts without the client, which waits by itself; returns the status. */
async function raw(who, text) {
  const response = await fetch(`${apiUrl(url)}chat.postMessage`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${TOKENS[who]}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ channel: GENERAL, text }),
  });
  await response.arrayBuffer();
  return response.status;
}
