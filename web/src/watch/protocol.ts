/** What the watch party says over Socket.IO, as far as this page uses it, and what its fields mean here. */

import type { Playback } from './sync/anchor.js';

export type Control = 'owner_only' | 'all' | 'selected';

export interface Source {
  type: string;
  url: string;
  durationMs?: number;
}

export interface Room {
  id: string;
  code: string;
  name: string;
  ownerId: string | null;
  maxParticipants: number;
  hasPassword: boolean;
  playbackControl: Control;
  controllers: string[];
  allowGuestChat: boolean;
  source: Source | null;
}

export interface Participant {
  oderId: string;
  username: string;
  guestName?: string;
  role: 'owner' | 'participant' | 'guest';
  canControl: boolean;
  status?: string;
}

export interface PlaybackState {
  isPlaying: boolean;
  playbackRate: number;
  anchorServerTimeMs: number;
  anchorMediaTimeMs: number;
  sequenceNumber: number;
}

export interface SyncCommand {
  id: string;
  type: 'PLAY' | 'PAUSE' | 'SEEK' | 'SET_RATE' | 'SET_SOURCE';
  atServerTime: number;
  sequenceNumber: number;
  issuedBy?: string;
  targetMediaTime?: number;
  rate?: number;
}

export interface ChatMessage {
  id: string;
  type: 'user' | 'system';
  oderId?: string;
  username?: string;
  content?: string;
  event?: string;
  timestamp: number | string;
  offset?: number;
}

export interface Reaction {
  id: string;
  oderId: string;
  username: string;
  emoji: string;
  position?: { x: number; y: number };
  mediaTimeMs: number;
}

export interface TimelineBucket {
  mediaTimeMs: number;
  reactions: Record<string, number>;
}

export interface ReadyCheck {
  checkId: string;
  initiatedBy: string;
  participants: { oderId: string; username: string; status: string }[];
  deadline?: number | string;
}

export interface Countdown {
  countdownId: string;
  durationMs: number;
  steps: (number | string)[];
  serverStartTime: number;
  goAt: number;
}

export interface MemberPosition {
  oderId: string;
  mediaTimeMs: number;
  driftMs?: number;
  rttMs?: number;
  isPlaying?: boolean;
  buffering?: boolean;
  serverTimeMs: number;
}

export interface LogPosition {
  epoch: string;
  offset: number;
}

export interface RoomState {
  room: Room;
  participants: Participant[];
  playback: PlaybackState | null;
  position?: LogPosition;
}

export interface Signal {
  type: 'offer' | 'answer' | 'ice-candidate';
  sdp?: string;
  candidate?: RTCIceCandidateInit;
}

/** An answer to an event: the fields of a success beside `ok`, or what went wrong. */
export type Answer<T> =
  (T & { ok: true }) | { ok: false; code: string; message: string; retryAfterMs?: number };

/** What the server sends. */
export interface ServerEvents {
  'connection:ready': (ready: { sessionId: string; resumeKey?: string; guest: boolean; compatible: boolean }) => void;
  'room:state': (state: RoomState) => void;
  'room:participant:joined': (joined: { participant: Participant }) => void;
  'room:participant:left': (left: { oderId: string }) => void;
  'room:updated': (updated: { room: Room }) => void;
  'room:owner_away': (away: { ownerId: string; handoverAt: number | string }) => void;
  'room:owner_back': (back: { ownerId: string }) => void;
  'room:owner_changed': (changed: { ownerId: string | null; reason: string }) => void;
  'room:offer_ownership': (offer: { ownerId: string; until: number | string }) => void;
  'room:degraded': (state: { degraded: boolean }) => void;
  'room:error': (error: Failure) => void;
  'server:shutdown': (shutdown: { message: string; reconnectIn: number }) => void;
  'sync:command': (news: { command: SyncCommand; state: PlaybackState }) => void;
  'sync:state': (news: { state: PlaybackState }) => void;
  'sync:conflict': (conflict: { state: PlaybackState }) => void;
  'sync:catchup': (catchup: { state: PlaybackState }) => void;
  'participant:position': (position: MemberPosition) => void;
  'presence:update': (presence: { oderId: string; status: string }) => void;
  'chat:message': (message: ChatMessage) => void;
  'chat:history': (history: { messages: ChatMessage[]; hasMore?: boolean }) => void;
  'chat:catchup': (catchup: { messages: ChatMessage[]; truncated?: boolean }) => void;
  'chat:typing': (typing: { oderId: string; username: string; isTyping: boolean }) => void;
  'reaction:new': (reaction: Reaction) => void;
  'reaction:timeline': (timeline: { reactions: TimelineBucket[] }) => void;
  'ready:start': (start: { check: ReadyCheck }) => void;
  'ready:update': (update: { check: ReadyCheck }) => void;
  'ready:complete': (complete: { checkId: string; allReady: boolean }) => void;
  'ready:timeout': (timeout: { checkId: string }) => void;
  'countdown:start': (start: { config: Countdown }) => void;
  'voice:ice:servers': (servers: { iceServers: RTCIceServer[] }) => void;
  'voice:peers': (peers: { peers: (string | { oderId: string })[] }) => void;
  'voice:peer:joined': (peer: { oderId: string }) => void;
  'voice:peer:left': (peer: { oderId: string }) => void;
  'voice:signal': (signal: { fromId: string; signal: Signal }) => void;
  'voice:speaking': (speaking: { oderId: string; isSpeaking: boolean }) => void;
  'voice:replaced': (replaced: { sessionId: string }) => void;
  'voice:error': (error: Failure) => void;
}

export interface Failure {
  code: string;
  message: string;
  event?: string;
  retryAfterMs?: number;
}

/** The playback of a state that came over the wire. */
export function playbackOf(state: PlaybackState): Playback {
  return {
    playing: state.isPlaying,
    rate: state.playbackRate,
    serverTime: state.anchorServerTimeMs,
    mediaTime: state.anchorMediaTimeMs,
    version: state.sequenceNumber,
  };
}

/** A time of the wire, a number of milliseconds or a text, as milliseconds. */
export function millisecondsOf(time: number | string): number {
  return typeof time === 'number' ? time : Date.parse(time);
}

/** What a person can do about a code. */
const ADVICE: Record<string, string> = {
  ROOM_NOT_FOUND: 'There is no room with this code. It may have expired: rooms go a day after the last one left.',
  ROOM_FULL: 'This room is full. Somebody has to leave before you can come in.',
  INVALID_PASSWORD: 'That is not the password of this room.',
  FORBIDDEN: 'The host has not given you that.',
  GUEST_CANNOT_CHAT: 'Guests cannot write in this room.',
  NOT_IN_ROOM: 'You are not in the room any more. Reload the page to come back.',
  VOICE_FULL: 'Everybody who can talk at once is talking already.',
  READY_CHECK_ACTIVE: 'A ready check is under way already.',
  UNAVAILABLE: 'The server cannot do that just now. Try again in a moment.',
  UNAUTHORIZED: 'This server asks you to sign in before you make rooms.',
  TIMEOUT: 'The server did not answer in time.',
};

/** A sentence for the person in front of the page. */
export function adviceFor(failure: { code: string; message: string; retryAfterMs?: number }): string {
  if (failure.code === 'RATE_LIMIT_EXCEEDED') {
    const seconds = Math.max(1, Math.ceil((failure.retryAfterMs ?? 1_000) / 1_000));
    return `That was a bit much. Again in ${seconds < 90 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`}.`;
  }
  return ADVICE[failure.code] ?? failure.message;
}
