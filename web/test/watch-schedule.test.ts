import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isOver, positionAt, type Playback } from '../src/watch/sync/anchor.js';
import { Schedule } from '../src/watch/sync/schedule.js';
import { dice } from './watch-simulated.js';

function playback(version: number, change: Partial<Playback> = {}): Playback {
  return { playing: false, rate: 1, serverTime: 0, mediaTime: 0, version, ...change };
}

describe('positionAt', () => {
  it('stands still while paused', () => {
    assert.equal(positionAt(playback(1, { mediaTime: 700, serverTime: 10 }), 9_999), 700);
  });

  it('moves from the anchor at the rate of the room', () => {
    const room = playback(1, { playing: true, serverTime: 1_000, mediaTime: 500, rate: 1.5 });
    assert.equal(positionAt(room, 3_000), 3_500);
  });

  it('has not begun before the anchor', () => {
    const room = playback(1, { playing: true, serverTime: 1_000, mediaTime: 500 });
    assert.equal(positionAt(room, 400), 500);
  });

  it('ends at the end', () => {
    const room = playback(1, { playing: true, serverTime: 0, mediaTime: 0 });
    assert.equal(positionAt(room, 90_000, 60_000), 60_000);
    assert.equal(isOver(room, 90_000, 60_000), true);
    assert.equal(isOver(room, 59_999, 60_000), false);
    assert.equal(isOver(playback(2, { mediaTime: 60_000 }), 0, 60_000), false);
  });
});

describe('Schedule', () => {
  it('knows nothing at first', () => {
    const schedule = new Schedule();
    assert.equal(schedule.version, -1);
    assert.deepEqual(schedule.at(5), { playback: null, changed: false });
  });

  it('takes the first one at once, whenever it counts from', () => {
    const schedule = new Schedule();
    assert.equal(schedule.take(playback(4), 9_000), true);
    assert.equal(schedule.at(0).playback?.version, 4);
  });

  it('carries a command out at its instant, not before', () => {
    const schedule = new Schedule();
    schedule.take(playback(1), 0);
    schedule.take(playback(2, { playing: true }), 1_000);
    assert.equal(schedule.nextAt, 1_000);
    assert.deepEqual(schedule.at(999), { playback: playback(1), changed: false });
    assert.equal(schedule.at(1_000).changed, true);
    assert.equal(schedule.at(1_001).playback?.version, 2);
    assert.equal(schedule.at(1_001).changed, false);
    assert.equal(schedule.nextAt, null);
  });

  it('carries a command out at once when its instant has passed', () => {
    const schedule = new Schedule();
    schedule.take(playback(1), 0);
    schedule.take(playback(2), 1_000);
    assert.deepEqual(schedule.at(5_000), { playback: playback(2), changed: true });
  });

  it('ignores what is not newer', () => {
    const schedule = new Schedule();
    schedule.take(playback(3), 0);
    assert.equal(schedule.take(playback(3), 10), false);
    assert.equal(schedule.take(playback(2), 10), false);
    schedule.take(playback(5), 100);
    assert.equal(schedule.take(playback(4), 50), false);
    assert.equal(schedule.at(60).playback?.version, 3);
  });

  it('forgets the start at the end of a countdown when a command comes before it', () => {
    const schedule = new Schedule();
    schedule.take(playback(1), 0);
    schedule.take(playback(2, { playing: true }), 3_200);
    schedule.take(playback(3), 500);
    assert.equal(schedule.at(500).playback?.version, 3);
    assert.equal(schedule.at(9_999).playback?.version, 3);
  });

  it('keeps the order of two that are both due', () => {
    const schedule = new Schedule();
    schedule.take(playback(1), 0);
    schedule.take(playback(2), 100);
    schedule.take(playback(3), 200);
    assert.equal(schedule.at(150).playback?.version, 2);
    assert.equal(schedule.at(250).playback?.version, 3);
  });

  it('comes to the same in the end, whatever order the commands come in', () => {
    const random = dice(11);
    for (let run = 0; run < 300; run += 1) {
      const all = Array.from({ length: 8 }, (_, index) => ({
        playback: playback(index + 1),
        from: Math.floor(random() * 500),
      })).sort(() => random() - 0.5);
      const schedule = new Schedule();
      let last = -1;
      all.forEach(({ playback: one, from }, index) => {
        schedule.take(one, from);
        const now = schedule.at(index * 60).playback?.version ?? -1;
        assert.ok(now >= last, `version ${now} after ${last}`);
        last = now;
      });
      assert.equal(schedule.at(1_000).playback?.version, 8);
    }
  });
});
