import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { bannerOf, curtainOf, noteOf, type Scene } from '../src/watch/curtain.js';
import type { Room } from '../src/watch/protocol.js';

const ROOM: Room = {
  id: 'ABCDEFGH',
  code: 'ABCDEFGH',
  name: 'Film night',
  ownerId: 'ada',
  maxParticipants: 10,
  hasPassword: false,
  playbackControl: 'owner_only',
  controllers: [],
  allowGuestChat: true,
  source: { type: 'url', url: '/watch/sample.webm' },
};

function scene(change: Partial<Scene> = {}): Scene {
  const playback = { playing: true, rate: 1, serverTime: 0, mediaTime: 0, version: 3 };
  return { room: ROOM, trouble: 'none', playback, owns: false, mayControl: false, alone: false, ...change };
}

describe('what covers the picture', () => {
  it('is nothing while it plays, or stands somewhere', () => {
    assert.equal(curtainOf(scene()), null);
    const paused = { playing: false, rate: 1, serverTime: 0, mediaTime: 700, version: 3 };
    assert.equal(curtainOf(scene({ playback: paused })), null);
  });

  it('says what is awaited', () => {
    assert.equal(curtainOf(scene({ room: null }))?.kind, 'wait');
    assert.equal(curtainOf(scene({ trouble: 'loading' }))?.kind, 'wait');
    assert.equal(curtainOf(scene({ trouble: 'buffering' }))?.kind, 'wait');
  });

  it('offers what the person may do, and only that', () => {
    const bare = { ...ROOM, source: null };
    assert.equal(curtainOf(scene({ room: bare }))?.action, undefined);
    assert.equal(curtainOf(scene({ room: bare, owns: true }))?.action, 'Choose a video');
    assert.equal(curtainOf(scene({ trouble: 'over' }))?.action, undefined);
    assert.equal(curtainOf(scene({ trouble: 'over', mayControl: true }))?.action, 'Watch it again');
    assert.equal(curtainOf(scene({ trouble: 'unplayable' }))?.action, 'Try again');
  });

  it('invites before the first play', () => {
    const first = { playing: false, rate: 1, serverTime: 0, mediaTime: 0, version: 0 };
    const alone = curtainOf(scene({ playback: first, alone: true, mayControl: true }));
    assert.equal(alone?.action, 'Play');
    assert.match(alone?.title ?? '', /first one/);
    assert.equal(curtainOf(scene({ playback: first }))?.action, undefined);
  });
});

describe('what is said about control and connection', () => {
  it('says why somebody may not control', () => {
    assert.equal(noteOf(ROOM, true, 'Ada'), '');
    assert.equal(noteOf(ROOM, false, 'Ada'), 'Only Ada controls playback in this room.');
    const chosen: Room = { ...ROOM, playbackControl: 'selected' };
    assert.equal(noteOf(chosen, false, null), 'The host chooses who controls playback.');
  });

  it('tells the worst first', () => {
    const calm = { lostFor: null, online: true, handoverIn: null, degraded: false };
    assert.equal(bannerOf(calm).text, '');
    assert.match(bannerOf({ ...calm, degraded: true }).text, /incomplete/);
    assert.match(bannerOf({ ...calm, degraded: true, handoverIn: 42_000 }).text, /in 0:42/);
    const lost = bannerOf({ ...calm, handoverIn: 42_000, lostFor: 2_000 });
    assert.equal(lost.tone, 'bad');
    assert.match(lost.text, /connection is gone/);
    assert.match(bannerOf({ ...calm, lostFor: 2_000, online: false }).text, /offline/);
  });
});
