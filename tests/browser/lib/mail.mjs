/** The mail page in a real browser, the stand-in for Google behind it, and what the mailbox must look like. */

import { CheckFailed, until } from './check.mjs';

/** Google, as far as a test moves it: `POST /control/WHAT`. */
export class Google {
  constructor(url, address) {
    this.url = url;
    this.address = address;
  }

  async control(what, asked = {}) {
    const response = await fetch(`${this.url}/control/${what}`, {
      method: 'POST',
      body: JSON.stringify({ address: this.address, ...asked }),
    });
    const answer = await response.json();
    if (!response.ok) {
      throw new CheckFailed(`control ${what}: ${answer.error}`);
    }
    return answer;
  }

  /** A message comes; gives its id. */
  async send(subject, more = {}) {
    const { ids } = await this.control('message', { from: 'Ann <ann@example.net>', subject, snippet: `About ${subject}.`, ...more });
    return ids[0];
  }

  label(id, add = [], remove = []) {
    return this.control('modify', { id, add, remove });
  }
}

/** One tab with the mail page. */
export class Inbox {
  static async open(browser, url, path = '/mail') {
    const page = await browser.page();
    await page.goto(`${url}${path}`);
    return new Inbox(page);
  }

  constructor(page) {
    this.page = page;
  }

  facts() {
    return this.page.evaluate(() => {
      const text = (selector) => document.querySelector(selector)?.textContent ?? '';
      const shown = (selector) => document.querySelector(selector)?.hidden === false;
      const rows = [...document.querySelectorAll('.row:not([data-leaving])')];
      return {
        view: document.body.dataset.view,
        state: document.querySelector('#state')?.dataset.state,
        words: text('#state'),
        list: text('#title'),
        count: text('#count'),
        pageTitle: document.title,
        icon: decodeURIComponent(document.querySelector('#icon').href),
        trouble: shown('#trouble') ? text('#trouble') : '',
        missed: shown('#missed') ? text('#missed-text') : '',
        parity: shown('#parity') ? text('#parity') : '',
        doorError: shown('#door-error') ? text('#door-error') : '',
        end: document.querySelector('#end')?.dataset.state,
        rows: rows.map((row) => ({
          id: row.dataset.id,
          subject: row.querySelector('.row-subject').textContent,
          unread: row.dataset.unread === 'true',
          starred: row.dataset.starred === 'true',
          labels: [...row.querySelectorAll('.chip')].map((chip) => chip.textContent),
          mark: row.dataset.mark ?? '',
        })),
        focus: document.activeElement?.closest('.row')?.dataset.id ?? '',
        announced: text('#announcer'),
      };
    });
  }

  /** Waits until the page shows what is wanted. */
  becomes(patience, what, holds) {
    return until(
      patience,
      what,
      async () => {
        const facts = await this.facts().catch(leaving);
        return facts && holds(facts) && facts;
      },
      async () => {
        const facts = await this.facts();
        const rows = facts.rows.map((row) => `${row.subject}${row.unread ? '*' : ''}`);
        return `it shows ${JSON.stringify({ ...facts, rows: rows.slice(0, 12), of: rows.length })}`;
      },
    );
  }

  live(patience) {
    return this.becomes(patience, 'live', ({ view, state }) => view === 'mail' && state === 'live');
  }

  /** What the server has of a list, asked by the page itself; as the page would show it. */
  truth(label) {
    return this.page.evaluate(async (wanted) => {
      const all = [];
      let before = '';
      do {
        const query = new URLSearchParams({ label: wanted, limit: '50', ...(before === '' ? {} : { before }) });
        const page = await (await fetch(`/mail/messages?${query}`)).json();
        all.push(...page.messages);
        before = page.next ?? '';
      } while (before !== '');
      return all.map(({ id, labels }) => ({ id, unread: labels.includes('UNREAD'), starred: labels.includes('STARRED') }));
    }, label);
  }

  /** What the browser keeps of the mailbox. */
  kept() {
    return this.page.evaluate(() => JSON.parse(localStorage.getItem('fanfare.mail.box') ?? 'null'));
  }

  /** Does something in the dialog; `closes`: the dialog goes by itself. */
  async settings(act, { closes = false } = {}) {
    await this.page.click('#open-settings');
    await act(this.page);
    if (!closes) {
      await this.page.click('#settings-close');
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
