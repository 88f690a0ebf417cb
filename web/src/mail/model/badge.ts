/** How unread messages are told outside of the page: in the title, in the icon of the tab. */

/** Larger numbers are not written out. */
const SHOWN_MAX = 99;

export function badgeText(unread: number): string {
  return unread > SHOWN_MAX ? `${SHOWN_MAX}+` : String(unread);
}

export function titleText(unread: number, view: string, live: boolean): string {
  const count = unread > 0 ? `(${badgeText(unread)}) ` : '';
  return `${live ? '' : '⚠ '}${count}${view} · Fanfare mail`;
}

/** An envelope, with a badge on it if anything is unread; grey while what it says may be old. */
export function faviconSvg(unread: number, live: boolean): string {
  const [paper, line] = live ? ['#f2b33d', '#1c1a17'] : ['#b5ada0', '#3a362f'];
  const label = badgeText(unread);
  const wide = label.length > 1;
  const badge =
    unread > 0
      ? `<rect x="${wide ? 8 : 14}" y="12" width="${wide ? 24 : 18}" height="20" rx="9" fill="${live ? '#c5221f' : '#5d574d'}"/>` +
        `<text x="${wide ? 20 : 23}" y="${label.length > 2 ? 26.2 : 27.4}" text-anchor="middle" font-family="sans-serif" font-weight="700" ` +
        `font-size="${label.length > 2 ? 12 : 15}" fill="#fff">${label}</text>`
      : '';
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">' +
    `<rect x="1" y="4" width="30" height="23" rx="5" fill="${paper}"/>` +
    `<path d="M4 9.5l12 8.5 12-8.5" fill="none" stroke="${line}" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round"/>` +
    `${badge}</svg>`
  );
}

export function faviconHref(unread: number, live: boolean): string {
  return `data:image/svg+xml,${encodeURIComponent(faviconSvg(unread, live))}`;
}
