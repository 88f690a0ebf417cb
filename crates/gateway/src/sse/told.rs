//! What the application's servers want of an event stream, while it is there.

use std::sync::Arc;

use fanfare_engine::{
    Attendance, Attendee,
    hub::{Context, Request},
};
use fanfare_wire::{ChannelName, centrifuge::unsubscribes, sse};
use serde_json::json;

use super::{HEARTBEAT_SECONDS, StreamSession, put_retry};
use crate::{
    commands::{Act, Told},
    token::Seconds,
    unix_seconds,
};

impl StreamSession {
    /// A command of the application, perhaps for this stream.
    pub(super) fn on_told(&mut self, told: &Told, cx: &mut Context<'_>) {
        let Attendee { client, user, .. } = &*self.attendee;
        let claims = self.claims.as_ref();
        let jti = claims.and_then(|claims| claims.jti.as_deref());
        if !told.whose.means(user, *client, &[jti]) {
            return;
        }
        match &told.act {
            Act::Disconnect { whitelist, .. } if whitelist.contains(&client.to_string()) => {}
            Act::Disconnect { code, reason, .. } => {
                let end = json!({ "code": code, "reason": reason }).to_string();
                put_retry(cx.out);
                sse::put_event("disconnect", end.as_bytes(), cx.out);
                cx.request(Request::Close);
            }
            Act::Refresh { expired, expire_at } => self.put_off(*expired, *expire_at, cx),
            Act::Unsubscribe { channel } => self.end_channel(channel, cx),
            // A stream has the channels that its address names.
            Act::Subscribe { .. } => {}
        }
    }

    /// The stream holds until another time; for ever if none is said.
    fn put_off(&mut self, expired: bool, expire_at: Option<Seconds>, cx: &mut Context<'_>) {
        if expired || expire_at.is_some_and(|at| at <= unix_seconds()) {
            cx.request(Request::Close);
            return;
        }
        let claims = Arc::make_mut(self.claims.get_or_insert_default());
        (claims.exp, claims.expire_at) = (expire_at, None);
        self.wake(cx, HEARTBEAT_SECONDS);
    }

    /// The stream goes on without one of its channels; its ids keep the place that it had there.
    fn end_channel(&mut self, channel: &str, cx: &mut Context<'_>) {
        let Ok(channel) = ChannelName::parse(channel) else {
            return;
        };
        let channels = self.positions.channels();
        if !channels.iter().any(|(name, _)| *name == channel) {
            return;
        }
        cx.request(Request::Unsubscribe(channel.clone()));
        let leaves = |it: &mut Attendance| *it.channel() == channel;
        let left = self.attendances.extract_if(.., leaves);
        left.for_each(Attendance::leave);
        let (code, reason) = unsubscribes::SERVER;
        let end = json!({ "channel": channel.as_str(), "code": code, "reason": reason });
        sse::put_event("unsubscribe", end.to_string().as_bytes(), cx.out);
    }
}
