/** Puts a source into the media element: files as they are, HLS by the browser or by hls.js. */

import type Hls from 'hls.js';

import type { Source } from './protocol.js';
import { decoded } from './text.js';

/** The clip that every server has. */
export const SAMPLE: Source & { durationMs: number } = {
  type: 'url',
  url: '/watch/sample.webm',
  durationMs: 60_008,
};

const HLS_MIME = 'application/vnd.apple.mpegurl';

/** How long the length of a file may take to be found out. */
const PROBE_PATIENCE_MS = 5_000;

/** What is played, and how it is given back. */
export class MediaSource {
  readonly #video: HTMLVideoElement;
  readonly #failed: () => void;
  #hls: Hls | null = null;
  #shown = '';

  /** `failed` is called when hls.js gives up; an ordinary failure is an event of the element. */
  constructor(video: HTMLVideoElement, failed: () => void) {
    this.#video = video;
    this.#failed = failed;
  }

  /** Shows a source; true when it is another than before. */
  show(source: Source | null): boolean {
    const url = source === null ? '' : addressOf(source.url);
    if (url === this.#shown) {
      return false;
    }
    this.clear();
    this.#shown = url;
    if (source !== null && url !== '') {
      void this.#load(url, isHls(source));
    }
    return true;
  }

  /** Loads the same source again. */
  again(source: Source | null): void {
    this.clear();
    this.show(source);
  }

  clear(): void {
    this.#hls?.destroy();
    this.#hls = null;
    this.#shown = '';
    this.#video.removeAttribute('src');
    this.#video.load();
  }

  async #load(url: string, hls: boolean): Promise<void> {
    if (!hls || this.#video.canPlayType(HLS_MIME) !== '') {
      this.#video.src = url;
      return;
    }
    const { default: Player } = await import('hls.js');
    if (this.#shown !== url) {
      return;
    }
    if (!Player.isSupported()) {
      this.#failed();
      return;
    }
    const player = new Player();
    player.on(Player.Events.ERROR, (_event, { fatal }) => {
      if (fatal && this.#hls === player) {
        this.#failed();
      }
    });
    this.#hls = player;
    player.loadSource(url);
    player.attachMedia(this.#video);
  }
}

/** A source from what somebody has typed; what is wrong with it where it cannot be one. */
export function sourceOf(typed: string): Source | { problem: string } {
  const text = typed.trim();
  const url = addressOf(text);
  if (url === '') {
    return { problem: 'This has to be a web address: https://… and the name of a video file.' };
  }
  const host = new URL(url).hostname.replace(/^www\./, '');
  if (host === 'youtube.com' || host === 'youtu.be' || host === 'vimeo.com') {
    return { problem: `${host} shows its videos only in its own player. A video file is needed here.` };
  }
  if (url.startsWith('http:') && location.protocol === 'https:') {
    return { problem: 'This page came over https, so the video has to as well.' };
  }
  const local = new URL(url).origin === location.origin;
  return { type: /\.m3u8$/i.test(new URL(url).pathname) ? 'hls' : 'url', url: local ? new URL(url).pathname : url };
}

/** How long a file is, in milliseconds; null for one that does not say; an error for one that cannot be played. */
export function probe(source: Source): Promise<number | null> {
  if (isHls(source)) {
    return Promise.resolve(null);
  }
  const video = document.createElement('video');
  video.preload = 'metadata';
  return new Promise<number | null>((resolve, reject) => {
    setTimeout(() => resolve(null), PROBE_PATIENCE_MS);
    video.onloadedmetadata = () => {
      resolve(Number.isFinite(video.duration) ? Math.round(video.duration * 1_000) : null);
    };
    video.onerror = () => reject(new Error('unplayable'));
    video.src = addressOf(source.url);
  }).finally(() => {
    video.removeAttribute('src');
    video.load();
  });
}

/** A short name of a source. */
export function labelOf(source: Source | null): string {
  if (source === null) {
    return 'nothing yet';
  }
  if (source.url === SAMPLE.url) {
    return 'Sample clip';
  }
  const path = new URL(addressOf(source.url) || location.origin).pathname;
  return decoded(path.split('/').at(-1) ?? '') || source.url;
}

function isHls(source: Source): boolean {
  return source.type === 'hls' || /\.m3u8($|[?#])/i.test(source.url);
}

/** The whole address, or nothing for what is none that a browser may load. */
function addressOf(text: string): string {
  try {
    const url = new URL(text, location.origin);
    const absolute = /^(https?:\/\/|\/)/i.test(text);
    return absolute && /^https?:$/.test(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}
