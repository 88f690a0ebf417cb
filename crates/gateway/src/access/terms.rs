//! What one subscription is granted beside its place in the channel, by its token or by the application's backend.

use fanfare_wire::Json;
use serde::{Deserialize, Serialize};

use super::Rights;

/// The terms of a subscription. The default are those of the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// What is told to others about it (`chan_info`), in presence and in what its client publishes in the channel.
    pub info: Option<Json>,
    /// What its client may do in the channel for as long as it is subscribed, beside what it may anyway.
    pub allow: Rights,
    /// Where it differs from the namespace.
    pub overrides: Overrides,
}

/// Options of a namespace that one subscription has otherwise, in Centrifugo's shape: `{"presence": {"value": false}}`. Others are
/// not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// `false`: its client is not counted as there. `true` is what a namespace with presence does anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<Switch>,
    /// `false`: nobody is told when its client joins and leaves. `true` is what a namespace with `join_leave` does anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_leave: Option<Switch>,
    /// Whether its client is told who joins and leaves, whatever it asks for and may ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_push_join_leave: Option<Switch>,
    /// Whether its client may come back with a position, whatever it may read. `true` does nothing in an ephemeral channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_recovery: Option<Switch>,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// On.
    pub value: bool,
}

impl Overrides {
    pub(crate) fn counts(self) -> bool {
        self.presence.is_none_or(|it| it.value)
    }

    pub(crate) fn is_announced(self) -> bool {
        self.join_leave.is_none_or(|it| it.value)
    }

    pub(crate) fn is_told_of_joins(self) -> Option<bool> {
        self.force_push_join_leave.map(|it| it.value)
    }

    pub(crate) fn recovers(self) -> Option<bool> {
        self.force_recovery.map(|it| it.value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Terms {
    /// In a box, if they say anything: most subscriptions have none.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
