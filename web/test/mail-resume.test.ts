import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Away, missedBetween, missedBoth, missedOne, missedText, Tail } from '../src/mail/model/away.js';
import { INBOX, UNREAD } from '../src/mail/model/labels.js';
import { Mailbox, type Applied } from '../src/mail/model/mailbox.js';
import { Comparison, contentOf, LATE_MS, WAITING_MAX } from '../src/mail/model/parity.js';
import { idOf, isBehind, parseId } from '../src/mail/model/position.js';
import type { MailEvent, Message } from '../src/mail/model/protocol.js';
import { KEPT_MAX, read, take, write } from '../src/mail/model/snapshot.js';

function message(id: string, version: number, date: number): Message {
  return { id, threadId: id, from: '', subject: '', snippet: '', labels: [INBOX, UNREAD], date, version: String(version) };
}

function applied(id: string, kind: Applied['kind'], known = true): Applied {
  return { id, kind, before: kind === 'new' ? null : known ? [INBOX] : undefined, after: kind === 'deleted' ? null : [INBOX] };
}

describe('a position', () => {
  it('is read from the id of an event, and written as one', () => {
    const position = { epoch: '1a2B', which: '9f', seq: 1_042 };
    assert.deepEqual(parseId('1a2B-9f-1042'), position);
    assert.equal(idOf(position), '1a2B-9f-1042');
    for (const bad of ['', '1042', 'a-b', 'a-xyz-1', 'a-b-1.2', 'a-b-', 'a-b-c-1']) {
      assert.equal(parseId(bad), null, bad);
    }
  });

  it('is compared within its epoch only', () => {
    const at = { epoch: 'a', which: '', seq: 5 };
    assert.deepEqual([isBehind(at, 'a', 5), isBehind(at, 'a', 6), isBehind(at, 'b', 1), isBehind(null, 'a', 1)], [true, false, false, false]);
  });
});

describe('what was missed', () => {
  it('is told once all up to the head is here, whichever is known first', () => {
    const away = new Away(0);
    away.note(8, applied('a', 'new'));
    assert.equal(away.complete, false);
    away.learnHead(9, 7);
    assert.equal(away.complete, false);
    away.note(9, null);
    assert.equal(away.complete, true);
    // That came live, while the rest was still under way.
    away.note(10, applied('z', 'new'));
    assert.deepEqual([...away.missed().marks], [['a', 'new']]);
  });

  it('is nothing if the head is where the stream goes on', () => {
    const away = new Away(0);
    away.learnHead(7, 7);
    assert.equal(away.complete, true);
    assert.equal(missedText(away.missed()), '');
  });

  it('counts each message once, by what became of it', () => {
    const away = new Away(0);
    const steps: [string, Applied['kind'], boolean?][] = [
      ['new', 'new'],
      ['new', 'changed'],
      ['gone', 'new'],
      ['gone', 'deleted'],
      ['read', 'changed'],
      ['read', 'changed'],
      ['out', 'changed'],
      ['out', 'deleted'],
      ['never seen', 'deleted', false],
      ['known', 'old'],
    ];
    steps.forEach(([id, kind, known], index) => away.note(index + 1, applied(id, kind, known)));
    const missed = away.missed();
    assert.deepEqual(Object.fromEntries(missed.marks), { new: 'new', read: 'changed', out: 'deleted' });
    assert.equal(missedText(missed), '1 new, 1 changed, 1 deleted');
  });

  it('goes on with what the server itself hears only after the return, for a while', () => {
    const tail = new Tail(1_000);
    const came = (date: number): MailEvent => ({ type: 'new_email', message: message('a', 1, date) });
    const gone: MailEvent = { type: 'email_delete', id: 'b', version: '2' };
    const complete: MailEvent = { type: 'sync_complete', historyId: '3' };
    const steps: [MailEvent, number, boolean][] = [
      [gone, 1_100, false],
      [came(999), 1_200, true],
      [gone, 1_300, true],
      [complete, 1_400, false],
      [gone, 1_500, false],
      [came(1_001), 1_600, false],
      [came(900), 31_001, false],
    ];
    for (const [event, now, missed] of steps) {
      assert.equal(tail.takes(event, now), missed, `${event.type} at ${now}`);
    }
    const both = missedBoth(missedOne(applied('a', 'new')), missedOne(applied('a', 'changed')));
    assert.equal(missedText(both), '1 new');
    assert.equal(missedText(missedBoth(both, missedOne(applied('a', 'deleted')))), '');
  });

  it('is found by comparing lists where a stream cannot be resumed', () => {
    const before = [message('d', 4, 40), message('c', 3, 30), message('b', 2, 20)];
    const now = [message('e', 9, 50), message('d', 4, 40), message('c', 8, 30), message('a', 1, 10)];
    const missed = missedBetween(before, now);
    // b is gone; a was below what had been loaded.
    assert.deepEqual(Object.fromEntries(missed.marks), { e: 'new', c: 'changed', b: 'deleted' });
    assert.deepEqual(missedBetween([], now).new, 4);
  });
});

describe('what a browser keeps', () => {
  const rest = { user: 'g1', email: 'a@b.c', at: 5, position: { epoch: 'e', which: '1', seq: 7 }, unread: 3, total: 9, labels: [] };

  it('comes back as it was, with the end of the list', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('b', 2, 20)], 'there');
    mailbox.load(INBOX, [message('a', 1, 10)], null);
    const snapshot = take(mailbox, rest);
    assert.ok(snapshot);
    const back = read(write(snapshot));
    assert.deepEqual(back && { ...back, format: undefined }, { ...snapshot, format: undefined });
    const other = new Mailbox();
    other.restore(INBOX, back?.messages ?? [], back?.parts ?? []);
    assert.deepEqual(other.list(INBOX), mailbox.list(INBOX));
    assert.deepEqual(other.end(INBOX), { floor: -Infinity, next: null });
  });

  it('is whole parts of the list, no more than fit', () => {
    const mailbox = new Mailbox();
    const size = 150;
    for (let part = 0; part < 4; part += 1) {
      const rows = Array.from({ length: size }, (_, index) => message(`${part}-${index}`, 1, 10_000 - part * size - index));
      mailbox.load(INBOX, rows, `after ${part}`);
    }
    const snapshot = take(mailbox, rest);
    assert.equal(snapshot?.messages.length, 300);
    assert.equal(snapshot?.parts.at(-1)?.next, 'after 1');
    assert.ok((snapshot?.messages.length ?? 0) <= KEPT_MAX);
  });

  it('is nothing before the inbox is loaded, and nothing if it cannot be read', () => {
    assert.equal(take(new Mailbox(), rest), null);
    for (const bad of ['', '{', 'null', '{}', '{"format":0}', '{"format":1,"position":"x","messages":[],"parts":[],"labels":[]}']) {
      assert.equal(read(bad), null, bad);
    }
  });
});

describe('two transports side by side', () => {
  it('agree where both bring the same at the same positions', () => {
    const both = new Comparison();
    both.begin('sse', 'e', 10, 0);
    both.begin('websocket', 'e', 10, 0);
    both.bring('sse', 'e', 11, 'a', 0);
    both.bring('sse', 'e', 12, 'b', 0);
    assert.deepEqual(both.state, { sse: 12, websocket: 10, same: 0, different: 0, waiting: 2 });
    both.bring('websocket', 'e', 11, 'a', 0);
    both.bring('websocket', 'e', 12, 'b', 0);
    assert.deepEqual(both.state, { sse: 12, websocket: 12, same: 2, different: 0, waiting: 0 });
  });

  it('differ by content, by a hole, and by what never comes', () => {
    const both = new Comparison();
    both.begin('sse', 'e', 0, 0);
    both.begin('websocket', 'e', 0, 0);
    both.bring('sse', 'e', 1, 'a', 0);
    both.bring('websocket', 'e', 1, 'other', 0);
    assert.equal(both.state.different, 1);
    both.bring('sse', 'e', 2, 'b', 0);
    both.bring('sse', 'e', 3, 'c', 0);
    both.bring('websocket', 'e', 3, 'c', 0);
    assert.equal(both.state.different, 2);
    for (let seq = 4; seq < 4 + WAITING_MAX; seq += 1) {
      both.bring('sse', 'e', seq, 'x', 0);
    }
    assert.equal(both.state.different, 3);
  });

  it('are not blamed for what one brings again, or had before the other began', () => {
    const both = new Comparison();
    both.begin('sse', 'e', 5, 0);
    both.bring('sse', 'e', 6, 'a', 0);
    both.bring('sse', 'e', 7, 'b', 0);
    both.begin('websocket', 'e', 6, 0);
    both.bring('websocket', 'e', 7, 'b', 0);
    both.begin('sse', 'e', 6, 0);
    both.bring('sse', 'e', 7, 'b', 0);
    both.bring('sse', 'e', 8, 'c', 0);
    both.bring('websocket', 'e', 8, 'c', 0);
    assert.deepEqual(both.state, { sse: 8, websocket: 8, same: 2, different: 0, waiting: 0 });
  });

  it('are given time while one is away, and none when both are there', () => {
    const both = new Comparison();
    both.begin('sse', 'e', 0, 0);
    both.begin('websocket', 'e', 0, 0);
    both.bring('sse', 'e', 1, 'a', 0);
    both.bring('sse', 'e', 2, 'b', 0);
    both.expire(LATE_MS);
    assert.equal(both.state.waiting, 2);
    both.begin('websocket', 'e', 0, LATE_MS);
    both.bring('websocket', 'e', 1, 'a', LATE_MS + 1);
    both.expire(2 * LATE_MS);
    assert.deepEqual([both.state.same, both.state.different, both.state.waiting], [1, 0, 1]);
    both.expire(2 * LATE_MS + 1);
    assert.deepEqual([both.state.same, both.state.different, both.state.waiting], [1, 1, 0]);
  });

  it('begin anew in another epoch', () => {
    const both = new Comparison();
    both.begin('sse', 'e', 5, 0);
    both.bring('sse', 'e', 6, 'a', 0);
    both.begin('sse', 'f', 0, 0);
    both.begin('websocket', 'f', 0, 0);
    both.bring('websocket', 'f', 1, 'a', 0);
    both.bring('sse', 'f', 1, 'a', 0);
    assert.deepEqual(both.state, { sse: 1, websocket: 1, same: 1, different: 0, waiting: 0 });
  });

  it('are compared by content, not by the order of keys', () => {
    assert.equal(contentOf({ a: 1, b: { c: [2, 3], d: null } }), contentOf({ b: { d: null, c: [2, 3] }, a: 1 }));
    assert.notEqual(contentOf({ a: [1, 2] }), contentOf({ a: [2, 1] }));
  });
});
