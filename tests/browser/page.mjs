/**
 * The page at `/` in real Chromium: a message reaches both panes with one sequence, a dropped pane
 * misses nothing, a pulled cable neither, payloads stay text, and the console stays empty.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';

const USAGE = `usage: node page.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --patience SECONDS  how long to wait for anything (20)
  --screenshots DIR   also store the page: narrow and wide, light and dark`;

/** How many messages are published while a pane is away. */
const MISSED = 25;
const PANES = ['websocket', 'eventsource'];
/** What the browser itself says when its connection is cut on purpose. */
const CUT = /net::ERR_|WebSocket connection to .* failed/;

const args = readArgs(USAGE, { screenshots: { type: 'string' } });
const api = new Api(args.url, args['api-key']);
let browser;
let cable;

await run('page.mjs', checks, async () => {
  await browser?.close();
  await cable?.close();
});

async function checks(done) {
  browser = await Browser.launch();
  cable = await Cable.to(args.url);
  const channel = freshChannel('page');
  const page = await openPage(cable.url, channel);
  done('the page opens, and both panes are live');

  await publishOne(page, done);
  await escaped(page, channel, done);
  for (const pane of PANES) {
    await dropped(page, channel, pane, done);
  }
  await streamWhileDropped(page, done);
  noProblems();
  done('no console error, no exception, no policy violation');
  await cablePulled(page, channel, done);
  await wholeLog(page, channel, done);
  await keyRefused(page, done);
  if (args.screenshots) {
    await screenshots(args.screenshots, done);
  }
}

async function openPage(url, channel) {
  const page = await browser.page();
  const response = await page.goto(`${url}/#${channel}`);
  ensure(response?.ok(), `GET / answered ${response?.status()}`);
  const policy = response.headers()['content-security-policy'] ?? '';
  ensure(policy.includes("default-src 'none'"), `no strict policy, but: "${policy}"`);
  for (const pane of PANES) {
    await becomes(page, pane, 'live', (facts) => facts.state === 'live');
  }
  return page;
}

async function publishOne(page, done) {
  const before = await factsOf(page, 'websocket');
  await page.fill('#message', 'the first of this check');
  await page.click('#publish-one');
  for (const pane of PANES) {
    const facts = await becomes(page, pane, 'one more', (now) => now.received === 1);
    ensureEqual(facts.rows[0]?.seq, before.seq + 1, `${pane}: its sequence`);
    ensureEqual(facts.rows[0]?.text, 'the first of this check', `${pane}: its text`);
    ensureEqual(facts.rows[0]?.via, 'live', `${pane}: how it came`);
    ensure(
      /^\d+(\.\d)? (ms|s)$/.test(facts.rows[0]?.latency),
      `${pane}: no latency, but ${facts.rows[0]?.latency}`,
    );
  }
  done('a published message is in both panes, with one sequence and its latency');
}

async function escaped(page, channel, done) {
  const evil = '<img src=x onerror="globalThis.broken = true"><b>bold</b>';
  await page.fill('#message', evil);
  await page.click('#publish-one');
  const { offset } = await api.publish(channel, { html: evil });
  for (const pane of PANES) {
    const { rows } = await becomes(page, pane, `sequence ${offset}`, (now) => now.seq === offset);
    ensureEqual(rows[1]?.text, evil, `${pane}: markup of this page as text`);
    ensureEqual(rows[0]?.text, JSON.stringify({ html: evil }), `${pane}: markup of others as text`);
  }
  const traces = await page.evaluate(() => ({
    elements: document.querySelectorAll('.rows img, .rows b').length,
    ran: 'broken' in globalThis,
  }));
  ensureEqual(traces, { elements: 0, ran: false }, 'what became of the markup');
  done('markup in a payload stays text');
}

async function dropped(page, channel, pane, done) {
  const other = PANES.find((name) => name !== pane);
  const before = await factsOf(page, pane);
  await press(page, pane);
  await becomes(page, pane, 'dropped', (facts) => facts.state === 'dropped');
  const last = await api.publishMany(channel, MISSED, (index) => ({ missed: index }));
  await becomes(page, other, 'all of them live', (facts) => facts.seq === last.offset);
  const away = await factsOf(page, pane);
  // The countdown may have run out on a slow machine: then it is already catching up.
  if (away.state === 'dropped') {
    ensureEqual(away.seq, before.seq, `${pane}: its position while it is away`);
    await press(page, pane);
  }
  const facts = await becomes(
    page,
    pane,
    'caught up',
    (now) => now.seq === last.offset && now.state === 'live',
  );
  ensureWhole(facts, pane);
  ensureEqual(facts.received - before.received, MISSED, `${pane}: how many came`);
  const rows = facts.rows.filter((row) => row.seq > before.seq).reverse();
  ensureSequence(
    rows.map((row) => row.seq),
    before.seq + 1,
    last.offset,
    `${pane}: rows`,
  );
  const recovered = rows.filter((row) => row.via === 'recovered').length;
  ensureEqual(recovered, MISSED, `${pane}: rows marked as recovered`);
  ensure(/Nothing is missing/.test(facts.banner), `${pane}: it says "${facts.banner}"`);
  done(`${pane}: dropped, ${MISSED} published, all recovered in order, nothing missing`);
}

async function streamWhileDropped(page, done) {
  await page.fill('#message', 'streamed');
  await page.selectOption('#rate', '20');
  await page.click('#publish-stream');
  for (const pane of PANES) {
    await press(page, pane);
  }
  const start = (await factsOf(page, 'websocket')).seq;
  // Nobody presses the button: the countdown brings both back while the stream goes on.
  for (const pane of PANES) {
    const facts = await becomes(
      page,
      pane,
      'back by itself',
      (now) => now.seq > start && now.state === 'live',
    );
    ensureWhole(facts, pane);
  }
  await page.click('#publish-stream');
  await bothAtOnePosition(page);
  for (const pane of PANES) {
    const facts = await factsOf(page, pane);
    ensureWhole(facts, pane);
    const kinds = new Set(facts.rows.filter((row) => row.seq > start).map((row) => row.via));
    ensure(kinds.has('recovered'), `${pane}: nothing is marked as recovered`);
  }
  done('both dropped under a stream: back by themselves, nothing missing, nothing repeated');
}

async function cablePulled(page, channel, done) {
  const before = await factsOf(page, 'websocket');
  cable.cut();
  for (const pane of PANES) {
    await becomes(page, pane, 'connecting', (facts) => facts.state === 'connecting');
  }
  const last = await api.publishMany(channel, MISSED, (index) => ({ cut: index }));
  cable.mend();
  for (const pane of PANES) {
    const facts = await becomes(
      page,
      pane,
      'caught up',
      (now) => now.seq === last.offset && now.state === 'live',
    );
    ensureWhole(facts, pane);
    ensureEqual(facts.received - before.received, MISSED, `${pane}: how many came`);
  }
  browser.problems = browser.problems.filter((problem) => !CUT.test(problem));
  noProblems();
  done('a pulled cable: both reconnect by themselves, nothing missing, nothing repeated');
}

async function wholeLog(page, channel, done) {
  await bothAtOnePosition(page);
  const [left, right] = await Promise.all(PANES.map((pane) => factsOf(page, pane)));
  // Each pane keeps so many rows, its notes among them: compare the newest that both still have.
  const shown = Math.min(left.rows.length, right.rows.length);
  const of = ({ rows }) => rows.slice(0, shown).map(({ seq, text }) => ({ seq, text }));
  ensureEqual(of(left), of(right), 'the rows of both panes');
  ensureEqual((await api.head(channel)).offset, left.seq, 'the position of the panes and the head');
  done('at the end both panes hold the same rows, up to the head of the channel');
}

async function keyRefused(page, done) {
  await page.route('**/api/publish', (route) => route.fulfill({ status: 401 }));
  await page.click('#publish-one');
  await page.waitForSelector('#key-notice:not([hidden])', { timeout: args.patience });
  const text = await page.innerText('#key-notice');
  ensure(text.includes('fanfare serve --dev'), `the notice says: ${text}`);
  await page.unroute('**/api/publish');
  browser.problems = browser.problems.filter((problem) => !/status of 401/.test(problem));
  noProblems();
  done('a server that asks for a key: the page says how to start it for a first try');
}

async function screenshots(folder, done) {
  await mkdir(folder, { recursive: true });
  const channel = freshChannel('picture');
  const page = await openPage(args.url, channel);
  await page.fill('#message', 'Hello, Fanfare');
  for (let index = 1; index <= 4; index += 1) {
    await page.click('#publish-one');
    await becomes(page, 'websocket', `${index} rows`, (facts) => facts.received === index);
  }
  await press(page, 'websocket');
  for (let index = 5; index <= 8; index += 1) {
    await page.click('#publish-one');
    await becomes(page, 'eventsource', `${index} rows`, (facts) => facts.received === index);
  }
  await press(page, 'websocket');
  await becomes(
    page,
    'websocket',
    'all rows',
    (facts) => facts.seq === 8 && facts.state === 'live',
  );
  for (const [size, width, height] of [
    ['narrow', 360, 780],
    ['wide', 1280, 900],
  ]) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const path = join(folder, `${size}-${colorScheme}.png`);
      await page.screenshot({ path, fullPage: true });
    }
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    ensure(overflow <= 0, `${size}: the page is ${overflow} px too wide`);
  }
  done(`screenshots are in ${folder}, and nothing is wider than the screen`);
}

/** What a pane shows. */
function factsOf(page, pane) {
  return page.$eval(`[data-pane=${pane}]`, (root) => {
    const text = (field) => root.querySelector(`[data-field=${field}]`)?.textContent ?? '';
    const cell = (row, name) => row.querySelector(`.row-${name}`)?.textContent ?? '';
    return {
      state: text('state'),
      seq: Number(text('seq')),
      received: Number(text('received')),
      missing: Number(text('missing')),
      repeated: Number(text('repeated')),
      late: Number(text('late')),
      banner: text('banner'),
      rows: [...root.querySelectorAll('.row')].map((row) => ({
        seq: Number(cell(row, 'seq')),
        text: cell(row, 'text'),
        via: cell(row, 'via'),
        latency: cell(row, 'latency'),
      })),
    };
  });
}

function becomes(page, pane, what, holds) {
  return until(
    args.patience,
    `${pane}: ${what}`,
    async () => {
      const facts = await factsOf(page, pane);
      return holds(facts) && facts;
    },
    async () => {
      const { rows, ...facts } = await factsOf(page, pane);
      return `it shows ${JSON.stringify(facts)}, ${rows.length} rows; ${browser.problems.join('; ')}`;
    },
  );
}

async function bothAtOnePosition(page) {
  await until(args.patience, 'the last publishes of the page', () => browser.publishing === 0);
  await until(args.patience, 'both panes at the head', async () => {
    const states = await page.$$eval('.pane', (all) =>
      all.map((root) => {
        const text = (field) => root.querySelector(`[data-field=${field}]`)?.textContent ?? '';
        return [text('seq'), text('head')].join('');
      }),
    );
    const [left, right] = states;
    const [seq, head] = left?.split(' of ') ?? [];
    return left === right && seq === head;
  });
}

function ensureWhole(facts, pane) {
  const { missing, repeated, late } = facts;
  ensureEqual({ missing, repeated, late }, { missing: 0, repeated: 0, late: 0 }, pane);
}

function noProblems() {
  ensureEqual(browser.problems, [], 'what went wrong in the browser');
}

function press(page, pane) {
  return page.click(`[data-pane=${pane}] [data-field=drop]`);
}
