//! Commands: play, pause, seek, rate, source. One transaction each: the room's row if its version is what it was, and the
//! publication that everybody hears of it.

use std::time::Duration;

use fanfare_engine::{Done, hub::HistoryQuery, port::Direction};
use fanfare_wire::{ChannelName, Draft, Millis, Seq};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    Watch, draft,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode},
    payload::How,
    playback::Action,
    room::{Room, Source, rate},
    store::Write,
};

/// How long a command is tried on whatever the newest state is.
const PATIENCE: Duration = Duration::from_secs(3);
/// A version that no room has.
const NO_VERSION: i64 = -1;

/// What is ordered.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    Play,
    Pause,
    Seek(Millis),
    Rate(i64),
    Source(Source),
}

/// When it takes effect.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// As soon as everybody has heard of it, or a little later, if that is wished for.
    Wish(Option<Millis>),
    /// Then.
    At(Millis),
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) by: MemberId,
    pub(crate) when: When,
    /// Only if this is the version.
    pub(crate) expected: Option<i64>,
    /// Once, however often it comes.
    pub(crate) key: Option<String>,
}

/// What became of a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) version: i64,
    #[serde(rename = "atServerTime")]
    pub(crate) at: Millis,
    pub(crate) state: Value,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) duplicate: bool,
}

impl Command {
    /// A member's command.
    pub(crate) fn new(order: Order, by: MemberId, how: &How) -> Result<Self, Failure> {
        Ok(Self {
            order,
            by,
            when: When::Wish(how.wish()?),
            expected: how.expected(),
            key: how.key()?,
        })
    }
}

impl Carried {
    pub(crate) fn fields(&self) -> Result<Map<String, Value>, Failure> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => Ok(fields),
            other => Err(Failure::internal(format!("no fields: {other:?}"))),
        }
    }
}

impl Watch {
    /// Carries out a command.
    pub(crate) async fn command(
        &self,
        code: RoomCode,
        command: Command,
    ) -> Result<Carried, Failure> {
        let until = Instant::now() + PATIENCE;
        let mut tries = 0;
        loop {
            let room = self.load(code).await?;
            self.check_right(&room, &command)?;
            let version = room.playback.version;
            let is_other = command.expected.is_some_and(|expected| expected != version);
            let instant = self.instant(&room, &command);
            let refusal = match &instant {
                _ if is_other => Some(conflict(&room)),
                instant => instant.as_ref().err().cloned(),
            };
            // A repeated command is not told that it conflicts with itself, nor that it comes late: its key has to be
            // looked up. No row has the version that a refused one is written on.
            let before = match &refusal {
                Some(refusal) if command.key.is_none() => return Err(refusal.clone()),
                Some(_) => NO_VERSION,
                None => version,
            };
            let at = instant.unwrap_or_else(|_| self.clock.now());
            let next = after(&room, &command, at);
            let drafts = self.drafts(&next, &command, at)?;
            let with_source = matches!(command.order, Order::Source(_));
            let written = self
                .write_playback(before, &next, with_source, drafts)
                .await?;
            match written {
                Write::Done(done) if done.duplicate => return self.first(code, &next, &done).await,
                Write::Done(_) => {
                    return Ok(Carried {
                        version: next.playback.version,
                        at,
                        state: json!(next.playback_view()),
                        duplicate: false,
                    });
                }
                Write::Changed if refusal.is_some() => {
                    return Err(refusal.unwrap_or_else(|| conflict(&room)));
                }
                Write::Changed if command.expected.is_some() || Instant::now() > until => {
                    return Err(conflict(&self.load(code).await?));
                }
                Write::Changed => {
                    tries += 1;
                    sleep(jitter(tries)).await;
                }
            }
        }
    }

    fn check_right(&self, room: &Room, command: &Command) -> Result<(), Failure> {
        let may = match command.order {
            Order::Source(_) => room.is_owner(&command.by),
            _ => room.may_control(&command.by),
        };
        match may {
            true => Ok(()),
            false => Err(Failure::new(
                Code::Forbidden,
                "the owner of this room has not let you control the playback",
            )),
        }
    }

    /// When a command takes effect.
    fn instant(&self, room: &Room, command: &Command) -> Result<Millis, Failure> {
        let now = self.clock.now();
        match command.when {
            When::At(at) => Ok(at),
            When::Wish(wish) => {
                let lead = self.rooms.lead(room.code);
                let instant = room.playback.instant(now, lead, wish);
                instant.map_err(|_| clock_skew(now))
            }
        }
    }

    fn drafts(&self, next: &Room, command: &Command, at: Millis) -> Result<Vec<Draft>, Failure> {
        let id = Uuid::now_v7();
        let mut told = json!({
            "id": id.to_string(),
            "atServerTime": at,
            "sequenceNumber": next.playback.version,
            "issuedBy": command.by,
        });
        match &command.order {
            Order::Play => told["type"] = "PLAY".into(),
            Order::Pause => told["type"] = "PAUSE".into(),
            Order::Seek(_) => {
                told["type"] = "SEEK".into();
                told["targetMediaTime"] = next.playback.anchor_media.into();
            }
            Order::Rate(milli) => {
                told["type"] = "SET_RATE".into();
                told["rate"] = rate(*milli).into();
            }
            Order::Source(_) => {
                told["type"] = "SET_SOURCE".into();
                told["targetMediaTime"] = 0.into();
            }
        }
        let told = json!({ "command": told, "state": next.playback_view() });
        let channel = next.code.channel();
        let mut first = draft(channel, "sync:command", &told)?;
        first.id = id;
        first.idempotency_key = command
            .key
            .as_ref()
            .map(|key| format!("sync/{}/{key}", command.by.as_str()));
        let mut drafts = vec![first];
        if let Order::Source(source) = &command.order {
            drafts.push(self.updated_draft(next)?);
            let words = format!("now playing {}", source.url);
            drafts.push(self.system_draft(next, "source_changed", &words)?);
        }
        Ok(drafts)
    }

    /// What the first of several commands with one key came to.
    async fn first(&self, code: RoomCode, room: &Room, done: &Done) -> Result<Carried, Failure> {
        #[derive(Deserialize)]
        struct Told {
            command: ToldCommand,
            state: Value,
        }
        #[derive(Deserialize)]
        struct ToldCommand {
            #[serde(rename = "sequenceNumber")]
            version: i64,
            #[serde(rename = "atServerTime")]
            at: Millis,
        }
        let seq = done.published.first().map(|published| published.seq);
        let told = match seq {
            Some(seq) => self.publication(code.channel(), seq).await?,
            None => None,
        };
        match told.and_then(|data| serde_json::from_slice::<Told>(&data).ok()) {
            Some(told) => Ok(Carried {
                version: told.command.version,
                at: told.command.at,
                state: told.state,
                duplicate: true,
            }),
            // Retention has removed it: it was carried out, and this is what is now.
            None => {
                let now = self.load(room.code).await?;
                Ok(Carried {
                    version: now.playback.version,
                    at: now.playback.anchor_server,
                    state: json!(now.playback_view()),
                    duplicate: true,
                })
            }
        }
    }

    /// The data of one publication.
    async fn publication(
        &self,
        channel: ChannelName,
        seq: Seq,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let query = HistoryQuery {
            channel,
            since: Some((None, Seq(seq.0.saturating_sub(1)))),
            limit: 1,
            direction: Direction::Forward,
        };
        let page = self.engine.history(query).await?;
        let found = page.publications.iter().find(|it| it.seq == seq);
        Ok(found.map(|it| it.data.as_bytes().to_vec()))
    }
}

/// The room after a command that takes effect at an instant.
fn after(room: &Room, command: &Command, at: Millis) -> Room {
    let mut next = room.clone();
    let action = match &command.order {
        Order::Play => Action::Play,
        Order::Pause => Action::Pause,
        Order::Seek(media) => Action::Seek(*media),
        Order::Rate(milli) => Action::SetRate(*milli),
        Order::Source(source) => {
            next.source = Some(source.clone());
            Action::SetSource(source.duration)
        }
    };
    next.playback = room.playback.after(action, at);
    next
}

/// The version is another one.
pub(crate) fn conflict(room: &Room) -> Failure {
    Failure::new(
        Code::Conflict,
        "the playback has changed meanwhile; look at state and decide again",
    )
    .with("currentVersion", room.playback.version.into())
    .with("state", json!(room.playback_view()))
}

fn clock_skew(now: Millis) -> Failure {
    Failure::new(
        Code::ClockSkew,
        "atServerTime is more than 10 seconds from the server's time; ask with time:ping again",
    )
    .with("serverTime", now.into())
}

/// A short time that is not the same for two who wait.
fn jitter(tries: u32) -> Duration {
    let random = u64::from(Uuid::new_v4().as_bytes()[0]);
    Duration::from_micros(random * 20 * u64::from(tries.min(10)))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
