/**
 * Official Socket.IO clients whose server ends, in whatever way: they come back by themselves, to another server on the same
 * database, go on where they were, and miss nothing.
 */

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Balancer } from './lib/balancer.mjs';
import { ensure, ensureEqual, ensureSequence, run, until } from './lib/check.mjs';
import { Member } from './lib/socketio.mjs';

const USAGE = `usage: node socketio-crash.mjs --url http://127.0.0.1:8000 --other http://127.0.0.1:8001 --pid 1234
  --url URL           a server in development mode, which is ended
  --other URL         another one on the same database
  --pid PID           the process of the first one
  --signal NAME       what it is sent (SIGKILL)
  --patience SECONDS  how long to wait for anything (20)`;

const args = readArgs(USAGE, {
  other: { type: 'string' },
  pid: { type: 'string' },
  signal: { type: 'string', default: 'SIGKILL' },
});
const api = new Api(args.other);
let balancer;

await run('socketio-crash.mjs', checks, async () => {
  Member.endAll();
  await balancer?.close();
});

async function checks(done) {
  // The first request goes to the first server, so a websocket is there; long-polling is on both.
  balancer = await Balancer.over([args.url, args.other]);
  const channels = ['busy', 'quiet'].map(freshChannel);
  const [busy, quiet] = channels;
  const socket = await new Member(balancer.url, {}, args.patience).connected();
  const polling = await new Member(balancer.url, { transports: ['polling'] }, args.patience).connected();
  const direct = await new Member(args.other, {}, args.patience).connected();
  const all = [socket, polling, direct];
  for (const who of all) {
    for (const channel of channels) {
      await who.do('subscribe', channel);
    }
  }
  const before = await api.publishMany(busy, 50, (n) => n);
  await Promise.all(all.map((who) => who.hears(busy, before.offset)));
  done('three clients, by websocket and by long-polling');

  process.kill(Number(args.pid), args.signal);
  const last = await api.publishMany(busy, 200, (n) => n);
  await api.publish(quiet, 'missed');
  for (const who of all) {
    await until(args.patience, 'connected', () => who.socket.connected);
    await who.hears(busy, last.offset);
    await who.hears(quiet, 1);
    ensureSequence(who.offsets(busy), 1, last.offset, 'the busy channel');
    ensureEqual(who.offsets(quiet), [1], 'the quiet channel');
    ensure(who.connects.slice(1).every((recovered) => recovered), `recovered: ${who.connects}`);
  }
  ensure(socket.connects.length > 1, 'the one on the first server had to come back');
  ensureEqual(direct.connects.length, 1, 'connections of the one on the other server');
  done(`nobody misses anything, or hears it twice, after ${args.signal}`);
}
