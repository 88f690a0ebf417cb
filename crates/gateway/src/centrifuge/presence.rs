//! Who is in a channel: the commands, and a client's own part in it.

use fanfare_engine::{
    Attendance, Counted, Members,
    hub::{Context, Request, session::Call},
};
use fanfare_wire::{
    ChannelName, FormId,
    centrifuge::{Answer, ErrorCode, PresenceRequest, errors},
};

use super::{
    delta_form_of, form_of,
    session::{ClientSession, parse_channel},
};
use crate::{
    access::{Right, Terms},
    presence::remarks,
};

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
        self.may(Right::Presence, &channel)?;
        if cx.is_full() {
            return Err(errors::TOO_MANY_REQUESTS);
        }
        Ok(channel)
    }

    /// The wire form of a subscription.
    pub(super) fn form_for(
        &self,
        channel: &ChannelName,
        (join_leave, delta): (bool, bool),
        terms: Option<&Terms>,
    ) -> FormId {
        let gateway = &self.gateway;
        let told = gateway.may_see_joins(self.claims(), channel, terms, join_leave);
        match delta {
            true => delta_form_of(self.dialect, told),
            false => form_of(self.dialect, told),
        }
    }

    /// A subscription has begun: its client is in the channel.
    pub(super) fn attend(&mut self, channel: &ChannelName) {
        let sub = self.subs.iter_mut().find(|sub| sub.channel == *channel);
        let (Some(client), Some(sub)) = (&mut self.client, sub) else {
            return;
        };
        // Who is there by a subscription that went over to the client stays.
        if sub.attendance.is_some() {
            return;
        }
        let terms = sub.terms.as_deref();
        sub.attendance = self
            .gateway
            .attend(channel, terms, || client.attendee(terms));
    }

    /// The client has closed its connection: it has gone, and is not just lost.
    pub(super) fn hang_up(&mut self) {
        let attendances = self.subs.drain(..).filter_map(|sub| sub.attendance);
        attendances.for_each(Attendance::close);
    }
}

/// The answer to presence.
pub(super) fn presence(members: &Members) -> Answer<'_> {
    let infos = members.holders.iter().map(|it| (it.holder, &it.info));
    Answer::Presence {
        members: infos.collect(),
        result: remarks(members),
    }
}

/// The answer to presence_stats.
pub(super) fn presence_stats(counted: &Counted) -> Answer<'_> {
    let Counted { count, degraded } = *counted;
    Answer::PresenceStats {
        clients: count.holders,
        users: count.members,
        degraded,
    }
}
