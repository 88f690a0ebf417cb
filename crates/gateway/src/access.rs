//! Who may do what in which channels, and what the channels keep.

use std::{collections::BTreeMap, time::Duration};

use fanfare_engine::port::Retention;
use fanfare_wire::ChannelName;
use serde::Deserialize;

/// The namespace of the server's own channels: nobody reaches them from outside.
pub const RESERVED_NAMESPACE: &str = "_fanfare";

/// Who may do something in a channel. Tokens can grant more, never less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// No client.
    Nobody,
    /// Clients that are subscribed to the channel.
    Subscriber,
    /// Clients with a user name from a token.
    Authenticated,
    /// Every connected client.
    Anyone,
}

/// The options of a namespace's channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Who may subscribe. Never [`Access::Subscriber`].
    pub subscribe: Access,
    /// Who may publish.
    pub publish: Access,
    /// Who may read history and subscribe with a position.
    pub history: Access,
    /// Who may ask who is in the channel. Absent: nobody is counted, and nobody can ask, the application's servers included.
    pub presence: Option<Access>,
    /// Subscribers who may ask who is there, and want to, are told who joins and leaves. Only with `presence`.
    pub join_leave: bool,
    /// How many publications a channel keeps; all if absent.
    pub history_max_count: Option<u64>,
    /// How long a channel keeps publications; for ever if absent.
    pub history_max_age: Option<Duration>,
}

/// The options of all channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRules {
    /// For channels outside all namespaces.
    pub outside: ChannelOptions,
    /// By the namespace's name.
    pub namespaces: BTreeMap<String, ChannelOptions>,
    /// For namespaces without a name here; absent: their channels do not exist.
    pub unknown: Option<ChannelOptions>,
}

impl ChannelRules {
    /// The options of a channel; `None` if its namespace does not exist.
    #[must_use]
    pub fn of(&self, channel: &ChannelName) -> Option<&ChannelOptions> {
        if channel.namespace() == RESERVED_NAMESPACE {
            return None;
        }
        if !channel.as_str().contains(':') {
            return Some(&self.outside);
        }
        self.namespaces
            .get(channel.namespace())
            .or(self.unknown.as_ref())
    }

    /// What is kept, as the log wants to know it. Namespaces that keep everything are not named.
    #[must_use]
    pub fn retention(&self) -> Vec<Retention> {
        let outside = std::iter::once(("", &self.outside));
        let named = self
            .namespaces
            .iter()
            .map(|(name, options)| (name.as_str(), options));
        let limited = outside.chain(named).filter(|(_, options)| {
            options.history_max_count.is_some() || options.history_max_age.is_some()
        });
        let rule = |(namespace, options): (&str, &ChannelOptions)| Retention {
            namespace: namespace.to_owned(),
            age_max: options.history_max_age,
            count_max: options.history_max_count,
        };
        limited.map(rule).collect()
    }
}

impl Access {
    /// Whether a client has it.
    #[must_use]
    pub fn permits(self, client: Standing) -> bool {
        match self {
            Self::Nobody => false,
            Self::Subscriber => client.subscribed,
            Self::Authenticated => client.authenticated,
            Self::Anyone => true,
        }
    }
}

/// What counts of a client when access is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It has a user name from a token.
    pub authenticated: bool,
    /// It is subscribed to the channel.
    pub subscribed: bool,
}
