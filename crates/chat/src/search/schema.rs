//! What is searched: beside each message that can be found, its words and its marks, kept by triggers of the database. So whatever changes a
//! message changes in the same transaction what it is found by.
//!
//! Marks say what is not in the text: the workspace, the conversation, the author, links, threads, reactions. They are words of the same
//! index, of a form that no text has, so that the index alone answers `word from:somebody in:somewhere`. They narrow what is looked
//! through; what somebody may read is another condition of each search.

/// Subtypes that can be found; `NULL` can. What was deleted and what the server says of a channel cannot.
macro_rules! can_be_found {
    ($row:literal) => {
        concat!(
            $row,
            ".deleted = 0 AND COALESCE(",
            $row,
            ".subtype, '') IN ('', 'me_message', 'thread_broadcast', 'bot_message')"
        )
    };
}

/// Whether an update changes what a message is found by.
macro_rules! is_other {
    ($distinct:literal) => {
        concat!(
            "OLD.text ",
            $distinct,
            " NEW.text OR OLD.subtype ",
            $distinct,
            " NEW.subtype OR OLD.deleted ",
            $distinct,
            " NEW.deleted OR OLD.user_id ",
            $distinct,
            " NEW.user_id OR OLD.thread_ts ",
            $distinct,
            " NEW.thread_ts OR (OLD.reply_count > 0) ",
            $distinct,
            " (NEW.reply_count > 0)"
        )
    };
}

/// Words of FTS5, which keeps nothing but the index. `chat_search.id` is the message's `ts`, or the next that is free: so the newest are
/// found first without sorting.
macro_rules! sqlite_words {
    ($row:literal) => {
        concat!(
            "INSERT INTO chat_search (id, conversation, ts)
    SELECT CASE WHEN NOT EXISTS (SELECT 1 FROM chat_search WHERE id = ",
            $row,
            ".ts) THEN ",
            $row,
            ".ts ELSE (SELECT a.id + 1 FROM chat_search a WHERE a.id >= ",
            $row,
            ".ts AND NOT EXISTS (SELECT 1 FROM chat_search b WHERE b.id = a.id + 1) ORDER BY a.id LIMIT 1) END, ",
            $row,
            ".conversation, ",
            $row,
            ".ts WHERE ",
            can_be_found!($row),
            ";
    INSERT INTO chat_words (rowid, words, marks) SELECT s.id, ",
            $row,
            ".text, ",
            sqlite_marks!($row),
            " FROM chat_search s WHERE s.conversation = ",
            $row,
            ".conversation AND s.ts = ",
            $row,
            ".ts;"
        )
    };
}

macro_rules! sqlite_marks {
    ($row:literal) => {
        concat!(
            "'t' || (SELECT c.team FROM chat_conversations c WHERE c.id = ",
            $row,
            ".conversation) || ' c' || ",
            $row,
            ".conversation || ' u' || ",
            $row,
            ".user_id || CASE WHEN INSTR(LOWER(",
            $row,
            ".text), 'https://') + INSTR(LOWER(",
            $row,
            ".text), 'http://') > 0 THEN ' link' ELSE '' END || CASE WHEN ",
            $row,
            ".thread_ts IS NOT NULL OR ",
            $row,
            ".reply_count > 0 THEN ' thread' ELSE '' END || CASE WHEN EXISTS (SELECT 1 FROM chat_reactions r WHERE r.conversation = ",
            $row,
            ".conversation AND r.ts = ",
            $row,
            ".ts) THEN ' reaction' ELSE '' END"
        )
    };
}

macro_rules! sqlite_forget {
    ($row:literal) => {
        concat!(
            "DELETE FROM chat_words WHERE rowid IN (SELECT s.id FROM chat_search s WHERE s.conversation = ",
            $row,
            ".conversation AND s.ts = ",
            $row,
            ".ts);"
        )
    };
}

/// SQLite: FTS5.
pub(crate) const SQLITE: &str = concat!(
    "
CREATE TABLE chat_search (
    id INTEGER PRIMARY KEY,
    conversation TEXT NOT NULL,
    ts BIGINT NOT NULL,
    UNIQUE (conversation, ts)
);
CREATE VIRTUAL TABLE chat_words USING fts5(words, marks, content='', contentless_delete=1, prefix='3',
    tokenize='unicode61 remove_diacritics 2');
CREATE TRIGGER chat_search_insert AFTER INSERT ON chat_messages WHEN ",
    can_be_found!("NEW"),
    " BEGIN
    ",
    sqlite_words!("NEW"),
    "
END;
CREATE TRIGGER chat_search_update AFTER UPDATE ON chat_messages WHEN ",
    is_other!("IS NOT"),
    " BEGIN
    ",
    sqlite_forget!("OLD"),
    "
    DELETE FROM chat_search WHERE conversation = OLD.conversation AND ts = OLD.ts;
    ",
    sqlite_words!("NEW"),
    "
END;
CREATE TRIGGER chat_search_delete AFTER DELETE ON chat_messages BEGIN
    ",
    sqlite_forget!("OLD"),
    "
    DELETE FROM chat_search WHERE conversation = OLD.conversation AND ts = OLD.ts;
END;
CREATE TRIGGER chat_search_reaction AFTER INSERT ON chat_reactions BEGIN
    ",
    sqlite_forget!("NEW"),
    "
    INSERT INTO chat_words (rowid, words, marks) SELECT s.id, m.text, ",
    sqlite_marks!("m"),
    " FROM chat_search s JOIN chat_messages m ON m.conversation = s.conversation AND m.ts = s.ts
        WHERE s.conversation = NEW.conversation AND s.ts = NEW.ts;
END;
CREATE TRIGGER chat_search_no_reaction AFTER DELETE ON chat_reactions BEGIN
    ",
    sqlite_forget!("OLD"),
    "
    INSERT INTO chat_words (rowid, words, marks) SELECT s.id, m.text, ",
    sqlite_marks!("m"),
    " FROM chat_search s JOIN chat_messages m ON m.conversation = s.conversation AND m.ts = s.ts
        WHERE s.conversation = OLD.conversation AND s.ts = OLD.ts;
END;
"
);

/// PostgreSQL: a `tsvector` without a dictionary, so that words of all languages are found as they are written, but for case and accents.
///
/// Punctuation separates words, as in FTS5; left to itself the parser would take `a.b` for the name of a host. Words go into the index at once
/// (`fastupdate = off`): otherwise one message now and then waits for what those before it have left, and searches read it too.
pub(crate) const POSTGRES: &str = concat!(
    "
CREATE TABLE chat_search (
    conversation TEXT NOT NULL,
    ts BIGINT NOT NULL,
    team TEXT NOT NULL,
    words TSVECTOR NOT NULL,
    PRIMARY KEY (conversation, ts)
);
CREATE INDEX chat_search_ts ON chat_search (team, ts);
CREATE INDEX chat_search_words ON chat_search USING gin (words) WITH (fastupdate = off);
CREATE FUNCTION chat_plain(text TEXT) RETURNS TEXT LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT LOWER(CASE WHEN getdatabaseencoding() = 'UTF8'
        THEN regexp_replace(normalize($1, NFD), '[\\u0300-\\u036f]', '', 'g') ELSE $1 END)
$$;
CREATE FUNCTION chat_search_keep() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM chat.chat_search WHERE conversation = OLD.conversation AND ts = OLD.ts;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO chat.chat_search (conversation, ts, team, words)
        SELECT NEW.conversation, NEW.ts, c.team,
            to_tsvector('simple', regexp_replace(chat.chat_plain(NEW.text), '[\\x01-\\x2f\\x3a-\\x60\\x7b-\\x7f]+', ' ', 'g'))
            || array_to_tsvector(ARRAY['#t' || c.team, '#c' || c.id, '#u' || NEW.user_id]
                || CASE WHEN NEW.text ~* 'https?://' THEN ARRAY['#link'] ELSE ARRAY[]::TEXT[] END
                || CASE WHEN NEW.thread_ts IS NOT NULL OR NEW.reply_count > 0 THEN ARRAY['#thread'] ELSE ARRAY[]::TEXT[] END
                || CASE WHEN EXISTS (SELECT 1 FROM chat.chat_reactions r WHERE r.conversation = NEW.conversation AND r.ts = NEW.ts)
                    THEN ARRAY['#reaction'] ELSE ARRAY[]::TEXT[] END)
        FROM chat.chat_conversations c WHERE c.id = NEW.conversation AND ",
    can_be_found!("NEW"),
    ";
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION chat_search_react() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE chat.chat_search SET words = words || '''#reaction'''::tsvector
            WHERE conversation = NEW.conversation AND ts = NEW.ts AND NOT words @@ '''#reaction'''::tsquery;
    ELSE
        UPDATE chat.chat_search s SET words = ts_delete(words, '#reaction')
            WHERE s.conversation = OLD.conversation AND s.ts = OLD.ts
            AND NOT EXISTS (SELECT 1 FROM chat.chat_reactions r WHERE r.conversation = OLD.conversation AND r.ts = OLD.ts);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chat_search_insert AFTER INSERT OR DELETE ON chat_messages FOR EACH ROW EXECUTE FUNCTION chat_search_keep();
CREATE TRIGGER chat_search_update AFTER UPDATE ON chat_messages FOR EACH ROW WHEN (",
    is_other!("IS DISTINCT FROM"),
    ") EXECUTE FUNCTION chat_search_keep();
CREATE TRIGGER chat_search_react AFTER INSERT OR DELETE ON chat_reactions FOR EACH ROW EXECUTE FUNCTION chat_search_react();
"
);
