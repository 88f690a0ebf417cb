//! What goes to and comes from Google, in our words.

use std::fmt;

use fanfare_wire::Millis;

use super::secret::Secret;
use crate::{message::HistoryId, user::User};

/// Somebody's consent, as it is kept: with it Gmail can be asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose mailbox.
    pub user: User,
    /// The refresh token, sealed ([`Google::grant`](super::Google::grant)).
    pub sealed: Vec<u8>,
}

/// A sign-in that begins.
#[derive(Clone)]
pub struct Consent {
    /// Where to send the browser.
    pub url: String,
    /// What Google sends back with the code. Compare it with what the same browser kept.
    pub state: String,
    /// What proves that a code is of this sign-in (PKCE). Never goes to Google's consent page; keep it secret.
    pub verifier: String,
}

/// Somebody who has signed in and consented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What Google calls the account, for ever.
    pub sub: String,
    /// Its verified address, in small letters.
    pub email: String,
    /// What lasting access is had with.
    pub refresh_token: Secret,
}

/// A page of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// What happened, the oldest first.
    pub records: Vec<Record>,
    /// The next page, if there is one.
    pub next: Option<String>,
    /// Where the history is now: after the last page everything up to there is told.
    pub history_id: HistoryId,
}

/// What happened at one place of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The place.
    pub id: HistoryId,
    /// What happened, in the order in which it can have happened: messages come, labels change, messages go. May be empty:
    /// Gmail has places at which nothing happened that it tells of.
    pub changes: Vec<Change>,
}

/// One thing that happened to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its id.
    pub message: String,
    /// The id of its conversation.
    pub thread: String,
    /// What.
    pub kind: ChangeKind,
}

/// What can happen to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It came.
    Added,
    /// It was deleted for good.
    Deleted,
    /// Labels were put on it.
    LabelsAdded(Vec<String>),
    /// Labels were taken off it.
    LabelsRemoved(Vec<String>),
}

/// A page of the list of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// Ids, the newest first.
    pub ids: Vec<String>,
    /// The next page, if there is one.
    pub next: Option<String>,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its id, as messages carry it: `INBOX`, `Label_7`.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
}

/// A watch that was set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Where the history is: later changes are told.
    pub history_id: HistoryId,
    /// Until when. Gmail's hold for a week; set it up again daily.
    pub expires: Millis,
}

// What is sealed is of no use to others, but nobody needs to see it either.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consent(…)")
    }
}
