/**
 * The native `EventSource` of real Chromium on two channels at once: order, holes and repeats over
 * a reopened stream (`?last_event_id=`) and a pulled cable (`Last-Event-ID` from the browser).
 */

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';

const USAGE = `usage: node eventsource.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --api-key KEY       for a server that asks for one to publish
  --patience SECONDS  how long to wait for anything (20)`;

/** Messages per channel and round. */
const ROUND = 40;

const args = readArgs(USAGE);
const api = new Api(args.url, args['api-key']);
let browser;
let cable;

await run('eventsource.mjs', checks, async () => {
  await browser?.close();
  await cable?.close();
});

async function checks(done) {
  browser = await Browser.launch();
  cable = await Cable.to(args.url);
  const page = await browser.page();
  await page.goto(`${cable.url}/`);
  await page.evaluate(listener);

  const channels = [freshChannel('left'), freshChannel('right')];
  // One channel with a past, one without: a stream without an id starts at the head of each.
  await publishRound([channels[0]], 'past');
  const first = await open(page, channels, null);
  ensureEqual(
    first.ready.channels[channels[0]],
    { offset: ROUND },
    'ready: where the first channel starts',
  );
  ensureEqual(
    first.ready.channels[channels[1]]?.offset ?? 0,
    0,
    'ready: where the second channel starts',
  );
  ensure(first.ready.epoch !== '' && typeof first.ready.epoch === 'string', 'ready: no epoch');
  ensure(
    first.readyId !== '',
    'ready carries no id: a loss before the first message could not be resumed',
  );
  done('ready says where both channels start, in which epoch, and carries an id');

  const heads = { [channels[0]]: ROUND, [channels[1]]: 0 };
  await round(page, channels, heads, 'live');
  done(
    `${ROUND} messages to each of two channels arrive live, in order, without a hole or a repeat`,
  );

  await reopened(page, channels, heads);
  done('a stream reopened with last_event_id goes on where it was closed, on both channels');

  await reopenedEarlier(page, channels, heads);
  done('an id taken in the middle of the stream gives exactly the rest of both channels');

  await pulled(page, channels, heads);
  done(
    'a pulled cable: the browser reconnects with Last-Event-ID, nothing missing, nothing repeated',
  );

  await readyIdResumes(page, channels, heads);
  done('the id of ready resumes a stream that had no message yet');

  await foreignEpoch(page, channels);
  done('an id that is no position of this log is answered, and said to be none');
}

/** Publishes while the stream is open. */
async function round(page, channels, heads, label) {
  await publishRound(channels, label);
  await complete(page, channels, heads);
}

/** Publishes to all channels at once, each in its own order. */
function publishRound(channels, label) {
  const items = Array.from({ length: ROUND }, (_, index) => `${label} ${index}`);
  return Promise.all(channels.map((channel) => api.publishInOrder(channel, items)));
}

/** Waits for one more round on each channel, and takes it off. */
async function complete(page, channels, heads) {
  const wanted = channels.length * ROUND;
  await until(
    args.patience,
    `${wanted} messages`,
    async () => (await page.evaluate(() => globalThis.heard.messages.length)) >= wanted,
    async () => `${await page.evaluate(() => globalThis.heard.messages.length)} came`,
  );
  const { messages } = await take(page);
  for (const channel of channels) {
    const own = messages.filter((message) => message.data.channel === channel);
    const last = heads[channel] + ROUND;
    ensureSequence(
      own.map(({ data }) => data.offset),
      heads[channel] + 1,
      last,
      channel,
    );
    heads[channel] = last;
    for (const { data } of own) {
      ensure(
        typeof data.id === 'string' && data.id !== '',
        `${channel} ${data.offset}: no publication id`,
      );
      ensure(Number.isFinite(data.time), `${channel} ${data.offset}: no time`);
    }
    const order = own.map(({ data }) => Number(String(data.data).split(' ').at(-1)));
    ensureSequence(order, 0, ROUND - 1, `${channel}: order of the data`);
  }
  const ids = new Set(messages.map(({ id }) => id));
  ensureEqual(ids.size, messages.length, 'distinct event ids');
  ensureEqual(messages.length, wanted, 'messages over both channels');
  return messages;
}

async function reopened(page, channels, heads) {
  const id = await page.evaluate(() => {
    globalThis.heard.source.close();
    return globalThis.heard.lastId;
  });
  await publishRound(channels, 'missed');
  await open(page, channels, id);
  await complete(page, channels, heads);
}

async function reopenedEarlier(page, channels, heads) {
  const before = { ...heads };
  await publishRound(channels, 'again');
  const messages = await complete(page, channels, heads);
  const middle = messages[Math.floor(messages.length / 2)];
  const rest = messages.slice(messages.indexOf(middle) + 1);
  await page.evaluate(() => globalThis.heard.source.close());
  await open(page, channels, middle.id);
  await until(args.patience, 'the rest of the round', () =>
    page.evaluate((count) => globalThis.heard.messages.length >= count, rest.length),
  );
  const { messages: came } = await take(page);
  for (const channel of channels) {
    const of = (list) =>
      list.filter(({ data }) => data.channel === channel).map(({ data }) => data.offset);
    ensureEqual(
      of(came),
      of(rest),
      `${channel}: the rest behind the middle of ${before[channel]} …`,
    );
  }
}

async function pulled(page, channels, heads) {
  cable.cut();
  await until(args.patience, 'the browser to notice', () =>
    page.evaluate(() => globalThis.heard.source.readyState === EventSource.CONNECTING),
  );
  await publishRound(channels, 'cut');
  cable.mend();
  await complete(page, channels, heads);
}

async function readyIdResumes(page, channels, heads) {
  await page.evaluate(() => globalThis.heard.source.close());
  const { readyId } = await open(page, channels, null);
  await page.evaluate(() => globalThis.heard.source.close());
  await publishRound(channels, 'before the first message');
  await open(page, channels, readyId);
  await complete(page, channels, heads);
}

async function foreignEpoch(page, channels) {
  await page.evaluate(() => globalThis.heard.source.close());
  await take(page);
  const address = new URL(`${cable.url}/events`);
  channels.forEach((channel) => address.searchParams.append('channel', channel));
  address.searchParams.set('last_event_id', 'not-a-position-of-this-log');
  const { status, text } = await page.evaluate(
    async ({ url, patience }) => {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), patience);
      const response = await fetch(url, { signal: abort.signal });
      let text = '';
      try {
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let end = !response.ok; !end && !/^event: ?reset$/m.test(text);) {
          const { value, done } = await reader.read();
          text += value ?? '';
          end = done;
        }
      } catch {
        // Out of patience: what has come by now is judged.
      }
      abort.abort();
      return { status: response.status, text };
    },
    { url: address.href, patience: args.patience },
  );
  const said = (status >= 400 && status < 500) || (status === 200 && /^event: ?reset$/m.test(text));
  ensure(
    said,
    `a foreign id is answered with ${status} and neither refused nor reset: ${JSON.stringify(text.slice(0, 200))}`,
  );
}

/** Opens the stream and waits for its `ready`. */
async function open(page, channels, lastEventId) {
  await page.evaluate(({ channels, lastEventId }) => globalThis.heard.open(channels, lastEventId), {
    channels,
    lastEventId,
  });
  return until(
    args.patience,
    'ready',
    () =>
      page.evaluate(
        () =>
          globalThis.heard.ready && {
            ready: globalThis.heard.ready,
            readyId: globalThis.heard.readyId,
          },
      ),
    async () =>
      `the stream is ${await page.evaluate(() => globalThis.heard.source.readyState)}; ${browser.problems.join('; ')}`,
  );
}

/** Gives what has been heard, and forgets it. */
function take(page) {
  return page.evaluate(() => {
    const { messages } = globalThis.heard;
    globalThis.heard.messages = [];
    return { messages };
  });
}

/** Runs in the page: one stream at a time, and everything it said. */
function listener() {
  const heard = { source: null, messages: [], lastId: '', ready: null, readyId: '' };
  globalThis.heard = heard;
  heard.open = (channels, lastEventId) => {
    const query = new URLSearchParams(channels.map((channel) => ['channel', channel]));
    if (lastEventId !== null) {
      query.set('last_event_id', lastEventId);
    }
    heard.ready = null;
    heard.lastId = lastEventId ?? '';
    heard.source = new EventSource(`/events?${query}`);
    heard.source.addEventListener('ready', (event) => {
      heard.ready = JSON.parse(event.data);
      heard.readyId = event.lastEventId;
      heard.lastId = event.lastEventId || heard.lastId;
    });
    heard.source.addEventListener('message', (event) => {
      heard.lastId = event.lastEventId;
      heard.messages.push({ id: event.lastEventId, data: JSON.parse(event.data) });
    });
  };
}
