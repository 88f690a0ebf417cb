import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Counts } from '../src/mail/model/counts.js';
import { ALL, belongs, INBOX, STARRED, UNREAD } from '../src/mail/model/labels.js';
import { Mailbox, ROWS_KEPT, ROWS_MAX } from '../src/mail/model/mailbox.js';
import type { MailEvent, Message } from '../src/mail/model/protocol.js';

function message(id: string, version: number, labels = [INBOX, UNREAD], date = Number.parseInt(id, 36)): Message {
  return { id, threadId: id, from: 'a@b.c', subject: id, snippet: '', labels, date, version: String(version) };
}

function came(id: string, version: number, labels?: string[], date?: number): MailEvent {
  return { type: 'new_email', message: message(id, version, labels, date) };
}

function update(id: string, version: number, labels: string[], added: string[], removed: string[]): MailEvent {
  return { type: 'email_update', message: message(id, version, labels), added, removed };
}

const ids = (mailbox: Mailbox, view = INBOX): string => mailbox.list(view).map(({ id }) => id).join(' ');

describe('a mailbox', () => {
  it('takes events in, and knows what each came to', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('b', 9), message('a', 10)], null);
    assert.equal(mailbox.apply(came('c', 11))?.kind, 'new');
    assert.equal(mailbox.apply(update('b', 12, [INBOX], [], [UNREAD]))?.kind, 'changed');
    assert.equal(mailbox.apply({ type: 'email_delete', id: 'a', version: '13' })?.kind, 'deleted');
    assert.equal(mailbox.apply({ type: 'sync_complete', historyId: '13' }), null);
    assert.equal(ids(mailbox), 'c b');
    assert.equal(ids(mailbox, UNREAD), 'c');
  });

  it('is not changed by what it knows already, in whatever order it comes', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('b', 100, [INBOX])], null);
    // The list was read after this had happened; a text comparison would take 99 for later.
    for (const event of [came('b', 99), update('b', 100, [INBOX, UNREAD], [UNREAD], [])]) {
      assert.equal(mailbox.apply(event)?.kind, 'old');
    }
    assert.equal(ids(mailbox, UNREAD), '');
    assert.equal(mailbox.apply({ type: 'email_delete', id: 'b', version: '98' })?.kind, 'old');
    assert.equal(ids(mailbox), 'b');
  });

  it('does not bring back what was deleted while a list was on its way', () => {
    const mailbox = new Mailbox();
    mailbox.apply({ type: 'email_delete', id: 'a', version: '20' });
    mailbox.load(INBOX, [message('b', 9), message('a', 10)], null);
    assert.equal(ids(mailbox), 'b');
    assert.equal(mailbox.apply({ type: 'email_delete', id: 'a', version: '20' })?.kind, 'old');
  });

  it('moves messages between lists by their labels', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('a', 1)], null);
    mailbox.apply(update('a', 2, [UNREAD, 'Label_1'], ['Label_1'], [INBOX]));
    assert.deepEqual([ids(mailbox), ids(mailbox, 'Label_1'), ids(mailbox, ALL)], ['', 'a', 'a']);
    mailbox.apply(update('a', 3, ['TRASH', 'STARRED'], ['TRASH'], []));
    assert.deepEqual([ids(mailbox, ALL), ids(mailbox, STARRED)], ['', '']);
  });

  it('shows no message beyond the end of what is loaded, as others may be missing between', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('z', 1), message('y', 2)], 'there');
    mailbox.apply(update('m', 3, [INBOX], [], [UNREAD]));
    assert.equal(ids(mailbox), 'z y');
    mailbox.load(INBOX, [message('p', 4), message('m', 1)], null);
    assert.equal(ids(mailbox), 'z y p m');
    assert.equal(mailbox.get('m')?.version, '3');
    assert.equal(mailbox.end(INBOX)?.next, null);
  });

  it('has a bound, and then asks for the older ones again', () => {
    const mailbox = new Mailbox();
    mailbox.load(INBOX, [message('first', 1, [INBOX], 10)], 'there');
    for (let number = 0; number < ROWS_MAX; number += 1) {
      mailbox.apply(came(`n${number}`, number + 2, [INBOX], 1_000 + number));
    }
    assert.equal(mailbox.size, ROWS_KEPT);
    assert.equal(mailbox.end(INBOX), undefined);
    assert.equal(mailbox.list(INBOX)[0]?.id, `n${ROWS_MAX - 1}`);
  });

  it('comes to the same however lists and events are interleaved, doubled and cut', () => {
    for (let seed = 1; seed <= 300; seed += 1) {
      interleaved(seed);
    }
  });
});

/** A mailbox on the server, its events, a list read at a random place and a stream that is resumed from before it. */
function interleaved(seed: number): void {
  let state = seed;
  const below = (limit: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * limit);
  };
  const server = new Map<string, Message>();
  const events: MailEvent[] = [];
  const history: Message[][] = [[]];
  for (let version = 1; version <= 60; version += 1) {
    const known = [...server.keys()];
    const id = known[below(known.length)] ?? '';
    const kind = known.length === 0 ? 0 : below(4);
    const old = server.get(id);
    if (kind === 0 || old === undefined) {
      const fresh = message(`m${version}`, version, [INBOX, UNREAD], 1_000 + version);
      server.set(fresh.id, fresh);
      events.push({ type: 'new_email', message: fresh });
    } else if (kind === 3) {
      server.delete(id);
      events.push({ type: 'email_delete', id, version: String(version) });
    } else {
      const label = [UNREAD, STARRED, INBOX][below(3)] ?? UNREAD;
      const had = old.labels.includes(label);
      const labels = had ? old.labels.filter((other) => other !== label) : [...old.labels, label];
      const next = { ...old, labels, version: String(version) };
      server.set(id, next);
      events.push({ type: 'email_update', message: next, added: had ? [] : [label], removed: had ? [label] : [] });
    }
    history.push([...server.values()]);
  }
  const mailbox = new Mailbox();
  const counts = new Counts();
  // The position is read first, the rows later: what is between comes twice.
  const position = below(30);
  const readAt = position + below(20);
  const rows = (history[readAt] ?? []).filter(({ labels }) => belongs(INBOX, labels));
  mailbox.load(INBOX, rows.sort((one, other) => other.date - one.date), null);
  counts.set(INBOX, { total: rows.length, unread: rows.filter(({ labels }) => labels.includes(UNREAD)).length });
  let at = position;
  while (at < events.length) {
    const until = Math.min(events.length, at + 1 + below(10));
    for (const event of events.slice(at, until)) {
      counts.adjust(mailbox.apply(event) ?? { kind: 'old', id: '', before: null, after: null });
    }
    // Cut, and resumed from a little before.
    at = below(3) === 0 ? Math.max(position, until - below(6)) : until;
    if (at < until && below(4) === 0) {
      at = until;
    }
  }
  const inbox = [...server.values()].filter(({ labels }) => belongs(INBOX, labels));
  const expected = inbox.sort((one, other) => other.date - one.date);
  assert.deepEqual(mailbox.list(INBOX), expected, `seed ${seed}`);
}

describe('counts', () => {
  it('follow events between the counts of the server', () => {
    const mailbox = new Mailbox();
    const counts = new Counts();
    mailbox.load(INBOX, [message('b', 1), message('a', 2, [INBOX])], 'there');
    counts.set(INBOX, { unread: 11, total: 40 });
    counts.set(UNREAD, { unread: 11, total: 11 });
    const steps: [MailEvent, number, number][] = [
      [came('c', 3), 12, 41],
      [came('c', 3), 12, 41],
      [update('b', 4, [INBOX], [], [UNREAD]), 11, 41],
      [update('a', 5, [INBOX, STARRED], [STARRED], []), 11, 41],
      // Not loaded, but its changes say what it was.
      [update('9', 6, [INBOX], [], [UNREAD]), 10, 41],
      [update('8', 7, [UNREAD], [], [INBOX]), 9, 40],
      [{ type: 'email_delete', id: 'c', version: '8' }, 8, 39],
      // Never seen: nobody knows what it was. The server will count.
      [{ type: 'email_delete', id: 'x', version: '9' }, 8, 39],
    ];
    for (const [event, unread, total] of steps) {
      const applied = mailbox.apply(event);
      assert.ok(applied);
      counts.adjust(applied);
      assert.deepEqual(counts.get(INBOX), { unread, total }, JSON.stringify(event));
    }
    assert.deepEqual(counts.get(UNREAD), { unread: 9, total: 9 });
  });
});
