/** The ready check and the countdown, both over the picture. */

import { find, make, setText } from '../../dom.js';
import { millisecondsOf, type Countdown, type ReadyCheck } from '../protocol.js';
import type { ServerClock } from '../sync/clock.js';
import { avatar } from './avatar.js';

/** How long the outcome of a check stays. */
const OUTCOME_MS = 2_500;
/** A check whose outcome nobody tells stays for so long after its time. */
const UNTOLD_MS = 5_000;
/** How long the last step of a countdown stays after its instant. */
const LAST_STEP_MS = 700;
/** The command at the end of a countdown counts from its last instant, give or take a fraction. */
const SAME_MS = 2;
const WORDS: Record<string, string> = {
  pending: 'waiting',
  ready: 'ready',
  not_ready: 'not yet',
  timeout: 'no answer',
  left: 'left',
};

export class ReadyView {
  readonly #clock: ServerClock;
  readonly #panel = find(document, '#ready', HTMLElement);
  readonly #list = find(document, '#ready-list', HTMLElement);
  readonly #actions = find(document, '#ready-actions', HTMLElement);
  readonly #note = find(document, '#ready-note', HTMLElement);
  readonly #count = find(document, '#count', HTMLElement);
  readonly #step = find(document, '#count-step', HTMLElement);
  #check: ReadyCheck | null = null;
  #over: ReturnType<typeof setTimeout> | undefined;
  #ticking: ReturnType<typeof setInterval> | undefined;
  #goAt = -Infinity;

  constructor(clock: ServerClock, respond: (checkId: string, ready: boolean) => void) {
    this.#clock = clock;
    const answer = (ready: boolean) => () => {
      if (this.#check !== null) {
        respond(this.#check.checkId, ready);
      }
    };
    find(document, '#ready-yes', HTMLButtonElement).addEventListener('click', answer(true));
    find(document, '#ready-no', HTMLButtonElement).addEventListener('click', answer(false));
  }

  show(check: ReadyCheck, me: string): void {
    clearTimeout(this.#over);
    this.#check = check;
    this.#panel.hidden = false;
    const own = check.participants.find(({ oderId }) => oderId === me);
    this.#actions.hidden = own === undefined || own.status !== 'pending';
    if (check.deadline !== undefined) {
      // Its end may be told while the connection is away.
      const left = millisecondsOf(check.deadline) - this.#clock.now();
      this.#over = setTimeout(() => this.hide(), Math.max(0, left) + UNTOLD_MS);
    }
    setText(this.#note, '');
    this.#list.replaceChildren(
      ...check.participants.map(({ oderId, username, status }) => {
        const row = make('li', 'ready-person');
        row.dataset['status'] = status;
        row.append(
          avatar(oderId, username),
          make('span', 'ready-name', username),
          make('span', 'ready-status', WORDS[status] ?? status),
        );
        return row;
      }),
    );
  }

  complete(checkId: string, allReady: boolean): void {
    if (this.#check?.checkId !== checkId) {
      return;
    }
    this.#actions.hidden = true;
    setText(this.#note, allReady ? 'Everybody is ready.' : 'Not everybody is ready. Try again in a moment.');
    this.#check = null;
    this.#over = setTimeout(() => this.hide(), allReady ? 300 : OUTCOME_MS);
  }

  hide(): void {
    clearTimeout(this.#over);
    this.#check = null;
    this.#panel.hidden = true;
  }

  /** Counts down by the server's clock: everybody sees the same step at the same time. */
  countDown({ steps, serverStartTime, goAt }: Countdown): void {
    this.hide();
    clearInterval(this.#ticking);
    this.#goAt = goAt;
    const length = (goAt - serverStartTime) / Math.max(1, steps.length);
    const tick = (): void => {
      const now = this.#clock.now();
      if (now > goAt + LAST_STEP_MS) {
        this.stopCounting();
        return;
      }
      const index = Math.min(steps.length - 1, Math.floor((now - serverStartTime) / length));
      this.#count.hidden = index < 0;
      const text = index < 0 ? '' : String(steps[index]);
      if (this.#step.textContent !== text) {
        this.#step.textContent = text;
        this.#step.classList.remove('beat');
        // Reading the size makes the animation begin anew.
        void this.#step.offsetWidth;
        this.#step.classList.add('beat');
      }
    };
    this.#ticking = setInterval(tick, 30);
    tick();
  }

  /** A command that counts from `at`: any but the one at the end of the countdown takes its place. */
  commanded(at: number): void {
    if (Math.abs(at - this.#goAt) > SAME_MS) {
      this.stopCounting();
    }
  }

  stopCounting(): void {
    clearInterval(this.#ticking);
    this.#count.hidden = true;
    this.#step.textContent = '';
  }
}
