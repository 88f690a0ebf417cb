/** The demonstration of the mail page in real Chromium: what is pressed on the other device appears in the list. */

import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { ensure, ensureEqual, run } from './lib/check.mjs';
import { Inbox } from './lib/mail.mjs';

const USAGE = `usage: node mail-demo.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --patience SECONDS  how long to wait for anything (40)`;

const args = readArgs(USAGE, { patience: { type: 'string', default: '40' } });
let browser;

await run('mail-demo.mjs', checks, () => browser?.close());

async function checks(done) {
  browser = await Browser.launch();
  const inbox = await Inbox.open(browser, args.url);
  await inbox.becomes(args.patience, 'the door', ({ view }) => view === 'door');
  await inbox.page.click('#sign-in');
  await inbox.live(args.patience);
  const first = await inbox.becomes(args.patience, 'a mailbox that looks lived in', ({ rows }) => rows.length >= 20);
  done('signing in with the stand-in shows a mailbox');

  const press = (what) => inbox.page.click(`[data-act=${what}]`);
  await press('message');
  const { rows } = await inbox.becomes(args.patience, 'a new mail', (facts) => facts.rows.length === first.rows.length + 1);
  const { id } = rows[0];
  ensure(!first.rows.some((row) => row.id === id), 'the newest mail is an old one');
  const becomes = (what, holds) =>
    inbox.becomes(args.patience, what, (facts) => holds(facts.rows.find((row) => row.id === id)));
  await press('read');
  await becomes('read', (row) => row && !row.unread);
  await press('star');
  await becomes('starred', (row) => row?.starred);
  const labels = rows[0].labels.length;
  await press('label');
  await becomes('labelled, or no longer', (row) => row && row.labels.length !== labels);
  await press('archive');
  await becomes('out of the inbox', (row) => row === undefined);
  done('new, read, star, label, archive on another device appear here');

  const before = await inbox.facts();
  await press('burst');
  const after = await inbox.becomes(args.patience, 'a burst of twenty', (facts) => facts.rows.length === before.rows.length + 20);
  ensureEqual(new Set(after.rows.map((row) => row.id)).size, after.rows.length, 'mails, each once');
  const newest = after.rows[0].id;
  await press('trash');
  await inbox.becomes(args.patience, 'in the bin', (facts) => facts.rows[0].id !== newest);
  const next = (await inbox.facts()).rows[0].id;
  await press('delete');
  await inbox.becomes(args.patience, 'deleted', (facts) => facts.rows.every((row) => row.id !== next));
  done('a burst, the bin and deleting as well');

  const unexpected = browser.problems.filter((problem) => !/status of 401/.test(problem));
  ensureEqual(unexpected, [], 'what went wrong in the browser');
  done('no console error, no exception, no policy violation');
}
