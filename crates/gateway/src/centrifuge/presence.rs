//! Who is in a channel: the commands, and a client's own part in it.

use fanfare_engine::{
    Counted, Members,
    hub::{Context, Request, session::Call},
};
use fanfare_wire::{
    ChannelName, FormId,
    centrifuge::{ErrorCode, PresenceRequest, Reply, SubscribeRequest, errors},
};

use super::session::{ClientSession, parse_channel, reply};
use crate::{WEBSOCKET_JSON, WEBSOCKET_JSON_JOINS, presence::remarks};

impl ClientSession {
    pub(super) fn on_presence(
        &mut self,
        id: u32,
        request: &PresenceRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = self.presence_of(request, cx)?;
        cx.request(Request::Call(Call::Presence { tag: id, channel }));
        Ok(())
    }

    pub(super) fn on_presence_stats(
        &mut self,
        id: u32,
        request: &PresenceRequest<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ErrorCode> {
        let channel = self.presence_of(request, cx)?;
        cx.request(Request::Call(Call::PresenceStats { tag: id, channel }));
        Ok(())
    }

    /// The channel that a client asks about, if it may.
    fn presence_of(
        &self,
        request: &PresenceRequest<'_>,
        cx: &Context<'_>,
    ) -> Result<ChannelName, ErrorCode> {
        let channel = parse_channel(&request.channel)?;
        let standing = self.standing(&channel);
        self.gateway.may_see_presence(&channel, standing)?;
        if cx.is_full() {
            return Err(errors::TOO_MANY_REQUESTS);
        }
        Ok(channel)
    }

    /// The wire form of a subscription.
    pub(super) fn form_for(&self, channel: &ChannelName, request: &SubscribeRequest<'_>) -> FormId {
        let authenticated = self.is_authenticated();
        let told = request.join_leave && self.gateway.may_see_joins(channel, authenticated);
        if told {
            WEBSOCKET_JSON_JOINS
        } else {
            WEBSOCKET_JSON
        }
    }

    /// A subscription has begun: its client is in the channel.
    pub(super) fn attend(&mut self, channel: &ChannelName) {
        let Some(client) = &mut self.client else {
            return;
        };
        let attendance = self.gateway.attend(channel, || client.attendee());
        if let Some(sub) = self.subs.iter_mut().find(|sub| sub.channel == *channel) {
            sub.attendance = attendance;
        }
    }
}

pub(super) fn reply_presence(id: u32, members: &Members, cx: &mut Context<'_>) {
    let infos = members.holders.iter().map(|it| (it.holder, &it.info));
    reply(cx, |out| {
        Reply::new(id, out).presence(infos, &remarks(members))
    });
}

pub(super) fn reply_presence_stats(id: u32, counted: &Counted, cx: &mut Context<'_>) {
    let Counted { count, degraded } = *counted;
    reply(cx, |out| {
        Reply::new(id, out).presence_stats(count.holders, count.members, degraded);
    });
}
