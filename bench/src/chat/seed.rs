//! A workspace of a certain size, written straight into the tables of the chat: this is the benchmark's work, not the product's.
//!
//! Words are `w1`, `w2` … with the frequencies of a natural language: word k is as frequent as 1/k. A few channels have most of the messages.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;

use crate::chat::args::ChatArgs;

/// The workspace.
pub(crate) const TEAM: &str = "T0BENCH0000";
/// How many words there are.
pub(crate) const WORDS: usize = 50_000;
/// Users with tokens.
pub(crate) const CALLERS: usize = 40;
/// The first message, in microseconds since 1970, and between two of them on average.
const BEGIN: i64 = 1_700_000_000_000_000;
const STEP: i64 = 30_000_000;
/// A user who has read nothing is every second of those with a token; the others have read all but these.
const UNREAD: i64 = 20;

/// The id of a channel.
pub(crate) fn channel(number: usize) -> String {
    format!("C0BENCH{number:06}")
}

/// The id of a user.
pub(crate) fn user(number: usize) -> String {
    format!("U0BENCH{number:06}")
}

/// The token of a user.
pub(crate) fn token(number: usize) -> String {
    format!("xoxp-bench-{number:06}")
}

/// The SQL for PostgreSQL: parts that are run one after the other.
pub(crate) fn sql(args: &ChatArgs) -> Vec<String> {
    let ChatArgs {
        messages,
        channels,
        users,
        ..
    } = *args;
    let (last_channel, last_user) = (channels.saturating_sub(1), users.saturating_sub(1));
    let everywhere = CALLERS.min(users);
    let tokens: Vec<String> = (0..everywhere)
        .map(|number| {
            let token = digest::digest(&digest::SHA256, token(number).as_bytes());
            let digest = URL_SAFE_NO_PAD.encode(token);
            format!(
                "('{digest}', 'user', '{TEAM}', '{}', NULL, 0, NULL)",
                user(number)
            )
        })
        .collect();
    let words = WORDS as f64;
    let log = words.ln();
    let part = |sql: String| format!("SET search_path = chat; SELECT setseed(0.5); {sql}");
    vec![
        part(format!(
            "INSERT INTO chat_teams (id, domain, name, created) VALUES ('{TEAM}', 'bench', 'Bench', 0);
             INSERT INTO chat_users (id, team, name, real_name, is_admin, deleted, away, created, updated)
                SELECT 'U0BENCH' || LPAD(i::TEXT, 6, '0'), '{TEAM}', 'user' || i, 'User ' || i, 0, 0, 0, 0, 0
                FROM generate_series(0, {last_user}) i;
             INSERT INTO chat_tokens (digest, kind, team, user_id, app, created, expires) VALUES {};
             INSERT INTO chat_conversations (id, team, kind, name, topic, topic_by, topic_at, purpose, purpose_by, purpose_at, creator,
                    created, archived, members, last_ts, last_message)
                SELECT 'C0BENCH' || LPAD(i::TEXT, 6, '0'), '{TEAM}', CASE WHEN i % 5 = 4 THEN 'private' ELSE 'public' END, 'channel-' || i,
                    'What is talked about', '', 0, 'What it is for', '', 0, '{}', 0, 0, 0, 0, 0
                FROM generate_series(0, {last_channel}) i;",
            tokens.join(", "),
            user(0)
        )),
        // The index is made at once at the end.
        part("DROP INDEX chat_search_words;".to_owned()),
        part(format!(
            "INSERT INTO chat_messages (conversation, ts, user_id, text, shown, reply_count, deleted)
                SELECT 'C0BENCH' || LPAD(FLOOR({channels} * RANDOM() ^ 3)::INT::TEXT, 6, '0'), {BEGIN} + i * {STEP}::BIGINT,
                    'U0BENCH' || LPAD(FLOOR({users} * RANDOM())::INT::TEXT, 6, '0'),
                    (SELECT STRING_AGG('w' || FLOOR(EXP(RANDOM() * {log}))::INT, ' ') FROM generate_series(1, 4 + (i % 13)::INT))
                        || CASE WHEN i % 20 = 0 THEN ' https://example.com/' || i ELSE '' END, 1, 0, 0
                FROM generate_series(0::BIGINT, {messages} - 1) i;"
        )),
        part(
            "CREATE INDEX chat_search_words ON chat_search USING gin (words) WITH (fastupdate = off);".to_owned(),
        ),
        part(format!(
            "UPDATE chat_conversations c SET last_ts = m.ts, last_message = m.ts
                FROM (SELECT conversation, MAX(ts) AS ts FROM chat_messages GROUP BY conversation) m WHERE m.conversation = c.id;
             INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open)
                SELECT c.id, u.id, 0, CASE WHEN u.name LIKE '%1' OR u.name LIKE '%3' OR u.name LIKE '%5' OR u.name LIKE '%7' OR u.name LIKE '%9'
                        THEN 0 ELSE COALESCE((SELECT m.ts FROM chat_messages m WHERE m.conversation = c.id ORDER BY m.ts DESC
                            OFFSET {UNREAD} LIMIT 1), 0) END, 1
                FROM chat_users u JOIN chat_conversations c ON c.team = u.team
                WHERE u.team = '{TEAM}' AND (u.id < '{}' OR (HASHTEXT(c.id || u.id) % 25) = 0);
             UPDATE chat_conversations c SET members = (SELECT COUNT(*) FROM chat_members m WHERE m.conversation = c.id) WHERE team = '{TEAM}';",
            user(everywhere)
        )),
        "VACUUM ANALYZE;".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_chat() {
        for id in [channel(499), user(999), TEAM.to_owned()] {
            assert!((9..=21).contains(&id.len()));
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
            );
        }
    }
}
