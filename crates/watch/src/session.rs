//! One connection: who it is, the events that it sends, and what each is answered with.

pub(crate) mod events;

use std::{pin::pin, sync::Arc, time::Duration};

use fanfare_gateway::socketio::{Ack, Args, Client, Events, Incoming, Resumed};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::{
    sync::mpsc,
    task,
    time::{Instant, sleep},
};
use tracing::debug;
use uuid::Uuid;

use crate::{
    Watch,
    failure::{Code, Failure},
    identity::{MemberId, RESUME_KEY_BYTES, RoomCode, User, Visitor, secret},
    limits::too_often,
    payload::{EVENT_BYTES_MAX, Ping, parse},
    room::Present,
};

/// The version of the protocol that is spoken here.
const PROTOCOL_VERSION: &str = "1.0";
/// Events of one connection that wait for the one before.
const WAITING_MAX: usize = 64;
/// Events of a connection in a second that no other limit counts, and pings beside them.
const EVENTS_PER_SECOND: f64 = 20.0;

/// How often it is asked whether a token is still valid.
const TOKEN_INTERVAL: Duration = Duration::from_secs(2);

/// What an event is answered with.
pub(crate) type Answer = Result<Map<String, Value>, Failure>;

/// One connection.
pub(crate) struct Session {
    pub(crate) watch: Arc<Watch>,
    pub(crate) client: Client,
    pub(crate) visitor: Visitor,
    /// The room that it is in.
    pub(crate) seat: Option<Seated>,
    pace: Pace,
}

/// A connection's place in a room.
#[derive(Debug, Clone)]
pub(crate) struct Seated {
    pub(crate) code: RoomCode,
    pub(crate) present: Present,
    /// The room is offered to this former owner until then.
    pub(crate) offered_until: Option<i64>,
    /// It hears what only this member is told.
    pub(crate) hears: bool,
}

/// A token bucket of this connection alone.
struct Pace {
    tokens: f64,
    last: Instant,
}

/// Serves a connection to its end.
pub(crate) async fn serve(watch: Arc<Watch>, client: Client, mut events: Events) {
    let (visitor, problem) = match greet(&watch, &client) {
        Ok(greeted) => greeted,
        Err(failure) => return client.refuse(&failure.message, None),
    };
    let mut session = Session {
        watch: Arc::clone(&watch),
        client: client.clone(),
        visitor,
        seat: None,
        pace: Pace::full(),
    };
    if session.enter(problem).await.is_err() {
        return;
    }
    let user = session.visitor.user.clone();
    let (sender, mut waiting) = mpsc::channel::<Incoming>(WAITING_MAX);
    let reader = async move {
        let mut pace = Pace::full();
        while let Some(incoming) = events.recv().await {
            // Waits for nothing, and nothing waits for it: the answer measures the way.
            if incoming.event == "time:ping" {
                pong(&watch, &client, incoming, &mut pace);
            } else if sender.send(incoming).await.is_err() {
                return;
            }
        }
    };
    let token_ends = token_ends(Arc::clone(&session.watch), session.client.clone(), user);
    // A token ends between two events: whatever one that is under way takes is known when it is given back.
    let worker = async {
        let mut token_ends = pin!(token_ends);
        loop {
            let incoming = tokio::select! {
                incoming = waiting.recv() => incoming,
                () = &mut token_ends => None,
            };
            let Some(incoming) = incoming else { return };
            session.on_event(incoming).await;
        }
    };
    // What was read is carried out, also if nothing more comes.
    let reader = async {
        reader.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = worker => {}
        () = reader => {}
    }
    session.end().await;
}

impl Session {
    pub(crate) fn id(&self) -> Uuid {
        self.visitor.session
    }

    /// The room that this connection is in, and its place there.
    pub(crate) fn seated(&self) -> Result<&Seated, Failure> {
        self.seat.as_ref().ok_or_else(Failure::not_in_room)
    }

    pub(crate) fn emit(&self, event: &str, data: &impl Serialize) {
        if let Err(error) = self.client.emit(event, Args::one(data)) {
            debug!(%error, event, "a client was not told");
        }
    }

    /// Lets the client in: a new one, or one that goes on in its room.
    async fn enter(&mut self, problem: Option<Code>) -> Result<(), ()> {
        let room = self.room_to_return_to().await;
        let channels = room.map(|code| code.channel());
        let resumed = self.client.resume(channels.as_slice()).await;
        let resumed = resumed.map_err(|error| debug!(%error, "a client went as it came"))?;
        self.emit("connection:ready", &self.ready(problem));
        if let (Resumed::Recovered(_), Some(code)) = (resumed, room)
            && let Err(failure) = self.come_back(code).await
        {
            self.tell_failure("room:join", &failure);
        }
        Ok(())
    }

    /// The one room that the client says it was in, if it has been in before.
    async fn room_to_return_to(&self) -> Option<RoomCode> {
        let seen = self.client.handshake().resumed.as_ref()?;
        let mut codes = seen.channels.iter().map(|(channel, _)| {
            let code = channel.as_str().strip_prefix("watch:")?;
            RoomCode::parse(code)
        });
        let (Some(code), None) = (codes.next()?, codes.next()) else {
            return None;
        };
        let member = self.visitor.member(code);
        self.watch.load(code).await.ok()?;
        let known = self.watch.known(code, &member).await.ok()?;
        known.map(|_| code)
    }

    fn ready(&self, problem: Option<Code>) -> Value {
        let auth = self.client.handshake().auth_as::<Value>();
        let asked = auth
            .as_ref()
            .and_then(|auth| auth["protocolVersion"].as_str());
        let major = |version: &str| version.split('.').next().map(str::to_owned);
        let compatible = asked.is_none_or(|asked| major(asked) == major(PROTOCOL_VERSION));
        let mut ready = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "serverSupportedVersions": [PROTOCOL_VERSION],
            "compatible": compatible,
            "upgradeRequired": !compatible,
            "serverTime": self.watch.clock.now(),
            "sessionId": self.id().to_string(),
            "guest": self.visitor.is_guest(),
        });
        match &self.visitor.user {
            Some(user) => ready["user"] = json!({ "userId": user.id, "name": user.name }),
            None => ready["resumeKey"] = self.visitor.resume_key.as_str().into(),
        }
        if let Some(code) = problem {
            ready["tokenError"] = code.as_str().into();
        }
        ready
    }

    async fn on_event(&mut self, incoming: Incoming) {
        let Incoming {
            event, args, ack, ..
        } = incoming;
        let argument = args.first().map(|raw| raw.get().as_bytes());
        let length: usize = args.iter().map(|raw| raw.get().len()).sum();
        let answer = match length > EVENT_BYTES_MAX {
            true => Err(Failure::new(
                Code::PayloadTooLarge,
                format!("an event is at most {EVENT_BYTES_MAX} bytes"),
            )),
            false => self.carry_out(&event, argument).await,
        };
        if let Err(failure) = &answer {
            self.tell_failure(&event, failure);
        }
        acknowledge(ack, answer);
    }

    /// Takes one of what this connection may do in a second.
    pub(crate) fn paced(&mut self) -> Result<(), Failure> {
        self.pace.take()
    }

    fn tell_failure(&self, event: &str, failure: &Failure) {
        let name = match event.split(':').next() {
            _ if failure.code == Code::Conflict => "sync:conflict",
            Some("chat") => "chat:error",
            Some("voice") => "voice:error",
            _ => "room:error",
        };
        let mut fields = failure.fields();
        // An unknown event's name is the client's own text, of any length.
        let event: String = event.chars().take(64).collect();
        fields.insert("event".to_owned(), event.into());
        self.emit(name, &fields);
    }

    /// The connection is gone: its places are given back, soon.
    async fn end(mut self) {
        let Some(seat) = self.seat.take() else { return };
        let (watch, session) = (Arc::clone(&self.watch), self.id());
        watch.rooms.unseat(seat.code, session);
        task::spawn(async move {
            watch.leave_later(seat.code, session).await;
            if let Err(error) = watch.voice_leave(seat.code, session).await {
                debug!(%error, "a place in voice could not be given back");
            }
        });
    }

    pub(crate) fn member(&self, code: RoomCode) -> MemberId {
        self.visitor.member(code)
    }
}

/// Sends a client away when its token is revoked or expires; never returns otherwise.
async fn token_ends(watch: Arc<Watch>, client: Client, user: Option<User>) {
    let Some(User { claims, .. }) = user else {
        return std::future::pending().await;
    };
    loop {
        sleep(TOKEN_INTERVAL).await;
        let has_expired = claims
            .expires()
            .is_some_and(|exp| exp.saturating_mul(1000) <= watch.clock.now());
        let sessions = watch.sessions.get();
        if has_expired || sessions.is_some_and(|sessions| sessions.is_revoked(&claims)) {
            let failure = Failure::new(Code::InvalidToken, "the token is not valid any more");
            // Who is gone does not want to know.
            let _ = client.emit("room:error", Args::one(&failure.fields()));
            return client.disconnect();
        }
    }
}

/// Who has connected, and what was wrong with its token.
fn greet(watch: &Watch, client: &Client) -> Result<(Visitor, Option<Code>), Failure> {
    let handshake = client.handshake();
    let auth = handshake.auth_as::<Value>().unwrap_or_default();
    let (user, problem) = match auth["token"].as_str() {
        None | Some("") => (None, None),
        Some(token) => match watch.user_of(token) {
            Some(user) => (user, None),
            None => (None, Some(Code::InvalidToken)),
        },
    };
    let key = auth["resumeKey"].as_str();
    let is_fit = |key: &&str| {
        RESUME_KEY_BYTES.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let resume_key = match key.filter(is_fit) {
        Some(key) => key.to_owned(),
        None => secret()?,
    };
    let address = handshake
        .peer
        .map_or_else(String::new, |peer| peer.ip().to_string());
    let visitor = Visitor {
        session: Uuid::new_v4(),
        user,
        resume_key,
        address,
    };
    Ok((visitor, problem))
}

impl Watch {
    /// The user of a token; `None` if the token is not accepted. A token without a user is a guest's.
    pub(crate) fn user_of(&self, token: &str) -> Option<Option<User>> {
        let claims = self.sessions.get()?.connection(token).ok()?;
        if claims.sub.is_empty() {
            return Some(None);
        }
        if claims.sub.chars().any(char::is_control) {
            return None;
        }
        let info = claims.info.as_ref();
        let info = info.and_then(|info| serde_json::from_slice::<Value>(info.as_bytes()).ok());
        let name = info.as_ref().and_then(|info| info["name"].as_str());
        let name = name.and_then(|name| crate::payload::text("name", name.to_owned(), 50).ok());
        Some(Some(User {
            id: claims.sub.clone(),
            name,
            claims,
        }))
    }
}

fn pong(watch: &Watch, client: &Client, incoming: Incoming, pace: &mut Pace) {
    let argument = incoming.args.first().map(|raw| raw.get().as_bytes());
    let asked = pace.take().and_then(|()| parse::<Ping>(argument));
    let answer = asked.map(|ping| {
        let mut fields = Map::new();
        fields.insert("clientTime".to_owned(), ping.client_time.into());
        fields.insert("serverTime".to_owned(), watch.clock.now().into());
        fields
    });
    let (event, fields) = match &answer {
        Ok(fields) => ("time:pong", fields.clone()),
        Err(failure) => ("room:error", failure.fields()),
    };
    // Who is gone does not want to know.
    let _ = client.emit(event, Args::one(&fields));
    acknowledge(incoming.ack, answer);
}

/// Calls a client back: `ok`, and the fields of the answer or of the failure.
fn acknowledge(ack: Option<Ack>, answer: Answer) {
    let Some(ack) = ack else { return };
    let (ok, mut fields) = match answer {
        Ok(fields) => (true, fields),
        Err(failure) => (false, failure.fields()),
    };
    fields.insert("ok".to_owned(), ok.into());
    // Who is gone does not want to know.
    let _ = ack.send(Args::one(&fields));
}

impl Pace {
    fn full() -> Self {
        Self {
            tokens: EVENTS_PER_SECOND,
            last: Instant::now(),
        }
    }

    fn take(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let passed = (now - self.last).as_secs_f64();
        self.last = now;
        self.tokens = (self.tokens + passed * EVENTS_PER_SECOND).min(EVENTS_PER_SECOND);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - self.tokens) / EVENTS_PER_SECOND;
        Err(too_often(Duration::from_secs_f64(missing)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_its_pace() {
        let mut pace = Pace::full();
        for _ in 0..20 {
            pace.take().unwrap();
        }
        let refused = pace.take().unwrap_err();
        assert_eq!(refused.code, Code::RateLimitExceeded);
        tokio::time::advance(Duration::from_millis(51)).await;
        pace.take().unwrap();
        assert!(pace.take().is_err());
    }
}
