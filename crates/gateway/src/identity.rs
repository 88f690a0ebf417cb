//! Who is at the other end of a connection: what its token says, and how others see it. The same on every wire that keeps
//! a client.

use std::sync::Arc;

use fanfare_engine::Attendee;
use fanfare_wire::Json;
use uuid::Uuid;

use crate::{
    presence::client_info,
    sessions::Sessions,
    token::{ConnectionClaims, Seconds},
};

/// A client that has introduced itself.
pub(crate) struct Identity {
    /// How others tell this connection from all others.
    pub(crate) id: Uuid,
    /// What its token says; `None` for an anonymous one.
    pub(crate) claims: Option<Arc<ConnectionClaims>>,
    /// How others see it in channels, made when it is first needed.
    attendee: Option<Arc<Attendee>>,
}

impl Identity {
    /// A new client with these claims.
    pub(crate) fn new(claims: Option<Arc<ConnectionClaims>>) -> Self {
        Self {
            id: Uuid::new_v4(),
            claims,
            attendee: None,
        }
    }

    /// From its token; empty for an anonymous one.
    pub(crate) fn user(&self) -> &str {
        self.claims.as_ref().map_or("", |claims| &claims.sub)
    }

    /// Whether it has a user name.
    pub(crate) fn is_authenticated(&self) -> bool {
        !self.user().is_empty()
    }

    /// Until when its token is valid.
    pub(crate) fn expires(&self) -> Option<Seconds> {
        self.claims.as_ref().and_then(|claims| claims.exp)
    }

    /// Whether what it came with was taken back.
    pub(crate) fn is_revoked(&self, sessions: &Sessions) -> bool {
        let claims = self.claims.as_deref();
        claims.is_some_and(|claims| sessions.is_revoked(claims))
    }

    /// What is told to others about it.
    pub(crate) fn info(&self) -> Json {
        let conn_info = self.claims.as_ref().and_then(|claims| claims.info.as_ref());
        client_info(self.user(), self.id, conn_info)
    }

    /// The client, as others see it in a channel.
    pub(crate) fn attendee(&mut self) -> Arc<Attendee> {
        if let Some(attendee) = &self.attendee {
            return Arc::clone(attendee);
        }
        let attendee = Arc::new(Attendee {
            client: self.id,
            user: self.user().into(),
            info: self.info(),
        });
        Arc::clone(self.attendee.insert(attendee))
    }
}
