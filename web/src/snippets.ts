/** Commands for a terminal that do what the page does, and the buttons that copy them. */

import { make, setText } from './dom.js';

/** How long a button says that it has copied, in milliseconds. */
const COPIED_MS = 1500;

/** One command. */
export interface Snippet {
  title: string;
  command: string;
}

/** The commands for a channel of the server at `origin`. */
export function snippetsFor(origin: string, channel: string): Snippet[] {
  const post = (method: string, body: unknown): string =>
    `curl ${origin}/api/${method} -H 'Content-Type: application/json' \\\n` +
    `  -d ${quote(JSON.stringify(body))}`;
  const query = encodeURIComponent(channel).replaceAll('%3A', ':');
  return [
    { title: 'Listen', command: `curl -N ${quote(`${origin}/events?channel=${query}`)}` },
    { title: 'Publish', command: post('publish', { channel, data: 'hello from a terminal' }) },
    { title: 'Read back', command: post('history', { channel, limit: 10, reverse: true }) },
  ];
}

/** A word for a POSIX shell, whatever is in it. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Shows the commands in place of those shown before. */
export function renderSnippets(host: HTMLElement, snippets: Snippet[]): void {
  host.replaceChildren(
    ...snippets.map(({ title, command }) => {
      const figure = make('figure', 'snippet');
      const pre = make('pre', '');
      pre.tabIndex = 0;
      pre.append(make('code', '', command));
      const button = make('button', 'copy', 'Copy');
      button.type = 'button';
      button.dataset['copy'] = command;
      button.setAttribute('aria-label', `Copy: ${title}`);
      figure.append(make('figcaption', '', title), pre, button);
      return figure;
    }),
  );
}

/** Makes every button with `data-copy` work, those to come included. */
export function enableCopying(announce: (text: string) => void): void {
  document.addEventListener('click', (event) => {
    const button =
      event.target instanceof Element ? event.target.closest('button[data-copy]') : null;
    if (button instanceof HTMLButtonElement) {
      void copy(button.dataset['copy'] ?? '').then((copied) => {
        setText(button, copied ? 'Copied' : 'Press Ctrl+C');
        announce(copied ? 'Copied' : 'The command is selected');
        setTimeout(() => setText(button, 'Copy'), COPIED_MS);
        if (!copied) {
          select(button);
        }
      });
    }
  });
}

/** False where the browser withholds the clipboard (plain HTTP on another machine). */
async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function select(button: HTMLButtonElement): void {
  const code = button.parentElement?.querySelector('code');
  if (code) {
    getSelection()?.selectAllChildren(code);
  }
}
