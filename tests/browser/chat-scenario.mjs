/**
 * A day in a workspace with the official client of Slack's Web API, unchanged but for its base URL: channels, people, threads, edits by `ts`,
 * reactions, pages, presence, scheduled messages; refusals with Slack's codes; and a bot that hears where it is, and nowhere else.
 */

import { readArgs } from './lib/args.mjs';
import { ensure, ensureEqual, run, until } from './lib/check.mjs';
import { GENERAL, Listener, TOKENS, USERS, client, refuses } from './lib/slack.mjs';

const USAGE = `usage: node chat-scenario.mjs --url http://127.0.0.1:8000
  --url URL           a server in development mode
  --patience SECONDS  how long to wait for anything (20)`;

/** The least that a scenario has to call. */
const CALLS_MIN = 60;

const args = readArgs(USAGE);
const { url, patience } = args;
let calls = 0;
const counted = (...request) => {
  calls += 1;
  return fetch(...request);
};
const [alice, bob, bot] = [TOKENS.alice, TOKENS.bob, TOKENS.bot].map((token) => client(url, token, { fetch: counted }));

await run('chat-scenario.mjs', checks, () => Listener.endAll());

async function checks(done) {
  const channel = await channels(done);
  await people(done);
  await messages(channel, done);
  await reactions(channel, done);
  await reading(channel, done);
  await later(channel, done);
  await hides(done);
  await finds(channel, done);
  await direct(done);
  await botHears(done);
  await ends(channel, done);
  ensure(calls >= CALLS_MIN, `${calls} calls, of at least ${CALLS_MIN}`);
  done(`${calls} calls`);
}

async function channels(done) {
  const { channel } = await alice.conversations.create({ name: 'plans' });
  ensureEqual([channel.name, channel.is_channel, channel.creator], ['plans', true, USERS.alice], 'a new channel');
  await refuses('name_taken', bob.conversations.create({ name: 'plans' }));
  await refuses('invalid_name_specials', alice.conversations.create({ name: 'No Such Name!' }));
  await refuses('not_in_channel', bob.chat.postMessage({ channel: channel.id, text: 'not yet' }));
  ensureEqual((await bob.conversations.join({ channel: channel.id })).channel.id, channel.id, 'joined');
  await bob.conversations.leave({ channel: channel.id });
  await alice.conversations.invite({ channel: channel.id, users: USERS.bob });
  await refuses('already_in_channel', alice.conversations.invite({ channel: channel.id, users: USERS.bob }));
  await alice.conversations.setTopic({ channel: channel.id, topic: 'what next' });
  await alice.conversations.setPurpose({ channel: channel.id, purpose: 'to decide' });
  await alice.conversations.rename({ channel: channel.id, name: 'plans-2' });
  const { channel: info } = await bob.conversations.info({ channel: channel.id, include_num_members: true });
  ensureEqual([info.name, info.topic.value, info.purpose.value, info.num_members], ['plans-2', 'what next', 'to decide', 2], 'as bob sees it');
  const listed = await all(bob, 'conversations.list', { limit: 1 }, 'channels');
  ensureEqual(new Set(listed.map(({ id }) => id)), new Set([GENERAL, channel.id]), 'channels of all pages');
  const members = await all(bob, 'conversations.members', { channel: channel.id, limit: 1 }, 'members');
  ensureEqual(new Set(members), new Set([USERS.alice, USERS.bob]), 'members of all pages');
  const { channels: own } = await bot.users.conversations();
  ensureEqual(own.map(({ id }) => id), [GENERAL], 'where the bot is');
  done('a channel is made, joined, left, renamed and listed page by page');
  return channel.id;
}

async function people(done) {
  const { user } = await alice.users.info({ user: USERS.bob });
  ensureEqual([user.name, user.is_bot, user.deleted], ['bob', false, false], 'bob');
  ensureEqual((await alice.users.info({ user: USERS.bot })).user.is_bot, true, 'the bot');
  await refuses('user_not_found', alice.users.info({ user: 'U0NOBODY000' }));
  const users = await all(alice, 'users.list', { limit: 2 }, 'members');
  ensureEqual(new Set(users.map(({ name }) => name)), new Set(['alice', 'bob', 'bot']), 'users of all pages');
  await bob.users.setPresence({ presence: 'away' });
  ensureEqual((await alice.users.getPresence({ user: USERS.bob })).presence, 'away', 'bob is away');
  await bob.users.setPresence({ presence: 'auto' });
  ensureEqual((await alice.team.info()).team.id.length, 11, 'the workspace');
  done('people and their presence');
}

async function messages(channel, done) {
  const parent = await alice.chat.postMessage({ channel, text: 'frist' });
  const { ts } = parent;
  await alice.chat.update({ channel, ts, text: 'first' });
  await refuses('cant_update_message', bob.chat.update({ channel, ts, text: 'mine' }));
  await refuses('message_not_found', alice.chat.update({ channel, ts: '1.000000', text: 'x' }));
  const reply = await bob.chat.postMessage({ channel, text: 'a reply', thread_ts: ts });
  const shown = await bob.chat.postMessage({ channel, text: 'for all', thread_ts: ts, reply_broadcast: true });
  const { messages: thread } = await alice.conversations.replies({ channel, ts });
  ensureEqual(thread.map(({ text }) => text), ['first', 'a reply', 'for all'], 'a thread');
  ensureEqual([thread[0].edited.user, thread[0].reply_count], [USERS.alice, 2], 'its parent');
  const { permalink } = await alice.chat.getPermalink({ channel, message_ts: ts });
  ensure(permalink.includes(channel) && permalink.includes(`p${ts.replace('.', '')}`), `a link: ${permalink}`);
  await refuses('cant_delete_message', bot_in(channel, reply.ts));
  await bob.chat.delete({ channel, ts: reply.ts });
  await refuses('message_not_found', bob.chat.delete({ channel, ts: reply.ts }));
  const { messages: after } = await alice.conversations.replies({ channel, ts });
  ensureEqual(after.map((message) => message.ts), [ts, shown.ts], 'without the reply');
  const me = await alice.chat.meMessage({ channel, text: 'waves' });
  const whisper = await alice.chat.postEphemeral({ channel, user: USERS.bob, text: 'psst' });
  const { messages: history } = await bob.conversations.history({ channel, limit: 3 });
  ensureEqual([history[0].ts, history[0].subtype], [me.ts, 'me_message'], 'the newest');
  ensure(whisper.message_ts && history.every(({ text }) => text !== 'psst'), 'a whisper leaves no trace');
  done('messages are edited and deleted by ts, in threads too');
}

/** Somebody else's attempt to delete a message of a channel in which both are. */
async function bot_in(channel, ts) {
  await alice.conversations.invite({ channel, users: USERS.bot });
  try {
    return await bot.chat.delete({ channel, ts });
  } finally {
    await alice.conversations.kick({ channel, user: USERS.bot });
  }
}

async function reactions(channel, done) {
  const { ts } = await alice.chat.postMessage({ channel, text: 'agreed?' });
  const item = { channel, timestamp: ts };
  await bob.reactions.add({ ...item, name: 'thumbsup' });
  await alice.reactions.add({ ...item, name: 'thumbsup' });
  await refuses('already_reacted', bob.reactions.add({ ...item, name: 'thumbsup' }));
  await refuses('message_not_found', bob.reactions.add({ channel, timestamp: '1.000000', name: 'thumbsup' }));
  const { message } = await alice.reactions.get({ ...item, full: true });
  ensureEqual(message.reactions, [{ name: 'thumbsup', users: [USERS.bob, USERS.alice], count: 2 }], 'reactions');
  await bob.reactions.remove({ ...item, name: 'thumbsup' });
  await refuses('no_reaction', bob.reactions.remove({ ...item, name: 'thumbsup' }));
  const { messages: history } = await bob.conversations.history({ channel, latest: ts, inclusive: true, limit: 1 });
  ensureEqual(history[0].reactions[0].users, [USERS.alice], 'in the history');
  done('reactions');
}

async function reading(channel, done) {
  const first = await alice.chat.postMessage({ channel, text: `<@${USERS.bob}> look` });
  const last = await alice.chat.postMessage({ channel, text: 'and this' });
  await bob.conversations.mark({ channel, ts: first.ts });
  ensureEqual((await bob.conversations.info({ channel })).channel.last_read, first.ts, 'what bob has read');
  await bob.conversations.mark({ channel, ts: last.ts });
  await bob.conversations.mark({ channel, ts: first.ts });
  ensureEqual((await bob.conversations.info({ channel })).channel.last_read, last.ts, 'a marker only moves forward');
  const texts = [];
  for (let number = 0; number < 30; number += 1) {
    texts.push(`page ${number}`);
    await bob.chat.postMessage({ channel, text: texts.at(-1) });
  }
  const seen = await all(alice, 'conversations.history', { channel, oldest: last.ts, limit: 7 }, 'messages');
  ensureEqual(seen.map(({ text }) => text).reverse(), texts, 'thirty messages in pages of seven');
  done('read markers and pages');
}

async function later(channel, done) {
  const at = Math.floor(Date.now() / 1000);
  const far = await alice.chat.scheduleMessage({ channel, text: 'next week', post_at: at + 7 * 86_400 });
  await refuses('time_in_past', alice.chat.scheduleMessage({ channel, text: 'x', post_at: at - 60 }));
  const { scheduled_messages: waiting } = await alice.chat.scheduledMessages.list({ channel });
  ensureEqual(waiting.map(({ id }) => id), [far.scheduled_message_id], 'what waits');
  await alice.chat.deleteScheduledMessage({ channel, scheduled_message_id: far.scheduled_message_id });
  ensureEqual((await alice.chat.scheduledMessages.list({ channel })).scheduled_messages, [], 'nothing waits');
  await alice.chat.scheduleMessage({ channel, text: 'in a moment', post_at: at + 2 });
  await until(patience, 'the scheduled message', async () => {
    const { messages: newest } = await bob.conversations.history({ channel, limit: 1 });
    return newest[0].text === 'in a moment';
  });
  done('scheduled messages');
}

async function hides(done) {
  const { channel: secret } = await alice.conversations.create({ name: 'secret', is_private: true });
  const hidden = await alice.chat.postMessage({ channel: secret.id, text: 'between me and me' });
  const attempts = [
    bob.conversations.info({ channel: secret.id }),
    bob.conversations.history({ channel: secret.id }),
    bob.conversations.members({ channel: secret.id }),
    bob.conversations.replies({ channel: secret.id, ts: hidden.ts }),
    bob.conversations.join({ channel: secret.id }),
    bob.chat.postMessage({ channel: secret.id, text: 'x' }),
    bob.reactions.add({ channel: secret.id, timestamp: hidden.ts, name: 'eyes' }),
  ];
  await Promise.all(attempts.map((attempt) => refuses('channel_not_found', attempt)));
  const { channels: listed } = await bob.conversations.list({ types: 'public_channel,private_channel' });
  ensure(
    listed.every(({ id }) => id !== secret.id),
    'bob does not find it',
  );
  done('a private channel is unknown to everybody else');
}

async function finds(channel, done) {
  const { ts } = await alice.chat.postMessage({ channel, text: 'the zeppelin lands at noon' });
  const found = async (who, query) => {
    const { messages } = await who.search.messages({ query });
    return messages.matches.map((match) => match.ts);
  };
  ensureEqual(await found(alice, 'zeppelin'), [ts], 'found by its author at once');
  ensureEqual(await found(bob, 'zeppelin from:@alice in:#plans-2'), [ts], 'found by others, narrowed');
  ensureEqual(await found(bob, 'zeppelin from:@bob'), [], 'not where it is not');
  const { channel: hangar } = await alice.conversations.create({ name: 'hangar', is_private: true });
  const hidden = await alice.chat.postMessage({ channel: hangar.id, text: 'the zeppelin is a decoy' });
  ensureEqual(await found(bob, 'zeppelin'), [ts], 'what one may not read is not found');
  ensureEqual(await found(alice, 'decoy'), [hidden.ts], 'by its author it is');
  done('messages are found by those who may read them');
}

async function direct(done) {
  const { channel } = await alice.conversations.open({ users: USERS.bob });
  ensureEqual((await bob.conversations.open({ users: USERS.alice })).channel.id, channel.id, 'the same for both');
  await alice.chat.postMessage({ channel: channel.id, text: 'between us' });
  const { messages: seen } = await bob.conversations.history({ channel: channel.id });
  ensureEqual(seen.map(({ text }) => text), ['between us'], 'a direct message');
  await refuses('channel_not_found', bot.conversations.history({ channel: channel.id }));
  done('direct messages');
}

async function botHears(done) {
  const listener = await Listener.open(url, patience);
  const { channel: room } = await alice.conversations.create({ name: 'robots' });
  const say = (text) => alice.chat.postMessage({ channel: room.id, text });
  await say('before it came');
  await alice.conversations.invite({ channel: room.id, users: USERS.bot });
  await say(`welcome <@${USERS.bot}>`);
  const mention = await listener.hears('a mention', ({ event }) => event.type === 'app_mention');
  await bob.conversations.join({ channel: room.id });
  await listener.hears('bob', ({ event }) => event.type === 'member_joined_channel' && event.user === USERS.bob);
  await bob.reactions.add({ channel: room.id, timestamp: mention.event.ts, name: 'wave' });
  await listener.hears('a reaction', ({ event }) => event.type === 'reaction_added' && event.item.ts === mention.event.ts);
  await alice.chat.update({ channel: room.id, ts: mention.event.ts, text: 'welcome' });
  await listener.hears('an edit', ({ event }) => event.subtype === 'message_changed' && event.message.text === 'welcome');
  await alice.conversations.kick({ channel: room.id, user: USERS.bot });
  await say('behind its back');
  await alice.chat.postMessage({ channel: GENERAL, text: 'where it is' });
  await listener.hearsText('where it is');
  const texts = listener.texts();
  ensure(!texts.includes('before it came') && !texts.includes('behind its back'), `it heard ${texts}`);
  done('a bot hears what happens where it is: mentions, joins, reactions and edits; and nothing else');
}

async function ends(channel, done) {
  await alice.conversations.archive({ channel });
  await refuses('is_archived', alice.chat.postMessage({ channel, text: 'too late' }));
  await refuses('already_archived', alice.conversations.archive({ channel }));
  await alice.conversations.unarchive({ channel });
  await refuses('cant_kick_self', alice.conversations.kick({ channel, user: USERS.alice }));
  await alice.chat.postMessage({ channel, text: 'back' });
  done('a channel ends, and comes back');
}

/** Everything that a method lists, over all of its pages. */
async function all(who, method, options, field) {
  const items = [];
  for await (const page of who.paginate(method, options)) {
    items.push(...page[field]);
  }
  return items;
}
