/** What covers the picture, and what is said below it: decided from what is known, nothing else. */

import type { Trouble } from './player.js';
import type { Room } from './protocol.js';
import type { Playback } from './sync/anchor.js';
import { clockText } from './text.js';
import type { Curtain } from './view/stage.js';

/** What there is to decide by. */
export interface Scene {
  /** Null until the room has been entered. */
  room: Room | null;
  trouble: Trouble;
  playback: Playback | null;
  owns: boolean;
  mayControl: boolean;
  alone: boolean;
}

/** The curtain of a scene; null when the picture is to be seen. */
export function curtainOf(scene: Scene): Curtain | null {
  if (scene.room === null) {
    return { kind: 'wait', title: 'Opening the room …' };
  }
  if (scene.room.source === null) {
    return {
      kind: 'invite',
      title: 'Nothing on yet',
      text: scene.owns ? 'Choose a video for everybody.' : 'The host has not chosen a video yet.',
      ...(scene.owns ? { action: 'Choose a video' } : {}),
    };
  }
  switch (scene.trouble) {
    case 'unplayable':
      return {
        kind: 'problem',
        title: 'This video cannot be played here',
        text: 'Its address may be wrong, or this browser may not know the format.',
        action: 'Try again',
      };
    case 'loading':
      return { kind: 'wait', title: 'Loading the video …' };
    case 'buffering':
      return { kind: 'wait', title: 'Waiting for data …' };
    case 'over':
      return {
        kind: 'invite',
        title: 'The end',
        ...(scene.mayControl ? { action: 'Watch it again' } : {}),
      };
    case 'none':
      return beginning(scene);
  }
}

/** Before the first command: an invitation to press play. */
function beginning({ playback, alone, mayControl }: Scene): Curtain | null {
  if (playback === null || playback.playing || playback.mediaTime > 0) {
    return null;
  }
  return {
    kind: 'invite',
    title: alone ? 'You are the first one here' : 'Ready when you are',
    text: alone
      ? 'Send the link to your friends. Whoever comes late lands at the same frame.'
      : 'It starts for everybody at the same moment.',
    ...(mayControl ? { action: 'Play' } : {}),
  };
}

/** Why somebody may not control; nothing for those who may. */
export function noteOf(room: Room | null, mayControl: boolean, host: string | null): string {
  if (room === null || mayControl) {
    return '';
  }
  const who = host ?? 'the host';
  return room.playbackControl === 'owner_only'
    ? `Only ${who} controls playback in this room.`
    : `${host ?? 'The host'} chooses who controls playback.`;
}

/** What the banner over the picture has to go by. */
export interface Weather {
  /** For how long the connection has been away, in milliseconds; null while it is there. */
  lostFor: number | null;
  online: boolean;
  /** In how many milliseconds the room is handed over; null while the host is there. */
  handoverIn: number | null;
  degraded: boolean;
}

/** What is wrong, in words; nothing when nothing is. */
export function bannerOf({ lostFor, online, handoverIn, degraded }: Weather): {
  text: string;
  tone: 'bad' | 'busy';
} {
  if (lostFor !== null) {
    const lost = online ? 'The connection is gone. Trying again …' : 'You are offline.';
    return { text: `${lost} The video goes on by itself.`, tone: 'bad' };
  }
  if (handoverIn !== null) {
    const left = clockText(Math.max(0, handoverIn));
    return { text: `The host is away. The room is handed over in ${left}.`, tone: 'busy' };
  }
  const text = degraded ? 'The list of people may be incomplete for the moment.' : '';
  return { text, tone: 'busy' };
}
