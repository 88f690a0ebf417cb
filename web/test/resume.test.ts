import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Resume } from '../src/resume.js';

describe('Resume', () => {
  it('goes by the moment of publishing for messages of this page', () => {
    const resume = new Resume(1000, 50);
    assert.equal(resume.via(51, 999.9), 'recovered');
    assert.equal(resume.via(50, 1000), 'live');
  });

  it('goes by the head at the return for messages of others', () => {
    const resume = new Resume(1000, 50);
    assert.equal(resume.via(50, null), 'recovered');
    assert.equal(resume.via(51, null), 'live');
  });

  it('takes a higher head that it learns later, never a lower one', () => {
    const resume = new Resume(1000, 50);
    resume.learnHead(60);
    resume.learnHead(40);
    assert.equal(resume.via(60, null), 'recovered');
    assert.equal(resume.via(61, null), 'live');
  });
});
