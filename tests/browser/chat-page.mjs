/**
 * The chat's page in real Chromium, as two people have it: talking, threads, reactions, unread and mentions, a long history, searching, keys, and a
 * server that is killed while both write.
 *
 * Whoever starts this has the server in hand: a line `please: kill` or `please: start` on standard output asks for it.
 */

import { mkdir } from 'node:fs/promises';

import { readArgs } from './lib/args.mjs';
import { Browser } from './lib/browser.mjs';
import { ChatPage } from './lib/chat.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';

const USAGE = `usage: node chat-page.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --patience SECONDS  how long to wait for anything (40)
  --alive             leave out what needs the server to be killed
  --screenshots DIR   also store the page in its states`;

/** What the browser itself says when the server is gone, or nobody is signed in. */
const EXPECTED = /net::ERR_|status of (401|503)|WebSocket connection to|Failed to fetch/;
/** More than one part of the history. */
const MANY = 130;

const args = readArgs(USAGE, {
  patience: { type: 'string', default: '40' },
  alive: { type: 'boolean', default: false },
  screenshots: { type: 'string' },
});
const browsers = [];

await run('chat-page.mjs', checks, () => Promise.all(browsers.map((browser) => browser.close())));

async function checks(done) {
  if (args.screenshots !== undefined) {
    await mkdir(args.screenshots, { recursive: true });
  }
  // Two people look at their pages at once: each has a browser, so that neither page is in the background.
  browsers.push(await Browser.launch(), await Browser.launch());
  const alice = await ChatPage.enter(browsers[0], args.url, 'alice', args.patience);
  const bob = await ChatPage.enter(browsers[1], args.url, 'bob', args.patience);
  const general = (await alice.facts()).side.general.id;
  await talking(alice, bob, done);
  await threads(alice, bob, done);
  await unread(alice, bob, general, done);
  await history(alice, bob, general, done);
  await finding(alice, done);
  await keys(alice, done);
  await channels(alice, bob, done);
  await accounts(done);
  noProblems();
  done('no console error, no exception, no policy violation');
  if (!args.alive) {
    await serverKilled(alice, bob, general, done);
    noProblems();
  }
}

async function talking(alice, bob, done) {
  await alice.say('Hello, Bob');
  const { ts } = await alice.reads('Hello, Bob');
  await bob.reads('Hello, Bob');
  await bob.becomes('Alice is here', ({ view }) => view === 'chat');
  await bob.page.locator('#composer-text').pressSequentially('Hi');
  await alice.becomes('Bob is typing', ({ typing }) => /Bob.* is typing/.test(typing));
  await bob.say('Hi *Alice*, see https://example.org/a?b=1&c=2.');
  await alice.reads('Hi Alice, see https://example.org/a?b=1&c=2.');
  await alice.becomes('nobody is typing', ({ typing }) => typing === '');

  const evil = '<img src=x onerror="globalThis.broken = true"> <https://a.b|x> <javascript:alert(1)|y>';
  await bob.say(evil);
  await alice.reads(evil);
  const traces = await alice.page.evaluate(() => ({
    elements: document.querySelectorAll('.text img, .text script, .text a[href^="javascript"]').length,
    ran: 'broken' in globalThis,
  }));
  ensureEqual(traces, { elements: 0, ran: false }, 'what became of the markup');
  done('what one says the other reads, once; who types is shown; markup stays text');

  await alice.page.fill('#composer-text', '');
  await alice.page.press('#composer-text', 'ArrowUp');
  await alice.page.fill('#editor-text', 'Hello, Robert');
  await alice.page.press('#editor-text', 'Enter');
  const edited = await bob.becomes('it is edited', ({ rows }) => rows.some((row) => row.ts === ts && row.text === 'Hello, Robert' && row.edited));
  ensure(!edited.rows.some((row) => row.text === 'Hello, Bob'), 'the text of before is still there');

  await (await bob.point(ts)).getByLabel('React with thumbs up').click();
  await alice.becomes('a reaction', ({ rows }) => rows.find((row) => row.ts === ts)?.reactions[0] === '+1 1');
  await alice.page.click(`.row[data-ts="${ts}"] .reaction[data-reaction="+1"]`);
  await bob.becomes('two of them', ({ rows }) => rows.find((row) => row.ts === ts)?.reactions[0] === '+1 2 mine');
  await bob.page.click(`.row[data-ts="${ts}"] .reaction[data-reaction="+1"]`);
  await alice.becomes('one again', ({ rows }) => rows.find((row) => row.ts === ts)?.reactions[0] === '+1 1 mine');

  await alice.say('to be deleted');
  const gone = await alice.reads('to be deleted');
  await (await alice.point(gone.ts)).getByLabel('Delete', { exact: true }).click();
  await alice.page.click('#confirm-yes');
  await bob.becomes('it is gone', ({ rows }) => !rows.some((row) => row.ts === gone.ts));
  done('edited with the arrow key, reactions of both, deleted after a question');
}

async function threads(alice, bob, done) {
  await alice.say('What do we call it?');
  const { ts } = await alice.reads('What do we call it?');
  await bob.reads('What do we call it?');
  await (await bob.point(ts)).getByLabel('Reply in a thread').click();
  await bob.becomes('the thread', ({ thread }) => thread?.length === 1);
  await bob.say('Fanfare', '#reply-text');
  await bob.becomes('the reply', ({ thread }) => thread?.length === 2 && thread[1].pending === '');
  await alice.becomes('one reply', ({ rows }) => rows.find((row) => row.ts === ts)?.replies === '1 reply');
  ensure(!(await alice.facts()).rows.some((row) => row.text === 'Fanfare'), 'a reply stands in the conversation');
  await alice.page.click(`.row[data-ts="${ts}"] .replies`);
  await alice.becomes('the thread with its reply', ({ thread }) => thread?.[1]?.text === 'Fanfare');
  await alice.page.check('#thread-composer input[type=checkbox]');
  await alice.say('Then Fanfare it is', '#reply-text');
  await bob.becomes('in the thread and the conversation', ({ thread, rows }) => {
    return thread?.at(-1)?.text === 'Then Fanfare it is' && rows.some((row) => row.text === 'Then Fanfare it is');
  });
  await bob.becomes('two replies', ({ rows }) => rows.find((row) => row.ts === ts)?.replies === '2 replies');
  await (await alice.point(ts)).getByLabel('Delete', { exact: true }).click();
  await alice.page.click('#confirm-yes');
  await bob.becomes('a tombstone with its replies', ({ rows, thread }) => {
    return /deleted/.test(rows.find((row) => row.ts === ts)?.text ?? '') && thread?.length === 3;
  });
  await alice.shoot(args.screenshots, 'thread');
  for (const who of [alice, bob]) {
    await who.page.keyboard.press('Escape');
    await who.becomes('no thread', ({ thread }) => thread === null);
  }
  done('a thread beside the conversation, its count under the parent, a reply in both, a tombstone');
}

async function unread(alice, bob, general, done) {
  const made = await alice.call('conversations.create', { name: 'elsewhere' });
  ensure(made.ok, `no channel: ${JSON.stringify(made)}`);
  await alice.becomes('the new channel', ({ side }) => side.elsewhere !== undefined);
  await alice.open('elsewhere');
  await bob.say('first unread');
  await bob.page.fill('#composer-text', 'for @alice');
  await bob.page.press('#composer-text', 'Tab');
  await bob.page.press('#composer-text', 'Enter');
  await bob.say('third unread');
  const { side, pageTitle } = await alice.becomes('unread, and a mention', ({ side }) => side.general.unread && side.general.badge === '1');
  ensure(!side.elsewhere.unread && /^\(\d\) /.test(pageTitle), `the title is ${pageTitle}`);
  await alice.open('general');
  await alice.becomes('the line of what is new', ({ newFrom }) => newFrom === 'first unread');
  await alice.becomes('it is read', ({ side, rows }) => !side.general.unread && rows.some((row) => row.called));
  await until(args.patience, 'the server knows that it is read', async () => {
    const { channels } = await alice.call('client.boot');
    return channels?.find(({ id }) => id === general)?.unread_count_display === 0;
  });
  done('unread and mentions beside a channel, the line where they begin, read once seen');
}

async function history(alice, bob, general, done) {
  for (let number = 1; number <= MANY; number += 1) {
    const answer = await bob.call('chat.postMessage', { channel: general, text: `line ${number}` });
    if (answer.error === 'ratelimited') {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      number -= 1;
    } else {
      ensure(answer.ok, `line ${number}: ${answer.error}`);
    }
  }
  await alice.reads(`line ${MANY}`);
  await alice.becomes('the end', ({ scroll }) => scroll.height - scroll.top - scroll.seen < 60);
  await alice.page.reload();
  await alice.reads(`line ${MANY}`);
  const before = await alice.becomes('one part', ({ rows }) => rows.length >= 40);
  ensure(before.rows.length < MANY, `it holds ${before.rows.length} at once`);
  // What is at the upper edge is where it was after more was put in above it.
  const place = await alice.page.evaluate(() => {
    const box = document.querySelector('#messages');
    box.scrollTop = 300;
    const edge = box.getBoundingClientRect().top;
    const row = [...box.querySelectorAll('.row')].find((one) => one.getBoundingClientRect().top > edge);
    return { ts: row.dataset.ts, top: row.getBoundingClientRect().top };
  });
  await alice.becomes('an earlier part', ({ rows }) => rows.length >= before.rows.length + 40);
  const top = await alice.page.evaluate((ts) => document.querySelector(`#messages .row[data-ts="${ts}"]`).getBoundingClientRect().top, place.ts);
  ensure(Math.abs(top - place.top) <= 2, `what was read moved by ${top - place.top} px`);
  await alice.becomes('one may go back', ({ toLive }) => toLive !== '');
  await alice.page.click('#open-date');
  await alice.page.click('[data-days=all]');
  const begun = await alice.becomes('the beginning', ({ begins, scroll }) => begins && scroll.top < 200);
  ensure(begun.days.length >= 1, 'no day stands above it');
  await bob.say('while she reads old ones');
  await alice.becomes('told that there is something new', ({ toLive }) => /new message/.test(toLive));
  await alice.page.click('#to-live');
  await alice.reads('while she reads old ones');
  const texts = (await alice.facts()).rows.map((row) => row.text).filter((text) => /^line \d+$/.test(text));
  const last = texts.length;
  ensureEqual(texts, Array.from({ length: last }, (_, index) => `line ${MANY - last + index + 1}`), 'the lines, each once and in order');
  done('a long history: put in above without a jump, by date, and back to what is new');
}

async function finding(alice, done) {
  await alice.page.keyboard.press('Control+Shift+F');
  await alice.say('Robert', '#search-text');
  await alice.becomes('it is found', ({ hits }) => hits.includes('Hello, Robert'));
  await alice.shoot(args.screenshots, 'search');
  await alice.page.locator('.hit', { hasText: 'Hello, Robert' }).click();
  await alice.becomes('the message among its neighbours', ({ rows, found }) => rows.some((row) => row.ts === found && row.text === 'Hello, Robert'));
  await alice.page.click('#search [data-close]');
  await alice.page.click('#to-live');
  await alice.reads('while she reads old ones');
  done('a message is found, and shown where it was said');
}

async function keys(alice, done) {
  const press = (key) => alice.page.keyboard.press(key);
  await press('Control+k');
  await alice.becomes('the switcher', ({ dialog, focus }) => dialog === 'switcher' && focus === 'switcher-text');
  await alice.page.keyboard.type('elsew');
  await press('Enter');
  await alice.becomes('elsewhere', ({ title, dialog }) => title.endsWith('elsewhere') && dialog === '');
  await press('Control+k');
  await press('Escape');
  await alice.becomes('closed', ({ dialog }) => dialog === '');
  await press('Alt+ArrowDown');
  await alice.becomes('the next conversation', ({ title }) => !title.endsWith('elsewhere'));
  await alice.open('general');
  await alice.page.focus('#composer-text');
  const regions = [];
  for (let round = 0; round < 4; round += 1) {
    await press('F6');
    regions.push(await alice.page.evaluate(() => document.activeElement?.closest('[data-region]')?.getAttribute('aria-label') ?? ''));
  }
  ensureEqual(new Set(regions).size, 4, `the parts of the page that F6 goes to (${regions})`);
  await alice.page.focus('#messages .row:last-of-type');
  await press('ArrowUp');
  ensure(await alice.page.evaluate(() => document.activeElement?.matches('.row:not(:last-of-type)')), 'the arrow does not go up in the list');
  await press('Escape');
  await alice.becomes('the field', ({ focus }) => focus === 'composer-text');
  await alice.page.keyboard.type('@bo');
  await press('Tab');
  ensureEqual(await alice.page.inputValue('#composer-text'), '@bob ', 'what was completed');
  await alice.page.fill('#composer-text', '');
  done('the switcher, the next conversation, F6, arrows, Escape, and names that are completed');
}

async function channels(alice, bob, done) {
  await alice.page.click('#open-browse');
  await alice.page.fill('#create-name', 'secret plans');
  await alice.page.check('#create-private');
  await alice.page.click('#create button[type=submit]');
  await alice.becomes('the private channel', ({ title }) => title.endsWith('secret-plans'));
  await alice.say('nobody reads this yet');
  await alice.reads('nobody reads this yet');
  ensure((await bob.facts()).side['secret-plans'] === undefined, 'somebody else sees a private channel');
  await alice.page.click('#open-details');
  await alice.page.click('.details-head .button');
  await alice.page.fill('#start-text', 'bob');
  await alice.page.press('#start-text', 'Enter');
  await alice.page.click('#start-go');
  await bob.becomes('he is in it', ({ side }) => side['secret-plans'] !== undefined);
  await bob.open('secret-plans');
  await bob.reads('nobody reads this yet');
  await alice.page.click('#details [data-close]');

  await bob.page.click('#open-browse');
  await bob.page.getByLabel('Join elsewhere').click();
  await bob.becomes('he has joined', ({ title, side }) => title.endsWith('elsewhere') && side.elsewhere !== undefined);
  await bob.say('made it');
  await alice.becomes('said elsewhere', ({ side }) => side.elsewhere.unread);

  await bob.page.click('#open-start');
  await bob.page.fill('#start-text', 'alice');
  await bob.page.press('#start-text', 'Enter');
  await bob.page.click('#start-go');
  await bob.becomes('a direct message', ({ title }) => /Alice/i.test(title));
  await bob.say('between us');
  const direct = (facts) => Object.entries(facts.side).find(([name]) => /Bob/i.test(name))?.[1];
  await alice.becomes('a direct message, with its count, from somebody who is here', (facts) => direct(facts)?.badge === '1' && direct(facts).here);
  for (const who of [alice, bob]) {
    await who.open('general');
  }
  done('a private channel and who is let in, joining, a direct message');
}

async function accounts(done) {
  const page = await browsers[0].page();
  const cleo = new ChatPage(page, 'cleo', args.patience);
  await page.goto(`${args.url}/chat`);
  await page.click('#door-switch');
  const fill = async (fields) => {
    for (const [name, value] of Object.entries(fields)) {
      await page.fill(`#door-${name}`, value);
    }
    await page.click('#door-go');
  };
  const account = { email: 'cleo@example.org', password: 'a long enough passphrase 9' };
  await fill({ ...account, password: 'short', name: 'Cleo Park', team: 'Parkside' });
  await page.locator('#door-error', { hasText: 'password' }).waitFor({ timeout: args.patience });
  await fill(account);
  await cleo.becomes('her workspace', ({ view, pageTitle, side }) => view === 'chat' && pageTitle.includes('Parkside') && side.general !== undefined);
  await cleo.say('to myself');
  await cleo.reads('to myself');
  await page.fill('#composer-text', 'half a sentence');
  await page.click('#open-me');
  await page.click('#me-invite');
  const link = await page.locator('#me-said', { hasText: '/chat/?invite=' }).textContent({ timeout: args.patience });
  await page.click('#me-out');
  await cleo.becomes('signed out', ({ view }) => view === 'door');
  const kept = await page.evaluate(() => Object.values(localStorage).filter((value) => value.includes('half a sentence')));
  ensureEqual(kept, [], 'what is left in the browser');
  await page.goto(link.slice(link.indexOf('http')));
  await fill({ email: 'dana@example.org', password: 'another long passphrase 7', name: 'Dana' });
  await cleo.becomes('Dana in the same workspace', ({ view, pageTitle }) => view === 'chat' && pageTitle.includes('Parkside'));
  await cleo.reads('to myself');
  await page.close();
  done('an account, its workspace, signing out with nothing left, and who is invited');
}

async function serverKilled(alice, bob, general, done) {
  console.log('please: kill');
  await alice.becomes('no connection', ({ banner }) => banner);
  for (const number of [1, 2, 3]) {
    await alice.say(`kept ${number}`);
  }
  await bob.say('from bob');
  await alice.becomes('three that are not sent', ({ rows }) => rows.filter((row) => row.pending !== '').length === 3 && rows.some((row) => /Not sent/.test(row.unsent)));
  await alice.shoot(args.screenshots, 'offline');
  // What waits survives the page as well.
  const kept = await alice.page.evaluate(() => Object.entries(localStorage).find(([name]) => name.endsWith('.outbox'))?.[1] ?? '');
  ensureEqual([...kept.matchAll(/kept \d/g)].map(([text]) => text), ['kept 1', 'kept 2', 'kept 3'], 'what the browser keeps');
  console.log('please: start');
  for (const who of [alice, bob]) {
    for (const text of ['kept 1', 'kept 2', 'kept 3', 'from bob']) {
      await who.reads(text);
    }
    await who.becomes('no banner', ({ banner }) => !banner);
    const order = (await who.facts()).rows.map((row) => row.text).filter((text) => text.startsWith('kept'));
    ensureEqual(order, ['kept 1', 'kept 2', 'kept 3'], `the order that ${who.name} sees`);
  }
  await alice.say('and live again');
  await bob.reads('and live again');
  const truth = await alice.call('conversations.history', { channel: general, limit: 40 });
  const wanted = truth.messages.map(({ ts }) => ts).reverse();
  for (const who of [alice, bob]) {
    const seen = (await who.facts()).rows.map((row) => row.ts).slice(-wanted.length);
    ensureEqual(seen, wanted, `what ${who.name} sees, and what a fresh load gives`);
  }
  done('a server that is killed: what was written meanwhile is sent once and in order, and nothing is missed');
}

function noProblems() {
  const problems = browsers.flatMap((browser) => browser.problems);
  ensureEqual(problems.filter((problem) => !EXPECTED.test(problem)), [], 'what went wrong in the browsers');
}
