//! Who a client is: what its connection token says, and until when.

use fanfare_wire::centrifuge::{Disconnect, ErrorCode, disconnects, errors};

use crate::{
    Gateway,
    identity::Identity,
    token::{Seconds, TokenError},
    unix_seconds,
};

/// Seconds after its expiry in which a token may be replaced: SDKs ask for a new one just when the old one expires.
pub(super) const EXPIRY_GRACE_SECONDS: Seconds = 25;

/// How a command ends that is not simply answered.
pub(super) enum Failure {
    Error(ErrorCode),
    Disconnect(Disconnect),
}

impl Failure {
    /// How a connection ends for which there are no errors, as its client gives no commands. Who comes back with another
    /// token is welcome.
    pub(super) fn into_disconnect(self) -> Disconnect {
        match self {
            Self::Disconnect(disconnect) => disconnect,
            Self::Error(errors::TOKEN_EXPIRED) => disconnects::CONNECTION_EXPIRED,
            Self::Error(_) => disconnects::SERVER_ERROR,
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Failure {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnect(disconnect)
    }
}

impl Gateway {
    /// Who a connection token says that a client is.
    pub(super) fn identify(&self, token: &str) -> Result<Identity, Failure> {
        if token.is_empty() {
            return if self.takes_anonymous() {
                Ok(Identity::new(None))
            } else {
                Err(disconnects::INVALID_TOKEN.into())
            };
        }
        match self.sessions.connection(token) {
            Ok(claims) => Ok(Identity::new(Some(claims))),
            Err(TokenError::Expired) => Err(errors::TOKEN_EXPIRED.into()),
            Err(TokenError::NotYet) => Err(errors::INTERNAL.into()),
            Err(TokenError::Invalid(_)) => Err(disconnects::INVALID_TOKEN.into()),
        }
    }
}

pub(super) fn ttl(expires: Option<Seconds>) -> Option<u32> {
    expires.map(|expires| u32::try_from((expires - unix_seconds()).max(0)).unwrap_or(u32::MAX))
}

pub(super) fn has_expired(expires: Option<Seconds>, now: Seconds) -> bool {
    expires.is_some_and(|expires| expires + EXPIRY_GRACE_SECONDS <= now)
}
