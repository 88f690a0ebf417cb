/**
 * Official Socket.IO clients of a server that grants nothing by itself: tokens let them in and into channels, also when they
 * come back, until they are revoked.
 */

import { Api } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { Cable } from './lib/cable.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { Member } from './lib/socketio.mjs';

const USAGE = `usage: node socketio-tokens.mjs --url http://127.0.0.1:8000 --api-key KEY --token JWT --subscription-token JWT
  --url URL                   the server
  --api-key KEY               its key
  --token JWT                 connection token of the user "alice"
  --subscription-token JWT    her token for the channel "private:a"; others may not subscribe to it
  --patience SECONDS          how long to wait for anything (20)`;

const CHANNEL = 'private:a';
const args = readArgs(USAGE, {
  token: { type: 'string' },
  'subscription-token': { type: 'string' },
});
const api = new Api(args.url, args['api-key']);
const token = args['subscription-token'];
let line;

await run('socketio-tokens.mjs', checks, async () => {
  Member.endAll();
  await line?.close();
});

async function checks(done) {
  for (const auth of [{}, { token: 'no token' }, { token: 7 }, { token }]) {
    const stranger = new Member(args.url, { auth }, args.patience);
    await until(args.patience, 'a refusal', () => stranger.refusals.length > 0);
    const [{ message, data }] = stranger.refusals;
    ensureEqual([message, data], ['unauthorized', { code: 101 }], 'the refusal');
  }
  done('nobody is let in without a token');

  line = await Cable.to(args.url);
  // As applications do: fresh tokens for each connection.
  let tokens = {};
  const auth = (give) => give({ token: args.token, tokens });
  const alice = await new Member(line.url, { auth }, args.patience).connected();
  ensureEqual(await alice.refused('subscribe', CHANNEL), 103, 'without a token for it');
  ensureEqual(await alice.refused('subscribe', CHANNEL, { token: args.token }), 103, 'with another');
  ensureEqual(await alice.refused('subscribe', 'nowhere:a'), 102, 'a namespace that is not there');
  const { ttl } = await alice.do('subscribe', CHANNEL, { token });
  ensure(ttl > 0, 'the subscription expires');
  ensureEqual(await alice.refused('publish', CHANNEL, 1), 103, 'publishing');
  await api.publish(CHANNEL, 1);
  await alice.hears(CHANNEL, 1);
  done('a token lets a client into a channel');

  const again = async (count, recovered) => {
    line.cut();
    await until(args.patience, 'the loss', () => !alice.socket.connected);
    const { offset } = await api.publish(CHANNEL, count);
    line.mend();
    await alice.connected(count);
    ensureEqual(alice.connects.at(-1), recovered, 'recovered');
    return offset;
  };
  tokens = { [CHANNEL]: token };
  const missed = await again(2, true);
  await alice.hears(CHANNEL, missed);
  tokens = {};
  await again(3, false);
  const told = () => alice.told.find(([event]) => event === 'fanfare:unrecovered')?.[1];
  await until(args.patience, 'why it is not recovered', told);
  ensureEqual(told(), [{ channel: CHANNEL, reason: 'refused' }], 'why');
  done('who comes back is judged anew');

  const gone = new Promise((resolve) => alice.socket.once('disconnect', resolve));
  await api.call('revoke', { user: 'alice' });
  ensureEqual(await gone, 'io server disconnect', 'how a revoked client ends');
  done('what was revoked ends');
}
