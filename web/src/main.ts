/** The page: one channel, a publisher, and the same channel over two wires. */

import { channelFromHash, channelProblem, hashFromChannel } from './channel.js';
import { find, setText } from './dom.js';
import { EventSourceFeed } from './feed-eventsource.js';
import { WebSocketFeed } from './feed-websocket.js';
import { Head } from './head.js';
import { Pane } from './pane.js';
import { randomId } from './payload.js';
import { Publisher } from './publisher.js';
import { enableCopying, renderSnippets, snippetsFor } from './snippets.js';

const announcer = find(document, '#announcer', HTMLElement);
const announce = (text: string): void => setText(announcer, text);
const page = randomId();
const host = find(document, '#panes', HTMLElement);
const input = find(document, '#channel', HTMLInputElement);
const form = find(document, '#publisher', HTMLFormElement);
const snippets = find(document, '#snippets', HTMLElement);

const publisher = new Publisher(page, announce);
const panes = [
  new Pane({
    host,
    name: 'websocket',
    title: 'WebSocket',
    subtitle: 'the official Centrifuge client',
    open: (channel, listener) => new WebSocketFeed(channel, listener),
    page,
    announce,
  }),
  new Pane({
    host,
    name: 'eventsource',
    title: 'Server-sent events',
    subtitle: 'the browser’s own EventSource',
    open: (channel, listener) => new EventSourceFeed(channel, listener),
    page,
    announce,
  }),
];

let shown = '';

function show(channel: string): void {
  input.value = channel;
  if (channel === shown) {
    return;
  }
  shown = channel;
  document.title = `${channel} · Fanfare`;
  const head = new Head(() => panes.forEach((pane) => pane.headMoved()));
  publisher.use(channel, head);
  panes.forEach((pane) => pane.show(channel, head));
  renderSnippets(snippets, snippetsFor(location.origin, channel));
}

/** Takes the channel that has been typed; false when it cannot be one. */
function takeChannel(): boolean {
  const channel = input.value.trim();
  const problem = channelProblem(channel);
  input.setCustomValidity(problem ?? '');
  if (problem !== null) {
    input.reportValidity();
    return false;
  }
  if (channel !== shown) {
    history.pushState(null, '', hashFromChannel(channel));
    show(channel);
  }
  return true;
}

input.addEventListener('change', takeChannel);
input.addEventListener('input', () => input.setCustomValidity(''));
input.addEventListener('keydown', (event) => {
  // Enter in this field means the channel, not a publish into it.
  if (event.key === 'Enter') {
    event.preventDefault();
    takeChannel();
  }
});
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (takeChannel()) {
    publisher.one();
  }
});
addEventListener('popstate', () => show(channelFromHash(location.hash)));

enableCopying(announce);
history.replaceState(null, '', hashFromChannel(channelFromHash(location.hash)));
show(channelFromHash(location.hash));
