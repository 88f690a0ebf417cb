/** The watch party with the official Socket.IO client: on one node, or on two that are one server. */

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';
import { House, Member, endAll, pause } from './lib/party.mjs';

const USAGE = `node watch.mjs --url URL [--other URL] [--redis PID] [--victim PID] [--patience SECONDS]

  --url URL           a server in development mode
  --other URL         another node of it
  --redis PID         the Redis of the nodes, which hangs for a while
  --victim PID        the process of the other node, which is killed in the end
  --patience SECONDS  how long to wait for what must come (20)`;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  redis: { type: 'string' },
  victim: { type: 'string' },
});
const other = (args.other ?? args.url).replace(/\/+$/, '');
const house = new House(args.url);
const connect = (auth, url = args.url, options = {}) =>
  Member.connect(url, args.patience, auth, options);

await run('watch.mjs', checks, async () => endAll());

async function checks(done) {
  await overHttp(done);
  await badInput(done);
  await together(done);
  await conflicts(done);
  await limits(done);
  await comingBack(done);
  await voice(done);
  await readiness(done);
  await channelsAreClosed(done);
  await revoked(done);
  if (args.redis) {
    await stateAway(done);
  }
  if (args.victim) {
    await killed(done);
  }
}

async function overHttp(done) {
  const ann = await house.user('Ann');
  const made = await house.room({ source: '/movie.mp4', password: 'sesame' }, ann.token);
  ensure(/^[A-HJ-NP-Z2-9]{8}$/.test(made.code), `the code ${made.code}`);
  ensureEqual(made.room.source, { type: 'url', url: '/movie.mp4' }, 'the source');
  const seen = await new House(other).ask('GET', `/watch/rooms/${made.code.toLowerCase()}`);
  ensureEqual([seen.status, seen.body.room.hasPassword], [200, true], 'what is known of a room');
  const refused = async (status, code, method, path, body, token) => {
    const answer = await house.ask(method, path, body, token);
    ensureEqual([answer.status, answer.body.error.code], [status, code], `${method} ${path}`);
  };
  await refused(404, 'ROOM_NOT_FOUND', 'GET', '/watch/rooms/AAAAAAAA');
  await refused(400, 'INVALID_PAYLOAD', 'POST', '/watch/rooms', {});
  await refused(400, 'INVALID_PAYLOAD', 'POST', '/watch/rooms', '{');
  await refused(400, 'INVALID_PAYLOAD', 'POST', '/watch/rooms', { name: 'x', source: 'file:///etc' });
  await refused(413, 'PAYLOAD_TOO_LARGE', 'POST', '/watch/rooms', { name: 'x'.repeat(20000) });
  await refused(401, 'INVALID_TOKEN', 'POST', '/watch/rooms', { name: 'x' }, 'not.a.token');
  done('rooms and users over HTTP');
}

async function badInput(done) {
  const { token } = await house.user('Owner');
  const { code } = await house.room({ password: 'sesame', maxParticipants: 2 }, token);
  const owner = await connect({ token });
  const guest = await connect({ token: 'not.a.token' }, other);
  ensureEqual([guest.ready.guest, guest.ready.tokenError], [true, 'INVALID_TOKEN'], 'a bad token');
  const old = await connect({ protocolVersion: '9.3' });
  ensureEqual([old.ready.compatible, owner.ready.compatible], [false, true], 'versions');
  await guest.refused('sync:play', {}, 'NOT_IN_ROOM');
  await guest.refused('room:join', { roomCode: 'ABC' }, 'INVALID_PAYLOAD');
  await guest.refused('room:join', { roomCode: 'AAAAAAAA' }, 'ROOM_NOT_FOUND');
  await guest.refused('room:join', { roomCode: 'watch:../' }, 'INVALID_PAYLOAD');
  await guest.refused('room:join', { roomCode: code }, 'INVALID_PASSWORD');
  await guest.refused('room:join', { roomCode: code, password: 'open' }, 'INVALID_PASSWORD');
  await guest.join(code, { password: 'sesame', guestName: 'Gus' });
  await owner.join(code);
  await old.refused('room:join', { roomCode: code, password: 'sesame' }, 'ROOM_FULL');
  const elsewhere = await house.room();
  await owner.refused('room:join', { roomCode: elsewhere.code }, 'ALREADY_IN_ROOM');
  for (const event of ['sync:play', 'sync:pause']) {
    await guest.refused(event, {}, 'FORBIDDEN');
  }
  await guest.refused('room:update', { playbackControl: 'all' }, 'FORBIDDEN');
  await guest.refused('room:accept_ownership', {}, 'FORBIDDEN');
  await guest.refused('ready:initiate', {}, 'FORBIDDEN');
  const now = Date.now();
  await owner.refused('sync:play', { atServerTime: now - 60_000 }, 'CLOCK_SKEW');
  await owner.refused('sync:play', { atServerTime: now + 3_600_000 }, 'CLOCK_SKEW');
  const seeks = [{}, { targetMediaTime: -1 }, { targetMediaTime: 'x' }, { targetMediaTime: 1e99 }];
  for (const seek of seeks) {
    await owner.refused('sync:seek', seek, 'INVALID_PAYLOAD');
  }
  await owner.refused('sync:rate', { rate: 0 }, 'INVALID_PAYLOAD');
  await owner.refused('sync:rate', [], 'INVALID_PAYLOAD');
  await owner.refused('chat:message', { content: '' }, 'INVALID_PAYLOAD');
  await owner.refused('chat:message', { content: 'x'.repeat(1001) }, 'INVALID_PAYLOAD');
  await owner.refused('chat:message', { content: 'x'.repeat(70_000) }, 'PAYLOAD_TOO_LARGE');
  await owner.refused('reaction:send', { emoji: 'x'.repeat(11), mediaTimeMs: 0 }, 'INVALID_PAYLOAD');
  await owner.refused('voice:signal', { targetId: guest.id, signal: { type: 'x' } }, 'INVALID_PAYLOAD');
  await owner.refused('ready:respond', { checkId: 'x', status: 'ready' }, 'READY_CHECK_NOT_FOUND');
  await owner.refused('no:such:event', {}, 'UNKNOWN_EVENT');
  ensureEqual(owner.all('sync:command'), [], 'commands of all that');
  // Who was in needs no password to come back.
  await guest.do('room:leave');
  await guest.refused('chat:message', { content: 'x' }, 'NOT_IN_ROOM');
  await guest.join(code);
  for (const member of [owner, guest, old]) {
    member.end();
  }
  done('bad input gets its documented error and changes nothing');
}

async function together(done) {
  const { token } = await house.user('Ann');
  const { code } = await house.room({ source: 'https://example.com/a.m3u8' }, token);
  const ann = await connect({ token });
  const bob = await connect({}, other);
  await ann.join(code);
  const seen = await bob.join(code, { guestName: 'Bob' });
  ensureEqual(seen.room.ownerId, ann.id, 'the owner');
  ensureEqual(seen.participants.map((one) => [one.username, one.role]).sort(), [
    ['Ann', 'owner'],
    ['Bob', 'guest'],
  ], 'the participants');
  await ann.told('room:participant:joined', ({ participant }) => participant.oderId === bob.id);
  await ann.do('sync:play');
  await ann.do('sync:rate', { rate: 1.5 });
  await ann.do('room:update', { playbackControl: 'selected', controllers: [bob.id] });
  await bob.told('room:updated', ({ room }) => room.controllers.includes(bob.id));
  await bob.do('sync:seek', { targetMediaTime: 90_000.4 });
  await ann.do('sync:pause', { idempotencyKey: 'k' });
  const again = await ann.do('sync:pause', { idempotencyKey: 'k' });
  ensureEqual([again.version, again.duplicate], [4, true], 'a command that came twice');
  await ann.do('room:update', { source: { type: 'url', url: '/b.mp4', durationMs: 60_000 } });
  for (const member of [ann, bob]) {
    await member.told('sync:command', ({ command }) => command.type === 'SET_SOURCE');
    const commands = member.all('sync:command');
    const types = commands.map(({ command }) => command.type);
    ensureEqual(types, ['PLAY', 'SET_RATE', 'SEEK', 'PAUSE', 'SET_SOURCE'], 'the commands');
    ensureSequence(commands.map(({ command }) => command.sequenceNumber), 1, 5, 'their numbers');
    ensureEqual(commands[2].command.targetMediaTime, 90_000, 'where to');
    ensure(commands.every(({ state }, at) => state.version === at + 1), 'the states');
  }
  ensureEqual(ann.all('sync:command'), bob.all('sync:command'), 'what both heard');
  const late = await connect({}, other);
  const { playback } = await late.join(code);
  ensureEqual(playback, ann.all('sync:command').at(-1).state, 'what a late one is told');
  await bob.do('chat:typing', { isTyping: true });
  await ann.told('chat:typing', (typing) => typing.oderId === bob.id && typing.isTyping);
  await bob.do('participant:position', { mediaTimeMs: 12.5, driftMs: -3, rttMs: 700 });
  await ann.told('participant:position', (report) => report.oderId === bob.id && report.driftMs === -3);
  await bob.do('presence:update', { status: 'invisible' });
  await ann.told('presence:update', (presence) => presence.status === 'offline');
  await bob.do('reaction:send', { emoji: '🎉', mediaTimeMs: 7000, animation: 'burst' });
  const reaction = await ann.told('reaction:new');
  ensureEqual([reaction.emoji, reaction.oderId], ['🎉', bob.id], 'a reaction');
  await bob.do('chat:message', { content: 'hello' });
  await late.told('chat:message', (message) => message.content === 'hello');
  const later = await connect({});
  await later.join(code);
  const { messages } = await later.told('chat:history');
  ensureEqual(messages.at(-1).content, 'hello', 'the history');
  const timeline = await later.told('reaction:timeline');
  ensureEqual(timeline.reactions, [{ mediaTimeMs: 5000, reactions: { '🎉': 1 } }], 'the timeline');
  const pong = await ann.ask('time:ping', { clientTime: 5 });
  ensure(pong.clientTime === 5 && Math.abs(pong.serverTime - Date.now()) < 60_000, 'the time');
  // The longest way there and back sets the lead, on every node.
  await until(args.patience, 'a longer lead', async () => {
    await bob.do('participant:position', { mediaTimeMs: 0, rttMs: 700 });
    const { serverTime } = await ann.ask('time:ping', { clientTime: 0 });
    const { atServerTime } = await ann.do('sync:pause');
    await pause(200);
    return atServerTime - serverTime >= 480;
  });
  for (const member of [ann, bob, late, later]) {
    member.end();
  }
  done('everybody sees the same, in the same order, wherever it is connected');
}

async function conflicts(done) {
  const { code } = await house.room({ playbackControl: 'all', maxParticipants: 20 });
  const writers = [];
  for (let index = 0; index < 10; index += 1) {
    const writer = await connect({}, index % 2 ? other : args.url);
    await writer.join(code);
    writers.push(writer);
  }
  const witness = await connect({}, other);
  await witness.join(code);
  for (let version = 0; version < 3; version += 1) {
    // A hundred at once: ten of each, which is what a member may do in a second.
    await pause(1100);
    const asks = writers.flatMap((writer) =>
      Array.from({ length: 10 }, (_, index) =>
        writer.ask('sync:seek', { targetMediaTime: index, expectedVersion: version }),
      ),
    );
    const answers = await Promise.all(asks);
    const won = answers.filter((answer) => answer.ok);
    ensureEqual(won.map((answer) => answer.version), [version + 1], 'who won');
    const lost = answers.filter((answer) => !answer.ok);
    const codes = new Set(lost.map((answer) => answer.code));
    ensureEqual([...codes], ['CONFLICT'], 'what the others were told');
    ensure(lost.every((answer) => answer.currentVersion === version + 1), 'the current version');
  }
  await writers[0].told('sync:conflict', ({ state }) => state.version === 3);
  await witness.told('sync:command', ({ command }) => command.sequenceNumber === 3);
  ensureEqual(witness.all('sync:command').length, 3, 'commands');
  for (const member of [...writers, witness]) {
    member.end();
  }
  done('of a hundred who expect a version one wins');
}

async function limits(done) {
  const { token } = await house.user('Cara');
  const { code } = await house.room({}, token);
  // One member with a connection to each node.
  const tabs = [await connect({ token }), await connect({ token }, other)];
  for (const tab of tabs) {
    await tab.join(code);
  }
  ensureEqual(tabs[0].id, tabs[1].id, 'a member of two connections');
  const started = Date.now();
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, index) => tabs[index % 2].ask('chat:message', { content: `m${index}` })),
  );
  const refused = answers.filter((answer) => !answer.ok);
  // 30, and what has been added since.
  const most = 30 + Math.ceil((Date.now() - started) / 2000);
  const taken = answers.length - refused.length;
  ensure(taken >= 30 && taken <= most, `${taken} messages passed, at most ${most} may`);
  ensure(refused.every((answer) => answer.code === 'RATE_LIMIT_EXCEEDED' && answer.retryAfterMs > 0), 'the others');
  const error = await tabs[0].told('chat:error');
  ensureEqual(error.code, 'RATE_LIMIT_EXCEEDED', 'the event');
  tabs.forEach((tab) => tab.end());
  done('limits hold over all nodes');
}

async function comingBack(done) {
  const { token } = await house.user('Ann');
  const { code } = await house.room({}, token);
  const ann = await connect({ token });
  await ann.join(code);
  const bob = await connect({}, other);
  await bob.join(code, { guestName: 'Bob' });
  const { resumeKey } = bob.ready;
  await ann.do('chat:message', { content: 'one' });
  await bob.told('chat:message', (message) => message.content === 'one');
  // A broken connection: the client goes on where it was, with what it has missed.
  bob.drop();
  await ann.do('chat:message', { content: 'two' });
  await ann.do('sync:play');
  await bob.told('sync:command');
  const contents = bob.all('chat:message').map((message) => message.content);
  ensureEqual(contents, ['one', 'two'], 'what came');
  ensure(bob.socket.recovered, 'the connection was recovered');
  const { id } = bob;
  await bob.told('connection:ready', (ready) => ready.sessionId !== bob.ready.sessionId);
  await until(args.patience, 'the room goes on', async () => (await bob.ask('sync:resync')).ok);
  ensureEqual(ann.all('room:participant:left'), [], 'who left in the meantime');
  // A new page: what was missed comes as catch-up.
  const last = bob.all('chat:message').at(-1);
  const { position } = await bob.join(code);
  bob.end();
  await ann.do('chat:message', { content: 'three' });
  await ann.do('sync:pause');
  const back = await connect({ resumeKey });
  const answer = await back.join(code, { since: position });
  ensureEqual([answer.oderId, id], [id, id], 'the same member');
  const commands = await back.told('sync:catchup');
  ensureEqual(commands.commands.map((command) => command.type), ['PAUSE'], 'missed commands');
  ensureEqual([commands.truncated, commands.state.version], [false, 2], 'all of them');
  const messages = await back.told('chat:catchup');
  ensureEqual(messages.messages.map((message) => message.content), ['three'], 'missed messages');
  await back.do('room:leave');
  await back.join(code, { lastSeenSequence: 1, lastMessageId: last.id });
  const second = back.all('chat:catchup').at(-1);
  ensureEqual(second.messages.map((message) => message.content), ['three'], 'by the last message');
  ensureEqual(back.all('sync:catchup').at(-1).commands.length, 1, 'by the last sequence');
  const before = ann.all('room:participant:left').length;
  back.end();
  await until(args.patience, 'who is gone has left', () => ann.all('room:participant:left').length > before);
  const { room } = (await house.ask('GET', `/watch/rooms/${code}`)).body;
  ensureEqual(room.participantCount, 1, 'who is there');
  ann.end();
  done('who comes back misses nothing; a short absence shows nothing');
}

async function voice(done) {
  const { code } = await house.room();
  const [ann, bob, cid] = [await connect({}), await connect({}, other), await connect({}, other)];
  for (const member of [ann, bob, cid]) {
    await member.join(code);
  }
  await ann.refused('voice:speaking', { isSpeaking: true }, 'NOT_IN_VOICE');
  ensureEqual((await ann.do('voice:join')).peers, [], 'peers of the first');
  await ann.told('voice:ice:servers', ({ iceServers }) => Array.isArray(iceServers));
  ensureEqual((await bob.do('voice:join')).peers, [ann.id], 'peers of the second');
  await ann.told('voice:peer:joined', ({ oderId }) => oderId === bob.id);
  const signal = { type: 'offer', sdp: 'v=0\r\n' };
  await bob.do('voice:signal', { targetId: ann.id, signal });
  const got = await ann.told('voice:signal');
  ensureEqual(got, { fromId: bob.id, signal }, 'the signal');
  await cid.refused('voice:signal', { targetId: ann.id, signal }, 'NOT_IN_VOICE');
  await bob.refused('voice:signal', { targetId: cid.id, signal }, 'VOICE_PEER_NOT_FOUND');
  await bob.do('voice:speaking', { isSpeaking: true });
  await cid.told('voice:speaking', (speaking) => speaking.oderId === bob.id && speaking.isSpeaking);
  ensureEqual([bob, cid].flatMap((member) => member.all('voice:signal')), [], 'signals to others');
  await bob.do('voice:leave');
  await ann.told('voice:peer:left', ({ oderId }) => oderId === bob.id);
  for (const member of [ann, bob, cid]) {
    member.end();
  }
  done('voice signals reach one member, on whatever node it is');
}

async function readiness(done) {
  const { code } = await house.room({ playbackControl: 'all' });
  const [ann, bob] = [await connect({}), await connect({}, other)];
  await ann.join(code);
  await bob.join(code);
  await bob.do('ready:initiate');
  const { check } = await ann.told('ready:start');
  ensureEqual(check.participants.length, 2, 'who is asked');
  await ann.refused('ready:initiate', {}, 'READY_CHECK_ACTIVE');
  await ann.do('ready:respond', { checkId: check.checkId, status: 'ready' });
  for (const member of [ann, bob]) {
    const { allReady } = await member.told('ready:complete');
    ensure(allReady, 'all are ready');
    const { config } = await member.told('countdown:start');
    const { command } = await member.told('sync:command');
    ensureEqual([command.type, command.atServerTime], ['PLAY', config.goAt], 'the start');
  }
  await ann.told('countdown:complete');
  for (const event of ['ready:complete', 'countdown:start', 'countdown:complete', 'sync:command']) {
    ensureEqual(ann.all(event).length, 1, event);
  }
  ensureEqual(ann.all('countdown:tick').map(({ step }) => step), [3, 2, 1, 'GO!'], 'the steps');
  ann.end();
  bob.end();
  done('a ready check ends with one countdown and one start');
}

async function channelsAreClosed(done) {
  const { code } = await house.room();
  const member = await connect({});
  const { oderId } = await member.join(code);
  for (const channel of [`watch:${code}`, `watch.member:${oderId}`]) {
    const response = await fetch(`${args.url}/events?channel=${channel}`);
    await response.body?.cancel();
    ensure(response.status >= 400 && response.status < 500, `/events?channel=${channel}: ${response.status}`);
  }
  member.end();
  done('nobody reads a room by another way');
}

async function revoked(done) {
  const { token, userId } = await house.user('Dan');
  const { code } = await house.room();
  const dan = await connect({ token }, other);
  await dan.join(code);
  const ended = new Promise((resolve) => dan.socket.once('disconnect', resolve));
  const answer = await house.ask('POST', '/api/revoke', { user: userId });
  ensureEqual(answer.status, 200, 'POST /api/revoke');
  await dan.told('room:error', (error) => error.code === 'INVALID_TOKEN');
  ensureEqual(await Promise.race([ended, pause(args.patience)]), 'io server disconnect', 'the end');
  const again = await connect({ token });
  ensureEqual([again.ready.guest, again.ready.tokenError], [true, 'INVALID_TOKEN'], 'the token');
  again.end();
  done('a revoked token ends its connections');
}

async function stateAway(done) {
  const { token } = await house.user('Ann');
  const { code } = await house.room({}, token);
  const [ann, bob] = [await connect({ token }), await connect({}, other)];
  await ann.join(code);
  await bob.join(code);
  process.kill(Number(args.redis), 'SIGSTOP');
  try {
    for (const member of [ann, bob]) {
      await member.told('room:degraded', ({ degraded }) => degraded);
    }
    await ann.do('sync:play');
    await bob.do('chat:message', { content: 'still here' });
    await bob.told('sync:command');
    await ann.told('chat:message');
    await bob.do('room:join', { roomCode: code });
  } finally {
    process.kill(Number(args.redis), 'SIGCONT');
  }
  for (const member of [ann, bob]) {
    await member.told('room:degraded', ({ degraded }) => !degraded);
    await until(args.patience, 'both are shown again', async () => {
      const { room } = (await house.ask('GET', `/watch/rooms/${code}`)).body;
      return room.participantCount === 2;
    });
    const { participants } = await member.join(code);
    ensureEqual(participants.map((one) => one.oderId).sort(), [ann.id, bob.id].sort(), 'who is there');
  }
  const left = [ann, bob].flatMap((member) => member.all('room:participant:left'));
  ensureEqual(left, [], 'who left');
  ann.end();
  bob.end();
  done('without the shared state playback and chat go on, and nobody is lost');
}

async function killed(done) {
  const { token } = await house.user('Ann');
  const { code } = await house.room({}, token);
  const ann = await connect({ token }, other, { reconnection: false });
  const bob = await connect({}, other, { reconnection: false });
  const witness = await connect({});
  for (const member of [ann, bob, witness]) {
    await member.join(code);
  }
  await bob.do('voice:join');
  process.kill(Number(args.victim), 'SIGKILL');
  const killedAt = Date.now();
  await until(args.patience, 'both have left', () => witness.all('room:participant:left').length >= 2);
  const seconds = (Date.now() - killedAt) / 1000;
  const left = witness.all('room:participant:left').map(({ oderId }) => oderId);
  ensureEqual(left.sort(), [ann.id, bob.id].sort(), 'who left');
  await witness.told('voice:peer:left', ({ oderId }) => oderId === bob.id);
  done(`the members of a killed node left after ${seconds.toFixed(1)} s`);
  const away = await witness.told('room:owner_away');
  ensureEqual(away.ownerId, ann.id, 'the owner is away');
  const waiting = new Promise((resolve) => witness.socket.once('room:owner_changed', resolve));
  const changed = await Promise.race([waiting, pause(60_000 + args.patience)]);
  ensureEqual([changed?.ownerId, changed?.reason], [witness.id, 'away'], 'the room was handed over');
  await witness.do('sync:play');
  ensureEqual(witness.all('room:participant:left').length, 2, 'who left, once each');
  ensureEqual(witness.all('room:owner_away').length, 1, 'told once');
  const back = await connect({ token });
  await back.join(code);
  await back.told('room:offer_ownership', ({ ownerId }) => ownerId === witness.id);
  await back.do('room:accept_ownership');
  await witness.told('room:owner_changed', ({ reason }) => reason === 'returned');
  done('the room went to who was there, and back');
}
