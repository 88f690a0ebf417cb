/** Running checks one after the other, and waiting for what must come. */

import { isDeepStrictEqual } from 'node:util';

/** How often a condition is looked at, in milliseconds. */
const GLANCE_MS = 20;

/** A check that did not hold. */
export class CheckFailed extends Error {}

/** Fails unless the condition holds. */
export function ensure(condition, message) {
  if (!condition) {
    throw new CheckFailed(message);
  }
}

/** Fails unless both are the same, all the way down. */
export function ensureEqual(actual, expected, what) {
  if (!isDeepStrictEqual(actual, expected)) {
    throw new CheckFailed(`${what}: expected ${show(expected)}, got ${show(actual)}`);
  }
}

/** Fails unless the sequences are `first` to `last`, each once and in order. */
export function ensureSequence(seqs, first, last, what) {
  for (let index = 0; index < seqs.length; index += 1) {
    const due = first + index;
    if (seqs[index] !== due) {
      const around = seqs.slice(Math.max(0, index - 2), index + 3);
      throw new CheckFailed(`${what}: expected ${due} as number ${index + 1}, got … ${around} …`);
    }
  }
  ensureEqual(seqs.length, last - first + 1, `${what}: how many of ${first} to ${last} came`);
}

/** Waits until `look` gives something truthy, and gives that; `describe` says what was instead. */
export async function until(patience, what, look, describe = () => '') {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) {
      return found;
    }
    if (Date.now() > end) {
      const instead = await describe();
      throw new CheckFailed(
        `waited ${patience / 1000} s for: ${what}${instead ? `; ${instead}` : ''}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, GLANCE_MS));
  }
}

/** Runs the checks, prints each as it holds, cleans up, and leaves with 0 only if all held. */
export async function run(name, checks, cleanUp = async () => {}) {
  let code = 0;
  const done = (what) => console.log(`  ok  ${what}`);
  console.log(name);
  try {
    await checks(done);
    console.log(`${name}: all checks hold`);
  } catch (error) {
    code = 1;
    console.error(`${name}: FAILED: ${error instanceof CheckFailed ? error.message : error.stack}`);
  }
  await cleanUp().catch((error) => console.error(`cleaning up: ${error.message}`));
  process.exit(code);
}

function show(value) {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
