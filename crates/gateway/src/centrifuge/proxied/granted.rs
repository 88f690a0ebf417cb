//! What was granted, as if a token had said so.

use std::collections::BTreeMap;

use fanfare_wire::{
    ChannelName, NameError,
    centrifuge::{disconnects, errors},
};
use tracing::warn;

use super::{Failure, fits};
use crate::{
    access::Terms,
    proxy::Granted,
    rights::Leave,
    token::{ConnectionClaims, SubOptions, USER_BYTES_MAX, channels_of},
    unix_seconds,
};

/// Most channels that a backend grants with a connect.
const CHANNELS_MAX: usize = 1_000;

/// What the backend grants with a subscribe, as if a subscription token had said so.
pub(super) fn leave(granted: Granted) -> Result<Leave, Failure> {
    if granted
        .expire_at
        .is_some_and(|expires| expires <= unix_seconds())
    {
        return Err(errors::EXPIRED.into());
    }
    if !granted.info.iter().all(fits) {
        warn!("the backend's answer to subscribe has an impossible info");
        return Err(errors::INTERNAL.into());
    }
    let terms = Terms {
        info: granted.info,
        allow: granted.allow,
        overrides: granted.overrides,
    };
    Ok(Leave {
        expires: granted.expire_at,
        terms: terms.boxed(),
    })
}

/// Who the backend says that a client is, as if a token had said so now.
pub(super) fn claims(granted: Granted) -> Result<ConnectionClaims, Failure> {
    let now = unix_seconds();
    if granted.expire_at.is_some_and(|expires| expires <= now) {
        return Err(disconnects::CONNECTION_EXPIRED.into());
    }
    let channels: Result<Vec<_>, _> = granted
        .channels
        .iter()
        .map(|name| ChannelName::parse(name))
        .collect();
    let subs = granted.subs.into_iter();
    let subs =
        subs.map(|(name, options)| Ok::<_, NameError>((ChannelName::parse(&name)?, options)));
    let subs: Result<BTreeMap<_, _>, _> = subs.collect();
    let named = channels.and_then(|channels| Ok(channels_of(channels, subs?)));
    let is_possible = |(channels, subs): &(Vec<_>, BTreeMap<_, SubOptions>)| {
        granted.user.len() <= USER_BYTES_MAX
            && channels.len() <= CHANNELS_MAX
            && granted.info.iter().chain(&granted.meta).all(fits)
            && subs.values().all(SubOptions::fit)
    };
    let Some((channels, subs)) = named.ok().filter(is_possible) else {
        warn!("the backend's answer to connect has an impossible user, channel, info or meta");
        return Err(errors::INTERNAL.into());
    };
    Ok(ConnectionClaims {
        sub: granted.user,
        exp: granted.expire_at,
        iat: Some(now),
        info: granted.info,
        channels,
        subs,
        caps: granted.caps.unwrap_or_default(),
        meta: granted.meta,
        ..ConnectionClaims::default()
    })
}
