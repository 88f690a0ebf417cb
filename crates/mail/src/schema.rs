//! The tables of the mail app, and all statements on them.
//!
//! Whoever changes what belongs to a mailbox changes the row of its account first, and only if its `stamp` is the one that it
//! has read: so of two who walk the same history one commits nothing.

use fanfare_engine::port::tables::Migration;

/// The name under which the tables are kept.
pub(crate) const APP: &str = "mail";

/// Rows that [`ROWS`] asks for at once.
pub(crate) const ROWS_ASKED: usize = 50;

/// What the tables have become, step by step.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: "
        CREATE TABLE mail_accounts (
            account TEXT PRIMARY KEY,
            -- In lower case.
            address TEXT NOT NULL UNIQUE,
            -- The refresh token, sealed.
            sealed BLOB NOT NULL,
            -- syncing, live, reconnect
            state TEXT NOT NULL,
            -- Another one after each change of the account's place or messages.
            stamp TEXT NOT NULL,
            -- Everything up to here is in the rows and was told; 0 before the first sync.
            history_id BIGINT NOT NULL DEFAULT 0,
            -- The place from which history is read after the full sync that runs; 0 if none does.
            resync_from BIGINT NOT NULL DEFAULT 0,
            watch_expires BIGINT NOT NULL DEFAULT 0,
            watch_renew_at BIGINT NOT NULL DEFAULT 0,
            -- When to look without having been told to; negative: when somebody asked for it.
            poll_at BIGINT NOT NULL DEFAULT 0,
            last_sync BIGINT NOT NULL DEFAULT 0,
            connected_at BIGINT NOT NULL
        );
        CREATE INDEX mail_accounts_watch ON mail_accounts (watch_renew_at);
        CREATE INDEX mail_accounts_poll ON mail_accounts (poll_at, account);
        CREATE TABLE mail_messages (
            account TEXT NOT NULL,
            id TEXT NOT NULL,
            thread TEXT NOT NULL,
            sender TEXT NOT NULL,
            subject TEXT NOT NULL,
            snippet TEXT NOT NULL,
            -- A JSON array of texts, sorted.
            labels TEXT NOT NULL,
            date BIGINT NOT NULL,
            -- The last place of the history that is in the row.
            version BIGINT NOT NULL,
            -- The full sync that has compared it, named by its resync_from.
            checked BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (account, id)
        );
        CREATE INDEX mail_messages_date ON mail_messages (account, date, id);
        CREATE INDEX mail_messages_version ON mail_messages (account, version, id);",
    postgres: "
        CREATE TABLE mail_accounts (
            account TEXT COLLATE \"C\" PRIMARY KEY,
            address TEXT COLLATE \"C\" NOT NULL UNIQUE,
            sealed BYTEA NOT NULL,
            state TEXT NOT NULL,
            stamp TEXT NOT NULL,
            history_id BIGINT NOT NULL DEFAULT 0,
            resync_from BIGINT NOT NULL DEFAULT 0,
            watch_expires BIGINT NOT NULL DEFAULT 0,
            watch_renew_at BIGINT NOT NULL DEFAULT 0,
            poll_at BIGINT NOT NULL DEFAULT 0,
            last_sync BIGINT NOT NULL DEFAULT 0,
            connected_at BIGINT NOT NULL
        );
        CREATE INDEX mail_accounts_watch ON mail_accounts (watch_renew_at);
        CREATE INDEX mail_accounts_poll ON mail_accounts (poll_at, account);
        CREATE TABLE mail_messages (
            account TEXT COLLATE \"C\" NOT NULL,
            id TEXT COLLATE \"C\" NOT NULL,
            thread TEXT NOT NULL,
            sender TEXT NOT NULL,
            subject TEXT NOT NULL,
            snippet TEXT NOT NULL,
            labels TEXT NOT NULL,
            date BIGINT NOT NULL,
            version BIGINT NOT NULL,
            checked BIGINT NOT NULL DEFAULT 0,
            PRIMARY KEY (account, id)
        );
        CREATE INDEX mail_messages_date ON mail_messages (account, date, id);
        CREATE INDEX mail_messages_version ON mail_messages (account, version, id);",
}];

// === Accounts ===

/// Account.
pub(crate) const ACCOUNT: &str =
    "SELECT account, address, sealed, state, stamp, history_id, resync_from,
        watch_expires, poll_at, last_sync
    FROM mail_accounts WHERE account = $1";

/// Address.
pub(crate) const ACCOUNT_OF: &str =
    "SELECT account, address, sealed, state, stamp, history_id, resync_from,
        watch_expires, poll_at, last_sync
    FROM mail_accounts WHERE address = $1";

/// Address, account: whoever else had the address has it no longer.
pub(crate) const EVICT_MESSAGES: &str = "DELETE FROM mail_messages WHERE account IN
    (SELECT account FROM mail_accounts WHERE address = $1 AND account <> $2)";

/// As [`EVICT_MESSAGES`].
pub(crate) const EVICT: &str = "DELETE FROM mail_accounts WHERE address = $1 AND account <> $2";

/// Account, address, sealed, stamp, time, its negative. An account that was connected before goes on where it was.
pub(crate) const CONNECT: &str = "INSERT INTO mail_accounts
        (account, address, sealed, state, stamp, connected_at, poll_at)
    VALUES ($1, $2, $3, 'syncing', $4, $5, $6)
    ON CONFLICT (account) DO UPDATE SET address = excluded.address, sealed = excluded.sealed,
        state = CASE WHEN mail_accounts.history_id = 0 OR mail_accounts.resync_from <> 0
            THEN 'syncing' ELSE 'live' END,
        stamp = excluded.stamp, watch_renew_at = 0, poll_at = excluded.poll_at";

/// Account.
pub(crate) const DISCONNECT: &str = "DELETE FROM mail_accounts WHERE account = $1";

/// Account.
pub(crate) const FORGET_MESSAGES: &str = "DELETE FROM mail_messages WHERE account = $1";

/// Account, sealed as it was, as it is to be.
pub(crate) const KEEP_GRANT: &str =
    "UPDATE mail_accounts SET sealed = $3 WHERE account = $1 AND sealed = $2";

/// Account, the time, negative: somebody asks for a look.
pub(crate) const ASK: &str =
    "UPDATE mail_accounts SET poll_at = $2 WHERE account = $1 AND state <> 'reconnect'";

/// Account, when to look again.
pub(crate) const POSTPONE: &str =
    "UPDATE mail_accounts SET poll_at = $2 WHERE account = $1 AND state <> 'reconnect'";

/// Account, stamp, new stamp: Google does not let us in any more. Nothing is due until it is connected again.
pub(crate) const LOCK_OUT: &str = "UPDATE mail_accounts SET state = 'reconnect', stamp = $3,
        watch_renew_at = 9223372036854775807, poll_at = 9223372036854775807
    WHERE account = $1 AND stamp = $2 AND state <> 'reconnect'";

// === A walk ===

/// Account, stamp, new stamp, place.
pub(crate) const ADVANCE: &str = "UPDATE mail_accounts SET stamp = $3, history_id = $4
    WHERE account = $1 AND stamp = $2";

/// Account, stamp, new stamp, place, time, when to look again.
pub(crate) const COMPLETE: &str = "UPDATE mail_accounts
    SET stamp = $3, history_id = $4, state = 'live', last_sync = $5, poll_at = $6
    WHERE account = $1 AND stamp = $2";

/// Account, stamp, new stamp, place from which history is read afterwards.
pub(crate) const RESYNC_BEGIN: &str = "UPDATE mail_accounts
    SET stamp = $3, state = 'syncing', resync_from = $4
    WHERE account = $1 AND stamp = $2";

/// Account, stamp, new stamp: the place is the one of [`RESYNC_BEGIN`].
pub(crate) const RESYNC_END: &str = "UPDATE mail_accounts
    SET stamp = $3, state = 'live', history_id = resync_from, resync_from = 0
    WHERE account = $1 AND stamp = $2";

// === Messages ===

/// Account, id, thread, sender, subject, snippet, labels, date, version, checked.
pub(crate) const PUT: &str = "INSERT INTO mail_messages
        (account, id, thread, sender, subject, snippet, labels, date, version, checked)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (account, id) DO UPDATE SET thread = excluded.thread, sender = excluded.sender,
        subject = excluded.subject, snippet = excluded.snippet, labels = excluded.labels,
        date = excluded.date, version = excluded.version, checked = excluded.checked";

/// Account, id.
pub(crate) const REMOVE: &str = "DELETE FROM mail_messages WHERE account = $1 AND id = $2";

/// Account: ids of its history have begun anew.
pub(crate) const FORGET_VERSIONS: &str =
    "UPDATE mail_messages SET version = 0, checked = 0 WHERE account = $1";

/// Account, how many: all but the newest ones and those that changed last are forgotten. Where there are no more than that, there is
/// no first one to be forgotten, and nothing compares with it; otherwise only those beyond it are looked at.
pub(crate) const PRUNE: &str = "DELETE FROM mail_messages WHERE account = $1
    AND (date, id) <= (SELECT date, id FROM mail_messages WHERE account = $1
        ORDER BY date DESC, id DESC LIMIT 1 OFFSET $2)
    AND (version, id) <= (SELECT version, id FROM mail_messages WHERE account = $1
        ORDER BY version DESC, id DESC LIMIT 1 OFFSET $2)";

/// Account, [`ROWS_ASKED`] ids.
pub(crate) const ROWS: &str = "SELECT id, thread, sender, subject, snippet, labels, date, version, checked
    FROM mail_messages WHERE account = $1 AND id IN
    ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
    $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43,
    $44, $45, $46, $47, $48, $49, $50, $51)";

/// Account, full sync: messages that it has not compared.
pub(crate) const UNCHECKED: &str =
    "SELECT id, thread, sender, subject, snippet, labels, date, version, checked
    FROM mail_messages WHERE account = $1 AND checked <> $2 ORDER BY id LIMIT 50";

/// Account, a label as it stands in the array or nothing, date and id of the last one seen, how many, then two labels as they
/// stand in the array, or nothing: those that have one of them are left out.
pub(crate) const PAGE: &str =
    "SELECT id, thread, sender, subject, snippet, labels, date, version, checked
    FROM mail_messages
    WHERE account = $1 AND ($2 = '' OR replace(labels, $2, '') <> labels)
        AND (date < $3 OR (date = $3 AND id < $4))
        AND ($6 = '' OR replace(labels, $6, '') = labels) AND ($7 = '' OR replace(labels, $7, '') = labels)
    ORDER BY date DESC, id DESC LIMIT $5";

/// Account, a label as in [`PAGE`], the label of what is unread, two labels as in [`PAGE`].
pub(crate) const COUNTS: &str =
    "SELECT count(*), count(CASE WHEN replace(labels, $3, '') <> labels THEN 1 END)
    FROM mail_messages
    WHERE account = $1 AND ($2 = '' OR replace(labels, $2, '') <> labels)
        AND ($4 = '' OR replace(labels, $4, '') = labels) AND ($5 = '' OR replace(labels, $5, '') = labels)";

// === What is due ===

/// Time.
pub(crate) const DUE_WATCHES: &str = "SELECT account, watch_renew_at FROM mail_accounts
    WHERE watch_renew_at <= $1 AND state <> 'reconnect' ORDER BY watch_renew_at LIMIT 32";

/// Account, when it was due, until when it is somebody's.
pub(crate) const CLAIM_WATCH: &str = "UPDATE mail_accounts SET watch_renew_at = $3
    WHERE account = $1 AND watch_renew_at = $2 AND state <> 'reconnect'";

/// Account, what [`CLAIM_WATCH`] has set, when to renew, when it ends.
pub(crate) const WATCHED: &str = "UPDATE mail_accounts SET watch_renew_at = $3, watch_expires = $4
    WHERE account = $1 AND watch_renew_at = $2";

/// Account, what [`CLAIM_WATCH`] has set, when to try again.
pub(crate) const NOT_WATCHED: &str = "UPDATE mail_accounts SET watch_renew_at = $3
    WHERE account = $1 AND watch_renew_at = $2";

/// Time, then time and account of the last one seen.
pub(crate) const DUE_POLLS: &str = "SELECT account, address, poll_at FROM mail_accounts
    WHERE poll_at <= $1 AND (poll_at, account) > ($2, $3) AND state <> 'reconnect'
    ORDER BY poll_at, account LIMIT 256";

/// Time. How many accounts there are in each state, and how many of them have a watch that has ended.
pub(crate) const STATES: &str =
    "SELECT state, count(*), count(CASE WHEN watch_expires < $1 THEN 1 END)
    FROM mail_accounts GROUP BY state";
