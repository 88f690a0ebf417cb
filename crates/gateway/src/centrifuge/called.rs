//! What the application's servers want of a connection, while it is there.

use std::sync::Arc;

use fanfare_engine::hub::{Context, Recovery, Request};
use fanfare_wire::{
    ChannelName, Epoch, FormId, Seq,
    centrifuge::{Disconnect, SubscribeResult, disconnects, errors, unsubscribes},
};
use tracing::debug;

use super::{
    beginning::UNASKED,
    client::ttl,
    emulation::Upstream,
    session::{ClientSession, close},
    subscribe::{Sub, SubState, outcome_of},
};
use crate::{
    access::ChannelOptions,
    commands::{Act, Since, Told, Whose},
    token::{Seconds, SubOptions},
    unix_seconds,
};

/// A subscription that the application has asked for.
pub(super) struct Called {
    recoverable: bool,
    since: Option<(Option<Epoch>, Seq)>,
    form: FormId,
    /// The log did not say where it begins: it is asked again.
    pub(super) again: bool,
}

impl ClientSession {
    /// A command of the application, perhaps for this connection.
    pub(super) fn on_told(
        &mut self,
        told: &Arc<Told>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        if !self.is_meant(&told.whose) {
            return Ok(());
        }
        match &told.act {
            Act::Disconnect {
                code,
                reason,
                whitelist,
            } => {
                if !self.is_one_of(whitelist) {
                    close(self.dialect, cx, *code, reason);
                }
                Ok(())
            }
            Act::Refresh { expired, expire_at } => self.put_off(*expired, *expire_at, cx),
            Act::Subscribe { .. } | Act::Unsubscribe { .. } if self.beginning.is_some() => {
                let beginning = self.beginning.as_mut();
                match beginning.is_some_and(|beginning| beginning.hold(told)) {
                    true => Ok(()),
                    false => Err(disconnects::SERVER_ERROR),
                }
            }
            Act::Subscribe {
                channel,
                options,
                since,
            } => {
                self.call(channel, options, since.as_ref(), cx);
                Ok(())
            }
            Act::Unsubscribe { channel } => {
                self.call_back(channel, cx);
                Ok(())
            }
        }
    }

    /// Whether it is one of those connections; that it is the user's is known.
    fn is_meant(&self, whose: &Whose) -> bool {
        let Some(client) = &self.client else {
            return false;
        };
        let claims = client.claims.as_ref();
        let jti = claims.and_then(|claims| claims.jti.as_deref());
        let stream = self.upstream.as_deref().map(Upstream::id);
        whose.means(client.user(), client.id, &[jti, stream])
    }

    fn is_one_of(&self, clients: &[String]) -> bool {
        let own = self.client.as_ref().map(|client| client.id.to_string());
        own.is_some_and(|own| clients.contains(&own))
    }

    /// The connection holds until another time; for ever if none is said.
    fn put_off(
        &mut self,
        expired: bool,
        expire_at: Option<Seconds>,
        cx: &mut Context<'_>,
    ) -> Result<(), Disconnect> {
        if expired || expire_at.is_some_and(|at| at <= unix_seconds()) {
            return Err(disconnects::CONNECTION_EXPIRED);
        }
        if let Some(client) = &mut self.client {
            let claims = client.claims.get_or_insert_with(Arc::default);
            let claims = Arc::make_mut(claims);
            (claims.exp, claims.expire_at) = (expire_at, None);
        }
        // Others have their ways to renew it, and are told when they do.
        if self.dialect.one_way {
            self.dialect.push_refresh(ttl(expire_at), cx.out);
        }
        self.rearm(cx);
        Ok(())
    }

    /// Subscribes the client.
    fn call(
        &mut self,
        channel: &str,
        options: &SubOptions,
        since: Option<&Since>,
        cx: &mut Context<'_>,
    ) {
        let Ok(channel) = ChannelName::parse(channel) else {
            return;
        };
        let is_over = options.expire_at.is_some_and(|at| at <= unix_seconds());
        let is_known = self.gateway.config.rules.of(&channel).is_some();
        if is_over || !is_known || self.subs.iter().any(|sub| sub.channel == channel) {
            return;
        }
        if self.subs.len() >= self.gateway.config.subscriptions_max {
            debug!(%channel, "the application asks for more subscriptions than a connection may have");
            return;
        }
        let since = since.map(|since| (Epoch::named(&since.epoch), Seq(since.offset)));
        let terms = options.terms();
        let (recoverable, start) = self.start_of(&channel, since.clone(), terms.as_deref());
        let form = self.form_for(&channel, (false, false), terms.as_deref());
        let called = Called {
            recoverable,
            since,
            form,
            again: false,
        };
        self.add(Sub {
            channel: channel.clone(),
            expires: options.expire_at,
            terms,
            state: SubState::Called(Box::new(called)),
            attendance: None,
            renewal: None,
            by_server: Some(Box::new(options.clone())),
        });
        cx.request(Request::Subscribe {
            tag: UNASKED,
            channel,
            start,
            form,
            filter: None,
        });
        self.rearm(cx);
    }

    /// Ends a subscription, whoever has begun it.
    fn call_back(&mut self, channel: &str, cx: &mut Context<'_>) {
        if let Some(proxied) = &mut self.proxied {
            proxied.overtake(channel);
        }
        let found = self.subs.iter().find(|sub| sub.channel.as_str() == channel);
        let Some(sub) = found else {
            return;
        };
        let channel = sub.channel.clone();
        match sub.state {
            // It is not told of what it was never told that it has.
            SubState::Called(_) => {}
            SubState::Joining { id, .. } => {
                self.reply(id, &errors::PERMISSION_DENIED.into(), cx);
            }
            SubState::Placing { .. } | SubState::Settling | SubState::Live => {
                self.dialect
                    .push_unsubscribe(&channel, unsubscribes::SERVER, cx.out);
            }
        }
        self.forget(&channel, cx);
    }

    /// The cursor of a subscription is placed that the application has asked for.
    pub(super) fn on_called(
        &mut self,
        channel: &ChannelName,
        (position, recovery): (Seq, Recovery),
        epoch: &Epoch,
        cx: &mut Context<'_>,
    ) {
        let sub = self.subs.iter_mut().find(|sub| sub.channel == *channel);
        let Some(sub) = sub else {
            return;
        };
        let positioned = self
            .gateway
            .config
            .rules
            .of(channel)
            .is_none_or(ChannelOptions::is_durable);
        let SubState::Called(called) = &sub.state else {
            return;
        };
        let (recovered, oldest) = outcome_of(called.since.is_some(), recovery);
        let options = sub.by_server.as_deref();
        let result = SubscribeResult {
            epoch,
            offset: position,
            positioned,
            recoverable: called.recoverable,
            was_recovering: called.since.is_some(),
            recovered,
            oldest,
            ttl: ttl(sub.expires),
            data: options.and_then(|options| options.data.as_ref()),
            delta: false,
        };
        self.dialect.push_subscribe(channel, &result, cx.out);
        sub.state = SubState::Live;
        self.attend(channel);
    }

    /// Whether the log is to be asked again where a subscription begins.
    pub(super) fn has_calls_to_repeat(&self) -> bool {
        let again = |sub: &Sub| matches!(&sub.state, SubState::Called(called) if called.again);
        self.subs.iter().any(again)
    }

    /// Asks it.
    pub(super) fn repeat_calls(&mut self, cx: &mut Context<'_>) {
        if !self.has_calls_to_repeat() {
            return;
        }
        let mut subs = std::mem::take(&mut self.subs);
        for sub in &mut subs {
            if let SubState::Called(called) = &mut sub.state
                && std::mem::take(&mut called.again)
            {
                let terms = sub.terms.as_deref();
                let (_, start) = self.start_of(&sub.channel, called.since.clone(), terms);
                cx.request(Request::Subscribe {
                    tag: UNASKED,
                    channel: sub.channel.clone(),
                    start,
                    form: called.form,
                    filter: None,
                });
            }
        }
        self.subs = subs;
    }
}
