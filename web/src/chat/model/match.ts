/** Finding by a few letters: for the quick switcher, and for what is completed while one types. */

/** How well a name fits: higher is better, 0 not at all. */
export function fit(name: string, wanted: string): number {
  const [all, part] = [name.toLowerCase(), wanted.toLowerCase().trim()];
  if (part === '') {
    return 1;
  }
  if (all === part) {
    return 100;
  }
  if (all.startsWith(part)) {
    return 80;
  }
  if (all.split(/[\s._-]+/).some((word) => word.startsWith(part))) {
    return 60;
  }
  if (all.includes(part)) {
    return 40;
  }
  return holdsInOrder(all, part) ? 10 : 0;
}

/** The entries that fit, best first; equal ones in the order in which they are given. */
export function ranked<T>(entries: readonly T[], wanted: string, names: (entry: T) => readonly string[], most: number): T[] {
  return entries
    .map((entry) => ({ entry, fit: Math.max(0, ...names(entry).map((name) => fit(name, wanted))) }))
    .filter((found) => found.fit > 0)
    .sort((left, right) => right.fit - left.fit)
    .slice(0, most)
    .map(({ entry }) => entry);
}

function holdsInOrder(all: string, part: string): boolean {
  let from = 0;
  for (const letter of part) {
    const at = all.indexOf(letter, from);
    if (at < 0) {
      return false;
    }
    from = at + letter.length;
  }
  return true;
}
