//! Every change of a room's row, and what commits with it.

use fanfare_engine::{
    Done,
    port::{
        TransactError, Transaction,
        tables::{Row, Step, Value},
    },
};
use fanfare_wire::{Draft, Millis};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Watch, draft,
    failure::Failure,
    identity::{MemberId, RoomCode, Visitor, fingerprint, secret},
    owner::Step as OwnerStep,
    payload::CheckedRoom,
    playback::Playback,
    room::{Control, IDLE_MAX, Room},
    schema,
};

/// Most members that a room remembers, beside those who were there lately.
const MEMBERS_MAX: i64 = 500;
/// Codes that are tried until one is free.
const CODES_MAX: usize = 8;
/// How much of the time passes until the next note of a room's activity, in milliseconds.
const ACTIVITY_STEP: Millis = 10 * 60 * 1000;

/// Another one was faster: look again.
#[derive(Debug)]
pub(crate) enum Write {
    /// It is committed.
    Done(Box<Done>),
    /// The row is not what it was; nothing was committed.
    Changed,
}

/// New values of a room's settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) name: Option<String>,
    pub(crate) control: Option<Control>,
    pub(crate) controllers: Option<Vec<MemberId>>,
    pub(crate) guest_chat: Option<bool>,
}

/// A member that the room remembers.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) joined_at: Millis,
    pub(crate) name: String,
}

impl Watch {
    /// Reads a room.
    pub(crate) async fn load(&self, code: RoomCode) -> Result<Room, Failure> {
        self.check_ready()?;
        let rows = self
            .engine
            .query(schema::SELECT_ROOM, vec![code.as_str().into()])
            .await?;
        let room = rows.first().map(schema::room_of).transpose()?;
        let room = room.ok_or_else(Failure::no_such_room)?;
        match self.clock.now() - room.last_activity_at > IDLE_MAX {
            // Not removed yet.
            true => Err(Failure::no_such_room()),
            false => Ok(room),
        }
    }

    /// Makes a room. Returns it, and the key that makes its holder the owner.
    pub(crate) async fn create(
        &self,
        wish: CheckedRoom,
        owner: Option<&str>,
    ) -> Result<(Room, String), Failure> {
        self.check_ready()?;
        let owner_key = secret()?;
        let password = match wish.password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let now = self.clock.now();
        let duration = wish.source.as_ref().and_then(|source| source.duration);
        for _ in 0..CODES_MAX {
            let code = RoomCode::random()?;
            let room = Room {
                code,
                name: wish.name.clone(),
                owner: owner.map(|user| MemberId::of_user(code, user)),
                former_owner: None,
                owner_key: fingerprint(&owner_key),
                password: password.clone(),
                max_participants: wish.max_participants,
                control: wish.control,
                controllers: Vec::new(),
                guest_chat: wish.guest_chat,
                source: wish.source.clone(),
                playback: Playback::new(now, duration),
                settings: 0,
                owner_absent_since: None,
                owner_away_told: false,
                created_at: now,
                last_activity_at: now,
            };
            let insert = Step::some(schema::INSERT_ROOM, schema::room_values(&room)?);
            let transaction = Transaction {
                steps: vec![insert],
                ..Transaction::default()
            };
            match self.engine.transact(transaction).await {
                Ok(_) => return Ok((room, owner_key)),
                // Somebody has this code.
                Err(TransactError::Exists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::internal("no free code of a room was found"))
    }

    /// Writes what a command made of a room that is as it was read, and `drafts` with it.
    pub(crate) async fn write_playback(
        &self,
        before: i64,
        room: &Room,
        with_source: bool,
        drafts: Vec<Draft>,
    ) -> Result<Write, Failure> {
        let playback = &room.playback;
        let code = Value::from(room.code.as_str());
        let mut steps = Vec::with_capacity(2);
        if with_source {
            let source = room.source.as_ref();
            let params = vec![
                code.clone(),
                before.into(),
                source.map(|source| source.kind.as_str()).into(),
                source.map(|source| source.url.as_str()).into(),
                playback.duration.into(),
            ];
            steps.push(Step::some(schema::UPDATE_SOURCE, params));
        }
        let params = vec![
            code,
            before.into(),
            playback.is_playing.into(),
            playback.rate_milli.into(),
            playback.anchor_server.into(),
            playback.anchor_media.into(),
            playback.moved_before.into(),
            playback.version.into(),
            self.clock.now().into(),
        ];
        steps.push(Step::some(schema::UPDATE_PLAYBACK, params));
        self.write(steps, drafts).await
    }

    /// Writes settings. Tells the room.
    pub(crate) async fn write_settings(
        &self,
        mut room: Room,
        settings: Settings,
    ) -> Result<Option<Room>, Failure> {
        let before = room.settings;
        room.name = settings.name.unwrap_or(room.name);
        room.control = settings.control.unwrap_or(room.control);
        room.controllers = settings.controllers.unwrap_or(room.controllers);
        room.guest_chat = settings.guest_chat.unwrap_or(room.guest_chat);
        room.settings = before + 1;
        let params = vec![
            room.code.as_str().into(),
            before.into(),
            room.name.as_str().into(),
            room.control.as_str().into(),
            schema::controllers_text(&room.controllers)?.into(),
            room.guest_chat.into(),
            room.settings.into(),
            self.clock.now().into(),
        ];
        let step = Step::some(schema::UPDATE_SETTINGS, params);
        let updated = self.updated_draft(&room)?;
        let written = self.write(vec![step], vec![updated]).await?;
        Ok(matches!(written, Write::Done(_)).then_some(room))
    }

    /// Gives a room that is as it was read to another owner. Tells the room. `None` if another one was faster.
    pub(crate) async fn write_owner(
        &self,
        mut room: Room,
        owner: MemberId,
        name: &str,
        reason: &'static str,
    ) -> Result<Option<Room>, Failure> {
        let (before, previous) = (room.settings, room.owner.take());
        room.owner = Some(owner.clone());
        room.former_owner = previous.clone();
        room.settings = before + 1;
        room.owner_absent_since = None;
        room.owner_away_told = false;
        let params = vec![
            room.code.as_str().into(),
            before.into(),
            owner.as_str().into(),
            previous.as_ref().map(MemberId::as_str).into(),
            room.settings.into(),
            self.clock.now().into(),
        ];
        let step = Step::some(schema::UPDATE_OWNER, params);
        let told = json!({ "ownerId": owner, "previousOwnerId": previous, "reason": reason });
        let mut drafts = vec![
            draft(room.code.channel(), "room:owner_changed", &told)?,
            self.updated_draft(&room)?,
        ];
        if previous.is_some() {
            let words = format!("{name} owns the room now");
            drafts.push(self.system_draft(&room, "owner_changed", &words)?);
        }
        let written = self.write(vec![step], drafts).await?;
        Ok(matches!(written, Write::Done(_)).then_some(room))
    }

    /// Writes what is known of an owner's absence. Whether this node did it.
    pub(crate) async fn write_absence(
        &self,
        room: &Room,
        step: &OwnerStep,
        now: Millis,
    ) -> Result<bool, Failure> {
        let channel = room.code.channel();
        let mut params: Vec<Value> = vec![room.code.as_str().into(), room.settings.into()];
        let since = room.owner_absent_since.unwrap_or(now);
        let (sql, drafts) = match step {
            OwnerStep::NoteAbsent => {
                params.push(now.into());
                (schema::NOTE_OWNER_ABSENT, Vec::new())
            }
            OwnerStep::TellAway => {
                params.push(since.into());
                let handover = since + crate::owner::HANDOVER_AFTER;
                let told = json!({ "ownerId": room.owner, "since": since, "handoverAt": handover });
                let draft = draft(channel, "room:owner_away", &told)?;
                (schema::NOTE_OWNER_AWAY_TOLD, vec![draft])
            }
            OwnerStep::NoteBack { tell } => {
                params.extend([since.into(), (*tell).into()]);
                let told = json!({ "ownerId": room.owner });
                let draft = draft(channel, "room:owner_back", &told)?;
                let drafts = if *tell { vec![draft] } else { Vec::new() };
                (schema::NOTE_OWNER_BACK, drafts)
            }
            OwnerStep::Wait | OwnerStep::HandOver(_) => return Ok(false),
        };
        let written = self.write(vec![Step::some(sql, params)], drafts).await?;
        Ok(matches!(written, Write::Done(_)))
    }

    /// Whether a member has been in before.
    pub(crate) async fn known(
        &self,
        code: RoomCode,
        member: &MemberId,
    ) -> Result<Option<Known>, Failure> {
        let params = vec![code.as_str().into(), member.as_str().into()];
        let rows = self.engine.query(schema::SELECT_MEMBER, params).await?;
        let known = |row: &Row| {
            Some(Known {
                joined_at: row.int(0)?,
                name: row.text(1)?.to_owned(),
            })
        };
        Ok(rows.first().and_then(known))
    }

    /// Remembers a member, and when it came first.
    pub(crate) async fn remember(
        &self,
        code: RoomCode,
        member: &MemberId,
        visitor: &Visitor,
        name: &str,
    ) -> Result<Millis, Failure> {
        let now = self.clock.now();
        let user = visitor.user.as_ref().map(|user| user.id.as_str());
        let params = vec![
            code.as_str().into(),
            member.as_str().into(),
            user.into(),
            name.into(),
            visitor.is_guest().into(),
            now.into(),
        ];
        let trim = vec![code.as_str().into(), MEMBERS_MAX.into()];
        let transaction = Transaction {
            steps: vec![
                Step::some(schema::UPSERT_MEMBER, params),
                Step::new(schema::TRIM_MEMBERS, trim),
            ],
            ..Transaction::default()
        };
        let done = self.engine.transact(transaction).await?;
        let row = done.rows.first().and_then(|rows| rows.first());
        Ok(row.and_then(|row| row.int(0)).unwrap_or(now))
    }

    /// Notes that a room is in use, if that was not noted lately.
    pub(crate) async fn note_activity(&self, room: &Room) -> Result<(), Failure> {
        let now = self.clock.now();
        if now - room.last_activity_at < ACTIVITY_STEP {
            return Ok(());
        }
        let params = vec![
            room.code.as_str().into(),
            now.into(),
            (now - ACTIVITY_STEP).into(),
        ];
        let step = Step::new(schema::NOTE_ACTIVITY, params);
        self.write(vec![step], Vec::new()).await?;
        Ok(())
    }

    /// Removes rooms that nobody has used for long. How many.
    pub(crate) async fn remove_idle(&self) -> Result<usize, Failure> {
        let before = self.clock.now() - IDLE_MAX;
        let rows = self
            .engine
            .query(schema::SELECT_IDLE, vec![before.into()])
            .await?;
        let mut removed = 0;
        for code in rows.iter().filter_map(|row| row.text(0)) {
            let code = Value::from(code);
            let steps = vec![
                Step::some(schema::DELETE_IDLE, vec![code.clone(), before.into()]),
                Step::new(schema::DELETE_MEMBERS, vec![code.clone()]),
                Step::new(schema::DELETE_REACTIONS, vec![code]),
            ];
            let written = self.write(steps, Vec::new()).await?;
            removed += usize::from(matches!(written, Write::Done(_)));
        }
        Ok(removed)
    }

    pub(crate) async fn write(
        &self,
        steps: Vec<Step>,
        drafts: Vec<Draft>,
    ) -> Result<Write, Failure> {
        let transaction = Transaction {
            steps,
            drafts,
            ..Transaction::default()
        };
        match self.engine.transact(transaction).await {
            Ok(done) => Ok(Write::Done(Box::new(done))),
            Err(TransactError::Refused { .. }) => Ok(Write::Changed),
            Err(error) => Err(error.into()),
        }
    }

    /// `room:updated`.
    pub(crate) fn updated_draft(&self, room: &Room) -> Result<Draft, Failure> {
        draft(
            room.code.channel(),
            "room:updated",
            &json!({ "room": room.view() }),
        )
    }

    /// A system message of the chat.
    pub(crate) fn system_draft(
        &self,
        room: &Room,
        event: &str,
        words: &str,
    ) -> Result<Draft, Failure> {
        let id = Uuid::now_v7();
        let told = json!({
            "id": id.to_string(), "type": "system", "event": event, "content": words, "timestamp": self.clock.now(),
        });
        let mut draft = draft(room.code.channel(), "chat:message", &told)?;
        draft.id = id;
        Ok(draft)
    }
}
