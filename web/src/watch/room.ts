/** One room: what the server says goes to the parts that show it, what the person does goes to the server. */

import { find } from '../dom.js';
import { Commands, type Wish } from './commands.js';
import { bannerOf, curtainOf, noteOf } from './curtain.js';
import { identity } from './identity.js';
import { Link, type LinkState } from './link.js';
import { Members } from './members.js';
import { Player } from './player.js';
import {
  adviceFor,
  millisecondsOf,
  playbackOf,
  type Answer,
  type Failure,
  type PlaybackState,
  type Room,
  type RoomState,
} from './protocol.js';
import { MediaSource } from './source.js';
import { openVoice } from './speech.js';
import { isOver } from './sync/anchor.js';
import { ServerClock } from './sync/clock.js';
import { PingRounds } from './sync/rounds.js';
import { Schedule } from './sync/schedule.js';
import { Talk } from './talk.js';
import { colourOf } from './text.js';
import { BarView } from './view/bar.js';
import type { ChatView } from './view/chat.js';
import type { Refusal, Ticket } from './view/door.js';
import { PeopleView, placeOf } from './view/people.js';
import { ReactionsView } from './view/reactions.js';
import { ReadyView } from './view/ready.js';
import { SettingsView, type Changes } from './view/settings.js';
import { StageView } from './view/stage.js';
import { toast } from './view/toast.js';
import type { Voice } from './voice.js';

/** How often the own position is told. */
const REPORT_EVERY_MS = 1_000;
/** How often the page is drawn, beside what happens. */
const DRAW_EVERY_MS = 100;
/** A connection that is away for less than this is not worth a word. */
const LOST_QUIETLY_MS = 1_200;
/** Colours of members. */
const COLOURS = 8;
/** Failures of events that the person has not asked for are not told. */
const QUIET = ['participant:position', 'presence:update', 'chat:typing', 'voice:speaking', 'voice:signal', 'time:ping'];

export interface RoomEvents {
  /** The room has let this person in. */
  entered(): void;
  /** The room does not let this person in. */
  refused(refusal: Refusal): void;
  /** This person has left. */
  left(): void;
}

interface Joined {
  oderId: string;
}

export class RoomSession {
  readonly #code: string;
  readonly #ticket: Ticket;
  readonly #events: RoomEvents;
  readonly #clock = new ServerClock(() => performance.now());
  readonly #schedule = new Schedule();
  readonly #members = new Members();
  readonly #link: Link;
  readonly #pings: PingRounds;
  readonly #commands: Commands;
  readonly #bar: BarView;
  readonly #startReady = find(document, '#start-ready', HTMLButtonElement);
  readonly #stage: StageView;
  readonly #player: Player;
  readonly #source: MediaSource;
  readonly #talk: Talk;
  readonly #people: PeopleView;
  readonly #reactions: ReactionsView;
  readonly #ready: ReadyView;
  readonly #settings: SettingsView;
  readonly #voice: Voice;
  #room: Room | null = null;
  /** The room has let this person in. */
  #isIn = false;
  /** Joins whose answer has not come. */
  #joins = 0;
  /** The log that the versions of the playback are of. */
  #epoch: string | undefined;
  #linkState: LinkState = 'connecting';
  #lostAt: number | null = null;
  #degraded = false;
  #ownerAwayUntil: number | null = null;
  #timers: ReturnType<typeof setInterval>[] = [];

  constructor(code: string, ticket: Ticket, events: RoomEvents) {
    this.#code = code;
    this.#ticket = ticket;
    this.#events = events;
    this.#link = new Link((state, recovered) => this.#linkChanged(state, recovered));
    this.#pings = new PingRounds(
      this.#clock,
      () => performance.now(),
      (patience) => this.#askTime(patience),
      () => this.#player.reschedule(),
    );
    this.#commands = new Commands(
      this.#link,
      () => this.#schedule.newest,
      (state, from) => this.#takeState(state, from),
    );
    this.#stage = new StageView({
      toggle: () => this.toggle(),
      seek: (targetMediaTime) => this.#wish({ event: 'sync:seek', targetMediaTime: Math.round(targetMediaTime) }),
      rate: (rate) => this.#wish({ event: 'sync:rate', rate }),
      unsilence: () => this.#player.unsilence(),
      curtain: () => this.#curtainPressed(),
    });
    this.#player = new Player(this.#stage.video, this.#clock, this.#schedule, () => undefined);
    this.#source = new MediaSource(this.#stage.video, () => this.#player.fail());
    this.#talk = new Talk(
      this.#link,
      () => ({ oderId: this.#members.me, name: this.#members.mine?.username ?? ticket.name }),
      () => (this.#clock.synced ? this.#clock.now() : Date.now()),
    );
    this.#people = new PeopleView({
      mayControl: (oderId, may) => void this.#grant(oderId, may),
    });
    this.#reactions = new ReactionsView((emoji) => void this.#react(emoji));
    this.#ready = new ReadyView(this.#clock, (checkId, ready) => {
      void this.#ask('ready:respond', { checkId, status: ready ? 'ready' : 'not_ready' });
    });
    this.#settings = new SettingsView((changes) => this.#change(changes));
    this.#voice = openVoice(this.#link, this.#members);
    this.#listen();
    this.#bar = new BarView(code, {
      leave: () => void this.leave(),
      settings: () => this.#openSettings(),
    });
    this.#startReady.addEventListener('click', () => void this.#ask('ready:initiate', {}));
  }

  open(): void {
    this.#link.open();
    this.#timers = [
      setInterval(() => this.#report(), REPORT_EVERY_MS),
      setInterval(() => this.#draw(), DRAW_EVERY_MS),
    ];
    this.#draw();
  }

  /** Leaves the room for good. */
  async leave(): Promise<void> {
    this.#voice.leave();
    await this.#link.ask('room:leave', {}, 1_000);
    this.close();
    this.#events.left();
  }

  close(): void {
    this.#timers.forEach((timer) => clearInterval(timer));
    this.#pings.stop();
    this.#voice.stop();
    this.#player.stop();
    this.#source.clear();
    this.#link.close();
  }

  // What the keyboard does.

  toggle(): void {
    const now = this.#clock.now();
    const newest = this.#schedule.newest;
    const { duration } = this.#player.facts();
    if (newest !== null && isOver(newest, now, duration)) {
      void this.#again();
      return;
    }
    this.#wish({ event: newest?.playing ? 'sync:pause' : 'sync:play' });
  }

  get stage(): StageView {
    return this.#stage;
  }

  get chat(): ChatView {
    return this.#talk.view;
  }

  get voice(): Voice {
    return this.#voice;
  }

  visibility(hidden: boolean): void {
    this.#link.tell('presence:update', { status: hidden ? 'away' : 'online' });
    if (!hidden) {
      this.#player.reschedule(true);
    }
  }

  // The connection.

  #linkChanged(state: LinkState, recovered: boolean): void {
    this.#linkState = state;
    if (state === 'lost') {
      this.#lostAt ??= performance.now();
      this.#pings.stop();
      // Whichever server comes next says how it is there.
      this.#degraded = false;
    }
    if (state === 'connected') {
      this.#pings.start();
      if (recovered && this.#room !== null) {
        this.#backIn();
      } else {
        void this.#join();
      }
    }
    this.#draw();
  }

  async #join(): Promise<void> {
    const ownerKey = identity.ownerKey(this.#code);
    const version = this.#schedule.version;
    const lastId = this.#talk.lastId;
    const { password, name } = this.#ticket;
    this.#joins += 1;
    const answer = await this.#link.ask<Joined>('room:join', {
      roomCode: this.#code,
      guestName: name,
      ...(password === '' ? {} : { password }),
      ...(ownerKey === undefined ? {} : { ownerKey }),
      // Who has no message yet is shown the chat as a newcomer is: a return brings only what follows one.
      ...(lastId === undefined ? {} : { lastMessageId: lastId }),
      ...(lastId === undefined || version < 0 ? {} : { lastSeenSequence: version }),
    });
    this.#joins -= 1;
    if (answer.ok) {
      this.#members.me = answer.oderId;
      this.#talk.view.me = answer.oderId;
      const first = !this.#isIn;
      this.#isIn = true;
      this.#backIn();
      if (first) {
        this.#events.entered();
        this.#player.start();
      }
      return;
    }
    const again = ['TIMEOUT', 'OFFLINE', 'UNAVAILABLE', 'RATE_LIMIT_EXCEEDED'].includes(answer.code);
    if (again && this.#room !== null) {
      setTimeout(() => this.#link.connected && void this.#join(), answer.retryAfterMs ?? 1_500);
      return;
    }
    this.close();
    this.#events.refused(answer);
  }

  /** The connection is back, and the room with it. */
  #backIn(): void {
    this.#lostAt = null;
    this.#player.reschedule(true);
    this.#report();
    void this.#voice.rejoin();
    this.#talk.deliverWaiting();
  }

  async #askTime(patienceMs: number): Promise<number> {
    const answer = await this.#link.ask<{ serverTime: number }>(
      'time:ping',
      { clientTime: performance.now() },
      patienceMs,
    );
    if (!answer.ok) {
      throw new Error(answer.code);
    }
    return answer.serverTime;
  }

  #listen(): void {
    const { socket } = this.#link;
    socket.on('room:state', (state) => this.#entered(state));
    socket.on('room:updated', ({ room }) => this.#roomIs(room));
    socket.on('room:participant:joined', ({ participant }) => {
      const news = this.#members.joined(participant);
      if (news && participant.oderId !== this.#members.me) {
        toast(`${participant.username} is here`);
      }
      this.#controlsChanged();
    });
    socket.on('room:participant:left', ({ oderId }) => {
      const name = this.#members.left(oderId);
      if (name !== null && oderId !== this.#members.me) {
        toast(`${name} has left`);
      }
    });
    socket.on('presence:update', ({ oderId, status }) => this.#members.status(oderId, status));
    socket.on('participant:position', (position) => {
      if (position.oderId === this.#members.me) {
        return;
      }
      const age = this.#clock.synced ? Math.max(0, this.#clock.now() - position.serverTimeMs) : 0;
      this.#members.at(position, this.#schedule.newest?.rate ?? 1, Math.min(age, 5_000));
    });
    socket.on('room:degraded', ({ degraded }) => (this.#degraded = degraded));
    socket.on('room:error', (failure) => this.#told(failure));
    this.#listenForOwners();
    this.#listenForPlayback();
  }

  #listenForOwners(): void {
    const { socket } = this.#link;
    socket.on('room:owner_away', ({ handoverAt }) => (this.#ownerAwayUntil = millisecondsOf(handoverAt)));
    socket.on('room:owner_back', () => (this.#ownerAwayUntil = null));
    socket.on('room:owner_changed', ({ ownerId }) => {
      this.#ownerAwayUntil = null;
      if (this.#room !== null) {
        this.#roomIs({ ...this.#room, ownerId });
      }
      if (ownerId === this.#members.me) {
        toast('You are the host now');
      }
    });
    socket.on('room:offer_ownership', ({ until }) => {
      const staysMs = Math.max(5_000, millisecondsOf(until) - this.#clock.now());
      toast('You were the host of this room.', {
        label: 'Be the host again',
        run: () => void this.#ask('room:accept_ownership', {}),
        staysMs,
      });
    });
  }

  #listenForPlayback(): void {
    const { socket } = this.#link;
    socket.on('sync:command', ({ command, state }) => {
      this.#takeState(state, command.atServerTime);
      this.#ready.commanded(command.atServerTime);
    });
    socket.on('sync:state', ({ state }) => this.#takeState(state, state.anchorServerTimeMs));
    socket.on('sync:conflict', ({ state }) => this.#takeState(state, state.anchorServerTimeMs));
    socket.on('sync:catchup', ({ state }) => this.#takeState(state, state.anchorServerTimeMs));
    socket.on('reaction:new', (reaction) => this.#reactions.add(reaction));
    socket.on('reaction:timeline', ({ reactions }) => this.#reactions.timeline(reactions));
    socket.on('ready:start', ({ check }) => this.#ready.show(check, this.#members.me));
    socket.on('ready:update', ({ check }) => this.#ready.show(check, this.#members.me));
    socket.on('ready:complete', ({ checkId, allReady }) => this.#ready.complete(checkId, allReady));
    socket.on('ready:timeout', ({ checkId }) => this.#ready.complete(checkId, false));
    socket.on('countdown:start', ({ config }) => this.#ready.countDown(config));
  }

  // The room.

  #entered({ room, participants, playback, position }: RoomState): void {
    if (position !== undefined) {
      if (this.#epoch !== undefined && this.#epoch !== position.epoch) {
        // The database was put back to an earlier time: its versions are lower, and they count.
        this.#schedule.clear();
      }
      this.#epoch = position.epoch;
    }
    this.#members.replace(participants);
    if (participants.some(({ oderId }) => oderId === room.ownerId)) {
      this.#ownerAwayUntil = null;
    }
    this.#roomIs(room);
    if (playback !== null) {
      this.#takeState(playback, playback.anchorServerTimeMs);
    }
    identity.remember({ code: room.code, name: room.name });
  }

  #roomIs(room: Room): void {
    this.#room = room;
    this.#bar.room(room.name);
    this.#members.owned(room.ownerId);
    if (this.#source.show(room.source)) {
      this.#player.sourceChanged();
    }
    this.#controlsChanged();
  }

  #controlsChanged(): void {
    const room = this.#room;
    if (room === null) {
      return;
    }
    this.#members.control(({ oderId }) => {
      const chosen = room.playbackControl === 'selected' && room.controllers.includes(oderId);
      return oderId === room.ownerId || room.playbackControl === 'all' || chosen;
    });
    this.#draw();
  }

  get #mayControl(): boolean {
    return this.#members.mine?.canControl ?? false;
  }

  get #owns(): boolean {
    return this.#room !== null && this.#room.ownerId === this.#members.me;
  }

  async #grant(oderId: string, may: boolean): Promise<void> {
    const others = (this.#room?.controllers ?? []).filter((id) => id !== oderId);
    await this.#ask('room:update', { controllers: may ? [...others, oderId] : others });
  }

  async #change(changes: Changes): Promise<string | null> {
    const answer = await this.#link.ask('room:update', changes);
    return answer.ok ? null : adviceFor(answer);
  }

  // Playback.

  #takeState(state: PlaybackState, from: number): void {
    if (this.#schedule.take(playbackOf(state), from)) {
      this.#player.reschedule();
      this.#draw();
    }
  }

  #wish(wish: Wish): void {
    if (!this.#mayControl) {
      return;
    }
    void this.#commands.send(wish).then((failure) => failure && this.#told(failure));
  }

  async #again(): Promise<void> {
    if (this.#mayControl) {
      const failure = await this.#commands.send({ event: 'sync:seek', targetMediaTime: 0 });
      if (failure !== null) {
        this.#told(failure);
      }
    }
  }

  #report(): void {
    const facts = this.#player.facts();
    const own = {
      mediaTimeMs: Math.round(facts.mediaTime),
      isPlaying: facts.playing && facts.trouble !== 'over',
      buffering: facts.trouble === 'buffering' || facts.trouble === 'loading',
      ...(facts.drift === null ? {} : { driftMs: Math.round(facts.drift) }),
      ...(Number.isFinite(this.#clock.roundTrip) ? { rttMs: Math.round(this.#clock.roundTrip) } : {}),
    };
    if (this.#room !== null && this.#linkState === 'connected') {
      this.#link.tell('participant:position', own);
    }
  }

  #curtainPressed(): void {
    const { trouble } = this.#player.facts();
    if (trouble === 'unplayable') {
      this.#player.sourceChanged();
      this.#source.again(this.#room?.source ?? null);
    } else if (this.#room?.source === null) {
      this.#openSettings();
    } else {
      this.toggle();
    }
  }

  async #react(emoji: string): Promise<void> {
    const mediaTimeMs = Math.round(this.#player.facts().mediaTime);
    await this.#ask('reaction:send', { emoji, mediaTimeMs, animation: 'float' });
  }

  // What is said to the person.

  async #ask(event: string, data: object): Promise<Answer<object>> {
    const answer = await this.#link.ask(event, data);
    if (!answer.ok) {
      toast(adviceFor(answer));
    }
    return answer;
  }

  #told(failure: Failure): void {
    if (failure.event === 'room:join' && this.#joins === 0) {
      // The server knew the connection again, but had no place for it in the room.
      void this.#join();
      return;
    }
    const answered = ['sync:', 'room:', 'ready:', 'reaction:'].some((kind) => failure.event?.startsWith(kind));
    if (!answered && !QUIET.includes(failure.event ?? '')) {
      toast(adviceFor(failure));
    }
  }

  #openSettings(): void {
    if (this.#room !== null) {
      this.#settings.show(this.#room, this.#owns, this.#members.nameOf(this.#room.ownerId));
    }
  }

  // Drawing.

  #draw(): void {
    const facts = this.#player.facts();
    const connected = this.#linkState === 'connected' && this.#lostAt === null;
    this.#members.at(
      {
        oderId: this.#members.me,
        mediaTimeMs: facts.mediaTime,
        ...(facts.drift === null ? {} : { driftMs: facts.drift }),
        isPlaying: facts.playing && facts.trouble !== 'over',
        buffering: facts.trouble === 'buffering' || facts.trouble === 'loading',
        serverTimeMs: 0,
      },
      facts.rate,
      0,
    );
    this.#stage.show(facts);
    this.#stage.cover(
      curtainOf({
        room: this.#room,
        trouble: facts.trouble,
        playback: this.#schedule.newest,
        owns: this.#owns,
        mayControl: this.#mayControl,
        alone: this.#members.count === 1,
      }),
    );
    const host = this.#members.nameOf(this.#room?.ownerId);
    const allowed = this.#mayControl && connected && this.#room?.source !== null;
    this.#stage.allow(allowed, noteOf(this.#room, this.#mayControl, host));
    this.#showLink(connected);
    this.#talk.view.enabled = this.#room !== null;
    this.#reactions.enabled = connected;
    this.#reactions.duration(facts.duration);
    this.#startReady.disabled = !(this.#mayControl && connected);
    this.#showPeople(facts.duration);
    if (this.#settings.open) {
      this.#settings.facts(this.#figures(facts.drift));
    }
  }

  #showPeople(duration: number): void {
    const members = this.#members.list();
    const chooses = this.#owns && this.#room?.playbackControl === 'selected';
    this.#people.show(members, this.#members.me, this.#room?.maxParticipants ?? members.length, chooses);
    const others = members.filter(({ participant }) => participant.oderId !== this.#members.me);
    this.#stage.showOthers(
      others.flatMap(({ participant, where }) => {
        if (where === null || !Number.isFinite(duration) || duration === 0) {
          return [];
        }
        const { oderId, username } = participant;
        const share = Math.max(0, Math.min(1, placeOf(where) / duration));
        return [{ oderId, name: username, colour: colourOf(oderId, COLOURS), share }];
      }),
    );
  }

  #showLink(connected: boolean): void {
    const lostFor = connected || this.#lostAt === null ? 0 : performance.now() - this.#lostAt;
    const lost = this.#room !== null && lostFor > LOST_QUIETLY_MS;
    this.#bar.link(connected || (this.#room !== null && !lost));
    const { text, tone } = bannerOf({
      lostFor: lost ? lostFor : null,
      online: navigator.onLine,
      handoverIn: this.#ownerAwayUntil === null ? null : this.#ownerAwayUntil - this.#clock.now(),
      degraded: this.#degraded,
    });
    this.#stage.banner(text, tone);
  }

  #figures(drift: number | null): [string, string][] {
    const ms = (value: number): string => (Number.isFinite(value) ? `${value.toFixed(1)} ms` : '–');
    return [
      ['Difference to the room', drift === null ? '–' : ms(drift)],
      ['Clock is known to within', ms(this.#clock.uncertainty)],
      ['Round trip', ms(this.#clock.roundTrip)],
      ['Speed now', `${this.#stage.video.playbackRate.toFixed(3)}×`],
      ['Commands so far', String(Math.max(0, this.#schedule.version))],
      ['Connection', this.#link.socket.io.engine?.transport?.name ?? '–'],
    ];
  }
}
