//! One client of the namespace `/`: its subscriptions, and how long it may stay.

use std::{collections::HashMap, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use fanfare_engine::{Attendance, port::BoxFuture};
use fanfare_wire::{
    ChannelName,
    centrifuge::{ErrorCode, unsubscribes},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::mpsc, time::sleep};

use super::super::{Args, Client, Events, Gone, Joined, Lost, Resumed};
use crate::{
    Gateway,
    access::{ChannelOptions, Right, Terms},
    commands::{Ear, Registered, Told},
    identity::Identity,
    pace::Paces,
    rights::{Asker, Leave},
    token::{ConnectionClaims, Seconds},
    unix_seconds,
};

/// Commands of the application that may wait for a client. Of more it is sent away, and comes back.
const TOLD_MAX: usize = 64;
/// Publishes of one client that may be under way.
const PUBLISHES_MAX: usize = 64;
/// The longest sleep until something expires.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
/// What a client is told that hoped to go on where it was, and cannot.
const UNRECOVERED_EVENT: &str = "fanfare:unrecovered";
/// What a client is told whose subscription ends.
pub(super) const UNSUBSCRIBED_EVENT: &str = "fanfare:unsubscribed";

/// One client.
pub(super) struct Guest {
    pub(super) gateway: Arc<Gateway>,
    pub(super) client: Client,
    /// Who it is.
    pub(super) identity: Identity,
    pub(super) subs: Vec<Sub>,
    /// How often it has published where that is bounded.
    pub(super) paces: Paces,
    /// Publishes that are being committed.
    pub(super) publishes: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Commands of the application that it may be meant by.
    told: mpsc::Receiver<Arc<Told>>,
    /// Its place among those whom they may be for.
    _registered: Registered,
}

/// A subscription.
pub(super) struct Sub {
    pub(super) channel: ChannelName,
    expires: Option<Seconds>,
    /// What it is granted beside, if anything.
    terms: Option<Box<Terms>>,
    /// It counts as there for as long as this lives.
    attendance: Option<Attendance>,
}

/// Why a client is not recovered, in one channel.
#[derive(Serialize)]
struct LostIn<'a> {
    channel: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<u64>,
}

impl Guest {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        client: Client,
        claims: Option<Arc<ConnectionClaims>>,
    ) -> Self {
        let identity = Identity::new(claims);
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let hasty = client.clone();
        let tell = move |told: &Arc<Told>| {
            if sender.try_send(Arc::clone(told)).is_err() {
                hasty.reconnect();
            }
        };
        let clients = gateway.commands.clients();
        let ear = Ear::Task(Arc::new(tell));
        let registered = clients.register(identity.user(), identity.id, ear);
        Self {
            _registered: registered,
            told,
            gateway,
            client,
            identity,
            subs: Vec::new(),
            paces: Paces::default(),
            publishes: FuturesUnordered::new(),
        }
    }

    /// Comes in; goes on where it was, if it may and can.
    pub(super) async fn enter(&mut self, tokens: &HashMap<String, String>) -> Result<(), Gone> {
        let seen = self.client.handshake().resumed.as_ref();
        let hoped: Vec<ChannelName> = seen.map_or_else(Vec::new, |seen| {
            seen.channels.iter().map(|(name, _)| name.clone()).collect()
        });
        let mut allowed = Vec::new();
        let mut see = seen.map_or_else(Vec::new, |seen| seen.joins.clone());
        let claims = self.identity.claims.as_deref();
        let mut leaves = HashMap::new();
        for channel in hoped {
            let token = tokens.get(channel.as_str()).map_or("", String::as_str);
            let granted = self.gateway.may_subscribe(claims, &channel, token);
            if let Ok(leave) = granted
                && self.may_look_back(&channel, leave.terms.as_deref())
            {
                leaves.insert(channel.clone(), leave);
                allowed.push(channel);
            }
        }
        see.retain(|channel| {
            let terms = leaves.get(channel).and_then(|leave| leave.terms.as_deref());
            self.gateway.may_see_joins(claims, channel, terms, true)
        });
        let rules = &self.gateway.config.rules;
        let is_state = |name: &&ChannelName| rules.of(name).is_some_and(ChannelOptions::is_state);
        let newest: Vec<_> = allowed.iter().filter(is_state).cloned().collect();
        let resumed = self.client.resume_and_see(&allowed, &see, &newest);
        match resumed.await? {
            Resumed::Recovered(joined) => {
                for Joined { channel, .. } in joined {
                    let leave = leaves.remove(&channel).unwrap_or_default();
                    self.subscribed(channel, leave);
                }
            }
            Resumed::Anew(lost) if lost.is_empty() => {}
            Resumed::Anew(lost) => {
                let lost: Vec<LostIn<'_>> = lost.iter().map(lost_in).collect();
                // If it is gone, the events say so.
                let _ = self.client.emit(UNRECOVERED_EVENT, Args::one(&lost));
            }
        }
        Ok(())
    }

    /// Serves it until it is gone.
    pub(super) async fn attend_to(&mut self, mut events: Events) {
        let client = self.client.clone();
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                incoming = events.recv(), if self.publishes.len() < PUBLISHES_MAX => {
                    let Some(incoming) = incoming else { return };
                    self.on_incoming(incoming).await;
                }
                Some(()) = self.publishes.next() => {}
                () = sleep(expiry.unwrap_or(SLEEP_MAX)) => self.expire(),
                () = client.rechecked() => self.recheck(),
                Some(told) = self.told.recv() => self.on_told(&told).await,
            }
        }
    }

    /// Begins something that takes its time; the order in which such things begin is kept.
    pub(super) async fn begin(&mut self, mut work: BoxFuture<'static, ()>) {
        let begun = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        if begun.is_pending() {
            self.publishes.push(work);
        }
    }

    /// A subscription has begun.
    pub(super) fn subscribed(&mut self, channel: ChannelName, leave: Leave) {
        let Leave { expires, terms } = leave;
        let gateway = Arc::clone(&self.gateway);
        let of_sub = terms.as_deref();
        let attendance = gateway.attend(&channel, of_sub, || self.identity.attendee(of_sub));
        if self.subs.is_empty() {
            // Most have one, and a list would begin with room for four.
            self.subs.reserve_exact(1);
        }
        self.subs.push(Sub {
            channel,
            expires,
            terms,
            attendance,
        });
    }

    /// A subscription ends.
    pub(super) fn unsubscribe(&mut self, channel: &ChannelName) {
        if let Some(at) = self.subs.iter().position(|sub| sub.channel == *channel) {
            if let Some(attendance) = self.subs.swap_remove(at).attendance {
                attendance.leave();
            }
            self.client.leave(channel.clone());
        }
    }

    /// The terms of its subscription to a channel, if there is one.
    pub(super) fn terms(&self, channel: &ChannelName) -> Option<Option<&Terms>> {
        let sub = self.subs.iter().find(|sub| sub.channel == *channel);
        sub.map(|sub| sub.terms.as_deref())
    }

    /// Whether it may do something in a channel now; the channel's options if it may.
    pub(super) fn may(
        &self,
        right: Right,
        channel: &ChannelName,
    ) -> Result<&ChannelOptions, ErrorCode> {
        let claims = self.identity.claims.as_deref();
        let asker = match self.terms(channel) {
            Some(terms) => Asker::subscriber(claims, terms),
            None => Asker::stranger(claims),
        };
        self.gateway.may(right, channel, asker)
    }

    /// Whether it may subscribe to a channel with a position, on these terms.
    pub(super) fn may_look_back(&self, channel: &ChannelName, terms: Option<&Terms>) -> bool {
        let claims = self.identity.claims.as_deref();
        self.gateway.may_look_back(claims, channel, terms)
    }

    /// How long until something of it expires.
    fn next_expiry(&self) -> Option<Duration> {
        let own = self.identity.expires();
        let all = self.subs.iter().map(|sub| sub.expires).chain([own]);
        let next = all.flatten().min()?;
        let seconds = u64::try_from(next - unix_seconds()).unwrap_or(0);
        Some(Duration::from_secs(seconds.max(1)).min(SLEEP_MAX))
    }

    fn expire(&mut self) {
        let now = unix_seconds();
        let is_over = |expires: Option<Seconds>| expires.is_some_and(|expires| expires <= now);
        if is_over(self.identity.expires()) {
            // It comes back by itself, and asks its application for another token.
            return self.client.reconnect();
        }
        while let Some(sub) = self.subs.iter().find(|sub| is_over(sub.expires)) {
            let channel = sub.channel.clone();
            self.unsubscribe(&channel);
            let (code, reason) = unsubscribes::EXPIRED;
            let ended = json!({ "channel": channel.as_str(), "code": code, "reason": reason });
            // If it is gone, the events say so.
            let _ = self.client.emit(UNSUBSCRIBED_EVENT, Args::one(&ended));
        }
    }

    /// Something was revoked: perhaps what this client came with.
    fn recheck(&self) {
        if self.identity.is_revoked(&self.gateway.sessions) {
            self.client.disconnect();
        }
    }
}

fn lost_in((channel, lost): &(ChannelName, Lost)) -> LostIn<'_> {
    let (reason, oldest) = match lost {
        Lost::Refused => ("refused", None),
        Lost::NoPosition => ("no position", None),
        Lost::Truncated { oldest } => ("truncated", Some(oldest.0)),
        Lost::Reset => ("reset", None),
    };
    LostIn {
        channel: channel.as_str(),
        reason,
        oldest,
    }
}
