import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import {
  PING_SPACING_MS,
  PINGS_OF_A_ROUND,
  ROUND_EVERY_MS,
  ServerClock,
} from '../src/watch/sync/clock.js';
import { dice, VirtualTime, way, type Way } from './watch-simulated.js';

/** The server is that much ahead of the local clock in these tests. */
const AHEAD = 7_654_321;

function round(time: VirtualTime, clock: ServerClock, network: Way, ahead = () => AHEAD): void {
  for (let index = 0; index < PINGS_OF_A_ROUND; index += 1) {
    time.after(index * PING_SPACING_MS, () => ping(time, clock, network, ahead));
  }
}

function ping(time: VirtualTime, clock: ServerClock, network: Way, ahead: () => number): void {
  const sentAt = time.now;
  time.after(network.there(), () => {
    const serverReceivedAt = time.now + ahead();
    time.after(0.3, () => {
      const serverSentAt = time.now + ahead();
      time.after(network.back(), () => {
        clock.add({ sentAt, receivedAt: time.now, serverReceivedAt, serverSentAt });
      });
    });
  });
}

/** After a first round over `network`: how wrong the clock is, and how wrong it says it may be. */
function afterOneRound(network: Way): { error: number; uncertainty: number } {
  const time = new VirtualTime();
  const clock = new ServerClock(() => time.now);
  round(time, clock, network);
  time.pass(5_000);
  return { error: clock.offset - AHEAD, uncertainty: clock.uncertainty };
}

describe('ServerClock', () => {
  it('knows nothing before the first sample', () => {
    const clock = new ServerClock(() => 5);
    assert.equal(clock.synced, false);
    assert.equal(clock.now(), 5);
    assert.equal(clock.uncertainty, Infinity);
  });

  it('is exact where both directions take the same time', () => {
    const { error } = afterOneRound({ there: () => 250, back: () => 250 });
    assert.ok(Math.abs(error) < 1e-6, `${error}`);
  });

  it('is wrong by half the difference of the directions, and no more than it says', () => {
    const { error, uncertainty } = afterOneRound({ there: () => 10, back: () => 90 });
    assert.ok(Math.abs(error + 40) < 1e-6, `${error}`);
    assert.ok(Math.abs(error) <= uncertainty);
  });

  it('is within its own uncertainty over 500 networks, whatever they do', () => {
    const random = dice(1);
    for (let run = 0; run < 500; run += 1) {
      const network = way(random, random() * 600, random() * 600, random() * 400);
      const { error, uncertainty } = afterOneRound(network);
      assert.ok(Math.abs(error) <= uncertainty + 1e-6, `run ${run}: ${error} of ${uncertainty}`);
    }
  });

  it('is within 50 ms at 500±100 ms after a round, and better after a few more', () => {
    const random = dice(2);
    const first: number[] = [];
    const later: number[] = [];
    for (let run = 0; run < 300; run += 1) {
      const time = new VirtualTime();
      const clock = new ServerClock(() => time.now);
      const network = way(random, 200, 200, 100);
      round(time, clock, network);
      time.pass(5_000);
      first.push(Math.abs(clock.offset - AHEAD));
      for (let more = 0; more < 4; more += 1) {
        round(time, clock, network);
        time.pass(ROUND_EVERY_MS);
      }
      later.push(Math.abs(clock.offset - AHEAD));
    }
    assert.ok(Math.max(...first) <= 50, `${Math.max(...first)}`);
    assert.ok(mean(later) < mean(first), `${mean(later)} after ${mean(first)}`);
  });

  it('slews: its time never goes backwards and never jumps between samples', () => {
    const random = dice(3);
    const time = new VirtualTime();
    const clock = new ServerClock(() => time.now);
    const network = way(random, 20, 20, 600);
    round(time, clock, network);
    time.pass(2_000);
    let last = clock.now();
    for (let step = 0; step < 6_000; step += 1) {
      if (step % 100 === 0) {
        round(time, clock, network);
      }
      time.pass(10);
      const passed = clock.now() - last;
      assert.ok(passed > 9.4 && passed < 10.6, `10 ms were ${passed}`);
      last = clock.now();
    }
  });

  it('follows a server clock that runs apart', () => {
    const random = dice(4);
    const time = new VirtualTime();
    const clock = new ServerClock(() => time.now);
    const ahead = () => AHEAD + time.now * 50e-6;
    for (let minute = 0; minute < 120; minute += 1) {
      round(time, clock, way(random, 15, 15, 20), ahead);
      time.pass(ROUND_EVERY_MS);
    }
    const error = Math.abs(clock.offset - ahead());
    assert.ok(error < 15, `${error}`);
  });

  it('believes the new samples after the local clock has stood still', () => {
    const time = new VirtualTime();
    let asleep = 0;
    const clock = new ServerClock(() => time.now - asleep);
    const add = (): void =>
      clock.add({
        sentAt: time.now - asleep - 300,
        receivedAt: time.now - asleep,
        serverReceivedAt: time.now + AHEAD - 150,
        serverSentAt: time.now + AHEAD - 150,
      });
    add();
    asleep = 3_600_000;
    time.pass(3_600_000);
    add();
    assert.ok(Math.abs(clock.now() - (time.now + AHEAD)) < 1e-6);
  });

  it('leaves out what cannot be', () => {
    const clock = new ServerClock(() => 100);
    clock.add({ sentAt: 50, receivedAt: 40, serverReceivedAt: 9, serverSentAt: 9 });
    clock.add({ sentAt: 40, receivedAt: 50, serverReceivedAt: 9, serverSentAt: 8 });
    clock.add({ sentAt: 40, receivedAt: 50, serverReceivedAt: NaN, serverSentAt: NaN });
    clock.add({ sentAt: 0, receivedAt: 6_000, serverReceivedAt: 9, serverSentAt: 9 });
    assert.equal(clock.synced, false);
  });
});

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
