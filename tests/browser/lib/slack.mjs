/** The official Slack clients, pointed at a server of ours and otherwise as they come. */

import { SocketModeClient } from '@slack/socket-mode';
import { LogLevel, WebClient } from '@slack/web-api';

import { CheckFailed, ensureEqual, until } from './check.mjs';

/** The workspace that `--dev` makes. */
export const GENERAL = 'C0GENERAL00';
export const USERS = { alice: 'U0ALICE0000', bob: 'U0BOB000000', bot: 'U0BOT000000' };
export const BOT = 'B0BOT000000';
export const APP = 'A0BOT000000';
export const TOKENS = { alice: 'xoxp-dev-alice', bob: 'xoxp-dev-bob', bot: 'xoxb-dev-bot' };
export const APP_TOKEN = 'xapp-dev';

/** Where the Web API of a server is. */
export const apiUrl = (url) => `${url}/v1/`;

/** A client of the Web API. */
export function client(url, token, options = {}) {
  return new WebClient(token, {
    slackApiUrl: apiUrl(url),
    logLevel: LogLevel.ERROR,
    logger: QUIET,
    ...options,
  });
}

/** Refusals are what the checks look at; nobody needs to read of them. */
const QUIET = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  setLevel() {},
  getLevel: () => LogLevel.ERROR,
  setName() {},
};

/** Fails unless the call is refused with a code, as the SDK's own exception. */
export async function refuses(code, promise) {
  try {
    await promise;
  } catch (error) {
    ensureEqual(error.code, 'slack_webapi_platform_error', `how ${code} arrives`);
    ensureEqual(error.data.error, code, 'the code of a refusal');
    return;
  }
  throw new CheckFailed(`was not refused with ${code}`);
}

/** An app's connection that notes the envelopes it is given, and acknowledges them unless it is told not to. */
export class Listener {
  static #all = [];

  static endAll() {
    return Promise.all(Listener.#all.map((listener) => listener.end()));
  }

  static async open(url, patience, options = {}) {
    const listener = new Listener(url, patience, options);
    Listener.#all.push(listener);
    await listener.client.start();
    return listener;
  }

  constructor(url, patience, { acknowledges = () => true } = {}) {
    this.patience = patience;
    /** The body of each envelope, with its id and what the SDK says of repetitions. */
    this.heard = [];
    this.hellos = 0;
    this.client = new SocketModeClient({
      appToken: APP_TOKEN,
      // Comes back at once: the SDK waits for so long times the number of attempts.
      clientPingTimeout: 1000,
      clientOptions: { slackApiUrl: apiUrl(url), logger: QUIET },
      logger: QUIET,
    });
    this.client.on('connected', () => {
      this.hellos += 1;
    });
    this.client.on('slack_event', async ({ ack, envelope_id, body, retry_num, retry_reason }) => {
      const heard = { envelope_id, ...body, retry_num, retry_reason };
      this.heard.push(heard);
      if (acknowledges(heard)) {
        await ack();
      }
    });
  }

  /** The messages that came, by their texts; what came twice counts once. */
  texts() {
    const messages = new Map();
    for (const { event_id, event } of this.heard) {
      if (event.type === 'message' && !messages.has(event_id)) {
        messages.set(event_id, event.text);
      }
    }
    return [...messages.values()];
  }

  /** Waits for an envelope. */
  hears(what, matches) {
    const describe = () => JSON.stringify(this.heard.map(({ event }) => event.text ?? event.type));
    return until(this.patience, what, () => this.heard.find(matches), describe);
  }

  /** Waits for a message with a text. */
  hearsText(text) {
    return this.hears(`the message ${text}`, ({ event }) => event.type === 'message' && event.text === text);
  }

  async end() {
    this.client.autoReconnectEnabled = false;
    await this.client.disconnect().catch(() => {});
  }
}
