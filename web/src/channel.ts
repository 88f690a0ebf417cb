/** Which channel the page shows, kept in the fragment of its address. */

/** The channel of a fresh page. */
export const DEFAULT_CHANNEL = 'demo:lobby';

/** The longest channel name the server takes, in bytes of UTF-8. */
export const MAX_CHANNEL_BYTES = 255;

/** The channel that a fragment (`#demo:lobby`) names; the default where it names none. */
export function channelFromHash(hash: string): string {
  const text = hash.startsWith('#') ? hash.slice(1) : hash;
  try {
    const channel = decodeURIComponent(text);
    return channelProblem(channel) === null ? channel : DEFAULT_CHANNEL;
  } catch {
    return DEFAULT_CHANNEL;
  }
}

/** The fragment for a channel, readable where an address allows it. */
export function hashFromChannel(channel: string): string {
  return `#${encodeURIComponent(channel).replaceAll('%3A', ':')}`;
}

/** What is wrong with a name before the server is asked; null when nothing is. */
export function channelProblem(channel: string): string | null {
  if (channel === '') {
    return 'A channel needs a name, such as demo:lobby.';
  }
  if (new TextEncoder().encode(channel).length > MAX_CHANNEL_BYTES) {
    return `A channel name has at most ${MAX_CHANNEL_BYTES} bytes.`;
  }
  return null;
}
