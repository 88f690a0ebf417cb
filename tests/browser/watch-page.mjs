/**
 * The watch party's page in real Chromium, over two servers of one cluster: making and joining rooms, the same
 * picture at the same time, chat, reactions, ready checks, voice, and a pulled cable. No timing is asserted but
 * that the videos come together in the end.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { readArgs } from './lib/args.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, run } from './lib/check.mjs';
import { converge, launch, Watcher } from './lib/watch.mjs';

const USAGE = `usage: node watch-page.mjs --url http://127.0.0.1:8000 [--other http://127.0.0.1:8001]
  --url URL           a server in development mode
  --other URL         another one of the same cluster (the same one)
  --patience SECONDS  how long to wait for anything (40)
  --screenshots DIR   also store the page: narrow and wide, light and dark, in its states`;

/** What the browser itself says when its connection is cut on purpose, or a room does not exist. */
const EXPECTED = /net::ERR_|WebSocket connection to .* failed|status of 404/;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  patience: { type: 'string', default: '40' },
  screenshots: { type: 'string' },
});
const other = (args.other ?? args.url).replace(/\/+$/, '');
let browser;
let cable;

await run('watch-page.mjs', checks, async () => {
  await browser?.close();
  await cable?.close();
});

async function checks(done) {
  browser = await launch();
  cable = await Cable.to(other);
  const ada = await Watcher.create(browser, args.url, 'Ada');
  const ben = await Watcher.join(browser, cable.url, ada.code, 'Ben');
  await bothAreThere(ada, ben, done);
  await playback(ada, ben, done);
  await late(ada, done);
  await chat(ada, ben, done);
  await reactions(ada, ben, done);
  await readyAndCountdown(ada, ben, done);
  await voice(ada, ben, done);
  noProblems();
  done('no console error, no exception, no policy violation');
  await cablePulled(ada, ben, done);
  await whoControls(ada, ben, done);
  await keptOut(done);
  await reloaded(ada, ben, done);
  if (args.screenshots) {
    await screenshots(args.screenshots, done);
  }
}

async function bothAreThere(ada, ben, done) {
  for (const watcher of [ada, ben]) {
    const { people } = await watcher.becomes(args.patience, 'two people', ({ people }) => people.length === 2);
    ensureEqual(people.map(({ name }) => name).sort(), ['Ada', 'Ben'], `who ${watcher.name} sees`);
    ensureEqual(people[0].name, watcher.name, 'who comes first');
    ensure(people.find(({ name }) => name === 'Ada').role.includes('host'), 'Ada is not the host');
    await watcher.becomes(args.patience, 'the clip is loaded', ({ duration }) => duration > 59_000);
  }
  done('a room is made, another one joins it by its link, on two servers');
}

async function playback(ada, ben, done) {
  await ada.page.click('#play');
  for (const watcher of [ada, ben]) {
    await watcher.becomes(args.patience, 'it plays', ({ paused, media }) => !paused && media > 300);
  }
  await converge(args.patience, ada, ben);
  done('play: both play, and come together');

  const seen = await ada.becomes(args.patience, 'where Ben is', ({ people }) => {
    const row = people.find(({ name }) => name === 'Ben');
    return row.state === 'playing' && /^\d+:\d\d\.\d$/.test(row.place) && /ms$|s$/.test(row.drift);
  });
  ensureEqual(seen.people.length, 2, 'people');
  done('everybody sees where the other one is, and how far from the room');

  await ben.page.click('#play');
  for (const watcher of [ada, ben]) {
    await watcher.becomes(args.patience, 'it is paused', ({ paused }) => paused);
  }
  await converge(args.patience, ada, ben, 30);
  done('pause, by the other one: both stand at the same frame');

  await ada.blur();
  await ada.page.keyboard.press('ArrowRight');
  await ada.page.keyboard.press('ArrowRight');
  const { media } = await ben.becomes(args.patience, 'it has been moved', ({ media }) => media > 18_000);
  await converge(args.patience, ada, ben, 30);
  ensure(media < 40_000, `two steps are 20 s, but it is at ${media}`);
  await ada.page.keyboard.press(' ');
  await converge(args.patience, ada, ben);
  done('seek and play by keys: both follow');

  await ada.page.selectOption('#rate', '1.5');
  await ben.becomes(args.patience, 'one and a half times as fast', ({ rate }) => Math.abs(rate - 1.5) < 0.1);
  await converge(args.patience, ada, ben);
  await ada.page.selectOption('#rate', '1');
  await ben.becomes(args.patience, 'as fast as ever', ({ rate }) => Math.abs(rate - 1) < 0.06);
  done('the speed is changed for both');
}

async function late(ada, done) {
  await ada.page.evaluate(() => {
    const seek = document.querySelector('#seek');
    seek.value = '100';
    seek.dispatchEvent(new Event('change'));
  });
  await ada.becomes(args.patience, 'it plays near the start', ({ media, paused }) => media < 20_000 && !paused);
  const cy = await Watcher.join(browser, other, ada.code, 'Cy');
  await cy.becomes(args.patience, 'it plays', ({ paused }) => !paused);
  await converge(args.patience, ada, cy);
  await cy.page.click('#leave');
  await cy.becomes(args.patience, 'the start page', ({ view }) => view === 'lobby');
  await ada.becomes(args.patience, 'Cy is gone', ({ people }) => people.length === 2);
  await cy.page.close();
  done('who comes late lands where the others are, and leaves');
}

async function chat(ada, ben, done) {
  const evil = '<img src=x onerror="globalThis.broken = true"><b>bold</b>';
  await ada.say('hello from Ada');
  await ben.say(evil);
  for (const watcher of [ada, ben]) {
    await watcher.becomes(
      args.patience,
      'both messages, each once',
      ({ chat }) => chat.length === 2 && chat.includes('hello from Ada') && chat.includes(evil),
    );
  }
  const traces = await ada.page.evaluate(() => ({
    elements: document.querySelectorAll('#chat-list img, #chat-list b').length,
    ran: 'broken' in globalThis,
  }));
  ensureEqual(traces, { elements: 0, ran: false }, 'what became of the markup');
  await ben.page.type('#chat-input', 'half a');
  await ada.page.waitForFunction(() => document.querySelector('#typing').textContent.includes('Ben is typing'));
  await ben.page.fill('#chat-input', '');
  done('chat: each message once, markup stays text, typing is seen');
}

async function reactions(ada, ben, done) {
  const floated = ada.page.waitForSelector('.floater', { state: 'attached', timeout: args.patience });
  await ben.page.click('.reaction >> nth=5');
  await floated;
  await ada.becomes(args.patience, 'heat', ({ heat }) => heat > 0);
  done('a reaction floats over the picture, and is on the line of the media');
}

async function readyAndCountdown(ada, ben, done) {
  await ada.page.click('#play');
  await ben.becomes(args.patience, 'it is paused', ({ paused }) => paused);
  await ada.page.click('#start-ready');
  await ben.page.click('#ready-yes', { timeout: args.patience });
  await ada.page.waitForSelector('#count:not([hidden])', { timeout: args.patience });
  for (const watcher of [ada, ben]) {
    await watcher.becomes(args.patience, 'it plays after the countdown', ({ paused, ready }) => !paused && !ready);
  }
  await converge(args.patience, ada, ben);
  done('a ready check, a countdown, and both start');
}

async function voice(ada, ben, done) {
  await ada.page.click('#voice-join');
  await ada.page.waitForSelector('#voice-join[data-state=on]', { timeout: args.patience });
  await ben.page.click('#voice-join');
  for (const watcher of [ada, ben]) {
    await watcher.becomes(args.patience, 'connected by voice', ({ voice }) => /Connected with 1 other/.test(voice));
  }
  await ada.becomes(args.patience, 'Ben speaks', ({ people }) => people[1].voice === 'speaking');
  await ben.page.click('#voice-mute');
  await ada.becomes(args.patience, 'Ben is silent', ({ people }) => people[1].voice === 'in');
  for (const watcher of [ben, ada]) {
    await watcher.page.click('#voice-join');
  }
  await ben.becomes(args.patience, 'nobody talks', ({ people }) => people.every(({ voice }) => voice === 'none'));
  done('voice between two pages: connected, who speaks is seen, mute, and back');
}

async function cablePulled(ada, ben, done) {
  cable.cut();
  await ben.becomes(args.patience, 'it says so', ({ banner }) => /connection is gone|offline/.test(banner));
  await ben.say('written without a connection');
  await ada.say('said while Ben was away');
  await ada.page.evaluate(() => {
    const seek = document.querySelector('#seek');
    seek.value = '200';
    seek.dispatchEvent(new Event('change'));
  });
  await ada.becomes(args.patience, 'it has moved', ({ media }) => media < 30_000);
  cable.mend();
  await ben.becomes(args.patience, 'live again', ({ link, banner }) => link === 'live' && banner === '');
  await converge(args.patience, ada, ben);
  for (const watcher of [ada, ben]) {
    await watcher.becomes(args.patience, 'both messages, each once', ({ chat }) =>
      ['written without a connection', 'said while Ben was away'].every(
        (text) => chat.filter((line) => line === text).length === 1,
      ),
    );
  }
  browser.problems = browser.problems.filter((problem) => !EXPECTED.test(problem));
  noProblems();
  done('a pulled cable: back by itself, in sync again, no message missing and none twice');
}

async function whoControls(ada, ben, done) {
  await ada.page.click('#open-settings');
  await ada.page.selectOption('#settings-control', 'owner_only');
  await ada.page.click('#settings-save');
  await ben.becomes(
    args.patience,
    'it may not control',
    ({ mayPlay, note }) => !mayPlay && /Only Ada/.test(note),
  );
  await ada.page.click('#open-settings');
  await ada.page.selectOption('#settings-control', 'selected');
  await ada.page.click('#settings-save');
  await ada.page.click('.person-grant:visible', { timeout: args.patience });
  await ben.becomes(args.patience, 'it may control again', ({ mayPlay }) => mayPlay);
  done('the host says who controls');
}

async function keptOut(done) {
  const di = await Watcher.create(browser, args.url, 'Di', { password: 'open sesame', seats: 2 });
  const ed = await Watcher.join(browser, other, di.code, 'Ed', { password: 'wrong', refused: true });
  await ed.becomes(args.patience, 'a wrong password', ({ error }) => /password/i.test(error));
  await ed.page.fill('#join-password', 'open sesame');
  await ed.page.click('#join-submit');
  await ed.becomes(args.patience, 'let in', ({ view }) => view === 'room');
  const flo = await Watcher.join(browser, args.url, di.code, 'Flo', {
    password: 'open sesame',
    refused: true,
  });
  await flo.becomes(args.patience, 'a full room', ({ error }) => /full/.test(error));
  await flo.page.goto(`${args.url}/watch/ZZZZZZZZ`);
  await flo.becomes(args.patience, 'no such room', ({ door }) => /No such room/.test(door));
  browser.problems = browser.problems.filter((problem) => !EXPECTED.test(problem));
  noProblems();
  for (const { page } of [di, ed, flo]) {
    await page.close();
  }
  done('a wrong password, a full room and a code of nothing are said in words');
}

async function reloaded(ada, ben, done) {
  await ben.page.reload();
  await ben.becomes(args.patience, 'in the room without being asked', ({ view }) => view === 'room');
  await ben.note();
  await ben.becomes(args.patience, 'the chat is there', ({ chat }) => chat.length === 4);
  await ben.becomes(args.patience, 'two people', ({ people }) => people.length === 2);
  await converge(args.patience, ada, ben);
  noProblems();
  done('a reload: the same member, the same place, the same chat');
}

async function screenshots(folder, done) {
  await mkdir(folder, { recursive: true });
  const ada = await Watcher.create(browser, args.url, 'Ada', {}, { width: 1440, height: 900 });
  const ben = await Watcher.join(browser, other, ada.code, 'Ben');
  await ada.page.click('#play');
  await ada.say('Everybody there? It is the sample clip.');
  await ben.say('Here. And the frame counter says the same as yours.');
  await converge(args.patience, ada, ben);
  for (const [size, width, height] of [
    ['narrow', 390, 844],
    ['wide', 1440, 900],
  ]) {
    await ada.page.setViewportSize({ width, height });
    for (const colorScheme of ['light', 'dark']) {
      await ada.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await ada.page.screenshot({ path: join(folder, `watch-${size}-${colorScheme}.png`) });
    }
    const overflow = await ada.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    ensure(overflow <= 0, `${size}: the page is ${overflow} px too wide`);
  }
  done(`screenshots are in ${folder}, and nothing is wider than the screen`);
}

function noProblems() {
  ensureEqual(browser.problems, [], 'what went wrong in the browser');
}
