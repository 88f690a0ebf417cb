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
    access::{Access, ChannelOptions, Standing},
    token::Seconds,
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
        let expires = self.may_subscribe(&channel, &request.token)?;
        let sub = self
            .subs
            .iter_mut()
            .find(|sub| sub.channel == channel)
            .ok_or(errors::PERMISSION_DENIED)?;
        sub.expires = expires;
        sub.renewal = None;
        let ttl = ttl(expires);
        self.reply(id, &Answer::SubRefresh { ttl }, cx);
        Ok(())
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.is_authenticated())
    }

    fn user(&self) -> &str {
        self.client.as_ref().map_or("", |client| client.user())
    }

    pub(super) fn access(
        &self,
        channel: &ChannelName,
        of: impl FnOnce(&ChannelOptions) -> Access,
    ) -> Result<Access, ErrorCode> {
        self.gateway
            .config
            .rules
            .of(channel)
            .map(of)
            .ok_or(errors::UNKNOWN_CHANNEL)
    }

    pub(super) fn permit(
        &self,
        channel: &ChannelName,
        of: impl FnOnce(&ChannelOptions) -> Access,
    ) -> Result<(), ErrorCode> {
        let access = self.access(channel, of)?;
        if access.permits(self.standing(channel)) {
            Ok(())
        } else {
            Err(errors::PERMISSION_DENIED)
        }
    }

    pub(super) fn standing(&self, channel: &ChannelName) -> Standing {
        let live = |sub: &Sub| sub.channel == *channel && matches!(sub.state, SubState::Live);
        Standing {
            authenticated: self.is_authenticated(),
            subscribed: self.subs.iter().any(live),
            circle: self.gateway.config.rules.circle(channel, self.user()),
        }
    }

    /// Whether the client may subscribe, and until when.
    pub(super) fn may_subscribe(
        &self,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Option<Seconds>, ErrorCode> {
        let client = self.client.as_ref().ok_or(errors::UNAUTHORIZED)?;
        self.gateway
            .may_subscribe(client.claims.as_deref(), channel, token)
    }
}
