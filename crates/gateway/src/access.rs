//! Who may do what in which channels, and what the channels keep.
//!
//! | module | subject |
//! | --- | --- |
//! | `class` | classes of clients, and how one stands to a channel |
//! | `pattern` | patterns of names |
//! | `caps` | what tokens grant beyond the classes |
//! | `terms` | what one subscription is granted |

mod caps;
mod class;
mod pattern;
mod terms;

use std::{collections::BTreeMap, time::Duration};

use fanfare_engine::port::Retention;
use fanfare_wire::ChannelName;

pub use self::{
    caps::{CAPABILITY_CHANNELS_MAX, Capabilities, Capability, Right, Rights},
    class::{Access, Circle, Standing},
    pattern::{PATTERN_BYTES_MAX, Pattern, PatternError},
    terms::{Overrides, Switch, Terms},
};

/// The namespace of the server's own channels: nobody reaches them from outside.
pub const RESERVED_NAMESPACE: &str = "_fanfare";

/// Most publications that a client is given by one question for history.
pub const HISTORY_LIMIT_MAX: usize = 300;

/// What becomes of what is published into a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// It is committed, numbered and kept before anyone sees it.
    #[default]
    Durable,
    /// The same, but the newest publication is all that it is worth: whoever subscribes is given it, and it alone is kept.
    State,
    /// It is told to those who are there, now or never: no number, no history, no positions.
    Ephemeral,
}

/// Of what joins and leaves are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JoinLeavePer {
    /// Each connection.
    #[default]
    Client,
    /// Each user: its first connection, and its last.
    User,
}

/// The options of a namespace's channels. The default grants nothing, and keeps everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    /// What becomes of what is published.
    pub kind: Kind,
    /// Who may subscribe. Never names [`Access::SUBSCRIBER`].
    pub subscribe: Access,
    /// Who may publish.
    pub publish: Access,
    /// Who may read history and subscribe with a position. [`Access::NOBODY`] in ephemeral channels.
    pub history: Access,
    /// Who may ask who is in the channel. Absent: nobody is counted, and nobody can ask, the application's servers included.
    pub presence: Option<Access>,
    /// Subscribers who may ask who is there, and want to, are told who joins and leaves. Only with `presence`.
    pub join_leave: bool,
    /// Of what joins and leaves are told. Says nothing without `join_leave`.
    pub join_leave_per: JoinLeavePer,
    /// All subscribers are told who joins and leaves, whether they want to or not, and whether they may ask or not. Only with
    /// `join_leave`.
    pub force_push_join_leave: bool,
    /// Who may read history may subscribe with a position. Without it subscriptions begin with what comes next. Says nothing in
    /// channels of [`Kind::State`].
    pub recovery: bool,
    /// What is said of channels by their names. The first rule that is for a channel and its client is the only one that counts.
    pub rules: Vec<NameRule>,
    /// How many publications a channel keeps; all if absent.
    pub history_max_count: Option<u64>,
    /// How long a channel keeps publications; for ever if absent.
    pub history_max_age: Option<Duration>,
    /// How many publications a client that comes back may have missed to go on behind its position; as many as are kept if absent.
    pub recovery_max_count: Option<u64>,
    /// Most publications that a client is given by one question for history; at most [`HISTORY_LIMIT_MAX`].
    pub history_limit_max: usize,
    /// Longest payload, in bytes, if it is shorter than everywhere.
    pub message_bytes_max: Option<usize>,
    /// How many publications one connection may send into the namespace.
    pub publish_rate: Option<Rate>,
    /// Subscribers may have publications as Fossil deltas.
    pub fossil_deltas: bool,
    /// Subscribers may say which publications they want, by their tags.
    pub allow_tags_filter: bool,
    /// What the application's backend decides, instead of these options.
    pub proxied: Proxied,
    /// A channel whose name holds `#` is for the users whose names follow, separated by commas, whatever the other options say.
    pub allow_user_limited_channels: bool,
    /// The server subscribes each user to its own channel, `#USER`: see [`ChannelRules::personal`].
    pub personal_channels: bool,
    /// Capabilities open it to channels that they name, not by patterns: an app's channels are not meant by `*`.
    pub by_name_only: bool,
}

/// Who may do what in channels whose names are of a pattern. What is not said here the namespace says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRule {
    /// Of the name behind the namespace's colon.
    pub pattern: Pattern,
    /// See [`ChannelOptions::subscribe`].
    pub subscribe: Option<Access>,
    /// See [`ChannelOptions::publish`].
    pub publish: Option<Access>,
    /// See [`ChannelOptions::history`].
    pub history: Option<Access>,
    /// See [`ChannelOptions::presence`]. Only with it.
    pub presence: Option<Access>,
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times a second, at least 1.
    pub per_second: u32,
    /// Times at once after a quiet time, at least 1.
    pub burst: u32,
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

    /// The channels of one user that the server subscribes it to: `#USER`, in each namespace that has such. A name that could not stand in a
    /// channel's, or would mean several users there, has none.
    #[must_use]
    pub fn personal(&self, user: &str) -> Vec<ChannelName> {
        if user.is_empty() || user.contains([',', '#']) {
            return Vec::new();
        }
        let outside = self.outside.personal_channels.then(|| format!("#{user}"));
        let named = self.namespaces.iter();
        let named = named.filter(|(_, options)| options.personal_channels);
        let named = named.map(|(name, _)| format!("{name}:#{user}"));
        let names = outside.into_iter().chain(named);
        let channels = names.filter_map(|name| ChannelName::parse(&name).ok());
        // A user named `x:y` would be in another namespace.
        channels
            .filter(|it| self.of(it).is_some_and(|options| options.personal_channels))
            .collect()
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

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            kind: Kind::Durable,
            subscribe: Access::NOBODY,
            publish: Access::NOBODY,
            history: Access::NOBODY,
            presence: None,
            join_leave: false,
            join_leave_per: JoinLeavePer::Client,
            force_push_join_leave: false,
            recovery: true,
            rules: Vec::new(),
            history_max_count: None,
            history_max_age: None,
            recovery_max_count: None,
            history_limit_max: HISTORY_LIMIT_MAX,
            message_bytes_max: None,
            publish_rate: None,
            fossil_deltas: false,
            allow_tags_filter: false,
            proxied: Proxied::default(),
            allow_user_limited_channels: false,
            personal_channels: false,
            by_name_only: false,
        }
    }
}

impl ChannelOptions {
    /// Whether the class of a client has a right in a channel of these options. `user` is its name, or empty.
    #[must_use]
    pub fn permits(
        &self,
        right: Right,
        channel: &ChannelName,
        user: &str,
        client: Standing,
    ) -> bool {
        if right == Right::Subscribe && client.circle == Circle::Inside {
            return true;
        }
        self.access(right, channel, user).permits(client)
    }

    /// Who has a right in a channel of these options, as far as that depends on its name and on who asks.
    fn access(&self, right: Right, channel: &ChannelName, user: &str) -> Access {
        let name = channel.as_str();
        let rest = name.split_once(':').map_or(name, |(_, rest)| rest);
        let is_for = |rule: &&NameRule| rule.pattern.matches(rest, user);
        let rule = self.rules.iter().find(is_for);
        match right {
            Right::Subscribe => rule.and_then(|it| it.subscribe).unwrap_or(self.subscribe),
            Right::Publish => rule.and_then(|it| it.publish).unwrap_or(self.publish),
            Right::History => rule.and_then(|it| it.history).unwrap_or(self.history),
            Right::Presence => {
                let of_rule = rule.and_then(|it| it.presence);
                of_rule.or(self.presence).unwrap_or(Access::NOBODY)
            }
        }
    }

    /// Whether what is published is kept.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.kind != Kind::Ephemeral
    }

    /// Whether subscribers are given the newest publication, and nothing before it.
    #[must_use]
    pub fn is_state(&self) -> bool {
        self.kind == Kind::State
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(limited: bool) -> ChannelRules {
        let options = ChannelOptions {
            publish: Access::ANYONE,
            history: Access::AUTHENTICATED,
            allow_user_limited_channels: limited,
            ..ChannelOptions::default()
        };
        ChannelRules {
            outside: options.clone(),
            namespaces: BTreeMap::from([("dialog".to_owned(), options)]),
            unknown: None,
        }
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn a_user_has_channels_of_its_own_where_the_namespace_says_so() {
        let mut rules = rules(true);
        assert_eq!(rules.personal("ann"), []);
        for options in rules.namespaces.values_mut() {
            options.personal_channels = true;
        }
        assert_eq!(rules.personal("ann"), [channel("dialog:#ann")]);
        assert_eq!(rules.personal("a:b"), [channel("dialog:#a:b")]);
        rules.outside.personal_channels = true;
        assert_eq!(rules.personal("ann"), ["#ann", "dialog:#ann"].map(channel));
        assert_eq!(rules.personal("a:b"), [channel("dialog:#a:b")]);
        for nobody in ["", "ann,bob", "x#ann", "an n"] {
            assert_eq!(rules.personal(nobody), [], "{nobody}");
        }
        for own in rules.personal("ann") {
            assert_eq!(rules.circle(&own, "ann"), Circle::Inside);
            assert_eq!(rules.circle(&own, "bob"), Circle::Outside);
        }
    }

    #[test]
    fn a_channel_names_its_users_to_the_letter() {
        let circle = |name: &str, user: &str| rules(true).circle(&channel(name), user);
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
        let open = rules(false).circle(&channel("#ann"), "bob");
        assert_eq!(open, Circle::Open);
    }

    #[test]
    fn outside_there_is_nothing_but_by_token() {
        let rules = rules(true);
        let options = &rules.outside;
        let channel = channel("#ann");
        let permits = |right, circle, subscribed| {
            let standing = Standing {
                authenticated: true,
                subscribed,
                circle,
            };
            options.permits(right, &channel, "ann", standing)
        };
        assert!(permits(Right::Subscribe, Circle::Inside, false));
        assert!(!permits(Right::Subscribe, Circle::Open, false));
        assert!(!permits(Right::Subscribe, Circle::Outside, false));
        for right in [Right::Publish, Right::History] {
            assert!(permits(right, Circle::Inside, false));
            assert!(!permits(right, Circle::Outside, false));
            assert!(permits(right, Circle::Outside, true));
        }
    }

    #[test]
    fn the_first_rule_for_a_name_counts_and_says_only_what_it_says() {
        let rule = |pattern: &str, subscribe, publish| NameRule {
            pattern: Pattern::parse_of_users(pattern).unwrap(),
            subscribe,
            publish,
            history: None,
            presence: None,
        };
        let options = ChannelOptions {
            subscribe: Access::AUTHENTICATED,
            publish: Access::NOBODY,
            history: Access::ANYONE,
            rules: vec![
                rule("public-*", Some(Access::ANYONE), None),
                rule("inbox-{user}", None, Some(Access::AUTHENTICATED)),
                rule("inbox-*", Some(Access::NOBODY), None),
            ],
            ..ChannelOptions::default()
        };
        let permits = |right, name: &str, user: &str| {
            let standing = Standing {
                authenticated: !user.is_empty(),
                subscribed: false,
                circle: Circle::Open,
            };
            options.permits(right, &channel(name), user, standing)
        };
        use Right::{History, Presence, Publish, Subscribe};
        assert!(permits(Subscribe, "ns:public-1", ""));
        assert!(!permits(Publish, "ns:public-1", "ann"));
        assert!(permits(Subscribe, "ns:inbox-ann", "ann"));
        assert!(permits(Publish, "ns:inbox-ann", "ann"));
        assert!(!permits(Subscribe, "ns:inbox-ann", "bob"));
        assert!(!permits(Publish, "ns:inbox-ann", "bob"));
        assert!(permits(History, "ns:inbox-ann", "bob"));
        assert!(permits(Subscribe, "ns:other", "bob"));
        assert!(!permits(Subscribe, "ns:other", ""));
        // Nobody is counted, so nobody can ask, whatever a rule says.
        assert!(!permits(Presence, "ns:public-1", "ann"));
        // Outside of namespaces the whole name is looked at.
        assert!(permits(Subscribe, "public-1", ""));
    }
}
