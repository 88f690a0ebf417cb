/** The watch party's page in real browsers: opening rooms, and comparing where two videos are. */

import { Browser } from './browser.mjs';
import { ensure, until } from './check.mjs';

/** A browser that plays without a gesture, has a microphone that hums, and does not slow down what nobody looks at. */
const FLAGS = [
  '--autoplay-policy=no-user-gesture-required',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
  '--disable-backgrounding-occluded-windows',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
];

/** How often a page notes where its video is. */
const NOTE_EVERY_MS = 50;

/** Two notes that are further apart than this say nothing about what was between them. */
const GAP_MAX_MS = 400;

export function launch() {
  return Browser.launch(FLAGS);
}

/** One who watches: a page of the watch party. */
export class Watcher {
  /** Makes a room, and is in it. `room` may set `password`, `seats`, `control` and `source` (an address). */
  static async create(browser, url, name, room = {}, size = {}) {
    const page = await browser.page(size);
    const response = await page.goto(`${url}/watch`);
    ensure(response?.ok(), `GET /watch answered ${response?.status()}`);
    await page.fill('#create-name', name);
    await page.click('.more summary');
    await page.fill('#create-password', room.password ?? '');
    await page.fill('#create-seats', String(room.seats ?? 10));
    await page.selectOption('#create-control', room.control ?? 'all');
    if (room.source !== undefined) {
      await page.check('input[name=source][value=url]', { force: true });
      await page.fill('#create-url', room.source);
    }
    await page.click('#create-submit');
    await page.waitForSelector('body[data-view=room]');
    const watcher = new Watcher(page, name);
    watcher.code = new URL(page.url()).pathname.split('/').at(-1);
    await watcher.note();
    return watcher;
  }

  /** Comes to a room by its link; is in it when this returns, unless `refused` says to stay at the door. */
  static async join(browser, url, code, name, { password, refused = false, size = {} } = {}) {
    const page = await browser.page(size);
    await page.goto(`${url}/watch/${code}`);
    await page.waitForSelector('body[data-view=door]');
    await page.fill('#join-name', name);
    if (password !== undefined) {
      await page.waitForSelector('#join-password-field:not([hidden])');
      await page.fill('#join-password', password);
    }
    await page.click('#join-submit');
    const watcher = new Watcher(page, name);
    watcher.code = code;
    if (!refused) {
      await page.waitForSelector('body[data-view=room]');
      await watcher.note();
    }
    return watcher;
  }

  constructor(page, name) {
    this.page = page;
    this.name = name;
  }

  /** Lets the page note from now on where its video is, and when, on a clock that all pages of this machine share. */
  async note() {
    await this.page.evaluate((every) => {
      globalThis.notes = [];
      globalThis.clearInterval(globalThis.noting);
      globalThis.noting = setInterval(() => {
        const video = document.querySelector('#video');
        globalThis.notes.push({
          at: performance.timeOrigin + performance.now(),
          media: video.currentTime * 1000,
          settled: !video.seeking && video.readyState >= 2,
          paused: video.paused,
        });
      }, every);
    }, NOTE_EVERY_MS);
  }

  /** What was noted since the last time. */
  notes() {
    return this.page.evaluate(() => globalThis.notes.splice(0));
  }

  facts() {
    return this.page.evaluate(() => {
      const text = (selector) => document.querySelector(selector)?.textContent ?? '';
      const video = document.querySelector('#video');
      return {
        view: document.body.dataset.view,
        link: document.querySelector('#link-state')?.dataset.state,
        banner: document.querySelector('#link-banner').hidden ? '' : text('#link-banner'),
        curtain: document.querySelector('#curtain').dataset.shown === 'true' ? text('#curtain-title') : '',
        media: video.currentTime * 1000,
        paused: video.paused,
        rate: video.playbackRate,
        duration: video.duration * 1000,
        mayPlay: !document.querySelector('#play').disabled,
        note: text('#control-note'),
        voice: text('#voice-note'),
        people: [...document.querySelectorAll('.person')].map((row) => ({
          name: row.querySelector('.person-name').textContent,
          role: row.querySelector('.person-role').textContent,
          state: row.querySelector('.person-state').textContent,
          place: row.querySelector('.person-place').textContent,
          drift: row.querySelector('.person-drift').textContent,
          voice: row.dataset.voice,
        })),
        chat: [...document.querySelectorAll('.line-text')].map((line) => line.textContent),
        heat: document.querySelectorAll('.heat-bar').length,
        ready: !document.querySelector('#ready').hidden,
        error: text('#join-error'),
        door: text('#join-title'),
      };
    });
  }

  /** Waits until the page shows what is wanted. */
  becomes(patience, what, holds) {
    return until(
      patience,
      `${this.name}: ${what}`,
      async () => {
        const facts = await this.facts();
        return holds(facts) && facts;
      },
      async () => `it shows ${JSON.stringify(await this.facts())}`,
    );
  }

  async say(text) {
    await this.page.fill('#chat-input', text);
    await this.page.press('#chat-input', 'Enter');
  }

  /** Takes the keyboard out of every field. */
  async blur() {
    await this.page.evaluate(() => document.activeElement?.blur());
  }
}

/** How far two videos are from each other: one figure for each note of the left one between two of the right one. */
export function differences(left, right) {
  const found = [];
  let index = 0;
  for (const note of left) {
    while (index + 1 < right.length && right[index + 1].at <= note.at) {
      index += 1;
    }
    const [before, after] = [right[index], right[index + 1]];
    if (before === undefined || after === undefined || before.at > note.at) {
      continue;
    }
    const span = after.at - before.at;
    const usable = note.settled && before.settled && after.settled && span <= GAP_MAX_MS;
    if (usable && after.media >= before.media) {
      const share = (note.at - before.at) / span;
      const media = before.media + share * (after.media - before.media);
      found.push({ at: note.at, difference: note.media - media, playing: !note.paused && !before.paused });
    }
  }
  return found;
}

/** How far two videos are from each other now; null when it cannot be said. */
export async function apart(left, right, forMs = 400) {
  await Promise.all([left.notes(), right.notes()]);
  await new Promise((resolve) => setTimeout(resolve, forMs));
  const all = differences(...(await Promise.all([left.notes(), right.notes()])));
  return all.length === 0 ? null : Math.max(...all.map(({ difference }) => Math.abs(difference)));
}

/** Waits until two videos are near each other and stay so for a moment. */
export async function converge(patience, left, right, within = 250) {
  let last = null;
  return await until(
    patience,
    `${left.name} and ${right.name} within ${within} ms of each other`,
    async () => {
      last = await apart(left, right);
      return last !== null && last <= within ? { apart: last } : null;
    },
    async () => `they are ${last === null ? 'not comparable' : `${Math.round(last)} ms apart`}`,
  );
}
