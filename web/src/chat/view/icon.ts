/** Small parts that several views draw. */

import { make } from '../../dom.js';
import { colourOf, initialsOf } from '../../mail/model/text.js';

const SVG = 'http://www.w3.org/2000/svg';

/** A sign of the page's own, by its name. */
export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows a sign, and says what it does. */
export function tool(name: string, label: string, act: (button: HTMLButtonElement) => void): HTMLButtonElement {
  const button = make('button', 'tool');
  button.type = 'button';
  button.title = label;
  button.setAttribute('aria-label', label);
  button.append(icon(name));
  button.addEventListener('click', () => act(button));
  return button;
}

export function textButton(label: string, act: () => void, className = 'text-button'): HTMLButtonElement {
  const button = make('button', className, label);
  button.type = 'button';
  button.addEventListener('click', act);
  return button;
}

export function avatar(id: string, name: string, className = 'avatar'): HTMLElement {
  const sign = make('span', className, initialsOf(name));
  sign.dataset['colour'] = String(colourOf(id));
  sign.setAttribute('aria-hidden', 'true');
  return sign;
}

export function presence(here: boolean): HTMLElement {
  const dot = make('span', 'presence');
  dot.dataset['here'] = String(here);
  dot.append(make('span', 'visually-hidden', here ? 'here' : 'away'));
  return dot;
}
