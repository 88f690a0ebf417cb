/** The round sign that stands for a member. */

import { make } from '../../dom.js';
import { colourOf, initialsOf } from '../text.js';

/** How many colours the style sheet has. */
const COLOURS = 8;

export function avatar(oderId: string, name: string): HTMLElement {
  const sign = make('span', 'avatar', initialsOf(name));
  sign.dataset['colour'] = String(colourOf(oderId, COLOURS));
  sign.setAttribute('aria-hidden', 'true');
  return sign;
}
