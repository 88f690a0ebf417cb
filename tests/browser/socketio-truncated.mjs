/**
 * An official Socket.IO client that comes back after retention has removed what it would have to hear: it is told, and
 * begins anew.
 */

import { Api, freshChannel } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { Member } from './lib/socketio.mjs';

const USAGE = `usage: node socketio-truncated.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode whose channels keep no more than ten publications
  --patience SECONDS  how long to wait for anything (20)`;

/** More than a server keeps in memory. */
const BURST = 1200;
/** What makes it more. */
const FILLING = 'x'.repeat(1000);

const args = readArgs(USAGE);
const api = new Api(args.url);
let line;

await run('socketio-truncated.mjs', checks, async () => {
  Member.endAll();
  await line?.close();
});

async function checks(done) {
  const channel = freshChannel('short');
  line = await Cable.to(args.url);
  const who = await new Member(line.url, {}, args.patience).connected();
  await who.do('subscribe', channel);
  await api.publish(channel, 0);
  await who.hears(channel, 1);
  line.cut();
  await until(args.patience, 'the loss', () => !who.socket.connected);
  await api.publishMany(channel, BURST, (n) => `${n} ${FILLING}`);
  await until(args.patience, 'retention', async () => {
    const { truncated } = await api.call('history', { channel, since: { offset: 1 }, limit: 1 });
    return truncated;
  });
  line.mend();
  await who.connected(2);
  ensureEqual(who.connects, [false, false], 'recovered');
  const told = () => who.told.find(([event]) => event === 'fanfare:unrecovered')?.[1];
  await until(args.patience, 'why it is not recovered', told);
  const [{ channel: of, reason, oldest }] = told();
  ensureEqual([of, reason], [channel, 'truncated'], 'why');
  ensure(oldest > 2 && oldest <= BURST + 1, `the oldest is ${oldest}`);
  const { recovered, oldest: same } = await who.do('subscribe', channel, { since: { offset: 1 } });
  ensureEqual([recovered, same >= oldest], [false, true], 'a subscription behind what is gone');
  done('is told what was removed, and begins anew');

  // It carries nothing of before: another cut, and it is recovered.
  line.cut();
  await until(args.patience, 'the loss', () => !who.socket.connected);
  const { offset } = await api.publish(channel, 'new');
  line.mend();
  await who.connected(3);
  ensureEqual(who.connects.at(-1), true, 'recovered');
  await who.hears(channel, offset);
  ensureEqual(who.offsets(channel), [1, offset], 'what was heard');
  done('and is recovered the next time');
}
