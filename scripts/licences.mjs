// Checks that the licence of every dependency is one that deny.toml allows: all crates of the build, all npm packages.
// Needs cargo and Node.js only. Ends with 1 and the list of what is not allowed.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const METADATA_BYTES_MAX = 256 * 1024 * 1024;
// Also allowed for tools that only run while something is built, and of which nothing is in what is built.
const TOOL_LICENCES = ['MPL-2.0'];
// Packages whose manifest names their licence in the old form, a list, which npm does not put into lock files. As it stands there.
const OLD_FORM = { 'xmlhttprequest-ssl': 'MIT' };
const LOCK_FILES = ['web/package-lock.json', 'tests/browser/package-lock.json'];

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const allowed = readAllowed();
const dependencies = [...crates(), ...packages()];
const refused = dependencies.filter(
  ({ licence, tool }) => !isAllowed(licence) && !(tool && TOOL_LICENCES.includes(licence)),
);

for (const { name, licence } of refused) {
  console.error(`${name}: ${licence || 'no licence given'}`);
}
if (dependencies.length === 0) {
  console.error('no dependency was found, which cannot be');
  process.exit(1);
}
if (refused.length > 0) {
  console.error(`${refused.length} of ${dependencies.length} dependencies have a licence that deny.toml does not allow`);
  process.exit(1);
}
console.log(`licences of ${dependencies.length} dependencies: all allowed`);

/** The `allow` list of the `[licenses]` table. */
function readAllowed() {
  const text = readFileSync(join(root, 'deny.toml'), 'utf8');
  const table = text.split(/^\[licenses\]$/m)[1]?.split(/^\[/m)[0] ?? '';
  const list = table.match(/^allow = \[([^\]]*)\]/m)?.[1];
  if (!list) {
    throw new Error('deny.toml has no [licenses] allow list');
  }
  return new Set([...list.matchAll(/"([^"]+)"/g)].map((match) => match[1]));
}

function crates() {
  const host = run('rustc', ['-vV']).match(/^host: (.+)$/m)[1];
  const metadata = JSON.parse(run('cargo', ['metadata', '--format-version', '1', '--locked', '--filter-platform', host]));
  const used = new Set(metadata.resolve.nodes.map((node) => node.id));
  return metadata.packages
    .filter((crate) => crate.source !== null && used.has(crate.id))
    .map((crate) => ({ name: `${crate.name} ${crate.version}`, licence: crate.license, tool: false }));
}

function packages() {
  return LOCK_FILES.filter((file) => existsSync(join(root, file))).flatMap((file) => {
    const lock = JSON.parse(readFileSync(join(root, file), 'utf8'));
    return Object.entries(lock.packages)
      .filter(([path]) => path !== '')
      .map(([path, entry]) => {
        const name = path.replace(/^.*node_modules\//, '');
        return {
          name: `${name} ${entry.version} (${file})`,
          licence: entry.license ?? OLD_FORM[name],
          tool: entry.dev === true,
        };
      });
  });
}

/** Reads an SPDX expression: one side of OR must be allowed, both sides of AND. */
function isAllowed(expression) {
  if (!expression) {
    return false;
  }
  // Some old crates write a slash for OR.
  const tokens = expression.replaceAll('/', ' OR ').match(/\(|\)|[^\s()]+/g);
  const or = () => {
    let result = and();
    while (tokens[0] === 'OR') {
      tokens.shift();
      const right = and();
      result = result || right;
    }
    return result;
  };
  const and = () => {
    let result = one();
    while (tokens[0] === 'AND') {
      tokens.shift();
      const right = one();
      result = result && right;
    }
    return result;
  };
  const one = () => {
    if (tokens[0] === '(') {
      tokens.shift();
      const result = or();
      tokens.shift();
      return result;
    }
    let licence = tokens.shift();
    if (tokens[0] === 'WITH') {
      licence += ` ${tokens.shift()} ${tokens.shift()}`;
    }
    return allowed.has(licence);
  };
  return or() && tokens.length === 0;
}

function run(program, args) {
  return execFileSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: METADATA_BYTES_MAX });
}
