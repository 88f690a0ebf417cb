//! What the application's servers want of a client, while it is there.

use std::sync::Arc;

use fanfare_wire::{ChannelName, centrifuge::unsubscribes};
use serde_json::{Value, json, to_value};
use tracing::debug;

use super::{
    super::Args,
    guest::{Guest, UNSUBSCRIBED_EVENT},
};
use crate::{
    commands::{Act, Since, Told, is_for_good},
    rights::Leave,
    token::{Seconds, SubOptions},
    unix_seconds,
};

/// What a client is told that the application has subscribed.
const SUBSCRIBED_EVENT: &str = "fanfare:subscribed";
/// What a client is told that the application sends away.
const DISCONNECTED_EVENT: &str = "fanfare:disconnected";

impl Guest {
    /// A command of the application, perhaps for this connection.
    pub(super) async fn on_told(&mut self, told: &Told) {
        let claims = self.identity.claims.as_ref();
        let jti = claims.and_then(|claims| claims.jti.as_deref());
        let id = self.identity.id;
        if !told.whose.means(self.identity.user(), id, &[jti]) {
            return;
        }
        match &told.act {
            Act::Disconnect { whitelist, .. } if whitelist.contains(&id.to_string()) => {}
            Act::Disconnect { code, reason, .. } => {
                let end = json!({ "code": code, "reason": reason });
                self.say(DISCONNECTED_EVENT, &end);
                match is_for_good(*code) {
                    true => self.client.disconnect(),
                    false => self.client.reconnect(),
                }
            }
            Act::Refresh { expired, expire_at } => self.put_off(*expired, *expire_at),
            Act::Subscribe {
                channel,
                options,
                since,
            } => self.call(channel, options, since.clone()).await,
            Act::Unsubscribe { channel } => self.call_back(channel),
        }
    }

    /// The connection holds until another time; for ever if none is said.
    fn put_off(&mut self, expired: bool, expire_at: Option<Seconds>) {
        if expired || expire_at.is_some_and(|at| at <= unix_seconds()) {
            // It comes back by itself, and asks its application for another token.
            return self.client.reconnect();
        }
        let claims = Arc::make_mut(self.identity.claims.get_or_insert_default());
        (claims.exp, claims.expire_at) = (expire_at, None);
    }

    /// Subscribes the client.
    async fn call(&mut self, channel: &str, options: &SubOptions, since: Option<Since>) {
        let Ok(channel) = ChannelName::parse(channel) else {
            return;
        };
        let is_over = options.expire_at.is_some_and(|at| at <= unix_seconds());
        if is_over || self.subs.iter().any(|sub| sub.channel == channel) {
            return;
        }
        let leave = Leave {
            expires: options.expire_at,
            terms: options.terms(),
        };
        match self.begin_in(channel.clone(), leave, since, false).await {
            Ok(subscribed) => {
                let mut said = to_value(&subscribed).unwrap_or_default();
                said["channel"] = channel.as_str().into();
                if let Some(data) = &options.data {
                    said["data"] = serde_json::from_slice(data.as_bytes()).unwrap_or_default();
                }
                self.say(SUBSCRIBED_EVENT, &said);
            }
            Err(error) => {
                debug!(%channel, code = error.code, "a client is not subscribed as the application asks")
            }
        }
    }

    /// Ends a subscription, whoever has begun it.
    fn call_back(&mut self, channel: &str) {
        let found = self.subs.iter().find(|sub| sub.channel.as_str() == channel);
        let Some(channel) = found.map(|sub| sub.channel.clone()) else {
            return;
        };
        self.unsubscribe(&channel);
        let (code, reason) = unsubscribes::SERVER;
        let end = json!({ "channel": channel.as_str(), "code": code, "reason": reason });
        self.say(UNSUBSCRIBED_EVENT, &end);
    }

    fn say(&self, event: &str, what: &Value) {
        // If it is gone, the events say so.
        let _ = self.client.emit(event, Args::one(what));
    }
}
