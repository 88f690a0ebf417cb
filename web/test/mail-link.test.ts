import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Backoff } from '../src/mail/model/backoff.js';
import { linkText, nextLink, OFFLINE_AFTER_MS, type Link, type LinkInput } from '../src/mail/model/link.js';

function after(...inputs: LinkInput[]): Link {
  return inputs.reduce(nextLink, { state: 'starting' } as Link);
}

describe('the state of the connection', () => {
  it('is live once the stream begins, and reconnecting from the moment it is lost', () => {
    assert.deepEqual(after({ type: 'ready', at: 5 }), { state: 'live', since: 5 });
    const lost = after({ type: 'ready', at: 5 }, { type: 'lost', at: 9 }, { type: 'lost', at: 11 });
    assert.deepEqual(lost, { state: 'reconnecting', since: 9 });
    assert.deepEqual(nextLink(lost, { type: 'ready', at: 12 }), { state: 'live', since: 12 });
    assert.equal(linkText(lost, 'live', 4_009), 'Reconnecting · 4 s');
  });

  it('is offline after a while, since the loss and not since then', () => {
    const lost = after({ type: 'ready', at: 0 }, { type: 'lost', at: 100 });
    assert.equal(nextLink(lost, { type: 'tick', at: 99 + OFFLINE_AFTER_MS }), lost);
    const offline = nextLink(lost, { type: 'tick', at: 100 + OFFLINE_AFTER_MS });
    assert.deepEqual(offline, { state: 'offline', since: 100, nextAt: null });
    const waiting = nextLink(offline, { type: 'waiting', at: 20_000, nextAt: 25_000 });
    assert.deepEqual(waiting, { state: 'offline', since: 100, nextAt: 25_000 });
    assert.equal(nextLink(waiting, { type: 'lost', at: 30_000 }), waiting);
  });

  it('is offline at once when there is no network', () => {
    const state = after({ type: 'ready', at: 0 }, { type: 'no-network', at: 7 });
    assert.deepEqual(state, { state: 'offline', since: 7, nextAt: null });
  });

  it('stays signed out, or paused, until somebody begins again', () => {
    for (const type of ['signed-out', 'too-many'] as const) {
      const ended = after({ type: 'ready', at: 0 }, { type });
      assert.deepEqual(ended, { state: type });
      const inputs: LinkInput[] = [
        { type: 'lost', at: 1 },
        { type: 'ready', at: 2 },
        { type: 'no-network', at: 3 },
        { type: 'tick', at: 1e9 },
      ];
      assert.equal(inputs.reduce(nextLink, ended), ended);
      assert.deepEqual(nextLink(ended, { type: 'start' }), { state: 'starting' });
    }
  });

  it('says what is wrong with Gmail where the connection is well', () => {
    const live: Link = { state: 'live', since: 0 };
    assert.equal(linkText(live, 'reconnect', 0), 'Gmail disconnected');
    assert.equal(linkText(live, 'live', 0), 'Live');
  });
});

describe('the pauses between attempts', () => {
  it('double up to half a minute, and are never the same for all', () => {
    const longest = new Backoff(() => 0.999_999);
    const shortest = new Backoff(() => 0);
    const pauses = [1, 2, 4, 8, 16, 30, 30].map((seconds) => seconds * 1_000);
    for (const pause of pauses) {
      assert.equal(longest.next(), pause);
      assert.equal(shortest.next(), pause / 2);
    }
    longest.reset();
    assert.equal(longest.next(), 1_000);
  });
});
