/** Headless Chromium through playwright-core, with everything that went wrong in it kept. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** Where Debian puts Chromium; `CHROMIUM` names another. */
const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A browser with a profile of its own; `close` removes both. */
export class Browser {
  /** `flags` are further switches of Chromium. */
  static async launch(flags = []) {
    const profile = await mkdtemp(join(tmpdir(), 'fanfare-browser-'));
    try {
      const context = await chromium.launchPersistentContext(profile, {
        executablePath: EXECUTABLE,
        headless: true,
        args: [...FLAGS, ...flags],
      });
      return new Browser(context, profile);
    } catch (error) {
      await rm(profile, { recursive: true, force: true });
      throw new Error(`cannot start ${EXECUTABLE} (set CHROMIUM to another): ${error.message}`);
    }
  }

  constructor(context, profile) {
    this.context = context;
    this.profile = profile;
    /** What no page may cause: console errors, uncaught exceptions, policy violations. */
    this.problems = [];
    /** How many publishes the pages have under way. */
    this.publishing = 0;
  }

  /** A new page that is watched. */
  async page({ width = 1280, height = 900 } = {}) {
    const page = await this.context.newPage();
    await page.setViewportSize({ width, height });
    page.on('console', (message) => {
      if (message.type() === 'error') {
        this.problems.push(`console: ${message.text()} (${message.location().url})`);
      }
    });
    const count = (step) => (request) => {
      if (request.url().endsWith('/api/publish')) {
        this.publishing += step;
      }
    };
    page.on('request', count(1));
    page.on('requestfinished', count(-1));
    page.on('requestfailed', count(-1));
    page.on('pageerror', (error) => this.problems.push(`exception: ${error.message}`));
    await page.exposeBinding('reportViolation', (_source, text) => {
      this.problems.push(`policy: ${text}`);
    });
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        globalThis.reportViolation(`${event.violatedDirective} ${event.blockedURI}`);
      });
    });
    return page;
  }

  async close() {
    await this.context.close();
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
