/** The official Socket.IO client, as the checks use it. */

import { io } from 'socket.io-client';

import { CheckFailed, ensure, until } from './check.mjs';

/** The options of all clients of the checks: nothing shared between them, and back at once. */
const OPTIONS = {
  forceNew: true,
  reconnectionDelay: 10,
  reconnectionDelayMax: 200,
  timeout: 5000,
};

/** A client of one namespace that notes what it is told. */
export class Member {
  static #all = [];

  static endAll() {
    Member.#all.forEach((member) => member.socket.disconnect());
  }

  constructor(url, options = {}, patience = 20_000) {
    const { namespace = '/', ...rest } = options;
    this.patience = patience;
    this.socket = io(`${url}${namespace}`, { ...OPTIONS, transports: ['websocket'], ...rest });
    /** Publications as `[event, data, meta]`. */
    this.heard = [];
    /** Other events, as `[event, ...args]`. */
    this.told = [];
    /** `recovered` of each connection. */
    this.connects = [];
    this.refusals = [];
    this.socket.onAny((event, ...args) => this.#hear(event, args));
    this.socket.on('connect', () => this.connects.push(this.socket.recovered === true));
    this.socket.on('connect_error', (error) => this.refusals.push(error));
    Member.#all.push(this);
  }

  /** What the acknowledgement of an event says. */
  async ask(event, ...args) {
    return this.socket.timeout(this.patience).emitWithAck(event, ...args);
  }

  /** The same, which must be a result. */
  async do(event, ...args) {
    const answer = await this.ask(event, ...args);
    if (answer.error) {
      throw new CheckFailed(`${event}: ${JSON.stringify(answer.error)}`);
    }
    return answer;
  }

  /** The same, which must be an error: its code. */
  async refused(event, ...args) {
    const answer = await this.ask(event, ...args);
    ensure(answer.error, `${event} was not refused: ${JSON.stringify(answer)}`);
    return answer.error.code;
  }

  /** Waits until it is connected for the so-manieth time. */
  async connected(count = 1) {
    await until(
      this.patience,
      `connection ${count}`,
      () => this.connects.length >= count && this.socket.connected,
      () => `${this.connects.length} connections, refused: ${this.refusals.map(String)}`,
    );
    return this;
  }

  /** The numbers of the publications of a channel, as far as it has heard them. */
  offsets(channel) {
    return this.heard.filter(([, , meta]) => meta.channel === channel).map(([, , meta]) => meta.offset);
  }

  /** Waits until it has heard a publication. */
  async hears(channel, offset) {
    await until(
      this.patience,
      `${channel} ${offset}`,
      () => this.offsets(channel).includes(offset),
      () => `heard ${this.offsets(channel)}`,
    );
  }

  #hear(event, args) {
    const meta = args[1];
    if (meta?.channel && meta.offset) {
      this.heard.push([event, args[0], meta]);
    } else {
      this.told.push([event, ...args]);
    }
  }
}
