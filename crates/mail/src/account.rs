//! A mailbox that is connected: in which state it is, and how far it is in sync.

use fanfare_wire::Millis;
use serde::Serialize;

use crate::{message::HistoryId, user::User};

/// Whether a mailbox is in sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It is read in whole, for the first time or because Gmail has forgotten the history since the last time.
    Syncing,
    /// Changes are told as they happen.
    Live,
    /// Google does not let us in any more: its owner must connect it again.
    Reconnect,
}

/// A connected mailbox, as its owner may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub user: User,
    /// Its address, in lower case.
    pub address: String,
    /// Whether it is in sync.
    pub state: AccountState,
    /// All changes up to here are told; 0 before the first sync.
    pub history_id: HistoryId,
    /// Until when Google tells of changes; `None` before it does.
    pub watch_expires: Option<Millis>,
    /// When all that Gmail had to tell was told last; `None` before the first time.
    pub last_sync: Option<Millis>,
}

impl AccountState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Syncing, Self::Live, Self::Reconnect];

    /// As it is kept and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Syncing => "syncing",
            Self::Live => "live",
            Self::Reconnect => "reconnect",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_by_the_names_that_are_shown() {
        for state in AccountState::ALL {
            assert_eq!(AccountState::of(state.name()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert_eq!(AccountState::of("gone"), None);
    }
}
