//! What a client may do, decided anew for each command, and the tokens that renew it.

use fanfare_engine::hub::Context;
use fanfare_wire::{
    ChannelName,
    centrifuge::{Answer, ErrorCode, RefreshRequest, SubRefreshRequest, disconnects, errors},
};

use super::{
    client::{Failure, ttl},
    session::{ClientSession, parse_channel},
    subscribe::{Sub, SubState},
};
use crate::{
    access::{ChannelOptions, Circle, Right, Terms},
    rights::{Asker, Leave, grants},
    token::ConnectionClaims,
};

impl ClientSession {
    pub(super) fn on_refresh(
        &mut self,
        id: u32,
        request: &RefreshRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let fresh = match self.gateway.identify(&request.token) {
            // An error would end the client for good; this lets it come back with another token.
            Err(Failure::Error(_)) => return Err(disconnects::CONNECTION_EXPIRED.into()),
            identified => identified?,
        };
        let Some(client) = &mut self.client else {
            return Err(disconnects::BAD_REQUEST.into());
        };
        if fresh.user() != client.user() {
            return Err(disconnects::INVALID_TOKEN.into());
        }
        client.claims = fresh.claims;
        let (name, ttl) = (client.id.to_string(), ttl(client.expires()));
        self.renew_by_token();
        self.reply(id, &Answer::Refresh { client: &name, ttl }, cx);
        Ok(())
    }

    pub(super) fn on_sub_refresh(
        &mut self,
        id: u32,
        request: &SubRefreshRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        let Leave { expires, terms } = self.may_subscribe(&channel, &request.token)?;
        let sub = self
            .subs
            .iter_mut()
            .find(|sub| sub.channel == channel)
            .ok_or(errors::PERMISSION_DENIED)?;
        sub.expires = expires;
        sub.terms = terms;
        sub.renewal = None;
        let ttl = ttl(expires);
        self.reply(id, &Answer::SubRefresh { ttl }, cx);
        Ok(())
    }

    /// What the client's token says, or the backend.
    pub(super) fn claims(&self) -> Option<&ConnectionClaims> {
        self.client.as_ref()?.claims.as_deref()
    }

    fn user(&self) -> &str {
        self.client.as_ref().map_or("", |client| client.user())
    }

    /// The terms of its subscription to a channel, if it is live.
    pub(super) fn terms(&self, channel: &ChannelName) -> Option<Option<&Terms>> {
        let live = |sub: &&Sub| sub.channel == *channel && matches!(sub.state, SubState::Live);
        self.subs.iter().find(live).map(|sub| sub.terms.as_deref())
    }

    /// Whether the client may do something in a channel now; the channel's options if it may.
    pub(super) fn may(
        &self,
        right: Right,
        channel: &ChannelName,
    ) -> Result<&ChannelOptions, ErrorCode> {
        let asker = match self.terms(channel) {
            Some(terms) => Asker::subscriber(self.claims(), terms),
            None => Asker::stranger(self.claims()),
        };
        self.gateway.may(right, channel, asker)
    }

    /// Whether its claims or the terms of its subscription grant it something, whatever the namespace says.
    pub(super) fn is_granted(
        &self,
        right: Right,
        channel: &ChannelName,
        options: &ChannelOptions,
    ) -> bool {
        let of_sub = self.terms(channel).flatten();
        let claims = self.claims();
        of_sub.is_some_and(|terms| terms.allow.has(right))
            || claims.is_some_and(|claims| grants(claims, right, channel, options))
    }

    /// Whether the channel names the users that it is for.
    pub(super) fn is_limited(&self, channel: &ChannelName) -> bool {
        let rules = &self.gateway.config.rules;
        rules.circle(channel, self.user()) != Circle::Open
    }

    /// Whether it names others, and no token has let the client in.
    pub(super) fn is_shut_out(&self, channel: &ChannelName) -> bool {
        let rules = &self.gateway.config.rules;
        rules.circle(channel, self.user()) == Circle::Outside && self.terms(channel).is_none()
    }

    /// Whether the client may subscribe, until when and on which terms.
    pub(super) fn may_subscribe(
        &self,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Leave, ErrorCode> {
        self.client.as_ref().ok_or(errors::UNAUTHORIZED)?;
        self.gateway.may_subscribe(self.claims(), channel, token)
    }
}
