/** The parts of the page, and going round them with F6. */

/** Where the keyboard goes within a part: to what is current, or the last message, or the first thing that takes it. */
const ENTRANCES = [
  '.side-entry[aria-current]',
  'textarea:not([disabled])',
  '.messages .row:last-of-type',
  'input:not([type=radio]):not([disabled])',
  '.messages',
  'button:not([hidden]), a[href]',
];

export function goRound(step: 1 | -1): void {
  const regions = [...document.querySelectorAll<HTMLElement>('[data-region]')].filter((region) => region.offsetParent !== null);
  const at = regions.findIndex((region) => region.contains(document.activeElement));
  for (let tried = 1; tried <= regions.length; tried += 1) {
    const region = regions[(Math.max(at, step > 0 ? -1 : 0) + step * tried + regions.length * 2) % regions.length];
    if (region !== undefined && enter(region)) {
      return;
    }
  }
}

function enter(region: HTMLElement): boolean {
  for (const selector of ENTRANCES) {
    const found = [...region.querySelectorAll<HTMLElement>(selector)].filter((element) => element.offsetParent !== null);
    const target = selector.includes(':last') ? found.at(-1) : found[0];
    if (target !== undefined) {
      target.focus();
      return document.activeElement === target;
    }
  }
  return false;
}
