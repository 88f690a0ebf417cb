//! The statements of a search. All of them take the user and the workspace, and find nothing that the user may not read.

use super::Order;

/// How matches are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By FTS5, which yields them in the order of their ids.
    Sqlite,
    /// By the index, all of them, to be sorted.
    Index,
    /// By walking back in time, or forth, over everything until there are enough.
    Walk,
}

/// What the user may read. It is no plain condition, so that PostgreSQL makes it once, as a set, instead of joining it.
macro_rules! readable {
    ($team:literal, $user:literal) => {
        concat!(
            "(s.conversation IN (SELECT v.id FROM chat_conversations v WHERE v.team = ",
            $team,
            " AND v.kind = 'public' UNION ALL SELECT w.conversation FROM chat_members w WHERE w.user_id = ",
            $user,
            ")) IS TRUE"
        )
    };
}

/// From the candidates to the page, and how many there are: one row at least.
macro_rules! page {
    ($found:expr, $score:expr, $order:literal, $limit:literal, $offset:literal) => {
        concat!(
            "SELECT f.total, f.conversation, f.ts, f.score, f.user_id, f.text, f.thread_ts, f.kind, f.name, f.direct_key, f.user_name \
             FROM (WITH found AS MATERIALIZED (",
            $found,
            "), page AS MATERIALIZED (SELECT f.conversation, f.ts, ",
            $score,
            " AS score FROM found f ORDER BY ",
            $order,
            ", f.conversation LIMIT ",
            $limit,
            " OFFSET ",
            $offset,
            ") SELECT t.total, m.conversation, f.ts, f.score, m.user_id, m.text, m.thread_ts, c.kind, c.name, c.direct_key, u.name AS user_name \
             FROM (SELECT COUNT(*) AS total FROM found) t LEFT JOIN page f ON 1 = 1 \
             LEFT JOIN chat_messages m ON m.conversation = f.conversation AND m.ts = f.ts AND m.deleted = 0 \
             LEFT JOIN chat_conversations c ON c.id = m.conversation LEFT JOIN chat_users u ON u.id = m.user_id) f ORDER BY ",
            $order,
            ", f.conversation"
        )
    };
}

/// $1 what FTS5 is asked, $2 team, $3 user, $4 from, $5 until, $6 candidates, $7 limit, $8 offset. An id is not less than its `ts`.
macro_rules! sqlite {
    ($score:literal, $candidates:literal, $order:literal) => {
        page!(
            concat!(
                "SELECT s.conversation, s.ts, ",
                $score,
                " AS score FROM chat_words JOIN chat_search s ON s.id = chat_words.rowid \
                 WHERE chat_words MATCH $1 AND chat_words.rowid >= $4 AND s.ts >= $4 AND s.ts < $5 AND ",
                readable!("$2", "$3"),
                " ORDER BY chat_words.rowid ",
                $candidates,
                " LIMIT $6"
            ),
            "f.score",
            $order,
            "$7",
            "$8"
        )
    };
}

/// What is asked, made once for a statement.
macro_rules! words {
    () => {
        "(SELECT to_tsquery('simple', chat_plain(CAST($1 AS TEXT))))"
    };
}
macro_rules! asked {
    () => {
        concat!(
            "(SELECT to_tsquery('simple', chat_plain(CAST($1 AS TEXT))) && CAST(CAST($2 AS TEXT) AS tsquery))"
        )
    };
}

/// $1 words, $2 marks, $3 team, $4 user, $5 from, $6 until, $7 candidates, $8 limit, $9 offset. What must not choose the index is
/// written so that it cannot.
macro_rules! by_index {
    ($score:expr, $candidates:literal, $order:literal) => {
        page!(
            concat!(
                "SELECT s.conversation, s.ts, s.words FROM chat_search s WHERE s.words @@ ",
                asked!(),
                " AND s.ts + 0 >= $5 AND s.ts + 0 < $6 AND ",
                readable!("$3", "$4"),
                " ORDER BY s.ts + 0 ",
                $candidates,
                " LIMIT $7"
            ),
            $score,
            $order,
            "$8",
            "$9"
        )
    };
}

macro_rules! by_walk {
    ($score:expr, $candidates:literal, $order:literal) => {
        page!(
            concat!(
                "SELECT s.conversation, s.ts, s.words FROM chat_search s WHERE s.team = $3 AND s.ts >= $5 AND s.ts < $6 AND (s.words @@ ",
                asked!(),
                ") IS TRUE AND ",
                readable!("$3", "$4"),
                " ORDER BY s.ts ",
                $candidates,
                " LIMIT $7"
            ),
            $score,
            $order,
            "$8",
            "$9"
        )
    };
}

/// Lengthy messages are not better because they are lengthy.
macro_rules! rank {
    () => {
        concat!(
            "CAST(ts_rank(f.words, ",
            words!(),
            ", 1) * 1000000 AS BIGINT)"
        )
    };
}

/// How many messages, up to $7, and how many of them are matches.
macro_rules! sample {
    ($candidates:literal) => {
        concat!(
            "SELECT COUNT(*), COUNT(*) FILTER (WHERE x.hit) FROM (SELECT (s.words @@ ",
            asked!(),
            ") IS TRUE AND ",
            readable!("$3", "$4"),
            " AS hit FROM chat_search s WHERE s.team = $3 AND s.ts >= $5 AND s.ts < $6 ORDER BY s.ts ",
            $candidates,
            " LIMIT $7) x"
        )
    };
}

/// The statement.
pub(super) fn of(way: Way, order: Order) -> &'static str {
    match (way, order) {
        (Way::Sqlite, Order::Score) => sqlite!(
            "CAST(bm25(chat_words, 1.0, 0.0) * -1000000 AS BIGINT)",
            "DESC",
            "f.score DESC, f.ts DESC"
        ),
        (Way::Sqlite, Order::NewestFirst) => sqlite!("0", "DESC", "f.ts DESC"),
        (Way::Sqlite, Order::OldestFirst) => sqlite!("0", "ASC", "f.ts"),
        (Way::Index, Order::Score) => by_index!(rank!(), "DESC", "score DESC, f.ts DESC"),
        (Way::Index, Order::NewestFirst) => by_index!("CAST(0 AS BIGINT)", "DESC", "f.ts DESC"),
        (Way::Index, Order::OldestFirst) => by_index!("CAST(0 AS BIGINT)", "ASC", "f.ts"),
        (Way::Walk, Order::Score) => by_walk!(rank!(), "DESC", "score DESC, f.ts DESC"),
        (Way::Walk, Order::NewestFirst) => by_walk!("CAST(0 AS BIGINT)", "DESC", "f.ts DESC"),
        (Way::Walk, Order::OldestFirst) => by_walk!("CAST(0 AS BIGINT)", "ASC", "f.ts"),
    }
}

/// The statement that looks whether matches are frequent where a walk would begin.
pub(super) fn sample(order: Order) -> &'static str {
    match order {
        Order::Score | Order::NewestFirst => sample!("DESC"),
        Order::OldestFirst => sample!("ASC"),
    }
}
