//! What clients may do, for all gateways that clients come through.

use fanfare_wire::{
    ChannelName,
    centrifuge::{ErrorCode, errors},
};

use crate::{
    Gateway,
    access::Standing,
    token::{ConnectionClaims, Seconds, TokenError},
};

impl Gateway {
    /// Whether a client with these claims may subscribe, and until when. `token` is a subscription token, or empty.
    pub(crate) fn may_subscribe(
        &self,
        claims: Option<&ConnectionClaims>,
        channel: &ChannelName,
        token: &str,
    ) -> Result<Option<Seconds>, ErrorCode> {
        let options = self.config.rules.of(channel);
        let options = options.ok_or(errors::UNKNOWN_CHANNEL)?;
        let user = claims.map_or("", |claims| &claims.sub);
        if !token.is_empty() {
            let granted = self.sessions.subscription(token);
            let granted = granted.and_then(|granted| {
                granted.permit(user, channel)?;
                Ok(granted)
            });
            return match granted {
                Ok(granted) => Ok(granted.exp),
                Err(TokenError::Expired) => Err(errors::TOKEN_EXPIRED),
                Err(TokenError::NotYet) => Err(errors::INTERNAL),
                Err(TokenError::Invalid(_)) => Err(errors::PERMISSION_DENIED),
            };
        }
        let standing = Standing {
            authenticated: !user.is_empty(),
            subscribed: false,
            circle: self.config.rules.circle(channel, user),
        };
        let named = claims.is_some_and(|claims| claims.channels.contains(channel));
        if named || options.admits(standing) {
            Ok(None)
        } else {
            Err(errors::PERMISSION_DENIED)
        }
    }
}
