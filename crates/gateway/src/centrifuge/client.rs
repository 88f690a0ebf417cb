//! Who a client is: what its connection token says, and until when.

use std::sync::Arc;

use fanfare_engine::Attendee;
use fanfare_wire::{
    Json,
    centrifuge::{Disconnect, ErrorCode, disconnects, errors},
};
use uuid::Uuid;

use crate::{
    Gateway,
    presence::client_info,
    token::{ConnectionClaims, Seconds, TokenError},
    unix_seconds,
};

/// Seconds after its expiry in which a token may be replaced: SDKs ask for a new one just when the old one expires.
pub(super) const EXPIRY_GRACE_SECONDS: Seconds = 25;

/// A client that has introduced itself.
pub(super) struct Client {
    pub(super) id: Uuid,
    /// What its token says; `None` for an anonymous one.
    pub(super) claims: Option<Arc<ConnectionClaims>>,
    /// How others see it in channels, made when it is first needed.
    pub(super) attendee: Option<Arc<Attendee>>,
}

/// How a command ends that is not simply answered.
pub(super) enum Failure {
    Error(ErrorCode),
    Disconnect(Disconnect),
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
    pub(super) fn identify(&self, token: &str) -> Result<Client, Failure> {
        let client = |claims| Client {
            id: Uuid::new_v4(),
            claims,
            attendee: None,
        };
        if token.is_empty() {
            return if self.config.open {
                Ok(client(None))
            } else {
                Err(disconnects::INVALID_TOKEN.into())
            };
        }
        match self.sessions.connection(token) {
            Ok(claims) => Ok(client(Some(claims))),
            Err(TokenError::Expired) => Err(errors::TOKEN_EXPIRED.into()),
            Err(TokenError::NotYet) => Err(errors::INTERNAL.into()),
            Err(TokenError::Invalid(_)) => Err(disconnects::INVALID_TOKEN.into()),
        }
    }
}

impl Client {
    /// From its token; empty for an anonymous one.
    pub(super) fn user(&self) -> &str {
        self.claims.as_ref().map_or("", |claims| &claims.sub)
    }

    /// Until when its token is valid.
    pub(super) fn expires(&self) -> Option<Seconds> {
        self.claims.as_ref().and_then(|claims| claims.exp)
    }

    /// What its token tells others.
    pub(super) fn conn_info(&self) -> Option<&Json> {
        self.claims.as_ref().and_then(|claims| claims.info.as_ref())
    }

    /// What is told to others about a publication's sender.
    pub(super) fn publisher_info(&self) -> Json {
        client_info(self.user(), self.id, self.conn_info())
    }
}

pub(super) fn ttl(expires: Option<Seconds>) -> Option<u32> {
    expires.map(|expires| u32::try_from((expires - unix_seconds()).max(0)).unwrap_or(u32::MAX))
}

pub(super) fn has_expired(expires: Option<Seconds>, now: Seconds) -> bool {
    expires.is_some_and(|expires| expires + EXPIRY_GRACE_SECONDS <= now)
}
