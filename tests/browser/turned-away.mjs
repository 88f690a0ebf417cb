/**
 * The native `EventSource` of real Chromium at a server that lets in one connection a second: those
 * who are turned away come back by themselves and are let in, where a plain 503 would end them.
 */

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { ensure, run, until } from './lib/check.mjs';

const USAGE = `usage: node turned-away.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode with connections_per_second = 1, connections_burst = 1
  --patience SECONDS  how long to wait for anything (20)`;

/** Streams opened at once; a browser has six connections to a server. */
const STREAMS = 4;

const args = readArgs(USAGE);
const api = new Api(args.url, args['api-key']);
let browser;

await run('turned-away.mjs', checks, async () => browser?.close());

async function checks(done) {
  browser = await Browser.launch();
  const page = await browser.page();
  await page.goto(`${args.url}/`);
  const channel = freshChannel('herd');
  await page.evaluate(
    ({ path, count }) => {
      globalThis.herd = Array.from({ length: count }, () => {
        const source = new EventSource(path);
        const state = { source, ready: 0, lost: 0, seqs: [] };
        source.addEventListener('ready', () => (state.ready += 1));
        source.addEventListener('error', () => (state.lost += 1));
        source.addEventListener('message', (event) =>
          state.seqs.push(JSON.parse(event.data).offset),
        );
        return state;
      });
    },
    { path: `/events?channel=${encodeURIComponent(channel)}`, count: STREAMS },
  );
  const look = () =>
    page.evaluate(() =>
      globalThis.herd.map(({ source, ready, lost, seqs }) => ({
        closed: source.readyState === EventSource.CLOSED,
        ready,
        lost,
        seqs,
      })),
    );
  const show = async () => JSON.stringify(await look());
  await until(
    args.patience,
    'all streams are open',
    async () => (await look()).every(({ ready }) => ready > 0),
    show,
  );
  const states = await look();
  ensure(!states.some(({ closed }) => closed), `a stream gave up: ${JSON.stringify(states)}`);
  ensure(
    states.some(({ lost }) => lost > 0),
    'nobody was turned away',
  );
  done(`${STREAMS} streams at once: turned away, come back, let in`);

  await api.publish(channel, 'hello');
  await until(
    args.patience,
    'all streams have the publication',
    async () => (await look()).every(({ seqs }) => seqs.length === 1 && seqs[0] === 1),
    show,
  );
  done('and all of them have what was published then');
}
