/**
 * Official Socket.IO clients and the commands of the application, given to another server: subscribe, unsubscribe, refresh and disconnect
 * reach those who are meant, and nobody else.
 */

import { Api } from './lib/api.mjs';
import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { Member } from './lib/socketio.mjs';

const USAGE = `usage: node socketio-commands.mjs --url http://127.0.0.1:8000 --other http://127.0.0.1:8001 --api-key KEY --token JWT --other-token JWT
  --url URL            the server of the clients
  --other URL          the server that is given the commands
  --api-key KEY        its key
  --token JWT          connection token of the user "ann", session "1"
  --other-token JWT    that of the user "bob"
  --patience SECONDS   how long to wait for anything (20)`;

const CHANNEL = 'room:commands';
const args = readArgs(USAGE, {
  other: { type: 'string' },
  token: { type: 'string' },
  'other-token': { type: 'string' },
});
const api = new Api(args.other, args['api-key']);

await run('socketio-commands.mjs', checks, async () => Member.endAll());

async function checks(done) {
  const ann = await member(args.token);
  const bob = await member(args['other-token']);
  const command = (method, request) => api.call(method, { user: 'ann', ...request });

  const { offset, epoch } = await api.publish(CHANNEL, { number: 1 });
  await api.publish(CHANNEL, { number: 2 });
  await command('subscribe', { channel: CHANNEL, data: { why: 'so' }, recover_since: { offset, epoch } });
  await told(ann, 'fanfare:subscribed');
  const [{ channel, data, recovered, offset: from }] = ann.said['fanfare:subscribed'];
  ensureEqual([channel, data, recovered, from], [CHANNEL, { why: 'so' }, true, offset], 'subscribed');
  await ann.hears(CHANNEL, offset + 1);
  done('a client is subscribed, from a position');

  await command('unsubscribe', { channel: CHANNEL });
  await told(ann, 'fanfare:unsubscribed');
  ensureEqual(
    ann.said['fanfare:unsubscribed'],
    [{ channel: CHANNEL, code: 2000, reason: 'server unsubscribe' }],
    'unsubscribed',
  );
  await ann.do('subscribe', CHANNEL);
  done('a subscription is ended, and can be begun again');

  const before = ann.connects.length;
  await command('refresh', { expired: true });
  await until(args.patience, 'ann to be back', () => ann.connects.length > before);
  done('a connection that has expired comes back');

  await command('disconnect', { disconnect: { code: 3333, reason: 'come back' } });
  await until(args.patience, 'ann to be back again', () => ann.connects.length > before + 1);
  ensureEqual(ann.said['fanfare:disconnected'], [{ code: 3333, reason: 'come back' }], 'the reason');
  await command('disconnect', { session: '1', disconnect: { code: 4500, reason: 'for good' } });
  await until(args.patience, 'ann to be gone', () => !ann.socket.connected);
  ensureEqual(ann.said['fanfare:disconnected'].at(-1), { code: 4500, reason: 'for good' }, 'the last');
  ensure(!ann.socket.active, 'it does not come back by itself');
  done('a client is sent away, for a moment or for good');

  ensureEqual(bob.connects.length, 1, 'connections of the other');
  ensureEqual(bob.said, {}, 'what the other was told');
  done('nobody else is meant');
}

async function member(token) {
  const one = new Member(args.url, { auth: { token } }, args.patience);
  one.said = {};
  for (const event of ['fanfare:subscribed', 'fanfare:unsubscribed', 'fanfare:disconnected']) {
    one.socket.on(event, (what) => (one.said[event] ??= []).push(what));
  }
  return one.connected();
}

function told(one, event) {
  return until(args.patience, event, () => one.said[event]);
}
