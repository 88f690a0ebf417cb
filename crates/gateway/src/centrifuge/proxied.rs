//! Commands that the application's backend decides, or an app of the server as a judge: one at a time for each client, the next ones wait.
//! And what was granted for a while, which is asked about again when that runs out.

mod granted;
mod judged;

use std::sync::Arc;

use fanfare_engine::hub::{Context, Event as HubEvent, Remote};
use fanfare_wire::{
    ChannelName, Json,
    centrifuge::{
        Answer, Codec, ConnectRequest, Disconnect, ErrorCode, Payload, RpcRequest, disconnects,
        errors, unsubscribes,
    },
};
use hyper::header::HeaderMap;
use serde_json::value::RawValue;

use self::granted::{claims, leave};
use super::{
    beginning::{Beginning, Wishes},
    client::Failure,
    session::{ClientSession, close},
    subscribe::{Grant, Wish},
};
use crate::{
    api::tags_of,
    identity::Identity,
    proxy::{Asked, Call, Event, Granted, Proxies, Verdict},
    token::Seconds,
    unix_seconds,
};

/// Seconds until a backend that gave no answer is asked again whether something may go on.
const RENEWAL_RETRY_SECONDS: Seconds = 5;

/// Longest info of a client or a subscription, in bytes: it stands in everything that the client publishes. And longest meta.
const INFO_BYTES_MAX: usize = 8 << 10;

/// What a client has to do with those who decide.
#[derive(Default)]
pub(super) struct Proxied {
    /// The backend, if it is asked anything.
    proxies: Option<Arc<Proxies>>,
    /// Of the request that opened the connection.
    headers: HeaderMap,
    remote: Option<Remote>,
    /// How many calls were made: an answer is known by the number of its call.
    calls: u32,
    waiting: Option<Waiting>,
    /// The client came this way, and is asked about again.
    renewal: Option<Renewal>,
}

/// A command whose answer somebody else gives.
struct Waiting {
    number: u32,
    about: About,
    /// Commands that came with it and stand behind it.
    rest: Vec<u8>,
    /// What it asks for was taken back since: the answer to come may be that of before.
    overtaken: bool,
    _call: Call,
}

enum About {
    Connect {
        id: u32,
        client: Box<Identity>,
        wishes: Wishes,
    },
    Subscribe(Box<Wish>),
    Publish {
        id: u32,
        channel: ChannelName,
        data: Json,
    },
    Rpc {
        id: u32,
    },
}

/// Something that was granted for a while.
#[derive(Default)]
pub(super) struct Renewal {
    /// The question under way.
    call: Option<(u32, Call)>,
    /// After one that was not answered.
    not_before: Seconds,
}

/// What comes back from a call.
struct Answered {
    number: u32,
    verdict: Verdict,
}

impl Proxied {
    pub(super) fn new(proxies: &Arc<Proxies>, headers: &HeaderMap) -> Self {
        Self {
            headers: proxies.forwarded(headers),
            proxies: Some(Arc::clone(proxies)),
            ..Self::default()
        }
    }

    pub(super) fn bind(&mut self, remote: Remote) {
        self.remote = Some(remote);
    }

    /// How the client stays, if the backend has let it in for a while.
    pub(super) fn renewal(&self) -> Option<&Renewal> {
        self.renewal.as_ref()
    }

    /// Whether a command waits for its answer, and everything behind it for that.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Keeps what stands in a message behind the command that waits.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        if let Some(waiting) = &mut self.waiting {
            waiting.rest = rest.to_vec();
        }
    }

    /// The number of a new call, and how its answer comes back.
    fn call(&mut self) -> Option<(u32, impl FnOnce(Verdict) + Send + 'static)> {
        let remote = self.remote.clone()?;
        self.calls = self.calls.wrapping_add(1);
        let number = self.calls;
        let done = move |verdict| {
            let answered = Answered { number, verdict };
            remote.send(HubEvent::Post(Box::new(answered)));
        };
        Some((number, done))
    }

    fn ask(&mut self, event: Event, asked: &Asked<'_>) -> Option<(u32, Call)> {
        let (number, done) = self.call()?;
        let proxies = self.proxies.as_ref()?;
        let call = proxies.ask(event, asked, &self.headers, done)?;
        Some((number, call))
    }

    fn wait_for(&mut self, event: Event, asked: &Asked<'_>, about: About) -> Result<(), ErrorCode> {
        let asked = self.ask(event, asked).ok_or(errors::INTERNAL)?;
        self.wait(asked, about);
        Ok(())
    }

    fn wait(&mut self, (number, call): (u32, Call), about: About) {
        self.waiting = Some(Waiting {
            number,
            about,
            rest: Vec::new(),
            overtaken: false,
            _call: call,
        });
    }

    /// A subscription to this channel is taken back: if one is being asked about, the answer that is under way does not count.
    pub(super) fn overtake(&mut self, channel: &str) {
        if let Some(waiting) = &mut self.waiting
            && let About::Subscribe(wish) = &waiting.about
        {
            waiting.overtaken |= wish.channel.as_str() == channel;
        }
    }
}

impl Renewal {
    /// When there is something to do: the moment to ask, or, while that is asked, when patience ends.
    pub(super) fn due(&self, expires: Seconds, patience: Seconds) -> Seconds {
        match self.call {
            Some(_) => expires + patience,
            None => expires.max(self.not_before),
        }
    }

    fn is_due(&self, expires: Option<Seconds>, now: Seconds) -> bool {
        let asks_from = |expires: Seconds| expires.max(self.not_before);
        self.call.is_none() && expires.is_some_and(|expires| asks_from(expires) <= now)
    }

    fn is(&self, number: u32) -> bool {
        self.call
            .as_ref()
            .is_some_and(|(asked, _)| *asked == number)
    }

    fn later(&mut self) {
        self.call = None;
        self.not_before = unix_seconds() + RENEWAL_RETRY_SECONDS;
    }
}

impl ClientSession {
    /// Whether the backend decides it.
    pub(super) fn asks(&self, event: Event) -> bool {
        let proxied = self.proxied.as_ref();
        let proxies = proxied.and_then(|proxied| proxied.proxies.as_ref());
        proxies.is_some_and(|proxies| proxies.has(event))
    }

    /// Whether the backend has the word.
    pub(super) fn is_asking(&self) -> bool {
        let proxied = self.proxied.as_ref();
        proxied.is_some_and(|proxied| proxied.is_waiting())
    }

    /// Whether everything that the client says has to wait: for the backend, or until it is known where the client stands.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_asking() || self.beginning.is_some()
    }

    /// The client's own renewal, if the backend has let it in.
    pub(super) fn renewal(&mut self) -> Option<&mut Renewal> {
        self.proxied.as_mut()?.renewal.as_mut()
    }

    /// From now on it is a token that the client is there by.
    pub(super) fn renew_by_token(&mut self) {
        if let Some(proxied) = &mut self.proxied {
            proxied.renewal = None;
        }
    }

    // === Questions ===

    pub(super) fn ask_connect(
        &mut self,
        id: u32,
        request: &ConnectRequest<'_>,
        wishes: Wishes,
    ) -> Result<(), Failure> {
        let client = Box::new(Identity::new(None));
        let asked = Asked {
            name: &request.name,
            version: &request.version,
            data: data_of(request.data)?,
            ..Asked::by(client.id, self.dialect, None)
        };
        let proxied = self.proxied.as_mut().ok_or(errors::INTERNAL)?;
        let about = About::Connect { id, client, wishes };
        proxied.wait_for(Event::Connect, &asked, about)?;
        Ok(())
    }

    pub(super) fn ask_subscribe(&mut self, wish: Wish, data: Payload<'_>) -> Result<(), ErrorCode> {
        let channel = wish.channel.clone();
        let data = data_of(data)?;
        let about = About::Subscribe(Box::new(wish));
        self.ask_about(Event::Subscribe, (channel.as_str(), ""), data, about)
    }

    pub(super) fn ask_publish(
        &mut self,
        id: u32,
        channel: ChannelName,
        data: &RawValue,
    ) -> Result<(), ErrorCode> {
        let about = About::Publish {
            id,
            channel: channel.clone(),
            data: Json::from_raw(data),
        };
        self.ask_about(Event::Publish, (channel.as_str(), ""), Some(data), about)
    }

    pub(super) fn on_rpc(&mut self, id: u32, request: &RpcRequest<'_>) -> Result<(), ErrorCode> {
        if !self.asks(Event::Rpc) {
            return Err(errors::NOT_AVAILABLE);
        }
        let data = data_of(request.data)?;
        self.ask_about(Event::Rpc, ("", &request.method), data, About::Rpc { id })
    }

    /// A command of a client that is connected.
    fn ask_about(
        &mut self,
        event: Event,
        (channel, method): (&str, &str),
        data: Option<&RawValue>,
        about: About,
    ) -> Result<(), ErrorCode> {
        let client = self.client.as_ref().ok_or(errors::UNAUTHORIZED)?;
        let asked = Asked {
            channel,
            method,
            data,
            meta: meta_of(client),
            ..Asked::by(client.id, self.dialect, Some(client.user()))
        };
        let proxied = self.proxied.as_mut().ok_or(errors::INTERNAL)?;
        proxied.wait_for(event, &asked, about)
    }

    // === Answers ===

    /// Something was posted: the answer to a call, if it is one that is still waited for.
    pub(super) fn on_post(
        &mut self,
        posted: Box<dyn std::any::Any + Send>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let Ok(answered) = posted.downcast::<Answered>() else {
            return Ok(());
        };
        let Answered { number, verdict } = *answered;
        let Some(proxied) = &mut self.proxied else {
            return Ok(());
        };
        let waited = proxied.waiting.take_if(|waiting| waiting.number == number);
        let is = |renewal: &Renewal| renewal.is(number);
        let of_client = proxied.renewal.as_ref().is_some_and(is);
        let of_sub = self
            .subs
            .iter()
            .position(|sub| sub.renewal.as_deref().is_some_and(is));
        if waited.is_none() && of_sub.is_none() && !of_client {
            return Ok(());
        }
        if let Verdict::Disconnect { code, reason } = &verdict {
            close(self.dialect, cx, *code, reason);
            return Ok(());
        }
        match (waited, of_sub) {
            (Some(waited), _) if waited.overtaken => self.ask_again(waited, cx)?,
            (Some(waited), _) => self.on_verdict(waited.about, &waited.rest, verdict, cx)?,
            (None, Some(at)) => self.on_sub_renewed(at, verdict, cx),
            (None, None) => self.on_client_renewed(verdict)?,
        }
        // What was granted may run out before the session would wake.
        self.rearm(cx);
        Ok(())
    }

    fn on_verdict(
        &mut self,
        about: About,
        rest: &[u8],
        verdict: Verdict,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        let id = match &about {
            About::Connect { id, .. } | About::Publish { id, .. } | About::Rpc { id } => *id,
            About::Subscribe(wish) => wish.id,
        };
        let done = match verdict {
            Verdict::Granted(granted) => self.on_granted(about, *granted, cx),
            // There are no errors without commands.
            Verdict::Refused { .. } | Verdict::Failed if self.dialect.one_way => {
                Err(disconnects::SERVER_ERROR.into())
            }
            Verdict::Refused { code, message } => {
                let message = &message;
                self.reply(id, &Answer::Refused { code, message }, cx);
                Ok(())
            }
            Verdict::Failed | Verdict::Disconnect { .. } => Err(errors::INTERNAL.into()),
        };
        match done {
            Ok(()) => {}
            Err(failure) if self.dialect.one_way => return Err(failure.into_disconnect()),
            Err(Failure::Error(error)) => self.reply(id, &error.into(), cx),
            Err(Failure::Disconnect(disconnect)) => return Err(disconnect),
        }
        match (&self.client, &mut self.beginning) {
            (_, Some(beginning)) => {
                beginning.keep(rest);
                Ok(())
            }
            (Some(_), None) => self.resume(rest, cx),
            // Who was not let in starts anew: what it sent along was for a connection that there is not.
            (None, None) => Ok(()),
        }
    }

    fn on_granted(
        &mut self,
        about: About,
        granted: Granted,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        match about {
            About::Connect {
                id,
                mut client,
                wishes,
            } => {
                let data = granted.data.clone();
                let expires = granted.expire_at;
                client.claims = Some(Arc::new(claims(granted)?));
                if expires.is_some()
                    && self.asks(Event::Refresh)
                    && let Some(proxied) = &mut self.proxied
                {
                    proxied.renewal = Some(Renewal::default());
                }
                self.connected(Beginning::new(id, None, data), client, wishes, cx)?;
                Ok(())
            }
            About::Subscribe(wish) => {
                let data = granted.data.clone().map(Box::new);
                let grant = Grant {
                    leave: leave(granted)?,
                    by_backend: true,
                    data,
                };
                self.begin(*wish, grant, cx);
                Ok(())
            }
            About::Publish { id, channel, data } => {
                let data = granted.data.unwrap_or(data);
                let options = self.gateway.options(&channel)?;
                self.gateway.check_length(data.as_bytes().len(), options)?;
                let tags = match granted.tags.is_empty() {
                    true => None,
                    false => Some(tags_of(&granted.tags)?),
                };
                self.publish(id, channel, (data, tags), cx);
                Ok(())
            }
            About::Rpc { id } => {
                let data = granted.data.as_ref();
                self.reply(id, &Answer::Rpc { data }, cx);
                Ok(())
            }
        }
    }

    // === What runs out ===

    /// Asks about what runs out now.
    pub(super) fn renew(&mut self, now: Seconds) {
        let (Some(client), Some(proxied)) = (&self.client, &mut self.proxied) else {
            return;
        };
        let about = || Asked {
            meta: meta_of(client),
            ..Asked::by(client.id, self.dialect, Some(client.user()))
        };
        let due = |renewal: &Renewal| renewal.is_due(client.expires(), now);
        if proxied.renewal.as_ref().is_some_and(due) {
            let call = proxied.ask(Event::Refresh, &about());
            if let Some(renewal) = &mut proxied.renewal {
                renewal.call = call;
            }
        }
        for sub in &mut self.subs {
            let Some(renewal) = &mut sub.renewal else {
                continue;
            };
            if renewal.is_due(sub.expires, now) {
                renewal.call = match self.gateway.judges.decide(&sub.channel) {
                    true => proxied.ask_judge(&self.gateway.judges, client, &sub.channel),
                    false => {
                        let channel = sub.channel.as_str();
                        let asked = Asked { channel, ..about() };
                        proxied.ask(Event::SubRefresh, &asked)
                    }
                };
            }
        }
    }

    fn on_client_renewed(&mut self, verdict: Verdict) -> Result<(), Disconnect> {
        let Verdict::Granted(granted) = verdict else {
            if let Some(renewal) = self.renewal() {
                renewal.later();
            }
            return Ok(());
        };
        if granted.expired {
            return Err(disconnects::CONNECTION_EXPIRED);
        }
        if let Some(renewal) = self.renewal() {
            *renewal = Renewal::default();
        }
        let claims = self
            .client
            .as_mut()
            .and_then(|client| client.claims.as_mut());
        if let Some(claims) = claims.map(Arc::make_mut) {
            claims.exp = granted.expire_at;
            claims.iat = Some(unix_seconds());
            if let Some(info) = granted.info.filter(fits) {
                claims.info = Some(info);
            }
            if let Some(meta) = granted.meta.filter(fits) {
                claims.meta = Some(meta);
            }
            if let Some(caps) = granted.caps {
                claims.caps = caps;
            }
        }
        Ok(())
    }

    fn on_sub_renewed(&mut self, at: usize, verdict: Verdict, cx: &mut Context<'_>) {
        let sub = &mut self.subs[at];
        match verdict {
            // What a backend says other than as agreed may be a mistake; a judge is certain.
            Verdict::Refused { .. } if self.gateway.judges.decide(&sub.channel) => {
                let channel = sub.channel.clone();
                self.forget(&channel, cx);
                self.dialect
                    .push_unsubscribe(&channel, unsubscribes::SERVER, cx.out);
            }
            Verdict::Granted(granted) if granted.expired => {
                let channel = sub.channel.clone();
                self.forget(&channel, cx);
                self.dialect
                    .push_unsubscribe(&channel, unsubscribes::EXPIRED, cx.out);
            }
            Verdict::Granted(granted) => {
                sub.expires = granted.expire_at;
                sub.renewal = sub.expires.map(|_| Box::default());
                if let Some(info) = granted.info.filter(fits) {
                    sub.terms.get_or_insert_default().info = Some(info);
                }
            }
            _ => {
                if let Some(renewal) = &mut sub.renewal {
                    renewal.later();
                }
            }
        }
    }

    /// Goes on with what stood behind a command that has its answer now.
    pub(super) fn resume(&mut self, rest: &[u8], cx: &mut Context<'_>) -> Result<(), Disconnect> {
        match (self.dialect.codec, rest.is_empty()) {
            (_, true) => Ok(()),
            (Codec::Json, false) => {
                let text = std::str::from_utf8(rest).map_err(|_| disconnects::BAD_REQUEST)?;
                self.on_text(text, cx)
            }
            (Codec::Protobuf, false) => self.on_binary(rest, cx),
        }
    }
}

/// Something for the application; it is told in JSON.
fn data_of(payload: Payload<'_>) -> Result<Option<&RawValue>, ErrorCode> {
    match payload {
        Payload::Missing => Ok(None),
        Payload::Json(data) => Ok(Some(data)),
        Payload::NotJson => Err(errors::NOT_JSON),
    }
}

/// What the backend is told about a client, and nobody else.
fn meta_of(client: &Identity) -> Option<&RawValue> {
    let meta = client.claims.as_ref()?.meta.as_ref()?;
    serde_json::from_slice(meta.as_bytes()).ok()
}

fn fits(json: &Json) -> bool {
    json.as_bytes().len() <= INFO_BYTES_MAX
}
