import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { badgeText, faviconHref, titleText } from '../src/mail/model/badge.js';
import { isUserLabel } from '../src/mail/model/labels.js';
import { compareVersions, parseEnvelope, parseMe, parsePage } from '../src/mail/model/protocol.js';
import { agoText, colourOf, dayText, initialsOf, senderOf, shortTime } from '../src/mail/model/text.js';

describe('what the server says', () => {
  const message = { id: 'm', threadId: 't', from: 'f', subject: 's', snippet: 'p', labels: ['INBOX'], date: 5, version: '77' };

  it('is read into events', () => {
    const timestamp = '2026-11-21T16:45:54.123Z';
    const read = (type: string, data: unknown) => parseEnvelope({ type, data, timestamp })?.event;
    assert.deepEqual(read('new_email', message), { type: 'new_email', message });
    const update = { ...message, changes: { added: ['STARRED'], removed: [] } };
    assert.deepEqual(read('email_update', update), { type: 'email_update', message, added: ['STARRED'], removed: [] });
    assert.deepEqual(read('email_delete', { id: 'm', version: 78 }), { type: 'email_delete', id: 'm', version: '78' });
    assert.deepEqual(read('sync_complete', { historyId: '78' }), { type: 'sync_complete', historyId: '78' });
    assert.equal(parseEnvelope({ type: 'sync_complete', data: {}, timestamp })?.timestamp, Date.parse(timestamp));
  });

  it('is passed over where it makes no sense', () => {
    for (const bad of [null, 7, 'x', {}, { type: 'new_email' }, { type: 'new_email', data: { id: 'm' } }, { type: 'later', data: {} }]) {
      assert.equal(parseEnvelope(bad), null, JSON.stringify(bad));
    }
    const page = parsePage({ messages: [message, { id: '' }, null, { ...message, version: '-1' }], unread: 'x', next: '' });
    assert.deepEqual([page.messages.length, page.unread, page.next, page.labels], [1, 0, null, null]);
    assert.equal(parseMe({ dev: 'yes' }).dev, false);
  });

  it('has versions that are too large for numbers', () => {
    assert.ok(compareVersions('9', '10') < 0);
    assert.ok(compareVersions('18446744073709551615', '18446744073709551614') > 0);
    assert.equal(compareVersions('5', '5'), 0);
  });
});

describe('unread messages', () => {
  it('are told in the title and in the icon', () => {
    assert.equal(titleText(0, 'Inbox', true), 'Inbox · Fanfare mail');
    assert.equal(titleText(3, 'Starred', true), '(3) Starred · Fanfare mail');
    assert.equal(titleText(120, 'Inbox', false), '⚠ (99+) Inbox · Fanfare mail');
    assert.equal(badgeText(99), '99');
    const icon = (unread: number): string => decodeURIComponent(faviconHref(unread, true));
    assert.match(icon(7), />7<\/text>/);
    assert.match(icon(100), />99\+<\/text>/);
    assert.doesNotMatch(icon(0), /<text/);
    assert.match(icon(0), /^data:image\/svg\+xml,<svg/);
  });
});

describe('the words of the mail page', () => {
  it('take a sender apart', () => {
    const cases: [string, string, string][] = [
      ['Ann <ann@example.com>', 'Ann', 'ann@example.com'],
      ['"Lovelace, \\"Ada\\"" <ada@example.org>', 'Lovelace, "Ada"', 'ada@example.org'],
      ['<only@example.org>', 'only', 'only@example.org'],
      ['bare@example.org', 'bare', 'bare@example.org'],
      ['', 'unknown sender', ''],
      ['<>', 'unknown sender', ''],
      ['a < b', 'a < b', 'a < b'],
    ];
    for (const [from, name, address] of cases) {
      assert.deepEqual(senderOf(from), { name, address }, from);
    }
  });

  it('give a name letters and a colour', () => {
    assert.deepEqual(['Mara Lindqvist', 'noreply', 'Track & Parcel', '', 'ßeta', '𝒳 Y'].map(initialsOf), ['ML', 'N', 'TP', '?', 'SS', '𝒳Y']);
    assert.equal(colourOf('Ann@example.com'), colourOf('ann@example.com'));
    assert.ok(colourOf('x') >= 0 && colourOf('x') < 8);
  });

  it('name days as a reader counts them', () => {
    const now = new Date(2026, 10, 21, 0, 30).getTime();
    const at = (...date: [number, number, number, number?]): number => new Date(...date).getTime();
    const days: [number, string][] = [
      [at(2026, 10, 21, 0), 'Today'],
      [at(2026, 10, 22), 'Today'],
      [at(2026, 10, 20, 23), 'Yesterday'],
      [at(2026, 10, 16), 'Monday'],
      [at(2026, 10, 10), 'Last week'],
      [at(2026, 9, 3), 'October'],
      [at(2025, 10, 21), 'November 2025'],
    ];
    for (const [date, text] of days) {
      assert.equal(dayText(date, now), text);
    }
    assert.equal(shortTime(at(2026, 10, 20), now), 'Nov 20');
    assert.equal(shortTime(at(2025, 10, 20), now), 'Nov 20, 2025');
    assert.match(shortTime(at(2026, 10, 21, 0), now), /00/);
  });

  it('say how long ago something was', () => {
    const minute = 60_000;
    const texts = [0, 44_000, minute, 59 * minute, 60 * minute, 5 * 60 * minute].map((ago) => agoText(1e12 - ago, 1e12));
    assert.deepEqual(texts, ['just now', 'just now', '1 min ago', '59 min ago', '1 h ago', '5 h ago']);
  });

  it('know the labels of the user from those of Gmail', () => {
    const own = ['INBOX', 'CATEGORY_UPDATES', 'YELLOW_STAR', 'IMPORTANT', 'Label_7', 'SENT'].filter(isUserLabel);
    assert.deepEqual(own, ['Label_7']);
  });
});
