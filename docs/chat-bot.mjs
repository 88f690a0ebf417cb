// A bot: answers greetings in a thread, and whoever calls it by name. It needs no public address: events come over Socket Mode.
//   npm install @slack/bolt && node chat-bot.mjs
import bolt from '@slack/bolt';

const app = new bolt.App({
  socketMode: true,
  token: process.env.SLACK_BOT_TOKEN ?? 'xoxb-dev-bot',
  appToken: process.env.SLACK_APP_TOKEN ?? 'xapp-dev',
  clientOptions: { slackApiUrl: `${process.env.FANFARE_URL ?? 'http://127.0.0.1:8000'}/v1/` },
});

app.message(/^hello\b/i, async ({ message, say }) => {
  await say({ text: `Hello, <@${message.user}>!`, thread_ts: message.thread_ts ?? message.ts });
});
app.event('app_mention', async ({ event, say }) => {
  await say(`<@${event.user}>, you called?`);
});

await app.start();
console.log('the bot listens');
