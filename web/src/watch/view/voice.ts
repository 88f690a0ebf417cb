/** The buttons of the voice. */

import { find, setText } from '../../dom.js';
import type { Voice } from '../voice.js';

export class VoiceView {
  readonly #voice: Voice;
  readonly #join = find(document, '#voice-join', HTMLButtonElement);
  readonly #label = find(document, '#voice-join-label', HTMLElement);
  readonly #mute = find(document, '#voice-mute', HTMLButtonElement);
  readonly #icon = find(document, '#voice-icon', SVGUseElement);
  readonly #note = find(document, '#voice-note', HTMLElement);

  constructor(voice: Voice) {
    this.#voice = voice;
    this.#join.onclick = () => {
      if (voice.state === 'off') {
        void voice.join();
      } else {
        voice.leave();
      }
    };
    this.#mute.onclick = () => voice.toggleMute();
    // Without a secure page there is no microphone to ask for.
    this.#join.disabled = navigator.mediaDevices === undefined;
    this.#join.title = this.#join.disabled ? 'Voice needs a page that comes over https' : '';
  }

  show(): void {
    const { state, muted } = this.#voice;
    setText(this.#label, { off: 'Talk', asking: 'Asking …', on: 'Stop talking' }[state]);
    this.#join.dataset['state'] = state;
    this.#mute.hidden = state !== 'on';
    this.#mute.setAttribute('aria-pressed', String(muted));
    this.#icon.setAttribute('href', muted ? '#i-mic-off' : '#i-mic');
    setText(this.#note, state === 'on' ? noteOf(this.#voice) : '');
  }
}

function noteOf({ reached, muted }: Voice): string {
  const mine = muted ? 'You are muted. ' : '';
  if (reached.of === 0) {
    return `${mine}Nobody else is talking yet.`;
  }
  const all = reached.connected === reached.of;
  const others = `${reached.of} ${reached.of === 1 ? 'other' : 'others'}`;
  return all ? `${mine}Connected with ${others}.` : `${mine}Connecting with ${others} …`;
}
