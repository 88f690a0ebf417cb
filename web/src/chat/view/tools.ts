/** What can be done with the message that is pointed at: one set of buttons, which moves from row to row. */

import { make } from '../../dom.js';
import type { Message } from '../model/message.js';
import { tool } from './icon.js';

export interface ToolActions {
  react(message: Message, name: string): void;
  pick(message: Message, beside: HTMLElement): void;
  thread(message: Message): void;
  edit(message: Message): void;
  remove(message: Message): void;
  link(message: Message): void;
  may(message: Message): { answer: boolean; edit: boolean; remove: boolean };
}

const QUICK = [
  ['+1', '👍', 'React with thumbs up'],
  ['white_check_mark', '✅', 'React with a check mark'],
] as const;

export class RowTools {
  readonly #element = make('div', 'row-tools');
  readonly #actions: ToolActions;
  readonly #inThread: boolean;
  #message: Message | null = null;
  #row: HTMLElement | null = null;

  constructor(actions: ToolActions, inThread: boolean) {
    this.#actions = actions;
    this.#inThread = inThread;
    this.#element.setAttribute('role', 'toolbar');
    this.#element.setAttribute('aria-label', 'This message');
  }

  show(row: HTMLElement, message: Message): void {
    if (this.#row === row && this.#message === message && this.#element.parentElement === row) {
      return;
    }
    [this.#row, this.#message] = [row, message];
    const { answer, edit, remove } = this.#actions.may(message);
    const buttons: HTMLElement[] = [];
    if (answer) {
      for (const [name, sign, label] of QUICK) {
        const button = make('button', 'tool quick', sign);
        button.type = 'button';
        button.title = label;
        button.setAttribute('aria-label', label);
        button.addEventListener('click', () => this.#actions.react(message, name));
        buttons.push(button);
      }
      buttons.push(tool('smile', 'Add a reaction', (button) => this.#actions.pick(message, button)));
      if (!this.#inThread) {
        buttons.push(tool('reply', 'Reply in a thread', () => this.#actions.thread(message)));
      }
    }
    if (edit) {
      buttons.push(tool('edit', 'Edit', () => this.#actions.edit(message)));
    }
    buttons.push(tool('link', 'Copy the link', () => this.#actions.link(message)));
    if (remove) {
      buttons.push(tool('bin', 'Delete', () => this.#actions.remove(message)));
    }
    this.#element.replaceChildren(...buttons);
    row.append(this.#element);
  }
}
