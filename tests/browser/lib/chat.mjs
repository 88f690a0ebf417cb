/** The chat's page as a person has it: what it shows, and what is done on it. */

import { join } from 'node:path';

import { until } from './check.mjs';

export class ChatPage {
  /** Comes in as somebody of the demonstration, in a tab of their own. */
  static async enter(browser, url, name, patience, size = {}) {
    const page = await browser.page(size);
    await page.goto(`${url}/chat`);
    const user = page.locator('.door-user', { hasText: new RegExp(name, 'i') });
    await user.click({ timeout: patience });
    const chat = new ChatPage(page, name, patience);
    await chat.becomes('the conversations', ({ view, title }) => view === 'chat' && title !== '');
    return chat;
  }

  constructor(page, name, patience) {
    this.page = page;
    this.name = name;
    this.patience = patience;
  }

  /** What the page shows. */
  facts() {
    return this.page.evaluate(() => {
      const text = (selector) => document.querySelector(selector)?.textContent.trim() ?? '';
      const shown = (selector) => {
        const element = document.querySelector(selector);
        return element !== null && element.offsetParent !== null && !element.hidden;
      };
      const words = (row) => {
        const copy = row.querySelector('.text')?.cloneNode(true);
        copy?.querySelectorAll('.edited').forEach((mark) => mark.remove());
        return copy?.textContent.trim() ?? '';
      };
      const rows = (list) =>
        [...document.querySelectorAll(`${list} .row`)].map((row) => ({
          ts: row.dataset.ts ?? '',
          text: words(row),
          pending: row.dataset.state ?? '',
          unsent: row.querySelector('.unsent')?.textContent ?? '',
          edited: row.querySelector('.edited') !== null,
          called: row.classList.contains('called'),
          replies: row.querySelector('.replies-count')?.textContent ?? '',
          reactions: [...row.querySelectorAll('.reaction[data-reaction]')].map(
            (chip) => `${chip.dataset.reaction} ${chip.querySelector('.reaction-count').textContent}${chip.getAttribute('aria-pressed') === 'true' ? ' mine' : ''}`,
          ),
        }));
      const lines = [...document.querySelector('#messages').querySelectorAll('.row, .new-line')];
      const first = lines.findIndex((line) => line.classList.contains('new-line'));
      const box = document.querySelector('#messages');
      return {
        view: document.body.dataset.view,
        title: text('#title'),
        rows: rows('#messages'),
        thread: shown('#thread') ? rows('#thread-messages') : null,
        newFrom: first < 0 ? '' : (lines[first + 1]?.querySelector('.text')?.textContent.trim() ?? ''),
        side: Object.fromEntries(
          [...document.querySelectorAll('.side-entry')].map((entry) => [
            entry.querySelector('.side-name').textContent,
            {
              id: entry.dataset.channel,
              unread: entry.classList.contains('unread'),
              badge: entry.querySelector('.badge')?.textContent ?? '',
              here: entry.querySelector('.presence')?.dataset.here === 'true',
            },
          ]),
        ),
        typing: text('#typing'),
        banner: shown('#banner'),
        toLive: shown('#to-live') ? text('#to-live') : '',
        hits: [...document.querySelectorAll('.hit')].map((hit) => hit.querySelector('.text').textContent.trim()),
        found: document.querySelector('.row.found')?.dataset.ts ?? '',
        dialog: document.querySelector('dialog[open]')?.id ?? '',
        focus: document.activeElement?.id ?? '',
        pageTitle: document.title,
        days: [...document.querySelectorAll('#messages .day')].map((day) => day.textContent),
        begins: shown('#messages .intro-of'),
        scroll: { top: box.scrollTop, height: box.scrollHeight, seen: box.clientHeight },
      };
    });
  }

  /** Waits until the page shows what is wanted. */
  becomes(what, holds) {
    return until(
      this.patience,
      `${this.name}: ${what}`,
      async () => {
        const facts = await this.facts().catch(leaving);
        return facts && holds(facts) && facts;
      },
      async () => {
        const facts = await this.facts();
        return `it shows ${JSON.stringify({ ...facts, rows: facts.rows.slice(-4), of: facts.rows.length })}`.slice(0, 1_500);
      },
    );
  }

  async say(text, field = '#composer-text') {
    await this.page.fill(field, text);
    await this.page.press(field, 'Enter');
  }

  /** Waits until a text stands in the conversation, settled, once. */
  async reads(text) {
    const { rows } = await this.becomes(`"${text}" once`, (facts) => {
      const found = facts.rows.filter((row) => row.text === text);
      return found.length === 1 && found[0].pending === '';
    });
    return rows.find((row) => row.text === text);
  }

  async open(name) {
    await this.page.click(`.side-entry:has(.side-name:text-is("${name}"))`);
    await this.becomes(`${name} is open`, ({ title }) => title.endsWith(name));
  }

  /** The row of a message, pointed at. */
  async point(ts, list = '#messages') {
    const row = this.page.locator(`${list} .row[data-ts="${ts}"]`);
    await row.hover();
    return row;
  }

  /** Asks the server, as the page does. */
  call(method, args = {}) {
    return this.page.evaluate(
      async ([name, body]) => {
        const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${sessionStorage.getItem('fanfare.chat.token')}` };
        return await (await fetch(`/v1/${name}`, { method: 'POST', headers, body: JSON.stringify(body) })).json();
      },
      [method, args],
    );
  }

  async shoot(folder, name) {
    if (folder !== undefined) {
      await this.page.screenshot({ path: join(folder, `chat-${name}.png`) });
    }
  }
}

/** While a page goes from one address to the next there is nothing to look at. */
function leaving(error) {
  if (/context was destroyed|navigat|Cannot find context/i.test(error.message)) {
    return null;
  }
  throw error;
}
