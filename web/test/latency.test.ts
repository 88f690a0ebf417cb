import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { formatLatency, LATENCY_WINDOW, LatencyWindow } from '../src/latency.js';

describe('LatencyWindow', () => {
  it('has no median while it is empty', () => {
    assert.equal(new LatencyWindow().median(), null);
  });

  it('takes the middle, or the mean of the two in the middle', () => {
    const window = new LatencyWindow();
    [9, 1, 5].forEach((value) => window.add(value));
    assert.equal(window.median(), 5);
    window.add(7);
    assert.equal(window.median(), 6);
  });

  it('forgets the oldest', () => {
    const window = new LatencyWindow();
    for (let index = 0; index < LATENCY_WINDOW; index += 1) {
      window.add(1000);
    }
    for (let index = 0; index <= LATENCY_WINDOW / 2; index += 1) {
      window.add(2);
    }
    assert.equal(window.median(), 2);
  });
});

describe('formatLatency', () => {
  it('gives two figures or three', () => {
    const pairs: [number, string][] = [
      [-1, '0.0 ms'],
      [0.84, '0.8 ms'],
      [9.94, '9.9 ms'],
      [9.96, '10 ms'],
      [999, '999 ms'],
      [999.6, '1.0 s'],
      [5_230, '5.2 s'],
      [123_400, '123 s'],
    ];
    for (const [value, text] of pairs) {
      assert.equal(formatLatency(value), text);
    }
  });
});
