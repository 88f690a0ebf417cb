/** What the browser keeps for the page. Storage may be switched off or full: then nothing is kept, and nothing breaks. */

const BOX = 'fanfare.mail.box';
const TRANSPORT = 'fanfare.mail.transport';

export function keepBox(text: string): boolean {
  return write(BOX, text);
}

export function keptBox(): string {
  return read(BOX);
}

/** Nobody who comes after sees anything of the mailbox. */
export function forgetBox(): void {
  try {
    localStorage.removeItem(BOX);
  } catch {
    return;
  }
}

export function keepTransport(name: string): void {
  write(TRANSPORT, name);
}

export function keptTransport(): string {
  return read(TRANSPORT);
}

function read(name: string): string {
  try {
    return localStorage.getItem(name) ?? '';
  } catch {
    return '';
  }
}

function write(name: string, value: string): boolean {
  try {
    localStorage.setItem(name, value);
    return true;
  } catch {
    return false;
  }
}
