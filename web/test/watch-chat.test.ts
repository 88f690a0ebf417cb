import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { ChatLog, MESSAGES_MAX } from '../src/watch/chat-log.js';
import type { ChatMessage } from '../src/watch/protocol.js';
import { dice } from './watch-simulated.js';

function message(index: number, change: Partial<ChatMessage> = {}): ChatMessage {
  return {
    id: `m${index}`,
    type: 'user',
    oderId: 'ada',
    username: 'Ada',
    content: `text ${index}`,
    timestamp: 1_000 * index,
    ...change,
  };
}

function ids(log: ChatLog): string[] {
  return log.lines.map(({ id }) => id);
}

describe('ChatLog', () => {
  it('shows what comes twice once', () => {
    const log = new ChatLog();
    assert.equal(log.take([message(1), message(2)], 'me'), 2);
    assert.equal(log.take([message(2), message(3)], 'me'), 1);
    assert.deepEqual(ids(log), ['m1', 'm2', 'm3']);
  });

  it('puts older pages before, and says where the next one ends', () => {
    const log = new ChatLog();
    log.take([message(5, { offset: 50 }), message(6, { offset: 60 })], 'me');
    log.take([message(3, { offset: 30 }), message(4, { offset: 40 })], 'me');
    assert.deepEqual(ids(log), ['m3', 'm4', 'm5', 'm6']);
    assert.deepEqual(log.oldest, { beforeOffset: 30 });
  });

  it('goes by the time where there is no offset', () => {
    const log = new ChatLog();
    assert.equal(log.oldest, null);
    log.take([message(7, { timestamp: '2026-05-04T10:00:00.000Z' })], 'me');
    assert.deepEqual(log.oldest, { before: Date.parse('2026-05-04T10:00:00.000Z') });
  });

  it('becomes the same whatever the order and however often it comes', () => {
    const random = dice(21);
    const all = Array.from({ length: 60 }, (_, index) => message(index, { offset: index }));
    for (let run = 0; run < 50; run += 1) {
      const log = new ChatLog();
      for (const one of [...all, ...all].sort(() => random() - 0.5)) {
        log.take([one], 'me');
      }
      assert.deepEqual(ids(log), all.map(({ id }) => id));
    }
  });

  it('turns a message on its way into the one that the server has named', () => {
    const log = new ChatLog();
    log.sending('k', 'me', 'Me', 'hello', 5_000);
    assert.equal(log.lines[0]?.sending, 'pending');
    log.sent('k', 'm9', 9);
    assert.deepEqual(ids(log), ['m9']);
    assert.equal(log.take([message(9, { oderId: 'me', content: 'hello' })], 'me'), 0);
    assert.equal(log.lastId, 'm9');
  });

  it('is not confused when the event comes before the answer', () => {
    const log = new ChatLog();
    log.sending('k', 'me', 'Me', 'hello', 5_000);
    assert.equal(log.take([message(9, { oderId: 'me', content: 'hello' })], 'me'), 0);
    log.sent('k', 'm9', 9);
    assert.deepEqual(ids(log), ['m9']);
    assert.equal(log.lines[0]?.sending, 'sent');
  });

  it('keeps two equal messages apart', () => {
    const log = new ChatLog();
    log.sending('a', 'me', 'Me', 'ha', 5_000);
    log.sending('b', 'me', 'Me', 'ha', 5_001);
    log.take([message(1, { oderId: 'me', content: 'ha' })], 'me');
    log.take([message(2, { oderId: 'me', content: 'ha' })], 'me');
    log.sent('b', 'm2', 2);
    log.sent('a', 'm1', 1);
    assert.deepEqual(ids(log), ['m1', 'm2']);
  });

  it('leaves the same words of somebody else alone', () => {
    const log = new ChatLog();
    log.sending('k', 'me', 'Me', 'ha', 5_000);
    assert.equal(log.take([message(1, { content: 'ha' })], 'me'), 1);
    assert.equal(log.lines.length, 2);
  });

  it('keeps what was not sent at the end, until it is withdrawn', () => {
    const log = new ChatLog();
    log.sending('k', 'me', 'Me', 'hello', 10);
    log.failed('k');
    log.take([message(5)], 'me');
    assert.deepEqual(ids(log), ['m5', 'key:k']);
    log.clear();
    assert.deepEqual(ids(log), ['key:k']);
    log.withdraw('k');
    assert.deepEqual(ids(log), []);
  });

  it('does not grow without end', () => {
    const log = new ChatLog();
    const many = Array.from({ length: MESSAGES_MAX + 20 }, (_, index) => message(index, { offset: index }));
    log.take(many, 'me');
    assert.equal(log.lines.length, MESSAGES_MAX);
    assert.equal(log.lines.at(-1)?.offset, MESSAGES_MAX + 19);
  });
});
