/** Emoji by their Slack names: those that are picked most. A name that is not here is written as it is. */

/** By groups, as the picker shows them. */
export const GROUPS: readonly { readonly name: string; readonly emoji: string }[] = [
  {
    name: 'Quick',
    emoji:
      '+1 👍 -1 👎 heart ❤️ joy 😂 tada 🎉 eyes 👀 white_check_mark ✅ pray 🙏 fire 🔥 rocket 🚀 100 💯 clap 👏 raised_hands 🙌 muscle 💪 wave 👋 ok_hand 👌',
  },
  {
    name: 'Faces',
    emoji:
      'slightly_smiling_face 🙂 smile 😄 grinning 😀 blush 😊 wink 😉 heart_eyes 😍 sunglasses 😎 sweat_smile 😅 rolling_on_the_floor_laughing 🤣 upside_down_face 🙃 thinking_face 🤔 ' +
      'neutral_face 😐 unamused 😒 face_with_rolling_eyes 🙄 sleeping 😴 cry 😢 sob 😭 scream 😱 angry 😠 rage 😡 exploding_head 🤯 partying_face 🥳 star-struck 🤩 nerd_face 🤓 ' +
      'hugging_face 🤗 shushing_face 🤫 zipper_mouth_face 🤐 grimacing 😬 sweat 😓 disappointed 😞 worried 😟 confused 😕 open_mouth 😮 flushed 😳 innocent 😇 saluting_face 🫡 skull 💀 ghost 👻 robot_face 🤖',
  },
  {
    name: 'Hands and people',
    emoji:
      'point_up ☝️ point_up_2 👆 point_down 👇 point_left 👈 point_right 👉 v ✌️ crossed_fingers 🤞 call_me_hand 🤙 handshake 🤝 raised_hand ✋ facepunch 👊 writing_hand ✍️ shrug 🤷 facepalm 🤦 brain 🧠',
  },
  {
    name: 'Nature and food',
    emoji:
      'dog 🐶 cat 🐱 bug 🐛 butterfly 🦋 turtle 🐢 crab 🦀 whale 🐳 unicorn_face 🦄 seedling 🌱 evergreen_tree 🌲 sunflower 🌻 sunny ☀️ rainbow 🌈 zap ⚡ snowflake ❄️ ' +
      'coffee ☕ beer 🍺 beers 🍻 champagne 🍾 pizza 🍕 hamburger 🍔 cake 🍰 birthday 🎂 cookie 🍪 apple 🍎 banana 🍌',
  },
  {
    name: 'Things and signs',
    emoji:
      'bulb 💡 memo 📝 pushpin 📌 calendar 📆 chart_with_upwards_trend 📈 chart_with_downwards_trend 📉 mag 🔍 lock 🔒 key 🔑 wrench 🔧 hammer_and_wrench 🛠️ gear ⚙️ package 📦 bell 🔔 loudspeaker 📢 ' +
      'alarm_clock ⏰ hourglass ⌛ computer 💻 iphone 📱 email 📧 link 🔗 gift 🎁 trophy 🏆 dart 🎯 game_die 🎲 trumpet 🎺 warning ⚠️ no_entry ⛔ x ❌ heavy_plus_sign ➕ question ❓ exclamation ❗ ' +
      'arrow_right ➡️ repeat 🔁 construction 🚧 rotating_light 🚨 checkered_flag 🏁 star ⭐ sparkles ✨ boom 💥 broken_heart 💔 blue_heart 💙 green_heart 💚 yellow_heart 💛 purple_heart 💜',
  },
];

/** Other names of the same signs. */
const ALIASES: Readonly<Record<string, string>> = {
  thumbsup: '+1',
  thumbsdown: '-1',
  rofl: 'rolling_on_the_floor_laughing',
  thinking: 'thinking_face',
  punch: 'facepunch',
  unicorn: 'unicorn_face',
  lightning: 'zap',
  check: 'white_check_mark',
};

const SIGNS = new Map<string, string>();
for (const { emoji } of GROUPS) {
  for (const [name, sign] of pairs(emoji)) {
    SIGNS.set(name, sign);
  }
}

/** The sign; `:name:` where there is none. A shade of skin is left out. */
export function signOf(name: string): string {
  const bare = name.replace(/::skin-tone-\d$/, '');
  return SIGNS.get(bare) ?? SIGNS.get(ALIASES[bare] ?? '') ?? `:${name}:`;
}

export function isKnown(name: string): boolean {
  return !signOf(name).startsWith(':');
}

export interface Emoji {
  readonly name: string;
  readonly sign: string;
}

/** The emoji whose names hold the text; those that begin with it first. */
export function search(text: string, most: number): Emoji[] {
  const wanted = text.toLowerCase().replaceAll(' ', '_');
  const all = [...SIGNS].map(([name, sign]) => ({ name, sign, place: name.indexOf(wanted) }));
  const found = all.filter(({ place }) => place >= 0);
  return found
    .sort((left, right) => Math.min(left.place, 1) - Math.min(right.place, 1))
    .slice(0, most)
    .map(({ name, sign }) => ({ name, sign }));
}

export function groups(): { name: string; emoji: Emoji[] }[] {
  return GROUPS.map(({ name, emoji }) => ({ name, emoji: pairs(emoji).map(([id, sign]) => ({ name: id, sign })) }));
}

function pairs(text: string): [string, string][] {
  const words = text.split(' ');
  return words.flatMap((word, index) => (index % 2 === 0 ? [[word, words[index + 1] ?? ''] as [string, string]] : []));
}
