//! The tables of the app, its statements, and how a row becomes a [`Room`].

use fanfare_engine::port::tables::{Migration, Row, Value};

use crate::{
    failure::Failure,
    identity::{MemberId, RoomCode},
    playback::Playback,
    room::{Control, Room, Source},
};

/// The app's name in the database.
pub(crate) const APP: &str = "watch";

/// The steps of the schema.
pub(crate) static MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sqlite: V1,
    postgres: V1,
}];

const V1: &str = "
CREATE TABLE watch_rooms (
    code TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT,
    former_owner TEXT,
    owner_key TEXT NOT NULL,
    password TEXT,
    max_participants BIGINT NOT NULL,
    control TEXT NOT NULL,
    controllers TEXT NOT NULL,
    guest_chat BIGINT NOT NULL,
    source_type TEXT,
    source_url TEXT,
    duration BIGINT,
    is_playing BIGINT NOT NULL,
    rate_milli BIGINT NOT NULL,
    anchor_server BIGINT NOT NULL,
    anchor_media BIGINT NOT NULL,
    moved_before BIGINT NOT NULL,
    version BIGINT NOT NULL,
    settings BIGINT NOT NULL,
    owner_absent_since BIGINT,
    owner_away_told BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_activity_at BIGINT NOT NULL
);
CREATE INDEX watch_rooms_activity ON watch_rooms (last_activity_at);
CREATE TABLE watch_members (
    code TEXT NOT NULL,
    member TEXT NOT NULL,
    user_id TEXT,
    name TEXT NOT NULL,
    guest BIGINT NOT NULL,
    joined_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    PRIMARY KEY (code, member)
);
CREATE TABLE watch_reactions (
    code TEXT NOT NULL,
    media_step BIGINT NOT NULL,
    emoji TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (code, media_step, emoji)
);
";

pub(crate) const SELECT_ROOM: &str = "SELECT code, name, owner, former_owner, owner_key, password, \
    max_participants, control, controllers, guest_chat, source_type, source_url, duration, is_playing, rate_milli, \
    anchor_server, anchor_media, moved_before, version, settings, owner_absent_since, owner_away_told, created_at, \
    last_activity_at FROM watch_rooms WHERE code = $1";

pub(crate) const INSERT_ROOM: &str = "INSERT INTO watch_rooms (code, name, owner, former_owner, owner_key, password, \
    max_participants, control, controllers, guest_chat, source_type, source_url, duration, is_playing, rate_milli, \
    anchor_server, anchor_media, moved_before, version, settings, owner_absent_since, owner_away_told, created_at, \
    last_activity_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
    $21, $22, $23, $24)";

/// A command. Whatever the room's settings are meanwhile, they stay.
pub(crate) const UPDATE_PLAYBACK: &str = "UPDATE watch_rooms SET is_playing = $3, rate_milli = $4, anchor_server = $5, \
    anchor_media = $6, moved_before = $7, version = $8, last_activity_at = $9 WHERE code = $1 AND version = $2";

pub(crate) const UPDATE_SOURCE: &str = "UPDATE watch_rooms SET source_type = $3, source_url = $4, duration = $5 \
    WHERE code = $1 AND version = $2";

pub(crate) const UPDATE_SETTINGS: &str = "UPDATE watch_rooms SET name = $3, control = $4, controllers = $5, \
    guest_chat = $6, settings = $7, last_activity_at = $8 WHERE code = $1 AND settings = $2";

pub(crate) const UPDATE_OWNER: &str = "UPDATE watch_rooms SET owner = $3, former_owner = $4, settings = $5, \
    owner_absent_since = NULL, owner_away_told = 0, last_activity_at = $6 WHERE code = $1 AND settings = $2";

pub(crate) const NOTE_OWNER_ABSENT: &str = "UPDATE watch_rooms SET owner_absent_since = $3 \
    WHERE code = $1 AND settings = $2 AND owner_absent_since IS NULL";

pub(crate) const NOTE_OWNER_AWAY_TOLD: &str = "UPDATE watch_rooms SET owner_away_told = 1 \
    WHERE code = $1 AND settings = $2 AND owner_absent_since = $3 AND owner_away_told = 0";

/// Counts as a change: who has seen the owner absent hands nothing over any more.
pub(crate) const NOTE_OWNER_BACK: &str = "UPDATE watch_rooms SET owner_absent_since = NULL, owner_away_told = 0, \
    settings = settings + 1 WHERE code = $1 AND settings = $2 AND owner_absent_since = $3 AND owner_away_told = $4";

pub(crate) const NOTE_ACTIVITY: &str =
    "UPDATE watch_rooms SET last_activity_at = $2 WHERE code = $1 AND last_activity_at < $3";

pub(crate) const SELECT_IDLE: &str =
    "SELECT code FROM watch_rooms WHERE last_activity_at < $1 ORDER BY last_activity_at LIMIT 100";

pub(crate) const DELETE_IDLE: &str =
    "DELETE FROM watch_rooms WHERE code = $1 AND last_activity_at < $2";

pub(crate) const DELETE_MEMBERS: &str = "DELETE FROM watch_members WHERE code = $1";

pub(crate) const DELETE_REACTIONS: &str = "DELETE FROM watch_reactions WHERE code = $1";

pub(crate) const SELECT_MEMBER: &str =
    "SELECT joined_at, name FROM watch_members WHERE code = $1 AND member = $2";

pub(crate) const UPSERT_MEMBER: &str = "INSERT INTO watch_members (code, member, user_id, name, guest, joined_at, \
    last_seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (code, member) DO UPDATE SET name = excluded.name, \
    last_seen_at = excluded.last_seen_at RETURNING joined_at";

/// Forgets those of whom nothing was seen for longest, beyond a number of them.
pub(crate) const TRIM_MEMBERS: &str = "DELETE FROM watch_members WHERE code = $1 AND last_seen_at < (SELECT last_seen_at \
    FROM watch_members WHERE code = $1 ORDER BY last_seen_at DESC LIMIT 1 OFFSET $2)";

pub(crate) const COUNT_REACTION: &str = "INSERT INTO watch_reactions (code, media_step, emoji, amount) \
    SELECT code, CAST($2 AS BIGINT), CAST($3 AS TEXT), 1 FROM watch_rooms WHERE code = $1 \
    AND (SELECT COUNT(*) FROM watch_reactions WHERE code = $1) < $4 \
    ON CONFLICT (code, media_step, emoji) DO UPDATE SET amount = watch_reactions.amount + 1";

pub(crate) const SELECT_REACTIONS: &str = "SELECT media_step, emoji, amount FROM watch_reactions WHERE code = $1 \
    ORDER BY media_step, emoji LIMIT 5000";

/// A room as the parameters of [`INSERT_ROOM`].
pub(crate) fn room_values(room: &Room) -> Result<Vec<Value>, Failure> {
    let playback = &room.playback;
    let id = |id: &Option<MemberId>| Value::from(id.as_ref().map(MemberId::as_str));
    Ok(vec![
        room.code.as_str().into(),
        room.name.as_str().into(),
        id(&room.owner),
        id(&room.former_owner),
        room.owner_key.as_str().into(),
        room.password.as_deref().into(),
        i64::from(room.max_participants).into(),
        room.control.as_str().into(),
        controllers_text(&room.controllers)?.into(),
        room.guest_chat.into(),
        room.source
            .as_ref()
            .map(|source| source.kind.as_str())
            .into(),
        room.source
            .as_ref()
            .map(|source| source.url.as_str())
            .into(),
        playback.duration.into(),
        playback.is_playing.into(),
        playback.rate_milli.into(),
        playback.anchor_server.into(),
        playback.anchor_media.into(),
        playback.moved_before.into(),
        playback.version.into(),
        room.settings.into(),
        room.owner_absent_since.into(),
        room.owner_away_told.into(),
        room.created_at.into(),
        room.last_activity_at.into(),
    ])
}

/// What is kept of the chosen members.
pub(crate) fn controllers_text(controllers: &[MemberId]) -> Result<String, Failure> {
    serde_json::to_string(controllers).map_err(Failure::internal)
}

/// A row of [`SELECT_ROOM`].
pub(crate) fn room_of(row: &Row) -> Result<Room, Failure> {
    read_room(row).ok_or_else(|| Failure::internal("a row of a room cannot be read"))
}

fn read_room(row: &Row) -> Option<Room> {
    let member = |column| row.text(column).and_then(MemberId::parse);
    let flag = |column| row.int(column).map(|value| value != 0);
    let duration = row.int(12);
    let source = match (row.text(10), row.text(11)) {
        (Some(kind), Some(url)) => Some(Source {
            kind: kind.to_owned(),
            url: url.to_owned(),
            duration,
        }),
        _ => None,
    };
    Some(Room {
        code: RoomCode::parse(row.text(0)?)?,
        name: row.text(1)?.to_owned(),
        owner: member(2),
        former_owner: member(3),
        owner_key: row.text(4)?.to_owned(),
        password: row.text(5).map(str::to_owned),
        max_participants: u32::try_from(row.int(6)?).ok()?,
        control: Control::parse(row.text(7)?)?,
        controllers: serde_json::from_str(row.text(8)?).ok()?,
        guest_chat: flag(9)?,
        source,
        playback: Playback {
            duration,
            is_playing: flag(13)?,
            rate_milli: row.int(14)?,
            anchor_server: row.int(15)?,
            anchor_media: row.int(16)?,
            moved_before: flag(17)?,
            version: row.int(18)?,
        },
        settings: row.int(19)?,
        owner_absent_since: row.int(20),
        owner_away_told: flag(21)?,
        created_at: row.int(22)?,
        last_activity_at: row.int(23)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::tests::room;

    #[test]
    fn a_room_is_read_as_it_was_written() {
        let mut before = room();
        before.source = Some(Source {
            kind: "url".to_owned(),
            url: "/a.mp4".to_owned(),
            duration: Some(9),
        });
        before.playback.duration = Some(9);
        before.controllers = vec![MemberId::of_user(before.code, "b")];
        before.owner_absent_since = Some(7);
        let row = Row(room_values(&before).unwrap());
        let after = room_of(&row).unwrap();
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
        assert!(room_of(&Row(vec![Value::Null; 24])).is_err());
    }
}
