/**
 * What became of an official suite: `centrifuge-suites.mjs js RESULT.json…` (of jest) or `python LOG` (of pytest -rA). Ends with 1 unless exactly
 * those cases failed that the table in docs/migrate-from-centrifugo.md names: | `js` | `the case` | why |.
 */

import { readFileSync } from 'node:fs';

const DOCUMENT = new URL('../docs/migrate-from-centrifugo.md', import.meta.url);

const [suite, ...paths] = process.argv.slice(2);
const read = { js: ofJest, python: ofPytest }[suite];
if (!read || paths.length === 0) {
  console.error('usage: centrifuge-suites.mjs js|python RESULT');
  process.exit(2);
}
const cases = paths.flatMap((path) => read(readFileSync(path, 'utf8')));
const known = new Set(namedIn(readFileSync(DOCUMENT, 'utf8')));
const named = (outcome) => cases.filter((it) => it.outcome === outcome).map((it) => it.name);
const failed = named('failed');
const passed = named('passed');
const unexpected = failed.filter((name) => !known.has(name));
const stale = [...known].filter((name) => !failed.includes(name));

console.log(
  `${suite}: ${passed.length} passed, ${failed.length} failed, ${failed.length - unexpected.length} of them known, ` +
    `${named('skipped').length} skipped`,
);
unexpected.forEach((name) => console.log(`  FAILED ${name}`));
stale.forEach((name) => console.log(`  does not fail, and is said to: ${name}`));
process.exit(passed.length > 0 && unexpected.length + stale.length === 0 ? 0 : 1);

function ofJest(text) {
  const outcomes = { passed: 'passed', failed: 'failed' };
  return JSON.parse(text).testResults.flatMap(({ name, assertionResults, message }) =>
    assertionResults.length > 0
      ? assertionResults.map((it) => ({
          name: it.fullName,
          outcome: outcomes[it.status] ?? 'skipped',
        }))
      : [{ name: `${name}: ${message}`, outcome: 'failed' }],
  );
}

function ofPytest(text) {
  const outcomes = { PASSED: 'passed', FAILED: 'failed', ERROR: 'failed', SKIPPED: 'skipped' };
  const cases = new Map();
  for (const [, word, name] of text.matchAll(/^(PASSED|FAILED|ERROR|SKIPPED) (\S+)/gm)) {
    cases.set(name.replace(/^tests\//, ''), outcomes[word]);
  }
  return [...cases].map(([name, outcome]) => ({ name, outcome }));
}

function namedIn(document) {
  const rows = document.matchAll(/^\| `(\w+)` \| `([^`]+)` \|/gm);
  return [...rows].filter(([, of]) => of === suite).map(([, , name]) => name);
}
