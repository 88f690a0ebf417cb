/**
 * The mail page in real Chromium, with the stand-in for Google behind a server: signing in, changes that appear by themselves, a server that is
 * killed and comes back, a page that is opened without one, two transports side by side, too many tabs, and signing out.
 *
 * Whoever starts this has the server in hand: a line `please: kill` or `please: start` on standard output asks for it.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { Google, Inbox } from './lib/mail.mjs';

const USAGE = `usage: node mail-page.mjs --url http://127.0.0.1:8000 --google http://127.0.0.1:9000
  --url URL           a server whose [mail] is the stand-in, with streams_per_user_max = 3
  --google URL        the stand-in for Google
  --patience SECONDS  how long to wait for anything (40)
  --screenshots DIR   also store the page in its states`;

/** What the browser itself says when the server is gone, or nobody is signed in. */
const EXPECTED = /net::ERR_|status of (401|503)|Failed to fetch/;
const ADDRESS = 'ada@example.com';
/** More than one part of a list. */
const FIRST = 70;

const args = readArgs(USAGE, {
  google: { type: 'string' },
  patience: { type: 'string', default: '40' },
  screenshots: { type: 'string' },
});
const google = new Google(args.google, ADDRESS);
/** Messages of the inbox by subject. */
const ids = new Map();
let browser;

await run('mail-page.mjs', checks, () => browser?.close());

async function checks(done) {
  for (let number = 1; number <= FIRST; number += 1) {
    ids.set(`letter ${number}`, await google.send(`letter ${number}`, number % 10 === 0 ? {} : { labels: ['INBOX'] }));
  }
  browser = await Browser.launch();
  const inbox = await signIn(done);
  await changesAppear(inbox, done);
  await markupStaysText(inbox, done);
  await lists(inbox, done);
  await keys(inbox, done);
  noProblems();
  done('no console error, no exception, no policy violation');
  await serverKilled(inbox, done);
  await openedWithoutServer(inbox, done);
  await openedWithoutNetwork(inbox, done);
  await transports(inbox, done);
  await tooManyTabs(inbox, done);
  await gmailTakenBack(inbox, done);
  await signOut(inbox, done);
  noProblems();
}

async function signIn(done) {
  const inbox = await Inbox.open(browser, args.url, '/mail?error=denied');
  await inbox.becomes(args.patience, 'the door, with why', ({ view, doorError }) => view === 'door' && /did not let/.test(doorError));
  await shoot(inbox, 'door');
  await inbox.page.click('#sign-in');
  await inbox.live(args.patience);
  const facts = await inbox.becomes(args.patience, 'the mailbox is read', ({ count }) => count === `7 unread of ${FIRST}`);
  ensureEqual(facts.rows[0].subject, `letter ${FIRST}`, 'the newest mail');
  ensure(new URL(inbox.page.url()).search === '', 'the address says more than it must');
  ensure(facts.pageTitle.startsWith('(7) Inbox'), `the title is ${facts.pageTitle}`);
  ensure(facts.icon.includes('>7</text>'), `the icon is ${facts.icon}`);
  done('why one is at the door is said; signing in shows the mailbox, and the badge its unread mails');
  return inbox;
}

async function changesAppear(inbox, done) {
  const shows = (subject, what, holds) =>
    inbox.becomes(args.patience, `${subject}: ${what}`, ({ rows }) => {
      const found = rows.filter((row) => row.subject === subject);
      return holds(found);
    });
  const before = (await inbox.facts()).announced;
  ids.set('news', await google.send('news'));
  const came = await shows('news', 'it came', ([row]) => row?.unread);
  ensureEqual(came.rows[0].subject, 'news', 'what is first');
  await inbox.becomes(args.patience, 'eight unread, everywhere', ({ pageTitle, icon, count }) => {
    return pageTitle.startsWith('(8)') && icon.includes('>8</text>') && count.startsWith('8 unread');
  });
  // Together with the last ones of the first sync, if these came a moment ago.
  await inbox.becomes(args.patience, 'it is announced', ({ announced }) => {
    return announced !== before && /^(New mail from Ann: news|\d+ new mails)$/.test(announced);
  });
  await google.label(ids.get('news'), ['STARRED'], ['UNREAD']);
  await shows('news', 'read and starred', ([row]) => row && !row.unread && row.starred);
  const { id: label } = await google.control('label', { name: 'Boats' });
  await google.label(ids.get('news'), [label]);
  await shows('news', 'it has a label', ([row]) => row?.labels.length === 1);
  await google.label(ids.get('letter 69'), [], ['INBOX']);
  await shows('letter 69', 'it has left the inbox', (found) => found.length === 0);
  await google.label(ids.get('letter 69'), ['INBOX', 'UNREAD']);
  await shows('letter 69', 'it is back, unread', ([row]) => row?.unread);
  await google.control('delete', { id: ids.get('letter 68') });
  await shows('letter 68', 'it is gone', (found) => found.length === 0);
  for (let number = 1; number <= 20; number += 1) {
    ids.set(`burst ${number}`, await google.send(`burst ${number}`));
  }
  await inbox.becomes(args.patience, 'a burst of twenty', ({ rows }) => rows[0].subject === 'burst 20' && rows[19].subject === 'burst 1');
  await asTheServer(inbox, 'INBOX');
  await shoot(inbox, 'inbox');
  done('new, read, starred, labelled, moved out and in, deleted, and a burst: each appears, once, in order');
}

async function markupStaysText(inbox, done) {
  const evil = '<img src=x onerror="globalThis.broken = true"><b>bold</b>';
  await google.send(evil, { from: `"${evil.replaceAll('"', '\\"')}" <e@example.net>`, snippet: evil });
  await inbox.becomes(args.patience, 'the markup, as text', ({ rows }) => rows[0].subject === evil);
  const traces = await inbox.page.evaluate(() => ({
    elements: document.querySelectorAll('#list img, .row-subject *').length,
    ran: 'broken' in globalThis,
  }));
  ensureEqual(traces, { elements: 0, ran: false }, 'what became of the markup');
  done('markup in a mail stays text');
}

async function lists(inbox, done) {
  const go = async (list, name) => {
    await inbox.page.click(`.rail-entry[data-list="${list}"]`);
    await inbox.becomes(args.patience, `the list ${name}`, (facts) => facts.list === name && facts.end === 'end');
  };
  await go('STARRED', 'Starred');
  const { rows } = await inbox.facts();
  ensureEqual(rows.map(({ subject }) => subject), ['news'], 'what is starred');
  await google.label(ids.get('letter 5'), ['STARRED']);
  await inbox.becomes(args.patience, 'one more is starred', (facts) => facts.rows.length === 2);
  await go('UNREAD', 'Unread');
  await asTheServer(inbox, 'UNREAD');
  await inbox.page.goBack();
  await inbox.becomes(args.patience, 'the list of before', ({ list }) => list === 'Starred');
  await inbox.page.click('.rail-entry[data-list=INBOX]');
  // The list goes on by itself, as far as one scrolls.
  await until(args.patience, 'the whole inbox', async () => {
    await inbox.page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    return (await inbox.facts()).end === 'end';
  });
  await asTheServer(inbox, 'INBOX');
  await inbox.page.evaluate(() => scrollTo(0, 0));
  done('lists by label change live as well, and go on as far as one scrolls');
}

async function keys(inbox, done) {
  const { keyboard } = inbox.page;
  const { rows } = await inbox.facts();
  const focusIs = (index, what) => inbox.becomes(args.patience, what, ({ focus }) => focus === rows.at(index).id);
  await keyboard.press('j');
  await keyboard.press('j');
  await keyboard.press('ArrowDown');
  await keyboard.press('k');
  await focusIs(1, 'the second mail, by keys');
  await keyboard.press('Enter');
  await inbox.page.waitForSelector(`.row[data-id="${rows[1].id}"] .row-more`, { timeout: args.patience });
  await google.send('above');
  await inbox.becomes(args.patience, 'one came above', (facts) => facts.rows[0].subject === 'above');
  await focusIs(1, 'the keyboard stays where it was');
  await keyboard.press('End');
  await focusIs(-1, 'the last mail');
  await keyboard.press('Home');
  await inbox.becomes(args.patience, 'the first mail', (facts) => facts.focus === facts.rows[0].id);
  const first = (await inbox.facts()).focus;
  await google.control('delete', { id: first });
  await inbox.becomes(args.patience, 'the next one has the keyboard', ({ focus }) => focus !== '' && focus !== first);
  await keyboard.press('Escape');
  done('keys move through the list, and nobody is thrown out by what comes or goes');
}

async function serverKilled(inbox, done) {
  const before = await inbox.facts();
  await kill();
  await inbox.becomes(args.patience, 'it says so', ({ state }) => state === 'reconnecting' || state === 'offline');
  const during = await inbox.facts();
  ensureEqual(during.rows.length, before.rows.length, 'mails that can still be read');
  await happensMeanwhile('first', 'burst 3', 'burst 4');
  await inbox.becomes(
    args.patience,
    'offline, in words and in the title',
    ({ state, trouble, pageTitle }) => state === 'offline' && /No connection/.test(trouble) && pageTitle.startsWith('⚠'),
  );
  await shoot(inbox, 'offline');
  await start();
  await inbox.live(args.patience);
  await isComplete(inbox, 'first');
  done('a killed server: the list stays readable, and what happened meanwhile is there, each once');
}

async function openedWithoutServer(inbox, done) {
  await isKept(inbox);
  await kill();
  await inbox.page.reload();
  const newest = (await inbox.kept()).messages[0].id;
  const facts = await inbox.becomes(args.patience, 'the list, without a server', ({ view, rows }) => view === 'mail' && rows.length > 20);
  ensureEqual(facts.rows[0].id, newest, 'the newest mail');
  await inbox.becomes(args.patience, 'offline', ({ state }) => state === 'offline');
  await happensMeanwhile('second', 'burst 5', 'burst 6');
  await start();
  await inbox.live(args.patience);
  await isComplete(inbox, 'second');
  done('opened without a server: the list that was kept, and then the stream from where it was');
}

/** Here the server goes on, so it knows all that the page misses before the page is back. */
async function openedWithoutNetwork(inbox, done) {
  await isKept(inbox);
  await forgetMarks(inbox);
  await browser.context.setOffline(true);
  await inbox.page.reload();
  await inbox.becomes(args.patience, 'the list, without a network', ({ view, rows, state }) => {
    return view === 'mail' && rows.length > 20 && state === 'offline';
  });
  const before = await publications();
  await happensMeanwhile('apart', 'burst 9', 'burst 10');
  await until(args.patience, 'the server knows of all five', async () => (await publications()) >= before + 5);
  await browser.context.setOffline(false);
  await inbox.live(args.patience);
  await inbox.becomes(args.patience, 'what was missed, in words', ({ missed }) => missed.endsWith('3 new, 1 changed, 1 deleted.'));
  await isComplete(inbox, 'apart');
  const { rows } = await inbox.facts();
  const marked = rows.filter(({ mark }) => mark !== '').map(({ subject, mark }) => `${mark} ${subject}`);
  ensureEqual(marked, ['new apart 3', 'new apart 2', 'new apart 1', 'changed burst 9'], 'what is marked');
  await shoot(inbox, 'back');
  await inbox.page.click('#missed-ok');
  await inbox.becomes(args.patience, 'no marks', (facts) => facts.missed === '' && facts.rows.every(({ mark }) => mark === ''));
  done('opened without a network: what was missed is resumed, counted and marked');
}

async function transports(inbox, done) {
  const use = (name) => inbox.settings((page) => page.check(`input[name=transport][value=${name}]`));
  await use('both');
  await inbox.live(args.patience);
  await inbox.becomes(args.patience, 'both have begun', ({ parity }) => /events at \d+, WebSocket at \d+/.test(parity));
  for (let number = 1; number <= 5; number += 1) {
    await google.send(`both ${number}`);
  }
  const { parity, rows } = await inbox.becomes(
    args.patience,
    'both have brought the same',
    (facts) =>
      facts.rows[0].subject === 'both 5' &&
      Number(/(\d+) publications? the same/.exec(facts.parity)?.[1]) >= 5 &&
      /agree/.test(facts.parity) &&
      !/so far/.test(facts.parity),
  );
  const [, events, socket] = /events at (\d+), WebSocket at (\d+)/.exec(parity);
  ensureEqual(events, socket, 'the positions of both');
  ensureEqual(rows.slice(0, 5).map(({ subject }) => subject), [5, 4, 3, 2, 1].map((number) => `both ${number}`), 'what came, each once');
  await shoot(inbox, 'both');
  await use('websocket');
  await inbox.live(args.patience);
  await google.send('by WebSocket');
  await inbox.becomes(args.patience, 'a mail by WebSocket', (facts) => facts.rows[0].subject === 'by WebSocket');
  await kill();
  await inbox.becomes(args.patience, 'it says so', ({ state }) => state === 'reconnecting' || state === 'offline');
  await happensMeanwhile('third', 'burst 7', 'burst 8');
  await start();
  await inbox.live(args.patience);
  await inbox.becomes(args.patience, 'what was missed', ({ rows: now }) => now[0].subject === 'third 3');
  await asTheServer(inbox, 'INBOX');
  await use('sse');
  await inbox.live(args.patience);
  await google.send('by events again');
  await inbox.becomes(args.patience, 'a mail by events', (facts) => facts.rows[0].subject === 'by events again');
  done('WebSocket, and both side by side: the same at the same positions, and the same after a return');
}

async function tooManyTabs(inbox, done) {
  const others = [];
  for (let number = 0; number < 3; number += 1) {
    const other = await Inbox.open(browser, args.url);
    await other.live(args.patience);
    others.push(other);
  }
  await inbox.becomes(args.patience, 'the oldest is paused', ({ state, trouble }) => state === 'too-many' && /Paused/.test(trouble));
  await google.send('while paused');
  for (const other of others) {
    await other.becomes(args.patience, 'the others go on', ({ rows }) => rows[0]?.subject === 'while paused');
  }
  ensure((await inbox.facts()).rows[0].subject !== 'while paused', 'the paused tab has changed');
  await shoot(inbox, 'paused');
  await inbox.page.click('#trouble-action');
  await inbox.live(args.patience);
  await inbox.becomes(args.patience, 'it has caught up', ({ rows }) => rows[0].subject === 'while paused');
  await others[0].becomes(args.patience, 'now the next oldest is paused', ({ state }) => state === 'too-many');
  for (const other of others) {
    await other.page.close();
  }
  done('too many tabs: the oldest is paused and says so, and goes on when asked to');
}

async function gmailTakenBack(inbox, done) {
  await google.control('revoke');
  await google.send('unseen');
  await inbox.becomes(args.patience, 'Gmail must be connected again', ({ state, trouble }) => state === 'reconnect' && /Connect Gmail again/.test(trouble));
  await shoot(inbox, 'reconnect');
  await inbox.page.click('#trouble-link');
  await inbox.live(args.patience);
  await inbox.becomes(args.patience, 'what came meanwhile', ({ rows }) => rows[0]?.subject === 'unseen');
  await asTheServer(inbox, 'INBOX');
  done('access taken back at Google: said, mended by one click, and nothing is missing');
}

async function signOut(inbox, done) {
  await inbox.settings((page) => page.click('#sign-out'), { closes: true });
  await inbox.becomes(args.patience, 'the door', ({ view, rows, pageTitle }) => view === 'door' && rows.length === 0 && pageTitle === 'Fanfare mail');
  ensureEqual(await inbox.kept(), null, 'what the browser keeps');
  await inbox.page.goto(`${args.url}/mail`);
  await inbox.becomes(args.patience, 'still the door', ({ view }) => view === 'door');
  browser.problems = browser.problems.filter((problem) => !EXPECTED.test(problem));
  done('signed out: nothing of the mailbox is left');
}

// === Helpers ===

/** Three mails come, one is starred, one is deleted. */
async function happensMeanwhile(name, starred, deleted) {
  for (let number = 1; number <= 3; number += 1) {
    ids.set(`${name} ${number}`, await google.send(`${name} ${number}`));
  }
  await google.label(ids.get(starred), ['STARRED']);
  await google.control('delete', { id: ids.get(deleted) });
}

/** All that happened meanwhile is there, once, and the rest is as the server has it. */
async function isComplete(inbox, name) {
  await inbox.becomes(args.patience, 'everything that happened', ({ rows }) => rows[0].subject === `${name} 3`);
  await asTheServer(inbox, 'INBOX');
  const subjects = (await inbox.facts()).rows.map(({ subject }) => subject);
  ensureEqual(subjects.filter((subject) => subject.startsWith(name)), [3, 2, 1].map((number) => `${name} ${number}`), 'what came meanwhile');
}

/** What is shown is kept in the browser, a moment later, and so is the page. */
async function isKept(inbox) {
  await inbox.page.waitForFunction(() => navigator.serviceWorker.ready.then(() => true));
  const newest = (await inbox.facts()).rows[0].id;
  await until(args.patience, 'the list is kept', async () => (await inbox.kept())?.messages[0].id === newest);
}

async function forgetMarks(inbox) {
  if ((await inbox.facts()).missed !== '') {
    await inbox.page.click('#missed-ok');
  }
  await inbox.becomes(args.patience, 'no marks', ({ missed }) => missed === '');
}

/** How many changes the server has told of. */
async function publications() {
  const text = await (await fetch(`${args.url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => /^(fanfare_)?mail_changes_total\{/.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** The page shows exactly what the server has, in the same order, each once. */
async function asTheServer(inbox, label) {
  const pick = ({ id, unread, starred }) => ({ id, unread, starred });
  await until(
    args.patience,
    `the page shows what the server has of ${label}`,
    async () => {
      const truth = await inbox.truth(label);
      const { rows, end } = await inbox.facts();
      const reach = end === 'end' ? truth.length : rows.length;
      return rows.length > 0 && JSON.stringify(rows.map(pick)) === JSON.stringify(truth.slice(0, reach));
    },
    async () => {
      const truth = await inbox.truth(label);
      const { rows } = await inbox.facts();
      const at = rows.findIndex((row, index) => JSON.stringify(pick(row)) !== JSON.stringify(truth[index]));
      return `at ${at} it shows ${JSON.stringify(rows[at])} of ${rows.length} where the server has ${JSON.stringify(truth[at])} of ${truth.length}`;
    },
  );
}

/** The server dies. */
async function kill() {
  console.log('please: kill');
  await until(args.patience, 'the server is gone', async () => !(await isUp()));
}

async function start() {
  console.log('please: start');
  await until(args.patience, 'the server is back', isUp);
}

async function isUp() {
  return await fetch(`${args.url}/health/live`).then(
    (response) => response.ok,
    () => false,
  );
}

async function shoot(inbox, name) {
  if (!args.screenshots) {
    return;
  }
  await mkdir(args.screenshots, { recursive: true });
  for (const [size, width, height] of [
    ['narrow', 360, 740],
    ['wide', 1440, 900],
  ]) {
    await inbox.page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await inbox.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await inbox.page.screenshot({ path: join(args.screenshots, `mail-${name}-${size}-${colorScheme}.png`) });
    }
    const overflow = await inbox.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    ensure(overflow <= 0, `${name}, ${size}: the page is ${overflow} px too wide`);
  }
  await inbox.page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await inbox.page.setViewportSize({ width: 1280, height: 900 });
}

function noProblems() {
  ensureEqual(browser.problems.filter((problem) => !EXPECTED.test(problem)), [], 'what went wrong in the browser');
}
