/** A question before something that cannot be taken back, and short words about what was done. */

import { find, setText } from '../../dom.js';

export interface Question {
  title: string;
  text: string;
  quote?: string;
  yes: string;
}

const TOAST_MS = 5_000;

const dialog = (): HTMLDialogElement => find(document, '#confirm', HTMLDialogElement);

/** Whether the user wants it. Escape, or anywhere beside, is a no. */
export async function ask({ title, text, quote = '', yes }: Question): Promise<boolean> {
  const box = dialog();
  const [yesButton, noButton] = ['#confirm-yes', '#confirm-no'].map((selector) => find(document, selector, HTMLButtonElement));
  setText(find(document, '#confirm-title', HTMLElement), title);
  setText(find(document, '#confirm-text', HTMLElement), text);
  const quoted = find(document, '#confirm-quote', HTMLElement);
  quoted.hidden = quote === '';
  setText(quoted, quote);
  if (yesButton === undefined || noButton === undefined) {
    return false;
  }
  setText(yesButton, yes);
  box.returnValue = '';
  yesButton.onclick = () => box.close('yes');
  noButton.onclick = () => box.close('');
  box.onclick = (event) => event.target === box && box.close('');
  box.showModal();
  yesButton.focus();
  return await new Promise((resolve) => box.addEventListener('close', () => resolve(box.returnValue === 'yes'), { once: true }));
}

let toastTimer: number | undefined;

export function toast(text: string): void {
  const element = find(document, '#toast', HTMLElement);
  element.hidden = false;
  setText(element, text);
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => (element.hidden = true), TOAST_MS);
}
