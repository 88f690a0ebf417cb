import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import {
  clockText,
  codeOf,
  colourOf,
  decoded,
  driftGrade,
  driftText,
  fineClockText,
  initialsOf,
  namesText,
} from '../src/watch/text.js';

describe('the words of the watch page', () => {
  it('write a place in the media', () => {
    assert.equal(clockText(0), '0:00');
    assert.equal(clockText(61_999), '1:01');
    assert.equal(clockText(3_723_000), '1:02:03');
    assert.equal(clockText(Infinity), '–:––');
    assert.equal(fineClockText(61_950), '1:01.9');
  });

  it('write a difference with its sign', () => {
    assert.equal(driftText(0.3), '±0 ms');
    assert.equal(driftText(12.4), '+12 ms');
    assert.equal(driftText(-12.4), '−12 ms');
    assert.equal(driftText(-1_440), '−1.4 s');
    assert.equal(driftText(999), '+1.0 s');
    assert.equal(driftText(600_000), '+10:00');
  });

  it('grade a difference', () => {
    assert.equal(driftGrade(null), 'none');
    assert.equal(driftGrade(-100), 'good');
    assert.equal(driftGrade(101), 'fair');
    assert.equal(driftGrade(-501), 'bad');
  });

  it('find the code in what is typed or pasted', () => {
    assert.equal(codeOf('abcd2345'), 'ABCD2345');
    assert.equal(codeOf(' ABCD-2345 '), 'ABCD2345');
    assert.equal(codeOf('https://example.org/watch/abcd2345/?x#y'), 'ABCD2345');
    assert.equal(codeOf('ABCD234'), null);
    assert.equal(codeOf('ABCD0I1O'), null);
    assert.equal(codeOf(''), null);
  });

  it('read a part of a URL, also one with escapes that are none', () => {
    assert.equal(decoded('a%20b'), 'a b');
    assert.equal(decoded('%E0%A4%A.mp4'), '%E0%A4%A.mp4');
  });

  it('name people', () => {
    assert.equal(initialsOf('ada lovelace byron'), 'AL');
    assert.equal(initialsOf('  '), '?');
    assert.equal(initialsOf('🦊'), '🦊');
    assert.equal(namesText(['Ada']), 'Ada');
    assert.equal(namesText(['Ada', 'Ben']), 'Ada and Ben');
    assert.equal(namesText(['Ada', 'Ben', 'Cy', 'Di']), 'Ada, Ben and 2 more');
    const colour = colourOf('some-member', 8);
    assert.equal(colourOf('some-member', 8), colour);
    assert.ok(colour >= 0 && colour < 8);
  });
});
