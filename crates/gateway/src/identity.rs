//! Who is at the other end of a connection: what its token says, and how others see it. The same on every wire that keeps
//! a client.

use std::sync::Arc;

use fanfare_engine::Attendee;
use fanfare_wire::Json;
use uuid::Uuid;

use crate::{
    access::Terms,
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

    /// Until when it may stay.
    pub(crate) fn expires(&self) -> Option<Seconds> {
        self.claims.as_ref().and_then(|claims| claims.expires())
    }

    /// Whether what it came with was taken back.
    pub(crate) fn is_revoked(&self, sessions: &Sessions) -> bool {
        let claims = self.claims.as_deref();
        claims.is_some_and(|claims| sessions.is_revoked(claims))
    }

    /// What is told to others about it in a channel that it is subscribed to on these terms, if it is.
    pub(crate) fn info(&self, terms: Option<&Terms>) -> Json {
        let conn_info = self.claims.as_ref().and_then(|claims| claims.info.as_ref());
        let chan_info = terms.and_then(|terms| terms.info.as_ref());
        client_info(self.user(), self.id, conn_info, chan_info)
    }

    /// The client, as others see it in a channel that it is subscribed to on these terms.
    pub(crate) fn attendee(&mut self, terms: Option<&Terms>) -> Arc<Attendee> {
        let of_channel = terms.is_some_and(|terms| terms.info.is_some());
        if let Some(attendee) = self.attendee.as_ref().filter(|_| !of_channel) {
            return Arc::clone(attendee);
        }
        let attendee = Arc::new(Attendee {
            client: self.id,
            user: self.user().into(),
            info: self.info(terms),
        });
        if !of_channel {
            self.attendee = Some(Arc::clone(&attendee));
        }
        attendee
    }
}
