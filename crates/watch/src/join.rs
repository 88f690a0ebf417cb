//! How a connection comes into a room, and goes out of it.

use fanfare_engine::{
    hub::{Resume, Start},
    port::state::StateHealth,
};
use fanfare_gateway::socketio::{JoinError, Keep};
use fanfare_wire::{Epoch, Seq};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use tracing::debug;

use crate::{
    Watch,
    chat::MESSAGES_ON_JOIN,
    failure::{Code, Failure},
    identity::{MemberId, RoomCode, fingerprint},
    limits::Limit,
    owner::{self, OFFER_FOR},
    payload::{Join, Status},
    registry::Seat,
    room::{Present, Room},
    session::{Answer, Seated, Session, events::without_nulls},
    store::Known,
};

/// Times that the ownership of a room without an owner is asked for.
const TRIES_MAX: usize = 5;

/// What the client is shown first, and behind which position it goes on.
struct Beginning {
    epoch: Epoch,
    head: Seq,
    /// Events, in their order.
    events: Vec<(&'static str, Value)>,
}

impl Session {
    /// `room:join`.
    pub(crate) async fn join(&mut self, join: Join) -> Answer {
        let code = join.code()?;
        if self.seat.as_ref().is_some_and(|seat| seat.code != code) {
            let words = "this connection is in another room; leave it first: room:leave";
            return Err(Failure::new(Code::AlreadyInRoom, words));
        }
        let member = self.member(code);
        let (room, known) = self.admit(code, &member, &join).await?;
        let (room, present) = self.take_place(room, &join, known).await?;
        match self.begin(&room, &join, present).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                self.give_up(code).await;
                Err(failure)
            }
        }
    }

    /// `room:leave`.
    pub(crate) async fn leave_room(&mut self) -> Answer {
        let code = self.seated()?.code;
        self.give_up(code).await;
        Ok(Map::new())
    }

    /// A connection that goes on where it was, or is not in the room at all.
    pub(crate) async fn come_back(&mut self, code: RoomCode) -> Result<(), Failure> {
        let back = self.take_place_again(code).await;
        if back.is_err() {
            self.give_up(code).await;
        }
        back
    }

    async fn take_place_again(&mut self, code: RoomCode) -> Result<(), Failure> {
        let room = self.watch.load(code).await?;
        let known = self.watch.known(code, &self.member(code)).await?;
        let (room, present) = self.take_place(room, &Join::default(), known).await?;
        self.sit(&room, present);
        // News that came meanwhile are lost: who is there now is shown anew.
        let present = self.watch.present(code).await?;
        self.emit("room:state", &self.watch.room_state(&room, &present, None));
        self.tell_if_degraded();
        Ok(())
    }

    /// Tells who comes while the shared state is away; the others heard of it when it went.
    fn tell_if_degraded(&self) {
        if self.watch.state.health() == StateHealth::Down {
            self.emit("room:degraded", &json!({ "degraded": true }));
        }
    }

    /// Hears what only this member is told.
    pub(crate) async fn hear(&mut self) -> Result<(), Failure> {
        let seat = self.seat.as_mut().ok_or_else(Failure::not_in_room)?;
        if seat.hears {
            return Ok(());
        }
        let channel = seat.present.oder_id.channel();
        match self.client.join(channel, Start::Live, Keep::Nothing).await {
            Ok(_) | Err(JoinError::Already) => {
                seat.hears = true;
                Ok(())
            }
            Err(error) => Err(join_failure(&error)),
        }
    }

    /// Whether this visitor may come in: limits and password. Who has been in before is known.
    async fn admit(
        &self,
        code: RoomCode,
        member: &MemberId,
        join: &Join,
    ) -> Result<(Room, Option<Known>), Failure> {
        let watch = &self.watch;
        let address = &self.visitor.address;
        watch.limits.take(Limit::LookUp, address).await?;
        let pair = format!("{code} {}", member.as_str());
        watch.limits.take(Limit::Join, &pair).await?;
        let room = watch.load(code).await?;
        let known = watch.known(code, member).await?;
        if known.is_some() || room.is_owner(member) {
            return Ok((room, known));
        }
        let place = format!("{code} {address}");
        watch.limits.take(Limit::JoinStranger, &place).await?;
        if let Some(kept) = &room.password {
            let wrong = |words: &str| Failure::new(Code::InvalidPassword, words);
            let password = join.password()?;
            let password = password.ok_or_else(|| wrong("this room has a password"))?;
            watch.limits.take(Limit::Password, &place).await?;
            let of_room = watch.limits.take(Limit::PasswordOfRoom, code.as_str());
            of_room.await?;
            if !watch.passwords.verify(password, kept).await? {
                return Err(wrong("the password is wrong"));
            }
        }
        Ok((room, known))
    }

    /// Takes a place in the room, and the room itself if it has no owner.
    async fn take_place(
        &self,
        room: Room,
        join: &Join,
        known: Option<Known>,
    ) -> Result<(Room, Present), Failure> {
        let (code, watch) = (room.code, &self.watch);
        let member = self.member(code);
        let is_new = self.seat.is_none();
        let mut present = Present {
            oder_id: member.clone(),
            user_id: self.visitor.user.as_ref().map(|user| user.id.clone()),
            username: self.name(join, known.as_ref(), &member)?,
            guest: self.visitor.is_guest(),
            status: self
                .seat
                .as_ref()
                .map_or(Status::Online, |it| it.present.status),
            joined_at: known.map_or_else(|| watch.clock.now(), |known| known.joined_at),
        };
        let claims = self.claims(&room, join);
        let mut shown = room.clone();
        if claims {
            // So that the others are not told of a participant who becomes the owner in the next moment.
            shown.owner = Some(member.clone());
        }
        watch.enter(&shown, self.id(), &present, is_new).await?;
        let taken = async {
            let (name, visitor) = (&present.username, &self.visitor);
            let joined_at = watch.remember(code, &member, visitor, name).await?;
            let room = match claims {
                true => self.claim(room, &present, join).await?,
                false => room,
            };
            let room = self.owner_is_back(room, &member).await?;
            Ok((room, joined_at))
        };
        match taken.await {
            Ok((room, joined_at)) => {
                present.joined_at = joined_at;
                Ok((room, present))
            }
            Err(failure) => {
                // Who was in before is in as before.
                if is_new {
                    watch.leave(code, self.id()).await;
                }
                Err(failure)
            }
        }
    }

    /// What the member is called: its user's name, or what a guest says, or said before.
    fn name(
        &self,
        join: &Join,
        known: Option<&Known>,
        member: &MemberId,
    ) -> Result<String, Failure> {
        let said = join.guest_name()?;
        let user = self.visitor.user.as_ref();
        let of_user = user.map(|user| user.name.clone().unwrap_or_else(|| user.id.clone()));
        let before = known.map(|known| known.name.clone());
        let anonymous = || format!("Guest {}", member.as_str().get(..4).unwrap_or_default());
        Ok(of_user.or(said).or(before).unwrap_or_else(anonymous))
    }

    /// Whether this visitor becomes the owner of a room without one.
    fn claims(&self, room: &Room, join: &Join) -> bool {
        room.owner.is_none() && (self.has_key(room, join) || join.owner_key.is_none())
    }

    fn has_key(&self, room: &Room, join: &Join) -> bool {
        join.owner_key.as_deref().is_some_and(|key| {
            let print = fingerprint(key);
            bool::from(print.as_bytes().ct_eq(room.owner_key.as_bytes()))
        })
    }

    async fn claim(&self, mut room: Room, present: &Present, join: &Join) -> Result<Room, Failure> {
        let reason = match self.has_key(&room, join) {
            true => "owner_key",
            false => "first_join",
        };
        for _ in 0..TRIES_MAX {
            if room.owner.is_some() {
                // Another one was faster.
                return Ok(room);
            }
            let code = room.code;
            let owner = present.oder_id.clone();
            let name = &present.username;
            if let Some(room) = self.watch.write_owner(room, owner, name, reason).await? {
                return Ok(room);
            }
            room = self.watch.load(code).await?;
        }
        Ok(room)
    }

    /// Notes that the owner, whose absence was noted, is there again.
    async fn owner_is_back(&self, room: Room, member: &MemberId) -> Result<Room, Failure> {
        if !room.is_owner(member) || room.owner_absent_since.is_none() {
            return Ok(room);
        }
        let step = owner::Step::NoteBack {
            tell: room.owner_away_told,
        };
        let now = self.watch.clock.now();
        self.watch.write_absence(&room, &step, now).await?;
        // It may have been handed over in this moment.
        self.watch.load(room.code).await
    }

    /// Shows the client the room as it is, and lets it hear what follows.
    async fn begin(&mut self, room: &Room, join: &Join, present: Present) -> Answer {
        let (code, watch) = (room.code, std::sync::Arc::clone(&self.watch));
        let channel = code.channel();
        if self.seat.is_some() {
            self.client.leave(channel.clone());
        }
        let beginning = watch.beginning(code, join).await?;
        let position = json!({ "epoch": beginning.epoch.as_str(), "offset": beginning.head.0 });
        // After the position: whatever it does not hold comes as an event.
        let room = &watch.load(code).await?;
        let shown = watch.present(code).await?;
        let state = watch.room_state(room, &shown, Some(&position));
        self.emit("room:state", &state);
        for (event, data) in &beginning.events {
            self.emit(event, data);
        }
        let friends: Vec<Value> = shown.iter().map(presence_of).collect();
        self.emit("presence:friends", &json!({ "presences": friends }));
        self.emit(
            "presence:rich",
            &rich_presence(room, shown.len(), watch.clock.now()),
        );
        if let Some(check) = watch.ready_current(code).await? {
            self.emit("ready:start", &json!({ "check": check }));
        }
        let start = Start::Resume(Resume {
            epoch: Some(beginning.epoch),
            seq: beginning.head,
            oldest_if_truncated: true,
        });
        let joined = self.client.join(channel, start, Keep::Position).await;
        joined.map_err(|error| join_failure(&error))?;
        self.sit(room, present);
        self.show_changes(room, &shown).await?;
        self.tell_if_degraded();
        self.offer(room);
        Ok(self.answer(room, state, position))
    }

    /// News of who came and went between the look and the join did not reach this client.
    async fn show_changes(&self, room: &Room, shown: &[Present]) -> Result<(), Failure> {
        let now = self.watch.present(room.code).await?;
        let is_in =
            |list: &[Present], one: &Present| list.iter().any(|other| other.oder_id == one.oder_id);
        for one in now.iter().filter(|one| !is_in(shown, one)) {
            let told = json!({ "participant": room.participant(one) });
            self.emit("room:participant:joined", &told);
        }
        for one in shown.iter().filter(|one| !is_in(&now, one)) {
            self.emit("room:participant:left", &json!({ "oderId": one.oder_id }));
        }
        Ok(())
    }

    /// Offers the room to who owned it before.
    fn offer(&mut self, room: &Room) {
        let Some(seat) = &mut self.seat else { return };
        let is_former = room.former_owner.as_ref() == Some(&seat.present.oder_id);
        if !is_former || room.is_owner(&seat.present.oder_id) {
            return;
        }
        let until = self.watch.clock.now() + OFFER_FOR;
        seat.offered_until = Some(until);
        let told = json!({ "ownerId": room.owner, "until": until });
        self.emit("room:offer_ownership", &told);
    }

    fn sit(&mut self, room: &Room, present: Present) {
        let (member, hears) = (
            present.oder_id.clone(),
            self.seat.as_ref().is_some_and(|seat| seat.hears),
        );
        self.seat = Some(Seated {
            code: room.code,
            present,
            offered_until: None,
            hears,
        });
        let seat = Seat::new(member, self.client.clone());
        self.watch.rooms.seat(room.code, self.id(), seat);
    }

    fn answer(&self, room: &Room, mut state: Value, position: Value) -> Map<String, Value> {
        let mut fields = Map::new();
        let member = self.member(room.code);
        fields.insert("oderId".to_owned(), member.as_str().into());
        if self.visitor.is_guest() {
            let key = self.visitor.resume_key.as_str();
            fields.insert("resumeKey".to_owned(), key.into());
        }
        for field in ["room", "participants", "playback"] {
            fields.insert(field.to_owned(), state[field].take());
        }
        fields.insert("position".to_owned(), position);
        fields
    }

    /// Goes out of a room: at once, for everybody.
    async fn give_up(&mut self, code: RoomCode) {
        self.client.leave(code.channel());
        if let Some(seat) = self.seat.take()
            && seat.hears
        {
            self.client.leave(seat.present.oder_id.channel());
        }
        self.watch.rooms.unseat(code, self.id());
        if let Err(error) = self.watch.voice_leave(code, self.id()).await {
            debug!(%error, "a place in voice could not be given back");
        }
        self.watch.leave(code, self.id()).await;
    }
}

impl Watch {
    /// `room:state`.
    pub(crate) fn room_state(
        &self,
        room: &Room,
        present: &[Present],
        position: Option<&Value>,
    ) -> Value {
        let participants = present.iter().map(|one| room.participant(one));
        let mut state = json!({
            "room": room.view(),
            "participants": participants.collect::<Vec<_>>(),
            "playback": room.playback_view(),
        });
        if let Some(position) = position {
            state["position"] = position.clone();
        }
        state
    }

    async fn beginning(&self, code: RoomCode, join: &Join) -> Result<Beginning, Failure> {
        let mut beginning = match self.missed(code, join).await? {
            Some(missed) => {
                let truncated = missed.truncated;
                let state = self.load(code).await?;
                let commands = json!({
                    "commands": missed.commands,
                    "state": state.playback_view(),
                    "truncated": truncated,
                });
                let messages = json!({ "messages": missed.messages, "truncated": truncated });
                Beginning {
                    epoch: missed.epoch,
                    head: missed.head,
                    events: vec![("sync:catchup", commands), ("chat:catchup", messages)],
                }
            }
            None => {
                let page = self.messages(code, None, MESSAGES_ON_JOIN).await?;
                let history = json!({ "messages": page.messages, "hasMore": page.has_more });
                Beginning {
                    epoch: page.epoch,
                    head: page.head,
                    events: vec![("chat:history", history)],
                }
            }
        };
        let timeline = self.timeline(code).await?;
        beginning.events.push(("reaction:timeline", timeline));
        Ok(beginning)
    }
}

fn presence_of(present: &Present) -> Value {
    without_nulls(json!({
        "oderId": present.oder_id,
        "userId": present.user_id,
        "username": present.username,
        "status": present.status.shown(),
        "timestamp": present.joined_at,
    }))
}

fn rich_presence(room: &Room, party: usize, now: i64) -> Value {
    let most = room.max_participants;
    json!({
        "activity": "watching",
        "details": room.name,
        "roomCode": room.code.as_str(),
        "partySize": party,
        "partyMax": most,
        "joinable": u32::try_from(party).is_ok_and(|party| party < most),
        "timestamp": now,
    })
}

fn join_failure(error: &JoinError) -> Failure {
    match error {
        JoinError::Limit | JoinError::Already => Failure::internal(error),
        JoinError::Gone(_) | JoinError::Log(_) => Failure::unavailable("the database"),
    }
}
