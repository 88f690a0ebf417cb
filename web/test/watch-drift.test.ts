import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { positionAt, type Playback } from '../src/watch/sync/anchor.js';
import { ServerClock } from '../src/watch/sync/clock.js';
import { DriftController, NUDGE_MAX, TOLERANCE_MS } from '../src/watch/sync/drift.js';
import { dice, VirtualMedia, VirtualTime } from './watch-simulated.js';

interface Scene {
  /** How far ahead the media is at the start. */
  error: number;
  rate?: number;
  /** How often the controller looks, in milliseconds. */
  every?: number;
  seekTakes?: () => number;
  noise?: () => number;
  skew?: number;
  seconds?: number;
  joining?: boolean;
}

interface Outcome {
  /** The real error at each look. */
  errors: number[];
  media: VirtualMedia;
  /** When the error was within the tolerance for good, in milliseconds. */
  settledAfter: number;
}

function play(scene: Scene): Outcome {
  const { rate = 1, every = 250, seconds = 60 } = scene;
  const time = new VirtualTime();
  const room: Playback = {
    playing: true,
    rate,
    serverTime: time.now,
    mediaTime: 600_000,
    version: 1,
  };
  const media = new VirtualMedia(
    time,
    room.mediaTime + scene.error,
    scene.seekTakes ?? (() => 120),
    scene.noise,
  );
  media.skew = scene.skew ?? 1;
  const controller = new DriftController();
  if (scene.joining) {
    controller.expectJump(time.now);
  }
  media.correct({ kind: 'rate', rate });
  const errors: number[] = [];
  let settledAfter = 0;
  for (let passed = 0; passed < seconds * 1_000; passed += every) {
    if (!media.busy) {
      const expected = positionAt(room, time.now);
      const actual = media.observed;
      media.correct(controller.next({ now: time.now, expected, actual, rate }));
      assert.ok(Math.abs(media.rate / rate - 1) <= NUDGE_MAX + 1e-9, `rate ${media.rate}`);
    }
    time.pass(every);
    const error = media.position - positionAt(room, time.now);
    errors.push(error);
    if (Math.abs(error) > TOLERANCE_MS + 5) {
      settledAfter = passed + every;
    }
  }
  return { errors, media, settledAfter };
}

describe('DriftController', () => {
  it('leaves small errors alone', () => {
    const { media, errors } = play({ error: 35 });
    assert.equal(media.seeks, 0);
    assert.equal(media.rateChanges, 0);
    assert.ok(Math.abs((errors.at(-1) ?? 0) - 35) < 1e-6);
  });

  it('wears errors below a second down without a jump', () => {
    for (const error of [-990, -400, -60, 60, 400, 990]) {
      const { media, settledAfter, errors } = play({ error });
      assert.equal(media.seeks, 0, `${error}`);
      assert.ok(settledAfter <= Math.abs(error) / NUDGE_MAX + 3_000, `${error}: ${settledAfter}`);
      assert.ok(Math.abs(errors.at(-1) ?? 99) <= 12, `${error}: ${errors.at(-1)}`);
    }
  });

  it('never crosses over: what was ahead stays ahead until it is there', () => {
    for (const every of [250, 500, 1_000]) {
      for (const rate of [0.5, 1, 2, 4]) {
        for (const start of [-900, -100, 100, 900]) {
          const { errors } = play({ error: start, rate, every });
          const crossed = errors.some((error) => error * Math.sign(start) < -1);
          assert.equal(crossed, false, `every ${every} at ${rate} from ${start}`);
        }
      }
    }
  });

  it('jumps over more than a second, and lands within the tolerance soon', () => {
    for (const error of [-30_000, -1_500, 1_500, 30_000]) {
      const { media, settledAfter } = play({ error });
      const jumps = media.seeks + media.waits;
      assert.ok(jumps >= 1 && jumps <= 2, `${jumps} jumps`);
      assert.ok(settledAfter <= 5_000, `${error}: ${settledAfter}`);
    }
  });

  it('waits where it is ahead by little, and is exactly there afterwards', () => {
    const { media, errors } = play({ error: 700, joining: true });
    assert.deepEqual([media.seeks, media.waits], [0, 1]);
    assert.ok(Math.max(...errors.slice(4).map(Math.abs)) < 1);
  });

  it('is together within two seconds of a command, whatever a jump takes', () => {
    const random = dice(9);
    const settled: number[] = [];
    for (let run = 0; run < 300; run += 1) {
      const { settledAfter, media } = play({
        error: (random() - 0.5) * 60_000,
        joining: true,
        seekTakes: () => 60 + random() * 500,
        noise: () => (random() - 0.5) * 16,
        seconds: 20,
      });
      assert.ok(media.seeks <= 4, `${media.seeks} jumps`);
      settled.push(settledAfter);
    }
    settled.sort((left, right) => left - right);
    const late = settled[Math.floor(settled.length * 0.95)] ?? NaN;
    assert.ok(late <= 3_000, `19 of 20 within ${late} ms`);
  });

  it('puts one who joins late at the right place within two jumps', () => {
    const { media, settledAfter } = play({
      error: -600_000,
      joining: true,
      seekTakes: () => 400,
    });
    assert.ok(media.seeks <= 2, `${media.seeks} jumps`);
    assert.ok(settledAfter <= 2_000, `${settledAfter}`);
  });

  it('does not oscillate with noisy readings and jumps of any length', () => {
    const random = dice(5);
    for (let run = 0; run < 200; run += 1) {
      const start = (random() - 0.5) * 4_000;
      const { media, errors } = play({
        error: start,
        joining: random() < 0.5,
        seekTakes: () => 50 + random() * 500,
        noise: () => (random() - 0.5) * 24,
        seconds: 90,
      });
      const last = errors.slice(-120);
      const worst = Math.max(...last.map(Math.abs));
      assert.ok(worst <= TOLERANCE_MS + 20, `run ${run} from ${start}: ${worst}`);
      assert.ok(media.seeks <= 3, `run ${run}: ${media.seeks} jumps`);
    }
  });

  it('holds an element whose clock runs 0.2 % fast', () => {
    const { errors, media } = play({ error: 0, skew: 1.002, seconds: 300 });
    assert.ok(Math.max(...errors.map(Math.abs)) <= TOLERANCE_MS + 5);
    assert.equal(media.seeks, 0);
  });

  it('jumps over a break in the playing instead of wearing it down', () => {
    const time = new VirtualTime();
    const media = new VirtualMedia(time, 0, () => 100);
    const controller = new DriftController();
    const start = time.now;
    const look = (): number => {
      const expected = time.now - start;
      const actual = media.position;
      if (!media.busy) {
        media.correct(controller.next({ now: time.now, expected, actual, rate: 1 }));
      }
      time.pass(250);
      return Math.abs(media.position - (time.now - start));
    };
    for (let index = 0; index < 8; index += 1) {
      assert.ok(look() < 1);
    }
    media.stall(450);
    const errors = Array.from({ length: 12 }, look);
    assert.ok(media.seeks >= 1 && media.seeks <= 2, `${media.seeks} jumps`);
    assert.ok(Math.max(...errors.slice(4)) <= 150, `${errors}`);
  });

  it('jumps less and less often where jumping does not help', () => {
    // A machine that needs two seconds more for each jump, every time another amount.
    const random = dice(6);
    const { media } = play({ error: 5_000, seekTakes: () => 2_000 + random() * 6_000, seconds: 120 });
    assert.ok(media.seeks <= 14, `${media.seeks} jumps`);
  });
});

describe('two who watch over 500±100 ms', () => {
  it('stay within the drift that is allowed, and near each other', () => {
    const random = dice(7);
    for (let run = 0; run < 40; run += 1) {
      const time = new VirtualTime();
      const errors = [0, 1].map(() => {
        const clock = new ServerClock(() => time.now);
        for (let index = 0; index < 5; index += 1) {
          const there = 200 + random() * 100;
          const back = 200 + random() * 100;
          const sentAt = time.now - there - back;
          const server = time.now - back;
          clock.add({ sentAt, receivedAt: time.now, serverReceivedAt: server, serverSentAt: server });
        }
        return clock.offset;
      });
      const [left = NaN, right = NaN] = errors;
      // Each holds its own clock's position within the tolerance: this is what they differ by at most.
      assert.ok(Math.abs(left - right) + 2 * TOLERANCE_MS < 250, `run ${run}: ${left} and ${right}`);
    }
  });
});
