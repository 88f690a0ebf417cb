//! The tables of the app. Statements stand beside those who use them.

use fanfare_engine::port::tables::Migration;

use crate::search;

/// The app's name in the database.
pub(crate) const APP: &str = "chat";

/// The steps of the schema.
pub(crate) static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sqlite: V1,
        postgres: V1,
    },
    Migration {
        version: 2,
        sqlite: search::SQLITE,
        postgres: search::POSTGRES,
    },
];

/// `ts` are microseconds since 1970, `created` and the like seconds. Flags are 0 or 1.
///
/// `chat_conversations.last_ts` is the sequencer of a conversation: every change of it takes its `ts` there, under the row's lock.
/// Messages that were deleted keep their row (`deleted`), so that what was posted with a key is never posted again.
/// `chat_messages.reactions` counts the rows of `chat_reactions` of a message. A row of `chat_mentions` with an empty `user_id` calls everybody;
/// the others are gone once they are read. `chat_scheduled.due` is when a message is tried next, at first `post_at`.
const V1: &str = "
CREATE TABLE chat_teams (
    id TEXT PRIMARY KEY,
    domain TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created BIGINT NOT NULL
);
CREATE TABLE chat_users (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    real_name TEXT NOT NULL,
    email TEXT,
    password TEXT,
    oidc_subject TEXT,
    app TEXT,
    bot TEXT,
    is_admin BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    away BIGINT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    UNIQUE (team, name)
);
CREATE UNIQUE INDEX chat_users_email ON chat_users (team, email);
CREATE UNIQUE INDEX chat_users_oidc ON chat_users (team, oidc_subject);
CREATE TABLE chat_tokens (
    digest TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    team TEXT NOT NULL,
    user_id TEXT NOT NULL,
    app TEXT,
    created BIGINT NOT NULL,
    expires BIGINT
);
CREATE INDEX chat_tokens_user ON chat_tokens (user_id);
CREATE INDEX chat_tokens_expires ON chat_tokens (expires);
CREATE TABLE chat_invites (
    digest TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    uses_left BIGINT NOT NULL
);
CREATE TABLE chat_once (
    what TEXT PRIMARY KEY
);
CREATE TABLE chat_apps (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    bot_user TEXT NOT NULL UNIQUE,
    created BIGINT NOT NULL
);
CREATE TABLE chat_conversations (
    id TEXT PRIMARY KEY,
    team TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    direct_key TEXT,
    topic TEXT NOT NULL,
    topic_by TEXT NOT NULL,
    topic_at BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    purpose_by TEXT NOT NULL,
    purpose_at BIGINT NOT NULL,
    creator TEXT NOT NULL,
    created BIGINT NOT NULL,
    archived BIGINT NOT NULL,
    is_general BIGINT NOT NULL DEFAULT 0,
    members BIGINT NOT NULL,
    last_ts BIGINT NOT NULL,
    last_message BIGINT NOT NULL
);
CREATE UNIQUE INDEX chat_conversations_name ON chat_conversations (team, name);
CREATE INDEX chat_conversations_team ON chat_conversations (team, id);
CREATE UNIQUE INDEX chat_conversations_direct ON chat_conversations (team, direct_key);
CREATE TABLE chat_members (
    conversation TEXT NOT NULL,
    user_id TEXT NOT NULL,
    joined BIGINT NOT NULL,
    last_read BIGINT NOT NULL,
    is_open BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id)
);
CREATE INDEX chat_members_user ON chat_members (user_id, conversation);
CREATE TABLE chat_messages (
    conversation TEXT NOT NULL,
    ts BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    subtype TEXT,
    text TEXT NOT NULL,
    more TEXT,
    thread_ts BIGINT,
    shown BIGINT NOT NULL,
    edited_by TEXT,
    edited_ts BIGINT,
    reply_count BIGINT NOT NULL,
    latest_reply BIGINT,
    client_msg_id TEXT,
    deleted BIGINT NOT NULL,
    reactions BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, ts)
);
CREATE INDEX chat_messages_shown ON chat_messages (conversation, ts, user_id, subtype) WHERE shown = 1 AND deleted = 0;
CREATE INDEX chat_messages_thread ON chat_messages (conversation, thread_ts, ts, user_id) WHERE thread_ts IS NOT NULL AND deleted = 0;
CREATE UNIQUE INDEX chat_messages_key ON chat_messages (conversation, user_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
CREATE TABLE chat_reactions (
    conversation TEXT NOT NULL,
    ts BIGINT NOT NULL,
    name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_ts BIGINT NOT NULL,
    PRIMARY KEY (conversation, ts, name, user_id)
);
CREATE INDEX chat_reactions_user ON chat_reactions (user_id, conversation, ts);
CREATE TABLE chat_mentions (
    conversation TEXT NOT NULL,
    user_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id, ts)
);
CREATE INDEX chat_mentions_message ON chat_mentions (conversation, ts);
CREATE TABLE chat_scheduled (
    id TEXT PRIMARY KEY,
    conversation TEXT NOT NULL,
    user_id TEXT NOT NULL,
    post_at BIGINT NOT NULL,
    due BIGINT NOT NULL,
    text TEXT NOT NULL,
    more TEXT,
    thread_ts BIGINT,
    broadcast BIGINT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX chat_scheduled_due ON chat_scheduled (due);
CREATE INDEX chat_scheduled_user ON chat_scheduled (user_id, conversation, post_at);
CREATE TABLE chat_tickets (
    digest TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    token TEXT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX chat_tickets_app ON chat_tickets (app, expires);
CREATE TABLE chat_app_readers (
    app TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    beat BIGINT NOT NULL,
    acknowledged BIGINT NOT NULL
);
";
