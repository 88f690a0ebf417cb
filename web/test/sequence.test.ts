import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MAX_GAPS, SequenceTracker } from '../src/sequence.js';

function taking(start: number | null, seqs: number[]): SequenceTracker {
  const tracker = new SequenceTracker();
  if (start !== null) {
    tracker.startAfter(start);
  }
  seqs.forEach((seq) => tracker.take(seq));
  return tracker;
}

function counts({ position, received, missing, repeated, late }: SequenceTracker): object {
  return { position, received, missing, repeated, late };
}

describe('SequenceTracker', () => {
  it('has no position before the start is known', () => {
    assert.equal(new SequenceTracker().position, null);
  });

  it('takes the first sequence as the start where none was given', () => {
    const tracker = taking(null, [41, 42]);
    assert.deepEqual(counts(tracker), {
      position: 42,
      received: 2,
      missing: 0,
      repeated: 0,
      late: 0,
    });
  });

  it('misses what lies between the start and the first sequence', () => {
    const tracker = taking(10, [13]);
    assert.deepEqual(counts(tracker), {
      position: 13,
      received: 1,
      missing: 2,
      repeated: 0,
      late: 0,
    });
  });

  it('names the gap', () => {
    const tracker = taking(0, [1]);
    assert.deepEqual(tracker.take(5), { kind: 'gap', from: 2, to: 4 });
    assert.deepEqual(tracker.take(6), { kind: 'next' });
  });

  it('counts a late one as received and out of order, no longer as missing', () => {
    const tracker = taking(0, [1, 5]);
    assert.deepEqual(tracker.take(3), { kind: 'late' });
    assert.deepEqual(counts(tracker), {
      position: 5,
      received: 3,
      missing: 2,
      repeated: 0,
      late: 1,
    });
    assert.deepEqual(tracker.take(2), { kind: 'late' });
    assert.deepEqual(tracker.take(4), { kind: 'late' });
    assert.equal(tracker.missing, 0);
  });

  it('counts each repeat: of the latest, an older, a late one, and one before the start', () => {
    const tracker = taking(7, [8, 10, 9]);
    for (const seq of [10, 8, 9, 7]) {
      assert.deepEqual(tracker.take(seq), { kind: 'repeat' });
    }
    assert.deepEqual(counts(tracker), {
      position: 10,
      received: 3,
      missing: 0,
      repeated: 4,
      late: 1,
    });
  });

  it('counts what the server no longer keeps apart from what is missing', () => {
    const tracker = taking(0, [1, 2]);
    assert.equal(tracker.expireBefore(10), 7);
    assert.deepEqual(tracker.take(10), { kind: 'next' });
    assert.equal(tracker.expired, 7);
    assert.equal(tracker.missing, 0);
  });

  it('expires nothing that is next anyway', () => {
    const tracker = taking(0, [1, 2]);
    assert.equal(tracker.expireBefore(3), 0);
    assert.equal(tracker.expireBefore(1), 0);
    assert.equal(tracker.position, 2);
  });

  it('starts anew in another log with the counts kept', () => {
    const tracker = taking(0, [1, 2, 5]);
    tracker.startAfter(0);
    assert.deepEqual(tracker.take(1), { kind: 'next' });
    assert.deepEqual(counts(tracker), {
      position: 1,
      received: 4,
      missing: 2,
      repeated: 0,
      late: 0,
    });
  });

  it('holds a hole of any size without keeping its members', () => {
    const tracker = taking(0, [9_000_000_000_000_000]);
    assert.equal(tracker.missing, 8_999_999_999_999_999);
    assert.deepEqual(tracker.take(4_000_000_000_000), { kind: 'late' });
  });

  it('forgets the oldest hole beyond the limit, but keeps it missing', () => {
    const every = Array.from({ length: MAX_GAPS + 1 }, (_, index) => 2 * (index + 1));
    const tracker = taking(0, every);
    assert.deepEqual(tracker.take(1), { kind: 'repeat' });
    assert.deepEqual(tracker.take(3), { kind: 'late' });
    assert.equal(tracker.missing, MAX_GAPS);
  });
});
