/** The command line of the checks: `--name value` pairs and bare `--name` switches. */

import { parseArgs } from 'node:util';

const COMMON = {
  url: { type: 'string' },
  'api-key': { type: 'string' },
  patience: { type: 'string', default: '20' },
  help: { type: 'boolean', default: false },
};

/**
 * Reads the arguments that all checks share and those of one check.
 * `url` comes back without a trailing slash, `patience` in milliseconds.
 */
export function readArgs(usage, options = {}) {
  let values;
  try {
    ({ values } = parseArgs({ options: { ...COMMON, ...options } }));
  } catch (error) {
    stop(`${error.message}\n${usage}`, 2);
  }
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  if (!values.url) {
    stop(`--url is missing\n${usage}`, 2);
  }
  const patience = Number(values.patience) * 1000;
  if (!(patience > 0)) {
    stop('--patience is a number of seconds above 0', 2);
  }
  return { ...values, url: values.url.replace(/\/+$/, ''), patience };
}

/** Says why and leaves. */
function stop(message, code) {
  console.error(message);
  process.exit(code);
}
