/** What the page says in words: days, and what went wrong. */

import { daysBetween } from '../../mail/model/text.js';

const DATE = new Intl.DateTimeFormat('en', { weekday: 'long', month: 'long', day: 'numeric' });
const DATE_OF_YEAR = new Intl.DateTimeFormat('en', { month: 'long', day: 'numeric', year: 'numeric' });

/** Above a day's messages: `Today`, `Yesterday`, `Tuesday, March 3`. */
export function dayName(at: number, now: number): string {
  const days = daysBetween(at, now);
  if (days === 0) {
    return 'Today';
  }
  return days === 1 ? 'Yesterday' : (days < 300 ? DATE : DATE_OF_YEAR).format(at);
}

const WORDS: Readonly<Record<string, string>> = {
  offline: 'No connection to the server.',
  timeout: 'The server did not answer in time.',
  not_authed: 'You are signed out.',
  invalid_auth: 'You are signed out.',
  token_revoked: 'You are signed out.',
  token_expired: 'You are signed out.',
  account_inactive: 'This account is no longer active.',
  channel_not_found: 'This conversation does not exist, or is not open to you.',
  not_in_channel: 'You are not in this channel.',
  is_archived: 'This channel is archived.',
  msg_too_long: 'The message is too long.',
  no_text: 'There is nothing to send.',
  ratelimited: 'That was too fast; please wait a moment.',
  rate_limited: 'That was too fast; please wait a moment.',
  service_unavailable: 'The server cannot take it just now.',
  fatal_error: 'The server does not know whether it was taken; it is tried again.',
  message_not_found: 'The message is no longer there.',
  thread_not_found: 'The thread is no longer there.',
  cant_update_message: 'This message cannot be edited.',
  cant_delete_message: 'This message cannot be deleted.',
  edit_window_closed: 'It is too late to edit this message.',
  too_many_reactions: 'There are too many reactions on this message.',
  too_many_emoji: 'There are too many reactions on this message.',
  name_taken: 'There is a channel of this name already.',
  invalid_name: 'A name is letters, digits, - and _.',
  invalid_name_required: 'A channel needs a name.',
  invalid_name_punctuation: 'A name needs a letter or digit.',
  invalid_name_maxlength: 'The name is too long (80 at most).',
  invalid_name_specials: 'A name is lower-case letters, digits, - and _.',
  restricted_action: 'You may not do this here.',
  user_not_found: 'There is no such user.',
  cant_invite_self: 'You are here already.',
  already_in_channel: 'Already in the channel.',
  cant_leave_general: 'Nobody leaves this channel.',
  last_member: 'The last member cannot leave a private channel.',
  invalid_email: 'This is not an e-mail address.',
  email_taken: 'There is an account with this address already. Sign in instead.',
  already_registered: 'There is an account with this address already. Sign in instead.',
  invalid_credentials: 'The address or the password is wrong.',
  wrong_password: 'The address or the password is wrong.',
  weak_password: 'This password is too short or too easy to guess.',
  password_too_short: 'The password is too short.',
  invalid_password: 'This password will not do.',
  team_not_found: 'There is no such workspace.',
  invite_invalid: 'This invitation is not valid, or no longer.',
  invalid_invite: 'This invitation is not valid, or no longer.',
  signup_disabled: 'New accounts are by invitation only here.',
  oidc_denied: 'You did not let us know who you are.',
  oidc_expired: 'Signing in took too long. Try again.',
  oidc_state: 'Signing in began in another browser or tab. Try again.',
  oidc_identity: 'The answer about who you are is not valid. Try again.',
  oidc_failed: 'Signing in did not work. Try again.',
  oidc_unavailable: 'The other server cannot say who you are just now.',
  invalid_origin: 'Begin on this page.',
};

/** A code of the server in words. */
export function reasonOf(code: string): string {
  return WORDS[code] ?? `The server refused (${code}).`;
}
