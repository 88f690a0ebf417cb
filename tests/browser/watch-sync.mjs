/**
 * How far two browsers that watch the same room on two servers are from each other: at rest, after commands, after a
 * cut, and over a slow line. Prints the figures, and ends with 1 when one is beyond its bound.
 */

import { readArgs } from './lib/args.mjs';
import { Cable } from './lib/cable.mjs';
import { run } from './lib/check.mjs';
import { converge, differences, launch, Watcher } from './lib/watch.mjs';

const USAGE = `usage: node watch-sync.mjs --url http://127.0.0.1:8000 [--other URL] [--slow URL]
  --url URL           a server in development mode
  --other URL         another one of the same cluster (the same one)
  --slow URL          the other one behind a line of 500±100 ms each way; without it that part is left out
  --rest SECONDS      how long to look at two that are at rest (40)
  --commands COUNT    how many commands to look at (16)
  --cuts COUNT        how many cuts of 5 s to look at (4)
  --patience SECONDS  how long to wait for anything (60)`;

const BOUNDS = { rest: 100, command: 250, cut: 5_000, slow: 1_000 };
/** Within this two count as in sync again. */
const IN_SYNC_MS = 100;
const CUT_MS = 5_000;
/** The clip has 60 s: looking begins here, and a seek goes no further than that. */
const START_SHARE = 0.05;
const LAST_SHARE = 0.45;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  slow: { type: 'string' },
  rest: { type: 'string', default: '40' },
  commands: { type: 'string', default: '16' },
  cuts: { type: 'string', default: '4' },
  patience: { type: 'string', default: '60' },
});
const other = (args.other ?? args.url).replace(/\/+$/, '');
const opened = [];
const rows = [];

await run('watch-sync.mjs', measure, async () => {
  for (const one of opened.reverse()) {
    await one.close();
  }
});

async function measure(done) {
  const cable = await Cable.to(other);
  opened.push(cable);
  const [left, right] = await pair(cable.url);
  await atRest(left, right, 'at rest', BOUNDS.rest);
  done('at rest');
  await afterCommands(left, right, 'after commands', BOUNDS.command);
  done('after commands');
  await afterCuts(left, right, cable);
  done('after cuts');
  await Promise.all([left.page.close(), right.page.close()]);
  if (args.slow) {
    const [near, far] = await pair(args.slow.replace(/\/+$/, ''));
    await atRest(near, far, '500±100 ms, at rest', BOUNDS.slow);
    await afterCommands(near, far, '500±100 ms, after commands', BOUNDS.slow);
    done('over a slow line');
  }
  report();
}

/** Two browsers of their own, in one room, that play and have come together. */
async function pair(url) {
  const browsers = await Promise.all([launch(), launch()]);
  opened.push(...browsers);
  const left = await Watcher.create(browsers[0], args.url, 'Left');
  const right = await Watcher.join(browsers[1], url, left.code, 'Right');
  for (const watcher of [left, right]) {
    await watcher.becomes(args.patience, 'the clip is loaded', ({ duration }) => duration > 59_000);
  }
  await left.page.click('#play');
  await converge(args.patience, left, right);
  return [left, right];
}

async function atRest(left, right, name, bound) {
  await seek(left, START_SHARE);
  await pause(3_000);
  await fresh(left, right);
  await pause(Number(args.rest) * 1_000);
  const found = await compared(left, right);
  row(name, 'ms apart', found.map(({ difference }) => Math.abs(difference)), bound);
}

/** Looks at the second that begins one second after each command. */
async function afterCommands(left, right, name, bound) {
  const sizes = [];
  for (let index = 0; index < Number(args.commands); index += 1) {
    const from = index % 2 === 0 ? left : right;
    await [
      () => seek(from, START_SHARE + Math.random() * (LAST_SHARE - START_SHARE)),
      () => from.page.click('#play'),
      () => from.page.click('#play'),
      () => from.page.selectOption('#rate', index % 8 === 3 ? '1.25' : '1'),
    ][index % 4]();
    await pause(1_000);
    await fresh(left, right);
    await pause(1_000);
    const found = await compared(left, right);
    sizes.push(...found.map(({ difference }) => Math.abs(difference)));
  }
  row(name, 'ms apart, 1 to 2 s after', sizes, bound);
}

/** A line is cut for 5 s, a command is missed: how long after it is mended are both together for good. */
async function afterCuts(left, right, cable) {
  const times = [];
  for (let index = 0; index < Number(args.cuts); index += 1) {
    await seek(left, START_SHARE);
    await pause(2_000);
    cable.cut();
    await pause(CUT_MS / 2);
    await seek(left, LAST_SHARE);
    await pause(CUT_MS / 2);
    await fresh(left, right);
    const mended = await left.page.evaluate(() => performance.timeOrigin + performance.now());
    cable.mend();
    await pause(8_000);
    const found = await compared(left, right);
    const apart = found.filter(({ difference }) => Math.abs(difference) > IN_SYNC_MS).at(-1);
    times.push(apart === undefined ? 0 : Math.max(0, apart.at - mended));
  }
  row('after a cut of 5 s', `ms until within ${IN_SYNC_MS} ms for good`, times, BOUNDS.cut, Math.max(...times));
}

async function seek(watcher, share) {
  await watcher.page.evaluate((value) => {
    const input = document.querySelector('#seek');
    input.value = String(Math.round(value * 1_000));
    input.dispatchEvent(new Event('change'));
  }, share);
}

async function fresh(left, right) {
  await Promise.all([left.notes(), right.notes()]);
}

async function compared(left, right) {
  return differences(...(await Promise.all([left.notes(), right.notes()])));
}

function row(name, unit, values, bound, judged = quantile(values, 0.95)) {
  rows.push({ name, unit, values, bound, judged });
}

function report() {
  const line = (cells) => console.log(`| ${cells.join(' | ')} |`);
  line(['what', 'unit', 'samples', 'p50', 'p95', 'max', 'bound', 'holds']);
  line(['---', '---', '---:', '---:', '---:', '---:', '---:', '---']);
  for (const { name, unit, values, bound, judged } of rows) {
    const figures = [0.5, 0.95, 1].map((share) => Math.round(quantile(values, share)));
    line([name, unit, values.length, ...figures, bound, judged <= bound ? 'yes' : 'NO']);
  }
  const beyond = rows.filter(({ judged, bound }) => !(judged <= bound));
  if (beyond.length > 0) {
    throw new Error(`beyond its bound: ${beyond.map(({ name }) => name).join(', ')}`);
  }
}

function quantile(values, share) {
  const sorted = [...values].sort((one, two) => one - two);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
