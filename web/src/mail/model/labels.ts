/** Which messages a list is of. */

import type { Label } from './protocol.js';

/** A list: a label's id, or everything but the bin and spam. */
export type View = string;

export const INBOX: View = 'INBOX';
export const UNREAD: View = 'UNREAD';
export const STARRED: View = 'STARRED';
export const ALL: View = 'ALL';

/** The lists that every mailbox has, in their order. */
export const FIXED: readonly Label[] = [
  { id: INBOX, name: 'Inbox' },
  { id: UNREAD, name: 'Unread' },
  { id: STARRED, name: 'Starred' },
  { id: ALL, name: 'All mail' },
];

/** Labels of Gmail's own, which say where a message is and are shown by no chip. */
const SYSTEM = /^(INBOX|UNREAD|STARRED|IMPORTANT|SENT|DRAFT|DRAFTS|TRASH|SPAM|CHAT|(CATEGORY|YELLOW|BLUE|RED|GREEN|ORANGE|PURPLE)_.*)$/;
const HIDDEN = ['TRASH', 'SPAM'];

export function isUserLabel(id: string): boolean {
  return !SYSTEM.test(id);
}

/** Whether a message with these labels belongs into a list. What is in the bin or spam belongs into none. */
export function belongs(view: View, labels: readonly string[]): boolean {
  return !labels.some((label) => HIDDEN.includes(label)) && (view === ALL || labels.includes(view));
}

export function isUnread(labels: readonly string[]): boolean {
  return labels.includes(UNREAD);
}
