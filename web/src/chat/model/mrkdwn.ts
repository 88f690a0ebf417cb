/**
 * Slack's mrkdwn, taken apart into a tree. What is drawn from the tree is text nodes and a few kinds of elements, so nothing in a message can
 * become markup.
 */

export type Inline =
  | { kind: 'text'; text: string }
  | { kind: 'code'; text: string }
  | { kind: 'bold' | 'italic' | 'strike'; inner: Inline[] }
  | { kind: 'link'; href: string; label: string }
  | { kind: 'user'; id: string; label: string }
  | { kind: 'channel'; id: string; label: string }
  | { kind: 'everybody'; name: string }
  | { kind: 'emoji'; name: string }
  | { kind: 'break' };

export type Block = { kind: 'lines'; inner: Inline[] } | { kind: 'quote'; inner: Inline[] } | { kind: 'code'; text: string };

const STYLES = { '*': 'bold', _: 'italic', '~': 'strike' } as const;
type Mark = keyof typeof STYLES;

/** Where something other than plain text may begin. */
const SPECIAL = /[`<*_~:\n]|https?:\/\//g;
const WORD = /[\p{L}\p{N}]/u;
const EMOJI = /:([a-z0-9_+'-]{1,60}):/y;
const URL_BARE = /https?:\/\/[^\s<>]+/y;
/** Only these may be followed. */
const SAFE = /^(?:https?:\/\/|mailto:)/i;

export function parse(text: string): Block[] {
  const blocks: Block[] = [];
  // Every second part stood between fences.
  const parts = text.split('```');
  const open = parts.length % 2 === 0;
  parts.forEach((part, index) => {
    const last = open && index === parts.length - 1;
    if (index % 2 === 1 && !last) {
      blocks.push({ kind: 'code', text: unescape(part.replace(/^\n|\n$/g, '')) });
    } else {
      const between = last ? `\`\`\`${part}` : part;
      // The line breaks beside a block of code belong to it.
      const trimmed = between.replace(index > 0 && !last ? /^\n/ : /^$/, '').replace(index < parts.length - 1 ? /\n$/ : /$^/, '');
      blocks.push(...paragraphs(trimmed));
    }
  });
  return blocks;
}

/** The message in one line, without any marks: for announcements and previews. */
export function plain(text: string, names: { user(id: string): string; channel(id: string): string }): string {
  const flat = (inner: readonly Inline[]): string =>
    inner
      .map((node) => {
        switch (node.kind) {
          case 'text':
          case 'code':
            return node.text;
          case 'link':
            return node.label;
          case 'user':
            return `@${names.user(node.id) || node.label}`;
          case 'channel':
            return `#${names.channel(node.id) || node.label}`;
          case 'everybody':
            return `@${node.name}`;
          case 'emoji':
            return `:${node.name}:`;
          case 'break':
            return ' ';
          default:
            return flat(node.inner);
        }
      })
      .join('');
  return parse(text)
    .map((block) => (block.kind === 'code' ? block.text.replaceAll('\n', ' ') : flat(block.inner)))
    .join(' ')
    .trim();
}

export function unescape(text: string): string {
  return text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
}

export function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function paragraphs(text: string): Block[] {
  if (text === '') {
    return [];
  }
  const blocks: { kind: 'lines' | 'quote'; lines: string[] }[] = [];
  for (const line of text.split('\n')) {
    const [, quoted] = /^(?:&gt;|>) ?(.*)$/.exec(line) ?? [];
    const kind = quoted === undefined ? 'lines' : 'quote';
    const last = blocks.at(-1);
    if (last?.kind === kind) {
      last.lines.push(quoted ?? line);
    } else {
      blocks.push({ kind, lines: [quoted ?? line] });
    }
  }
  return blocks.map(({ kind, lines }) => ({ kind, inner: inline(lines.join('\n')) }));
}

/** Reads a run of text. What has no end is the characters it is made of. */
function inline(text: string): Inline[] {
  const found: Inline[] = [];
  /** Marks of which is known that none of them ends in the rest of the text. */
  const endless = new Set<string>();
  let plainFrom = 0;
  let at = nextSpecial(text, 0);
  while (at < text.length) {
    const [node, end] = special(text, at, endless) ?? [null, at + 1];
    if (node !== null) {
      pushText(found, text.slice(plainFrom, at));
      found.push(node);
      plainFrom = end;
    }
    at = nextSpecial(text, end);
  }
  pushText(found, text.slice(plainFrom));
  return found;
}

function nextSpecial(text: string, from: number): number {
  SPECIAL.lastIndex = from;
  return SPECIAL.exec(text)?.index ?? text.length;
}

function pushText(found: Inline[], text: string): void {
  if (text !== '') {
    found.push({ kind: 'text', text: unescape(text) });
  }
}

/** What begins here, and where it ends. */
function special(text: string, at: number, endless: Set<string>): [Inline, number] | null {
  const first = text[at] ?? '';
  switch (first) {
    case '\n':
      return [{ kind: 'break' }, at + 1];
    case '`':
      return code(text, at, endless);
    case '<':
      return bracketed(text, at, endless);
    case '*':
    case '_':
    case '~':
      return styled(text, at, first, endless);
    case ':':
      return emoji(text, at);
    default:
      return bareLink(text, at);
  }
}

function code(text: string, at: number, endless: Set<string>): [Inline, number] | null {
  const end = endless.has('`') ? -1 : text.indexOf('`', at + 1);
  if (end < 0) {
    endless.add('`');
    return null;
  }
  const inner = text.slice(at + 1, end);
  return inner === '' || inner.includes('\n') ? null : [{ kind: 'code', text: unescape(inner) }, end + 1];
}

function bracketed(text: string, at: number, endless: Set<string>): [Inline, number] | null {
  const end = endless.has('>') ? -1 : text.indexOf('>', at + 1);
  if (end < 0) {
    endless.add('>');
    return null;
  }
  const [target = '', ...rest] = text.slice(at + 1, end).split('|');
  const label = unescape(rest.join('|'));
  const node = reference(target, label);
  return node === null ? null : [node, end + 1];
}

function reference(target: string, label: string): Inline | null {
  const [, sign, id] = /^([@#])([A-Z0-9]{2,40})$/.exec(target) ?? [];
  if (id !== undefined) {
    return { kind: sign === '@' ? 'user' : 'channel', id, label };
  }
  const [, name] = /^!(here|channel|everyone)$/.exec(target) ?? [];
  if (name !== undefined) {
    return { kind: 'everybody', name };
  }
  const href = unescape(target);
  return SAFE.test(href) ? { kind: 'link', href, label: label || href.replace(/^mailto:/i, '') } : null;
}

/** `*bold*`: a mark stands at the edge of a word, on one line, and not around nothing. */
function styled(text: string, at: number, mark: Mark, endless: Set<string>): [Inline, number] | null {
  const [before = '', next = ''] = [text[at - 1] ?? '', text[at + 1] ?? ''];
  if (endless.has(mark) || WORD.test(before) || before === mark || next === mark || next === '' || /\s/.test(next)) {
    return null;
  }
  for (let end = text.indexOf(mark, at + 2); end > 0; end = text.indexOf(mark, end + 1)) {
    const [last = '', after = ''] = [text[end - 1] ?? '', text[end + 1] ?? ''];
    if (!/\s/.test(last) && !WORD.test(after) && after !== mark) {
      const inner = text.slice(at + 1, end);
      return inner.includes('\n') ? null : [{ kind: STYLES[mark], inner: inline(inner) }, end + 1];
    }
  }
  endless.add(mark);
  return null;
}

function emoji(text: string, at: number): [Inline, number] | null {
  EMOJI.lastIndex = at;
  const [whole, name] = EMOJI.exec(text) ?? [];
  return whole === undefined || name === undefined ? null : [{ kind: 'emoji', name }, at + whole.length];
}

function bareLink(text: string, at: number): [Inline, number] | null {
  URL_BARE.lastIndex = at;
  const [whole] = URL_BARE.exec(text) ?? [];
  // What ends the sentence is not part of the address.
  const address = whole?.replace(/(?:[.,;:!?'"*_~)\]]|&gt;)+$/, '') ?? '';
  if (!/^https?:\/\/[^/]/.test(address)) {
    return null;
  }
  const href = unescape(address);
  return [{ kind: 'link', href, label: href }, at + address.length];
}
