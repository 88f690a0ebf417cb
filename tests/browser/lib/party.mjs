/** Members of a watch party, as the checks use them: the official client, and everything that it was told. */

import { io } from 'socket.io-client';

import { CheckFailed, ensure, ensureEqual, until } from './check.mjs';

/** Rooms and users of one server. */
export class House {
  constructor(url) {
    this.url = url;
  }

  /** Asks over HTTP: `{status, body}`. */
  async ask(method, path, body, token) {
    const headers = { 'content-type': 'application/json' };
    if (token) {
      headers.authorization = `Bearer ${token}`;
    }
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${this.url}${path}`, { method, headers, body: text });
    return { status: response.status, body: await response.json() };
  }

  /** A new user: `{token, userId, name}`. */
  async user(name) {
    const { status, body } = await this.ask('POST', '/watch/session', { name });
    ensureEqual(status, 201, 'POST /watch/session');
    return body;
  }

  /** A new room: `{code, room, ownerKey}`. */
  async room(fields = {}, token = undefined) {
    const wish = { name: 'Movie', ...fields };
    const { status, body } = await this.ask('POST', '/watch/rooms', wish, token);
    ensureEqual(status, 201, 'POST /watch/rooms');
    return body;
  }
}

const everybody = new Set();

/** Ends all members' connections. */
export function endAll() {
  for (const member of everybody) {
    member.socket.disconnect();
  }
}

/** One connection. */
export class Member {
  /** Connects; `auth` as the page gives it. */
  static async connect(url, patience, auth = {}, options = {}) {
    const member = new Member(url, patience, auth, options);
    member.ready = await member.told('connection:ready');
    return member;
  }

  constructor(url, patience, auth, options) {
    this.patience = patience;
    this.heard = [];
    this.socket = io(`${url}/sync`, {
      auth,
      forceNew: true,
      transports: ['websocket'],
      reconnectionDelay: 50,
      reconnectionDelayMax: 200,
      ...options,
    });
    this.socket.onAny((event, data) => this.heard.push({ event, data, at: Date.now() }));
    // As a page does: with its key a guest stays the same member.
    this.socket.on('connection:ready', ({ resumeKey }) => {
      if (resumeKey) {
        this.socket.auth = { ...auth, resumeKey };
      }
    });
    everybody.add(this);
  }

  /** Sends an event and gives its acknowledgement. */
  async ask(event, data = {}) {
    try {
      return await this.socket.timeout(this.patience).emitWithAck(event, data);
    } catch {
      throw new CheckFailed(`${event} was not acknowledged`);
    }
  }

  /** The same, which must be well. */
  async do(event, data = {}) {
    const answer = await this.ask(event, data);
    ensure(answer.ok, `${event}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** The same, which must be refused with a code, told also by an error event. */
  async refused(event, data, code) {
    const since = this.heard.length;
    const answer = await this.ask(event, data);
    ensureEqual([answer.ok, answer.code], [false, code], `${event} ${JSON.stringify(data)?.slice(0, 80)}`);
    ensure(answer.message.length > 0, `${event}: a message with ${code}`);
    const isError = ({ event: name, data: error }) =>
      /:(error|conflict)$/.test(name) && error.code === code;
    await until(this.patience, `an error event with ${code}`, () =>
      this.heard.slice(since).some(isError),
    );
    return answer;
  }

  /** Enters a room. */
  async join(code, more = {}) {
    const answer = await this.do('room:join', { roomCode: code, ...more });
    this.id = answer.oderId;
    return answer;
  }

  /** The data of the next event of a name, counted from `since`, for which `fits`. */
  async told(event, fits = () => true, since = 0) {
    const look = () =>
      this.heard.slice(since).find((one) => one.event === event && fits(one.data));
    const names = () => `heard ${this.heard.slice(-12).map((one) => one.event)}`;
    return (await until(this.patience, `${event}`, look, names)).data;
  }

  /** All data of an event that was heard. */
  all(event) {
    return this.heard.filter((one) => one.event === event).map((one) => one.data);
  }

  /** Loses its connection, as by a broken network, and comes back by itself. */
  drop() {
    this.socket.io.engine.close();
  }

  end() {
    this.socket.disconnect();
  }
}

/** Waits. */
export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
