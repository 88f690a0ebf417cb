//! The events of a client, one after the other.

use serde_json::{Map, Value, json};

use super::{Answer, Session};
use crate::{
    failure::{Code, Failure},
    identity::MemberId,
    limits::Limit,
    payload::{
        self, Chat, How, LoadHistory, Presence, Rate, Reaction, Report, Respond, Seek, Signal,
        Speaking, Typing, parse,
    },
    room::Room,
    store::Settings,
    sync::{Command, Order, conflict},
    voice::not_in_voice,
};

/// Times that settings are written on what is newest.
const TRIES_MAX: usize = 5;

impl Session {
    /// Carries out an event. Its answer is what the client is called back with.
    pub(super) async fn carry_out(&mut self, event: &str, argument: Option<&[u8]>) -> Answer {
        match event {
            "room:join" => self.join(parse(argument)?).await,
            "room:leave" => self.leave_room().await,
            "sync:play" => self.command(Order::Play, parse(argument)?).await,
            "sync:pause" => self.command(Order::Pause, parse(argument)?).await,
            "sync:seek" => {
                let seek: Seek = parse(argument)?;
                self.command(Order::Seek(seek.target()?), seek.how).await
            }
            "sync:rate" => {
                let rate: Rate = parse(argument)?;
                self.command(Order::Rate(rate.milli()?), rate.how).await
            }
            "chat:message" => self.say(&parse(argument)?).await,
            "reaction:send" => self.react(&parse(argument)?).await,
            "voice:signal" => self.signal(&parse(argument)?).await,
            _ => {
                self.paced()?;
                self.carry_out_lesser(event, argument).await
            }
        }
    }

    /// Events that only the connection's pace limits.
    async fn carry_out_lesser(&mut self, event: &str, argument: Option<&[u8]>) -> Answer {
        match event {
            "room:update" => self.update(parse(argument)?).await,
            "room:accept_ownership" => self.accept_ownership().await,
            "sync:resync" => self.resync().await,
            "participant:position" => self.report(&parse(argument)?),
            "chat:typing" => self.typing(&parse(argument)?),
            "chat:load-history" => self.load_history(&parse(argument)?).await,
            "presence:update" => self.presence(&parse(argument)?).await,
            "ready:initiate" => self.ready_begin().await,
            "ready:respond" => self.ready_answer(&parse(argument)?).await,
            "voice:join" => self.voice_join().await,
            "voice:leave" => self.voice_leave().await,
            "voice:speaking" => self.speaking(&parse(argument)?).await,
            _ => {
                let words = "there is no such event; docs/watch.md lists them";
                Err(Failure::new(Code::UnknownEvent, words))
            }
        }
    }

    async fn command(&self, order: Order, how: How) -> Answer {
        let seat = self.seated()?;
        self.limit(Limit::Sync).await?;
        let command = Command::new(order, seat.present.oder_id.clone(), &how)?;
        self.watch.command(seat.code, command).await?.fields()
    }

    async fn resync(&self) -> Answer {
        let room = self.watch.load(self.seated()?.code).await?;
        let state = json!({ "state": room.playback_view() });
        self.emit("sync:state", &state);
        Ok(fields(state))
    }

    async fn update(&self, mut update: payload::Update) -> Answer {
        let seat = self.seated()?;
        let settings = Settings {
            name: update.name()?,
            control: update.playback_control,
            controllers: update.controllers()?,
            guest_chat: update.allow_guest_chat,
        };
        let source = update.source()?;
        let by = &seat.present.oder_id;
        let mut room = self.owned_by(by).await?;
        if let Some(source) = source {
            self.limit(Limit::Sync).await?;
            let command = Command::new(Order::Source(source), by.clone(), &update.how)?;
            self.watch.command(seat.code, command).await?;
            room = self.owned_by(by).await?;
        } else if let Some(expected) = update.how.expected()
            && expected != room.playback.version
        {
            return Err(conflict(&room));
        }
        let is_nothing = settings.name.is_none()
            && settings.control.is_none()
            && settings.controllers.is_none()
            && settings.guest_chat.is_none();
        if is_nothing {
            return Ok(fields(json!({ "room": room.view() })));
        }
        for _ in 0..TRIES_MAX {
            let written = self.watch.write_settings(room, settings.clone()).await?;
            if let Some(room) = written {
                return Ok(fields(json!({ "room": room.view() })));
            }
            room = self.owned_by(by).await?;
        }
        Err(Failure::unavailable("the database"))
    }

    async fn owned_by(&self, member: &MemberId) -> Result<Room, Failure> {
        let room = self.watch.load(self.seated()?.code).await?;
        match room.is_owner(member) {
            true => Ok(room),
            false => Err(Failure::new(Code::Forbidden, "only the owner may do that")),
        }
    }

    async fn accept_ownership(&mut self) -> Answer {
        let seat = self.seated()?;
        let (code, present) = (seat.code, seat.present.clone());
        let nothing = || Failure::new(Code::Forbidden, "the room is not offered to you");
        let until = seat.offered_until.ok_or_else(nothing)?;
        if self.watch.clock.now() > until {
            return Err(nothing());
        }
        for _ in 0..TRIES_MAX {
            let room = self.watch.load(code).await?;
            if room.is_owner(&present.oder_id) {
                return Ok(Map::new());
            }
            if room.former_owner.as_ref() != Some(&present.oder_id) {
                return Err(nothing());
            }
            let (owner, name) = (present.oder_id.clone(), &present.username);
            let written = self
                .watch
                .write_owner(room, owner, name, "returned")
                .await?;
            if written.is_some() {
                if let Some(seat) = &mut self.seat {
                    seat.offered_until = None;
                }
                return Ok(Map::new());
            }
        }
        Err(Failure::unavailable("the database"))
    }

    fn report(&self, report: &Report) -> Answer {
        let seat = self.seated()?;
        let round_trip = report.round_trip()?;
        if let Some(round_trip) = round_trip {
            self.watch.rooms.report(seat.code, self.id(), round_trip);
        }
        let told = without_nulls(json!({
            "oderId": seat.present.oder_id,
            "mediaTimeMs": report.media_time()?,
            "driftMs": report.drift()?,
            "rttMs": round_trip,
            "isPlaying": report.is_playing,
            "buffering": report.buffering,
            "serverTimeMs": self.watch.clock.now(),
        }));
        self.tell_room("participant:position", &told)
    }

    async fn say(&self, chat: &Chat) -> Answer {
        let seat = self.seated()?;
        // A message that cannot be said costs nothing.
        chat.content()?;
        self.limit(Limit::Chat).await?;
        let room = self.watch.load(seat.code).await?;
        self.watch.say(&room, &seat.present, chat).await
    }

    fn typing(&self, typing: &Typing) -> Answer {
        let present = &self.seated()?.present;
        let told = without_nulls(json!({
            "oderId": present.oder_id,
            "userId": present.user_id,
            "username": present.username,
            "isTyping": typing.is_typing,
        }));
        self.tell_room("chat:typing", &told)
    }

    async fn load_history(&self, ask: &LoadHistory) -> Answer {
        let page = self.watch.load_history(self.seated()?.code, ask).await?;
        let history = json!({ "messages": page.messages, "hasMore": page.has_more });
        self.emit("chat:history", &history);
        Ok(fields(history))
    }

    async fn react(&self, reaction: &Reaction) -> Answer {
        let seat = self.seated()?;
        self.limit(Limit::Reaction).await?;
        let room = self.watch.load(seat.code).await?;
        let id = self.watch.react(&room, &seat.present, reaction).await?;
        Ok(fields(json!({ "id": id.to_string() })))
    }

    async fn presence(&mut self, presence: &Presence) -> Answer {
        let room = self.watch.load(self.seated()?.code).await?;
        let session = self.id();
        let seat = self.seat.as_mut().ok_or_else(Failure::not_in_room)?;
        seat.present.status = presence.status;
        self.watch
            .enter(&room, session, &seat.present, false)
            .await?;
        let told = without_nulls(json!({
            "oderId": seat.present.oder_id,
            "userId": seat.present.user_id,
            "status": presence.status.shown(),
            "timestamp": self.watch.clock.now(),
        }));
        self.tell_room("presence:update", &told)
    }

    async fn ready_begin(&self) -> Answer {
        let seat = self.seated()?;
        let room = self.watch.load(seat.code).await?;
        let check = self.watch.ready_begin(&room, &seat.present.oder_id).await?;
        Ok(fields(json!({ "checkId": check.check_id })))
    }

    async fn ready_answer(&self, answer: &Respond) -> Answer {
        let seat = self.seated()?;
        let member = &seat.present.oder_id;
        self.watch.ready_answer(seat.code, member, answer).await?;
        Ok(Map::new())
    }

    async fn voice_join(&mut self) -> Answer {
        let seat = self.seated()?;
        let (code, member) = (seat.code, seat.present.oder_id.clone());
        // First the ears: whoever hears of this member may call it at once.
        self.hear().await?;
        let peers = self.watch.voice_enter(code, self.id(), &member).await?;
        self.emit("voice:ice:servers", &self.watch.ice_servers(&member));
        let peers = json!({ "peers": peers });
        self.emit("voice:peers", &peers);
        Ok(fields(peers))
    }

    async fn voice_leave(&self) -> Answer {
        self.watch
            .voice_leave(self.seated()?.code, self.id())
            .await?;
        Ok(Map::new())
    }

    async fn signal(&self, signal: &Signal) -> Answer {
        let seat = self.seated()?;
        self.limit(Limit::Signal).await?;
        let from = &seat.present.oder_id;
        self.watch.voice_signal(seat.code, from, signal).await?;
        Ok(Map::new())
    }

    async fn speaking(&self, speaking: &Speaking) -> Answer {
        let seat = self.seated()?;
        let is_in = self.watch.rooms.voices();
        if !is_in.iter().any(|(_, session, _)| *session == self.id()) {
            return Err(not_in_voice());
        }
        let member = &seat.present.oder_id;
        let told = json!({ "oderId": member, "isSpeaking": speaking.is_speaking });
        self.tell_room("voice:speaking", &told)
    }

    /// Tells the room something of the moment.
    fn tell_room(&self, event: &str, data: &Value) -> Answer {
        self.watch
            .tell(self.seated()?.code.channel(), event, data)?;
        Ok(Map::new())
    }

    /// Takes one of what the member may do.
    async fn limit(&self, limit: Limit) -> Result<(), Failure> {
        let member = self.seated()?.present.oder_id.as_str();
        self.watch.limits.take(limit, member).await
    }
}

/// The fields of an object that was made as one.
pub(crate) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The same without the fields that have no value.
pub(crate) fn without_nulls(value: Value) -> Value {
    let mut fields = fields(value);
    fields.retain(|_, value| !value.is_null());
    Value::Object(fields)
}
