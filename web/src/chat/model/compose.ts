/** Between what is typed and what is sent: `@ann` is `<@U…>`, `#general` is `<#C…>`, and what could be markup is escaped. */

import { escape, unescape } from './mrkdwn.js';

export interface Directory {
  userByHandle(handle: string): string | null;
  channelByName(name: string): string | null;
  handleOf(user: string): string | null;
  channelName(channel: string): string | null;
}

const EVERYBODY = /^(?:here|channel|everyone)$/;
const NAMED = /(^|[\s([{,;:!?/"'*_~]|&gt;)([@#])([\p{L}\p{N}][\p{L}\p{N}._-]*)/gu;

/** What is sent for what was typed. Within code nobody is called. */
export function encode(typed: string, directory: Directory): string {
  return outsideCode(escape(typed.trim()), (text) =>
    text.replace(NAMED, (whole, before: string, sign: string, name: string) => {
      // A name at the end of a sentence is followed by its dot.
      for (let length = name.length; length > 0; length = name.slice(0, length).search(/[._-]+$/)) {
        const reference = referenceOf(sign, name.slice(0, length), directory);
        if (reference !== null) {
          return `${before}${reference}${name.slice(length)}`;
        }
      }
      return whole;
    }),
  );
}

/** What is shown to be edited for what was sent. */
export function decode(sent: string, directory: Directory): string {
  const typed = outsideCode(sent, (text) =>
    text
      .replace(/<@([A-Z0-9]+)(?:\|([^>]*))?>/g, (_, id: string, label = '') => `@${directory.handleOf(id) ?? (label || id)}`)
      .replace(/<#([A-Z0-9]+)(?:\|([^>]*))?>/g, (_, id: string, label = '') => `#${directory.channelName(id) ?? (label || id)}`)
      .replace(/<!(here|channel|everyone)(?:\|[^>]*)?>/g, '@$1')
      .replace(/<((?:https?:\/\/|mailto:)[^>|]+)>/g, '$1'),
  );
  return unescape(typed);
}

/** What is being named at the caret: `@an`, `#ge`, `:smi`. */
export interface Naming {
  readonly sign: '@' | '#' | ':';
  readonly part: string;
  /** Where the sign stands. */
  readonly from: number;
}

export function namingAt(text: string, caret: number): Naming | null {
  const [, sign, part] = /(?:^|[\s([{"'])([@#:])([\p{L}\p{N}+._-]{0,40})$/u.exec(text.slice(0, caret)) ?? [];
  if (sign === undefined || part === undefined || (sign === ':' && part.length < 2)) {
    return null;
  }
  return { sign: sign as Naming['sign'], part, from: caret - part.length - 1 };
}

function referenceOf(sign: string, name: string, directory: Directory): string | null {
  if (sign === '#') {
    const channel = directory.channelByName(name);
    return channel === null ? null : `<#${channel}>`;
  }
  if (EVERYBODY.test(name)) {
    return `<!${name}>`;
  }
  const user = directory.userByHandle(name);
  return user === null ? null : `<@${user}>`;
}

function outsideCode(text: string, change: (text: string) => string): string {
  const parts = text.split(/(```[\s\S]*?```|`[^`\n]+`)/);
  return parts.map((part, index) => (index % 2 === 1 ? part : change(part))).join('');
}
