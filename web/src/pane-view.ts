/** A pane on the screen: writes what it is told, once per frame, and reports the button. */

import { find, setText } from './dom.js';
import { formatLatency } from './latency.js';
import { Rows } from './rows.js';

/** How many characters of an epoch are shown; the whole is in its tooltip. */
const EPOCH_CHARS = 8;

/** What the connection of a pane is doing. */
export type PaneState = 'connecting' | 'live' | 'catching up' | 'dropped' | 'refused';

/** How a sentence is meant. */
export type Tone = 'quiet' | 'good' | 'busy' | 'bad';

/** Everything a pane shows besides its rows. */
export interface PaneFacts {
  state: PaneState;
  epoch: string | null;
  seq: number | null;
  head: number;
  received: number;
  missing: number;
  repeated: number;
  late: number;
  expired: number;
  median: number | null;
  banner: string;
  tone: Tone;
  button: string;
  /** The share of a drop that is still to come, 1 to 0; null when nothing is counted down. */
  countdown: number | null;
}

/** The elements of one pane. */
export class PaneView {
  readonly rows: Rows;
  readonly #root: HTMLElement;
  readonly #facts: () => PaneFacts;
  #scheduled = false;

  /**
   * @param host where the pane is put
   * @param name the pane's name for scripts (`data-pane`)
   * @param facts asked for what to show, when a frame is due
   */
  constructor(
    host: HTMLElement,
    name: string,
    title: string,
    subtitle: string,
    facts: () => PaneFacts,
  ) {
    const template = find(document, '#pane-template', HTMLTemplateElement);
    const copy = template.content.cloneNode(true) as DocumentFragment;
    this.#root = find(copy, '.pane', HTMLElement);
    this.#root.dataset['pane'] = name;
    this.#root.setAttribute('aria-label', title);
    setText(this.#field('title'), title);
    setText(this.#field('subtitle'), subtitle);
    this.#field('scroll').setAttribute('aria-label', `Messages over ${title}`);
    this.rows = new Rows(this.#root);
    this.#facts = facts;
    host.append(copy);
  }

  /** Calls back when the pane's button is pressed. */
  onButton(pressed: () => void): void {
    this.#field('drop').addEventListener('click', pressed);
  }

  /** Something has changed: the next frame shows it. */
  invalidate(): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      requestAnimationFrame(() => {
        this.#scheduled = false;
        this.#write(this.#facts());
      });
    }
  }

  #write(facts: PaneFacts): void {
    this.rows.flush();
    const state = this.#field('state');
    setText(state, facts.state);
    state.dataset['state'] = facts.state.replace(' ', '-');
    const epoch = this.#field('epoch');
    setText(epoch, facts.epoch?.slice(0, EPOCH_CHARS) ?? '–');
    epoch.title = facts.epoch ?? '';
    setText(this.#field('seq'), facts.seq === null ? '–' : String(facts.seq));
    setText(
      this.#field('head'),
      facts.seq === null ? '' : ` of ${Math.max(facts.head, facts.seq)}`,
    );
    setText(this.#field('median'), facts.median === null ? '–' : formatLatency(facts.median));
    setText(this.#field('received'), String(facts.received));
    this.#count('missing', facts.missing);
    this.#count('repeated', facts.repeated);
    this.#count('late', facts.late).hidden = facts.late === 0;
    this.#count('expired', facts.expired).hidden = facts.expired === 0;
    const banner = this.#field('banner');
    setText(banner, facts.banner);
    banner.dataset['tone'] = facts.tone;
    setText(this.#field('drop'), facts.button);
    const countdown = this.#field('countdown');
    countdown.hidden = facts.countdown === null;
    countdown.style.transform = `scaleX(${facts.countdown ?? 0})`;
  }

  #count(name: string, value: number): HTMLElement {
    const field = this.#field(name);
    setText(field, String(value));
    const count = field.parentElement ?? field;
    count.dataset['good'] = String(value === 0);
    return count;
  }

  #field(name: string): HTMLElement {
    return find(this.#root, `[data-field=${name}]`, HTMLElement);
  }
}
