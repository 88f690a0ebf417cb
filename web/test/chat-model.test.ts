import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { eventOf, type MessageEvent } from '../src/chat/model/event.js';
import { itemsOf } from '../src/chat/model/items.js';
import { messageOf, type Message } from '../src/chat/model/message.js';
import { Outbox, type Shelf } from '../src/chat/model/outbox.js';
import { Unread } from '../src/chat/model/unread.js';
import { NEVER, tsAt } from '../src/chat/model/ts.js';
import { randomOf } from './chat-history.js';

const ts = (number: number): string => `1700000000.${String(number).padStart(6, '0')}`;

function posted(number: number, user: string, text = 'x', more: object = {}): MessageEvent {
  return eventOf({ type: 'message', ts: ts(number), event_ts: ts(number), user, text, ...more }) as MessageEvent;
}

function deleted(at: number, number: number): MessageEvent {
  const previous_message = { ts: ts(number), user: 'U2', text: 'x' };
  return eventOf({ type: 'message', subtype: 'message_deleted', event_ts: ts(at), deleted_ts: ts(number), previous_message }) as MessageEvent;
}

describe('unread', () => {
  it('counts what others say, each once, and who is called', () => {
    const unread = new Unread();
    unread.load(ts(3), ts(5), 2, 1);
    for (const event of [
      posted(5, 'U2'), // was counted by the server
      posted(6, 'U2'),
      posted(6, 'U2'), // told twice
      posted(7, 'U1'), // one's own
      posted(8, 'U2', 'hi <@U1>'),
      posted(9, 'U2', '', { subtype: 'channel_join' }),
      posted(10, 'U2', 'x', { thread_ts: ts(6) }),
      posted(10, 'U2', 'a reply to <@U1>', { thread_ts: ts(6) }),
      posted(11, 'U2', '<!here>', { thread_ts: ts(6), subtype: 'thread_broadcast' }),
    ]) {
      unread.apply(event, 'U1', false);
    }
    assert.deepEqual([unread.count, unread.mentions], [5, 4]);
    unread.apply(deleted(12, 8), 'U1', false);
    assert.deepEqual([unread.count, unread.mentions], [4, 3]);
  });

  it('moves its mark forward only', () => {
    const unread = new Unread();
    unread.load(NEVER, ts(2), 2, 0);
    unread.apply(posted(3, 'U2'), 'U1', true);
    unread.apply(posted(4, 'U2'), 'U1', true);
    assert.equal(unread.mark(ts(3)), true);
    assert.deepEqual([unread.count, unread.mentions], [1, 1]);
    assert.equal(unread.mark(ts(2)), false);
    assert.equal(unread.lastRead, ts(3));
    unread.marked(ts(1), 4, 0);
    assert.equal(unread.count, 1);
    // An answer that was read before the mark was set does not bring anything back.
    unread.mark(ts(4));
    unread.load(ts(2), ts(4), 2, 2);
    assert.deepEqual([unread.count, unread.lastRead], [0, ts(4)]);
  });

  it('takes over what another device has read', () => {
    const unread = new Unread();
    unread.load(ts(1), ts(9), 8, 2);
    unread.marked(ts(5), 4, 1);
    assert.deepEqual([unread.count, unread.mentions], [4, 1]);
    unread.marked(ts(9), 0, 0);
    assert.equal(unread.count, 0);
  });
});

class Memory implements Shelf {
  text = '';
  read(): string {
    return this.text;
  }
  write(text: string): void {
    this.text = text;
  }
}

const draft = (id: string, channel = 'C1', at = Number(id)) => ({ id, channel, threadTs: null, broadcast: false, text: `text ${id}`, at });

describe('the outbox', () => {
  it('sends one after the other in each conversation, and survives the page', () => {
    const shelf = new Memory();
    const outbox = new Outbox(shelf);
    outbox.add(draft('1'));
    outbox.add(draft('2'));
    outbox.add(draft('3', 'C2'));
    assert.equal(outbox.next('C1')?.id, '1');
    outbox.set('1', 'sending');
    assert.equal(outbox.next('C1'), null);
    assert.equal(outbox.next('C2')?.id, '3');
    // The page ends in the middle: nobody knows whether the first was taken, so it is sent again, with its key.
    const next = new Outbox(shelf);
    assert.deepEqual(next.all.map(({ id, state }) => [id, state]), [['1', 'waiting'], ['2', 'waiting'], ['3', 'waiting']]);
    next.remove('1');
    assert.equal(next.next('C1')?.id, '2');
  });

  it('keeps what was refused, and lets the others by', () => {
    const outbox = new Outbox(new Memory());
    outbox.add(draft('1'));
    outbox.add(draft('2'));
    outbox.set('1', 'refused', 'msg_too_long');
    assert.equal(outbox.next('C1')?.id, '2');
    outbox.set('1', 'waiting');
    assert.equal(outbox.next('C1')?.id, '1');
    assert.deepEqual(outbox.channels(), ['C1']);
  });

  it('shares its shelf with other pages of the user', () => {
    const shelf = new Memory();
    const [here, there] = [new Outbox(shelf), new Outbox(shelf)];
    here.add(draft('1'));
    there.add(draft('2'));
    here.remove('1');
    assert.deepEqual(new Outbox(shelf).all.map(({ id }) => id), ['2']);
    shelf.text = '{"broken';
    assert.deepEqual(new Outbox(shelf).all, []);
  });

  it('loses nothing, repeats nothing and keeps the order over a network that fails', () => {
    for (let seed = 1; seed <= 100; seed += 1) {
      const random = randomOf(seed);
      const shelf = new Memory();
      let outbox = new Outbox(shelf);
      const log: string[] = [];
      let written = 0;
      for (let step = 0; step < 400 && (written < 20 || outbox.all.length > 0); step += 1) {
        if (written < 20 && random(3) === 0) {
          written += 1;
          outbox.add(draft(String(written)));
        }
        const next = outbox.next('C1');
        if (next !== null) {
          outbox.set(next.id, 'sending');
          const [arrives, answered] = [random(3) > 0, random(3) > 0];
          if (arrives && !log.includes(next.id)) {
            log.push(next.id);
          }
          arrives && answered ? outbox.remove(next.id) : outbox.set(next.id, 'waiting');
        }
        if (random(20) === 0) {
          outbox = new Outbox(shelf);
        }
      }
      assert.deepEqual(log, Array.from({ length: 20 }, (_, index) => String(index + 1)), `seed ${seed}`);
    }
  });
});

describe('what a list is made of', () => {
  const noon = new Date(2026, 2, 3, 12).getTime();
  const said = (minutes: number, user: string, more: object = {}): Message =>
    messageOf({ ts: tsAt(noon + minutes * 60_000), user, text: 'x', ...more }) as Message;
  const order = { pending: [], self: 'U1', newAfter: null, thread: null };

  it('names who goes on only once, and each day', () => {
    const messages = [said(0, 'U2'), said(1, 'U2'), said(2, 'U1'), said(30, 'U1'), said(24 * 60, 'U1')];
    const items = itemsOf({ ...order, messages });
    const kinds = items.map((item) => (item.kind === 'message' ? (item.head ? 'head' : 'more') : item.kind));
    assert.deepEqual(kinds, ['day', 'head', 'more', 'head', 'head', 'day', 'head']);
    assert.equal(new Set(items.map(({ key }) => key)).size, items.length);
  });

  it('draws the line above the first message that is new and not one’s own', () => {
    const messages = [said(0, 'U2'), said(1, 'U1'), said(2, 'U2'), said(3, 'U2')];
    const items = itemsOf({ ...order, messages, newAfter: messages[0]?.ts ?? null });
    assert.deepEqual(items.map(({ kind }) => kind), ['day', 'message', 'message', 'new', 'message', 'message']);
  });
});
