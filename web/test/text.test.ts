import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import {
  channelFromHash,
  channelProblem,
  DEFAULT_CHANNEL,
  hashFromChannel,
} from '../src/channel.js';
import { MAX_SHOWN_CHARS, payloadText, randomId, sentAt } from '../src/payload.js';
import { quote, snippetsFor } from '../src/snippets.js';

describe('channel in the address', () => {
  it('comes back as it went in, whatever it holds', () => {
    for (const channel of ['demo:lobby', 'a b', 'ü:✓', '%41', "it's#1?&"]) {
      assert.equal(channelFromHash(hashFromChannel(channel)), channel);
    }
  });

  it('stays readable', () => {
    assert.equal(hashFromChannel('demo:lobby'), '#demo:lobby');
  });

  it('is the default where the address names none, or none that can be', () => {
    for (const hash of ['', '#', '#%E0%A4%A', `#${'x'.repeat(256)}`]) {
      assert.equal(channelFromHash(hash), DEFAULT_CHANNEL);
    }
  });

  it('is measured in bytes', () => {
    assert.equal(channelProblem('x'.repeat(255)), null);
    assert.notEqual(channelProblem('ü'.repeat(128)), null);
    assert.notEqual(channelProblem(''), null);
  });
});

describe('payload', () => {
  const own = { text: 'hi', sent: 12.5, page: 'p' };

  it('of this page tells when it was sent', () => {
    assert.equal(sentAt(own, 'p'), 12.5);
  });

  it('of anyone else does not', () => {
    for (const data of [own.text, null, 7, [own], { ...own, page: 'q' }, { ...own, sent: '12' }]) {
      assert.equal(sentAt(data, 'p'), null);
    }
  });

  it('is shown as its words or as JSON', () => {
    assert.equal(payloadText(own), 'hi');
    assert.equal(payloadText({ a: [1, '<b>'] }), '{"a":[1,"<b>"]}');
    assert.equal(payloadText(undefined), '');
  });

  it('is shown up to a limit', () => {
    assert.equal(payloadText('x'.repeat(1000)).length, MAX_SHOWN_CHARS + 1);
  });

  it('ids are 128 bits and differ', () => {
    assert.match(randomId(), /^[0-9a-f]{32}$/);
    assert.notEqual(randomId(), randomId());
  });
});

describe('snippets', () => {
  it('survive a shell whatever the channel is called', () => {
    assert.equal(quote("a'b"), "'a'\\''b'");
    const commands = snippetsFor('http://h:1', "it's $(x)").map(({ command }) => command);
    assert.equal(commands[0], "curl -N 'http://h:1/events?channel=it'\\''s%20%24(x)'");
    assert.ok(commands[1]?.includes(`-d '{"channel":"it'\\''s $(x)","data"`));
  });
});
