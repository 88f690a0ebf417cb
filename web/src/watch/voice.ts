/** Voice between the members: a connection to each other one in voice, set up through signals that the server passes on. */

import type { Answer, Signal } from './protocol.js';

/** A connection that has failed is set up again after this; each time twice as late. */
const RETRY_MS = 1_000;
const RETRIES_MAX = 6;
/** Louder than this (root mean square of the samples) is speaking; it lasts a little beyond. */
const SPEAKING_LEVEL = 0.02;
const SPEAKING_HOLD_MS = 500;
const LISTEN_EVERY_MS = 80;

export type VoiceState = 'off' | 'asking' | 'on';

export interface VoiceActions {
  ask(event: string, data: object): Promise<Answer<object>>;
  changed(): void;
  problem(text: string): void;
}

interface Peer {
  connection: RTCPeerConnection;
  audio: HTMLAudioElement;
  /** Candidates that came before the description they belong to. */
  early: RTCIceCandidateInit[];
  calls: boolean;
  retries: number;
  timer?: ReturnType<typeof setTimeout>;
}

/** The own microphone, and everybody else's. */
export class Voice {
  readonly #actions: VoiceActions;
  readonly #peers = new Map<string, Peer>();
  #iceServers: RTCIceServer[] = [];
  #microphone: MediaStream | null = null;
  #state: VoiceState = 'off';
  #muted = false;
  #speaking = false;
  #spokeAt = -Infinity;
  #context: AudioContext | null = null;
  #listening: ReturnType<typeof setInterval> | undefined;

  constructor(actions: VoiceActions) {
    this.#actions = actions;
  }

  get state(): VoiceState {
    return this.#state;
  }

  get muted(): boolean {
    return this.#muted;
  }

  get speaking(): boolean {
    return this.#speaking;
  }

  /** How many others are connected, of how many there are. */
  get reached(): { connected: number; of: number } {
    const peers = [...this.#peers.values()];
    const connected = peers.filter(({ connection }) => connection.connectionState === 'connected');
    return { connected: connected.length, of: peers.length };
  }

  /** Asks for the microphone, then for a place in voice. */
  async join(): Promise<void> {
    if (this.#state !== 'off') {
      return;
    }
    this.#set('asking');
    try {
      this.#microphone = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch {
      this.#set('off');
      this.#actions.problem('The browser does not give this page the microphone. Allow it beside the address, then try again.');
      return;
    }
    const answer = await this.#actions.ask('voice:join', {});
    if (!answer.ok) {
      this.stop();
      this.#actions.problem(answer.message);
      return;
    }
    this.#muted = false;
    this.#listen(this.#microphone);
    this.#set('on');
  }

  /** Leaves voice, and tells the server. */
  leave(): void {
    if (this.#state !== 'off') {
      void this.#actions.ask('voice:leave', {});
      this.stop();
    }
  }

  /** Ends everything here without a word to the server. */
  stop(): void {
    clearInterval(this.#listening);
    void this.#context?.close();
    this.#context = null;
    this.#microphone?.getTracks().forEach((track) => track.stop());
    this.#microphone = null;
    [...this.#peers.keys()].forEach((id) => this.#close(id));
    this.#speaking = false;
    this.#set('off');
  }

  /** The connection to the server is back: take the place again; connections that hold are kept. */
  async rejoin(): Promise<void> {
    if (this.#state === 'on') {
      const answer = await this.#actions.ask('voice:join', {});
      if (!answer.ok) {
        this.stop();
        this.#actions.problem(answer.message);
      }
    }
  }

  toggleMute(): void {
    this.#muted = !this.#muted;
    this.#microphone?.getAudioTracks().forEach((track) => (track.enabled = !this.#muted));
    this.#actions.changed();
  }

  servers(iceServers: RTCIceServer[]): void {
    this.#iceServers = iceServers;
  }

  /** Who was there before: the newcomer calls. */
  peers(ids: string[]): void {
    const there = new Set(ids);
    [...this.#peers.keys()].filter((id) => !there.has(id)).forEach((id) => this.#close(id));
    for (const id of ids) {
      const known = this.#peers.get(id)?.connection.connectionState;
      if (known !== 'connected' && known !== 'connecting') {
        void this.#call(id);
      }
    }
  }

  left(id: string): void {
    this.#close(id);
  }

  /** A signal of another member. */
  async signal(from: string, signal: Signal): Promise<void> {
    if (this.#state !== 'on') {
      return;
    }
    try {
      await this.#take(from, signal);
    } catch {
      // What does not fit what there is (both have begun anew): the caller calls again.
      if (signal.type === 'offer') {
        this.#close(from);
        await this.#take(from, signal).catch(() => this.#close(from));
      }
    }
  }

  async #take(from: string, signal: Signal): Promise<void> {
    if (signal.type === 'offer' && signal.sdp !== undefined) {
      const known = this.#peers.get(from);
      const fresh = known === undefined || known.connection.signalingState !== 'stable';
      const peer = fresh ? this.#open(from, false) : known;
      await peer.connection.setRemoteDescription({ type: 'offer', sdp: signal.sdp });
      await this.#drainEarly(peer);
      await peer.connection.setLocalDescription();
      this.#send(from, { type: 'answer', sdp: peer.connection.localDescription?.sdp ?? '' });
      return;
    }
    const peer = this.#peers.get(from);
    if (peer === undefined) {
      return;
    }
    if (signal.type === 'answer' && signal.sdp !== undefined) {
      await peer.connection.setRemoteDescription({ type: 'answer', sdp: signal.sdp });
      await this.#drainEarly(peer);
    } else if (signal.candidate !== undefined) {
      if (peer.connection.remoteDescription === null) {
        peer.early.push(signal.candidate);
      } else {
        await peer.connection.addIceCandidate(signal.candidate);
      }
    }
  }

  async #drainEarly(peer: Peer): Promise<void> {
    for (const candidate of peer.early.splice(0)) {
      await peer.connection.addIceCandidate(candidate);
    }
  }

  async #call(id: string, retries = 0): Promise<void> {
    const peer = this.#open(id, true);
    peer.retries = retries;
    await peer.connection.setLocalDescription();
    this.#send(id, { type: 'offer', sdp: peer.connection.localDescription?.sdp ?? '' });
  }

  #open(id: string, calls: boolean): Peer {
    this.#close(id);
    const connection = new RTCPeerConnection({ iceServers: this.#iceServers });
    const audio = new Audio();
    audio.autoplay = true;
    const peer: Peer = { connection, audio, early: [], calls, retries: 0 };
    this.#peers.set(id, peer);
    for (const track of this.#microphone?.getAudioTracks() ?? []) {
      connection.addTrack(track, this.#microphone as MediaStream);
    }
    connection.addEventListener('track', ({ streams, track }) => {
      audio.srcObject = streams[0] ?? new MediaStream([track]);
      void audio.play().catch(() => undefined);
    });
    connection.addEventListener('icecandidate', ({ candidate }) => {
      if (candidate !== null) {
        this.#send(id, { type: 'ice-candidate', candidate: candidate.toJSON() });
      }
    });
    connection.addEventListener('connectionstatechange', () => {
      if (connection.connectionState === 'connected') {
        peer.retries = 0;
      } else if (connection.connectionState === 'failed') {
        this.#again(id, peer);
      }
      this.#actions.changed();
    });
    this.#actions.changed();
    return peer;
  }

  /** Who called calls again, a few times. */
  #again(id: string, peer: Peer): void {
    if (!peer.calls || peer.retries >= RETRIES_MAX || this.#peers.get(id) !== peer) {
      return;
    }
    const retries = peer.retries + 1;
    peer.timer = setTimeout(() => void this.#call(id, retries), RETRY_MS * 2 ** peer.retries);
  }

  #close(id: string): void {
    const peer = this.#peers.get(id);
    if (peer !== undefined) {
      clearTimeout(peer.timer);
      this.#peers.delete(id);
      peer.connection.close();
      peer.audio.srcObject = null;
      this.#actions.changed();
    }
  }

  #send(targetId: string, signal: Signal): void {
    void this.#actions.ask('voice:signal', { targetId, signal });
  }

  /** Watches how loud the own microphone is. */
  #listen(microphone: MediaStream): void {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(microphone).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#context = context;
    this.#listening = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const now = performance.now();
      if (Math.sqrt(power) > SPEAKING_LEVEL && !this.#muted) {
        this.#spokeAt = now;
      }
      const speaking = !this.#muted && now - this.#spokeAt < SPEAKING_HOLD_MS;
      if (speaking !== this.#speaking) {
        this.#speaking = speaking;
        void this.#actions.ask('voice:speaking', { isSpeaking: speaking });
        this.#actions.changed();
      }
    }, LISTEN_EVERY_MS);
  }

  #set(state: VoiceState): void {
    this.#state = state;
    this.#actions.changed();
  }
}
