/** The server API as the checks use it: `POST /api/…` with or without a key. */

import { randomUUID } from 'node:crypto';

import { CheckFailed, ensureEqual } from './check.mjs';

/** How many publishes of a burst are under way at once. */
const AT_ONCE = 16;

/** Calls one server. */
export class Api {
  /** `key` may be missing for a server in development mode. */
  constructor(url, key) {
    this.url = url;
    this.key = key;
  }

  /** The result of a method; anything but a result fails the check. */
  async call(method, body) {
    const headers = { 'content-type': 'application/json' };
    if (this.key) {
      headers['x-api-key'] = this.key;
    }
    const response = await fetch(`${this.url}/api/${method}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    });
    const text = await response.text();
    let answer = null;
    try {
      answer = JSON.parse(text);
    } catch {
      // Said below, with the status.
    }
    if (!response.ok || !answer?.result) {
      throw new CheckFailed(`POST /api/${method}: ${response.status} ${text.slice(0, 300)}`);
    }
    return answer.result;
  }

  /** Publishes one message: `{offset, epoch}`. */
  publish(channel, data) {
    return this.call('publish', { channel, data, idempotency_key: randomUUID() });
  }

  /** Publishes one after the other, so that the order of the data is the order of the offsets. */
  async publishInOrder(channel, items) {
    const offsets = [];
    for (const data of items) {
      offsets.push((await this.publish(channel, data)).offset);
    }
    return offsets;
  }

  /** Publishes `count` messages, several at once; gives the last position. */
  async publishMany(channel, count, dataOf) {
    const results = [];
    let next = 0;
    const worker = async () => {
      while (next < count) {
        const index = next;
        next += 1;
        results.push(await this.publish(channel, dataOf(index)));
      }
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, worker));
    ensureEqual(results.length, count, 'publishes acknowledged');
    return results.reduce((last, result) => (result.offset > last.offset ? result : last));
  }

  /** The last position of a channel: `{offset, epoch}`. */
  async head(channel) {
    const { offset, epoch } = await this.call('history', { channel, limit: 1, reverse: true });
    return { offset: offset ?? 0, epoch };
  }
}

/** A channel that no earlier run has used. */
export function freshChannel(label) {
  return `demo:${label}-${randomUUID().slice(0, 8)}`;
}
