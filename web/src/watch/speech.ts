/** The voice of a room: between the connection, the peers, and the list of people. */

import type { Link } from './link.js';
import type { Members } from './members.js';
import { toast } from './view/toast.js';
import { VoiceView } from './view/voice.js';
import { Voice } from './voice.js';

/** Voice in the room that `link` is connected to. */
export function openVoice(link: Link, members: Members): Voice {
  let view: VoiceView | null = null;
  const voice: Voice = new Voice({
    ask: (event, data) => link.ask(event, data),
    changed: () => {
      if (members.me !== '') {
        const { state, speaking } = voice;
        members.voice(members.me, state !== 'on' ? 'none' : speaking ? 'speaking' : 'in');
      }
      view?.show();
    },
    problem: (text) => toast(text),
  });
  view = new VoiceView(voice);
  listen(link, members, voice);
  return voice;
}

function listen(link: Link, members: Members, voice: Voice): void {
  const { socket } = link;
  socket.on('voice:ice:servers', ({ iceServers }) => voice.servers(iceServers));
  socket.on('voice:peers', ({ peers }) => {
    const ids = peers.map((peer) => (typeof peer === 'string' ? peer : peer.oderId));
    members.voices(ids);
    voice.peers(ids);
  });
  socket.on('voice:peer:joined', ({ oderId }) => {
    if (oderId !== members.me) {
      voice.left(oderId);
      members.voice(oderId, 'in');
    }
  });
  socket.on('voice:peer:left', ({ oderId }) => {
    voice.left(oderId);
    members.voice(oderId, 'none');
  });
  socket.on('voice:speaking', ({ oderId, isSpeaking }) => {
    members.voice(oderId, isSpeaking ? 'speaking' : 'in');
  });
  socket.on('voice:signal', ({ fromId, signal }) => void voice.signal(fromId, signal));
  socket.on('voice:replaced', ({ sessionId }) => {
    if (sessionId !== link.sessionId && voice.state !== 'off') {
      voice.stop();
      toast('You are talking in another tab now');
    }
  });
}
