import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { around, Held, latest, withNewer, withOlder, type Arrival, type Range } from '../src/chat/model/held.js';
import { isReply } from '../src/chat/model/message.js';
import { randomOf, Server } from './chat-history.js';

const EVERYTHING = 1_000_000;

function conversation(): Held {
  return new Held((message) => !isReply(message));
}

function thread(root: string): Held {
  return new Held(({ ts, threadTs }) => ts === root || threadTs === root);
}

function deliver(held: Held, arrivals: Arrival[]): void {
  arrivals.forEach((arrival) => held.apply(arrival));
}

/** What is between the ends of a range, loaded afresh. */
function fresh(server: Server, { from, to }: Range): unknown {
  const { messages } = server.history(EVERYTHING, {});
  return messages.filter(({ ts }) => ts >= from && (to === null || ts <= to));
}

describe('a conversation that is resumed', () => {
  it('is as loaded afresh, from any cut, also where the first answer is ahead of its position', async () => {
    for (let seed = 1; seed <= 150; seed += 1) {
      const random = randomOf(seed);
      const server = new Server();
      const steps = 20 + random(60);
      for (let step = 0; step < steps; step += 1) {
        server.step(random);
      }
      const held = conversation();
      const part = server.history(5 + random(40), {}, random(12));
      await held.load(async () => part, latest);
      for (let step = random(40); step > 0; step -= 1) {
        server.step(random);
      }
      deliver(held, server.arrivals(part.position.offset));
      assert.ok(held.range);
      assert.deepEqual(held.range.messages, fresh(server, held.range), `seed ${seed}`);
    }
  });

  it('stays right while parts are asked for, come late, and are let go of', async () => {
    for (let seed = 1; seed <= 150; seed += 1) {
      const random = randomOf(seed);
      const server = new Server();
      for (let step = 0; step < 80; step += 1) {
        server.step(random);
      }
      const held = conversation();
      const first = server.history(10, {}, random(5));
      await held.load(async () => first, latest);
      let delivered = first.position.offset;
      const catchUp = (upTo: number): void => {
        deliver(held, server.arrivals(delivered, upTo));
        delivered = upTo;
      };
      for (let round = 0; round < 12; round += 1) {
        for (let step = random(4); step > 0; step -= 1) {
          server.step(random);
        }
        catchUp(delivered + random(server.offset - delivered + 1));
        let answer: () => void = () => undefined;
        const asked = load(held, server, random, (go) => (answer = go));
        // The answer was read; before it comes, more happens, and some of that is told.
        for (let step = random(5); step > 0; step -= 1) {
          server.step(random);
        }
        catchUp(delivered + random(server.offset - delivered + 1));
        answer();
        await asked;
        if (random(3) === 0) {
          held.trim(random(2) === 0 ? 'oldest' : 'newest', 8);
        }
      }
      catchUp(server.offset);
      assert.ok(held.range);
      assert.deepEqual(held.range.messages, fresh(server, held.range), `seed ${seed}`);
    }
  });

  it('has its threads right as well', async () => {
    for (let seed = 1; seed <= 80; seed += 1) {
      const random = randomOf(seed);
      const server = new Server();
      const root = server.post('U0', 'root');
      server.post('U1', 'first', root);
      for (let step = random(30); step > 0; step -= 1) {
        server.step(random);
      }
      const held = thread(root);
      const part = server.replies(root, random(10));
      await held.load(async () => part, latest);
      for (let step = 0; step < 40; step += 1) {
        random(3) === 0 ? server.post('U2', 'more', root) : server.step(random);
      }
      deliver(held, server.arrivals(part.position.offset));
      assert.deepEqual(held.range?.messages, server.replies(root).messages, `seed ${seed}`);
    }
  });

  it('takes no answer that was asked for before it was forgotten', async () => {
    const server = new Server();
    server.post('U0', 'one');
    const held = conversation();
    const late = held.load(async () => server.history(10, {}), latest);
    held.forget();
    assert.equal(await late, false);
    assert.equal(held.range, null);
  });
});

/** Asks for something at random; the answer is read now, and comes when `ready` is called. */
function load(held: Held, server: Server, random: (below: number) => number, pass: (ready: () => void) => void): Promise<boolean> {
  const wait = new Promise<void>((resolve) => pass(resolve));
  const behind = random(4);
  const later = async <T>(part: T): Promise<T> => {
    await wait;
    return part;
  };
  const { from, to, messages } = held.range ?? { from: '', to: null, messages: [] };
  const places = server.timestamps;
  const place = places[random(places.length)] ?? '';
  switch (random(4)) {
    case 0:
      return held.load(() => later(server.history(6, { latest: from }, behind)), withOlder);
    case 1:
      if (to !== null && messages.length > 0) {
        return held.load(() => later(server.history(6, { oldest: to, forward: true }, behind)), withNewer);
      }
      return held.load(() => later(server.history(8, {}, behind)), latest);
    case 2: {
      const before = server.history(4, { latest: place }, behind);
      const after = server.history(4, { oldest: before.messages.at(-1)?.ts ?? '', forward: true }, behind);
      return held.load(() => later({ before, after, position: before.position }), around);
    }
    default:
      return held.load(() => later(server.history(10, {}, behind)), latest);
  }
}
