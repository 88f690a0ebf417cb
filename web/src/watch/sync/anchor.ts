/** Playback as an anchor: at one time of the server the media stood at one place; the rest is arithmetic. */

/** What a room plays, and how. Times are milliseconds. */
export interface Playback {
  playing: boolean;
  rate: number;
  /** The server's time at which the media stood at `mediaTime`. */
  serverTime: number;
  mediaTime: number;
  /** Counts the commands of the room. */
  version: number;
}

/** The slowest and the fastest that a room may be played. */
export const RATE_MIN = 0.1;
export const RATE_MAX = 4;

/**
 * Where the media stands when the server's clock shows `serverNow`, between the start and the end.
 * An anchor that lies ahead has not begun to move.
 */
export function positionAt(playback: Playback, serverNow: number, duration = Infinity): number {
  const passed = playback.playing ? Math.max(0, serverNow - playback.serverTime) : 0;
  return Math.max(0, Math.min(duration, playback.mediaTime + passed * playback.rate));
}

/** Whether the media has come to its end though the room still plays. */
export function isOver(playback: Playback, serverNow: number, duration: number): boolean {
  return playback.playing && positionAt(playback, serverNow) >= duration;
}
