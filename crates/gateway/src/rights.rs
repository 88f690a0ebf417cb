//! What clients may do, for all gateways that clients come through.
//!
//! A right comes from one of these, whichever has it: the terms of the client's own subscription, its capabilities (and the channels
//! that its token names, for subscribing), the class that the namespace grants it to. What a channel does not have (history, presence)
//! nobody has. Where an app is the judge, only the terms that it has set count; but for publishing, which it lets subscribers do whom the
//! namespace's class names.

use fanfare_wire::{
    ChannelName, Draft, News, NewsBody,
    centrifuge::{ErrorCode, errors},
};

use crate::{
    Gateway,
    access::{ChannelOptions, Right, Rights, Standing, Terms},
    token::{ConnectionClaims, Seconds, SubscriptionClaims, TokenError},
};

/// Who wants something in a channel.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// What its token says, or the application's backend; `None` for an anonymous client.
    pub(crate) claims: Option<&'a ConnectionClaims>,
    /// It is subscribed to the channel.
    pub(crate) subscribed: bool,
    /// What its subscription grants.
    pub(crate) allow: Rights,
}

/// Leave to subscribe.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// Until when.
    pub(crate) expires: Option<Seconds>,
    /// With what beside.
    pub(crate) terms: Option<Box<Terms>>,
}

impl<'a> Asker<'a> {
    /// A client that is not subscribed.
    pub(crate) fn stranger(claims: Option<&'a ConnectionClaims>) -> Self {
        Self {
            claims,
            subscribed: false,
            allow: Rights::default(),
        }
    }

    /// A client that is subscribed, or is going to be, on these terms.
    pub(crate) fn subscriber(claims: Option<&'a ConnectionClaims>, terms: Option<&Terms>) -> Self {
        Self {
            claims,
            subscribed: true,
            allow: terms.map_or(Rights::default(), |terms| terms.allow),
        }
    }

    fn user(&self) -> &'a str {
        self.claims.map_or("", |claims| &claims.sub)
    }
}

impl Gateway {
    /// The options of a channel that exists.
    pub(crate) fn options(&self, channel: &ChannelName) -> Result<&ChannelOptions, ErrorCode> {
        let options = self.config.rules.of(channel);
        options.ok_or(errors::UNKNOWN_CHANNEL)
    }

    /// Whether a client may do something in a channel; the channel's options if it may.
    pub(crate) fn may(
        &self,
        right: Right,
        channel: &ChannelName,
        asker: Asker<'_>,
    ) -> Result<&ChannelOptions, ErrorCode> {
        let options = self.options(channel)?;
        let there_is = match right {
            Right::Subscribe | Right::Publish => true,
            Right::History => options.is_durable(),
            Right::Presence => options.presence.is_some(),
        };
        if !there_is {
            return Err(errors::NOT_AVAILABLE);
        }
        let user = asker.user();
        let standing = Standing {
            authenticated: !user.is_empty(),
            subscribed: asker.subscribed,
            circle: self.config.rules.circle(channel, user),
        };
        let of_class = || options.permits(right, channel, user, standing);
        let granted = asker.allow.has(right)
            || match self.judges.decide(channel) {
                true => right == Right::Publish && asker.subscribed && of_class(),
                false => {
                    let claims = asker.claims;
                    claims.is_some_and(|it| grants(it, right, channel, options)) || of_class()
                }
            };
        match granted {
            true => Ok(options),
            false => Err(errors::PERMISSION_DENIED),
        }
    }

    /// Whether a client with these claims may subscribe, until when and on which terms. `token` is a subscription token, or empty. Where an
    /// app is the judge it may not: that is to be asked.
    pub(crate) fn may_subscribe(
        &self,
        claims: Option<&ConnectionClaims>,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Leave, ErrorCode> {
        self.options(channel)?;
        if self.judges.decide(channel) {
            return Err(errors::PERMISSION_DENIED);
        }
        if token.is_empty() {
            let may = self.may(Right::Subscribe, channel, Asker::stranger(claims));
            return may.map(|_| Leave::default());
        }
        let user = claims.map_or("", |claims| &claims.sub);
        let granted = self.sessions.subscription(token).and_then(|granted| {
            granted.permit(user, channel)?;
            Ok(granted)
        });
        match granted {
            Ok(granted) => Ok(granted.into()),
            Err(TokenError::Expired) => Err(errors::TOKEN_EXPIRED),
            Err(TokenError::NotYet) => Err(errors::INTERNAL),
            Err(TokenError::Invalid(_)) => Err(errors::PERMISSION_DENIED),
        }
    }

    /// Whether a subscription on these terms may go on from a position.
    pub(crate) fn may_look_back(
        &self,
        claims: Option<&ConnectionClaims>,
        channel: &ChannelName,
        terms: Option<&Terms>,
    ) -> bool {
        let Ok(options) = self.options(channel) else {
            return false;
        };
        if options.is_state() {
            // The position says which one it has: there is nothing to look back to.
            return true;
        }
        match terms.and_then(|terms| terms.overrides.recovers()) {
            Some(recovers) => recovers && options.is_durable(),
            None => {
                let asker = Asker::subscriber(claims, terms);
                options.recovery && self.may(Right::History, channel, asker).is_ok()
            }
        }
    }

    /// Whether data may be published in a channel of these options, as far as its length goes.
    pub(crate) fn check_length(
        &self,
        bytes: usize,
        options: &ChannelOptions,
    ) -> Result<(), ErrorCode> {
        let max = options.message_bytes_max;
        match bytes <= max.unwrap_or(self.config.message_bytes_max) {
            true => Ok(()),
            false => Err(errors::LIMIT_EXCEEDED),
        }
    }

    /// Tells what was drafted to those who are there: the publish of an ephemeral channel.
    pub(crate) fn tell(&self, draft: Draft) {
        let Draft {
            channel,
            data,
            info,
            tags,
            ..
        } = draft;
        let body = NewsBody::Message { data, info, tags };
        self.engine.tell(News { channel, body });
    }

    /// Whether clients without a token are let in.
    pub(crate) fn takes_anonymous(&self) -> bool {
        self.config.anonymous || self.config.open
    }
}

impl From<SubscriptionClaims> for Leave {
    fn from(claims: SubscriptionClaims) -> Self {
        Self {
            expires: claims.expires(),
            terms: claims.terms.boxed(),
        }
    }
}

/// Whether claims grant a right beyond the namespace.
pub(crate) fn grants(
    claims: &ConnectionClaims,
    right: Right,
    channel: &ChannelName,
    options: &ChannelOptions,
) -> bool {
    let named = right == Right::Subscribe && claims.channels.contains(channel);
    let rights = claims.caps.rights_in(channel, options.by_name_only);
    named || rights.has(right)
}
