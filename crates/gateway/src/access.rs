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
    /// What the application's backend decides, instead of these options.
    pub proxied: Proxied,
    /// A channel whose name holds `#` is for the users whose names follow, separated by commas, whatever the other options say.
    pub allow_user_limited_channels: bool,
}

/// What the application's backend decides for clients of the Centrifuge protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proxied {
    /// Who subscribes without a token.
    pub subscribe: bool,
    /// Who stays subscribed, when what it has granted runs out.
    pub sub_refresh: bool,
    /// Who publishes, and what.
    pub publish: bool,
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

    /// How a client with this user name stands to a channel that may be limited to users.
    #[must_use]
    pub fn circle(&self, channel: &ChannelName, user: &str) -> Circle {
        let limited = self
            .of(channel)
            .is_some_and(|options| options.allow_user_limited_channels);
        match channel.as_str().rsplit_once('#').filter(|_| limited) {
            None => Circle::Open,
            Some((_, users)) if !user.is_empty() && users.split(',').any(|it| it == user) => {
                Circle::Inside
            }
            Some(_) => Circle::Outside,
        }
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

impl ChannelOptions {
    /// Whether a client may subscribe without a token for the channel.
    #[must_use]
    pub fn admits(&self, client: Standing) -> bool {
        client.circle == Circle::Inside || self.subscribe.permits(client)
    }
}

impl Access {
    /// Whether a client has it. Who is outside of the users that a channel is limited to has nothing, unless a token has let it in.
    #[must_use]
    pub fn permits(self, client: Standing) -> bool {
        if client.is_shut_out() {
            return false;
        }
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
    /// Whether it is one of those whom the channel is limited to.
    pub circle: Circle,
}

impl Standing {
    /// Whether the channel is limited to others, and no token has let the client in.
    #[must_use]
    pub fn is_shut_out(self) -> bool {
        self.circle == Circle::Outside && !self.subscribed
    }
}

/// How a client stands to the users that a channel is limited to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Circle {
    /// The channel is not limited to users.
    #[default]
    Open,
    /// The channel names its user.
    Inside,
    /// The channel names others.
    Outside,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(limited: bool) -> ChannelRules {
        let options = ChannelOptions {
            subscribe: Access::Nobody,
            publish: Access::Anyone,
            history: Access::Authenticated,
            presence: None,
            join_leave: false,
            history_max_count: None,
            history_max_age: None,
            proxied: Proxied::default(),
            allow_user_limited_channels: limited,
        };
        ChannelRules {
            outside: options.clone(),
            namespaces: BTreeMap::from([("dialog".to_owned(), options)]),
            unknown: None,
        }
    }

    #[test]
    fn a_channel_names_its_users_to_the_letter() {
        let circle = |channel: &str, user: &str| {
            rules(true).circle(&ChannelName::parse(channel).unwrap(), user)
        };
        for (channel, user) in [
            ("dialog:x#ann,bob", "ann"),
            ("dialog:x#ann,bob", "bob"),
            ("dialog:#ann", "ann"),
            ("#ann", "ann"),
            ("a#b#ann", "ann"),
        ] {
            assert_eq!(circle(channel, user), Circle::Inside, "{channel} {user}");
        }
        for (channel, user) in [
            ("dialog:x#ann,bob", "an"),
            ("dialog:x#ann,bob", "ann,bob"),
            ("dialog:x#ann,bob", "Ann"),
            ("dialog:x#ann,bob", ""),
            ("dialog:x#,", ""),
            ("dialog:x#", ""),
            ("#", "ann"),
            ("a#ann#bob", "ann"),
        ] {
            assert_eq!(circle(channel, user), Circle::Outside, "{channel} {user}");
        }
        assert_eq!(circle("dialog:ann", "ann"), Circle::Open);
        assert_eq!(circle("nowhere:x#ann", "bob"), Circle::Open);
        let open = rules(false).circle(&ChannelName::parse("#ann").unwrap(), "bob");
        assert_eq!(open, Circle::Open);
    }

    #[test]
    fn outside_there_is_nothing_but_by_token() {
        let rules = rules(true);
        let options = &rules.outside;
        let standing = |circle, subscribed| Standing {
            authenticated: true,
            subscribed,
            circle,
        };
        assert!(options.admits(standing(Circle::Inside, false)));
        assert!(!options.admits(standing(Circle::Open, false)));
        assert!(!options.admits(standing(Circle::Outside, false)));
        for access in [options.publish, options.history] {
            assert!(access.permits(standing(Circle::Inside, false)));
            assert!(!access.permits(standing(Circle::Outside, false)));
            assert!(access.permits(standing(Circle::Outside, true)));
        }
    }
}
