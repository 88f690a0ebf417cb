/** Draws a message's text. The tree becomes elements of a few kinds and text nodes, and nothing else. */

import { make } from '../../dom.js';
import { signOf } from '../model/emoji.js';
import { parse, type Inline } from '../model/mrkdwn.js';

export interface Naming {
  /** Empty for one who is not known. */
  user(id: string): string;
  channel(id: string): string;
  self: string;
}

/** Only signs: these are drawn large. */
const SIGNS_MAX = 6;

export function drawText(into: HTMLElement, text: string, naming: Naming): void {
  const blocks = parse(text);
  const [only] = blocks;
  const signs = blocks.length === 1 && only?.kind === 'lines' ? only.inner.filter((node) => !isBlank(node)) : [];
  into.classList.toggle('signs', signs.length > 0 && signs.length <= SIGNS_MAX && signs.every(isSign));
  into.replaceChildren(
    ...blocks.map((block) => {
      if (block.kind === 'code') {
        const pre = make('pre', 'code-block');
        pre.tabIndex = 0;
        pre.append(make('code', '', block.text));
        return pre;
      }
      const element = make(block.kind === 'quote' ? 'blockquote' : 'p', '');
      element.append(...block.inner.map((node) => drawn(node, naming)));
      return element;
    }),
  );
}

function drawn(node: Inline, naming: Naming): Node {
  switch (node.kind) {
    case 'text':
      return document.createTextNode(node.text);
    case 'break':
      return document.createElement('br');
    case 'code':
      return make('code', 'code', node.text);
    case 'bold':
      return styled('strong', node.inner, naming);
    case 'italic':
      return styled('em', node.inner, naming);
    case 'strike':
      return styled('s', node.inner, naming);
    case 'emoji': {
      const sign = signOf(node.name);
      const element = make('span', sign.startsWith(':') ? '' : 'emoji', sign);
      element.title = `:${node.name}:`;
      return element;
    }
    case 'user': {
      const element = make('span', 'mention', `@${naming.user(node.id) || node.label || node.id}`);
      element.dataset['user'] = node.id;
      element.classList.toggle('mine', node.id === naming.self);
      return element;
    }
    case 'everybody':
      return make('span', 'mention mine', `@${node.name}`);
    case 'channel': {
      const link = make('a', 'mention', `#${naming.channel(node.id) || node.label || node.id}`);
      link.href = `#/${node.id}`;
      return link;
    }
    case 'link': {
      const link = make('a', 'link', node.label);
      link.href = node.href;
      link.target = '_blank';
      link.rel = 'noopener noreferrer nofollow';
      return link;
    }
  }
}

function styled(tag: 'strong' | 'em' | 's', inner: readonly Inline[], naming: Naming): HTMLElement {
  const element = make(tag, '');
  element.append(...inner.map((node) => drawn(node, naming)));
  return element;
}

function isSign(node: Inline): boolean {
  return node.kind === 'emoji' && !signOf(node.name).startsWith(':');
}

function isBlank(node: Inline): boolean {
  return node.kind === 'break' || (node.kind === 'text' && node.text.trim() === '');
}
