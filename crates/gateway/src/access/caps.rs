//! Capabilities: what a token or the application's backend grants beyond what a namespace says, in Centrifugo's shape.

use std::ops::BitOr;

use fanfare_wire::ChannelName;
use serde::{Deserialize, Serialize};

use super::Pattern;

/// Most channels and patterns that the capabilities of one client name together.
pub const CAPABILITY_CHANNELS_MAX: usize = 1_000;

/// What a client may want to do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// `sub`: subscribe.
    Subscribe,
    /// `pub`: publish.
    Publish,
    /// `hst`: read history, and subscribe with a position.
    History,
    /// `prs`: ask who is there, and be told who joins and leaves.
    Presence,
}

/// Some of the [rights](Right).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<&'static str>")]
pub struct Rights(u8);

/// What is granted in some channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Capability {
    channels: Channels,
    allow: Rights,
}

/// What is granted to one client, in the order in which it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Capability>")]
pub struct Capabilities(Vec<Capability>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Channels {
    /// These.
    Exact(Vec<ChannelName>),
    /// Those whose whole names are of one of these patterns.
    Wildcard(Vec<Pattern>),
}

/// A capability as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    channels: Vec<String>,
    #[serde(default, rename = "match", skip_serializing_if = "String::is_empty")]
    matched: String,
    allow: Rights,
}

const NAMES: [(&str, Right); 4] = [
    ("sub", Right::Subscribe),
    ("pub", Right::Publish),
    ("hst", Right::History),
    ("prs", Right::Presence),
];
const WILDCARD: &str = "wildcard";

// === impl Rights ===

impl Rights {
    /// Whether it is one of them.
    #[must_use]
    pub fn has(self, right: Right) -> bool {
        self.0 & bit(right) != 0
    }
}

impl From<Right> for Rights {
    fn from(right: Right) -> Self {
        Self(bit(right))
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl TryFrom<Vec<String>> for Rights {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        words.iter().try_fold(Self::default(), |all, word| {
            let known = NAMES.iter().find(|(name, _)| name == word);
            let (_, right) = known.ok_or("a capability is not one of sub, pub, hst and prs")?;
            Ok(all | Self::from(*right))
        })
    }
}

impl From<Rights> for Vec<&'static str> {
    fn from(rights: Rights) -> Self {
        let named = NAMES.into_iter().filter(|(_, right)| rights.has(*right));
        named.map(|(name, _)| name).collect()
    }
}

fn bit(right: Right) -> u8 {
    1 << right as u8
}

// === impl Capability ===

impl Capability {
    /// Rights in channels that are named.
    #[must_use]
    pub fn in_channels(channels: Vec<ChannelName>, allow: Rights) -> Self {
        let channels = Channels::Exact(channels);
        Self { channels, allow }
    }

    /// Rights in channels whose whole names are of one of these patterns.
    #[must_use]
    pub fn in_patterns(patterns: Vec<Pattern>, allow: Rights) -> Self {
        let channels = Channels::Wildcard(patterns);
        Self { channels, allow }
    }

    fn count(&self) -> usize {
        match &self.channels {
            Channels::Exact(names) => names.len(),
            Channels::Wildcard(patterns) => patterns.len(),
        }
    }

    fn is_for(&self, channel: &ChannelName, by_name_only: bool) -> bool {
        match &self.channels {
            Channels::Exact(names) => names.contains(channel),
            Channels::Wildcard(patterns) => {
                let is_of = |pattern: &Pattern| pattern.matches(channel.as_str(), "");
                !by_name_only && patterns.iter().any(is_of)
            }
        }
    }
}

impl TryFrom<Written> for Capability {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written {
            channels,
            matched,
            allow,
        } = written;
        let channels = channels.iter();
        let channels = match matched.as_str() {
            "" | "exact" => {
                let names = channels.map(|name| ChannelName::parse(name));
                let names = names.collect::<Result<_, _>>();
                Channels::Exact(names.map_err(|error| error.to_string())?)
            }
            WILDCARD => {
                let patterns = channels.map(|text| Pattern::parse(text));
                let patterns = patterns.collect::<Result<_, _>>();
                Channels::Wildcard(patterns.map_err(|error| format!("a pattern {error}"))?)
            }
            // Read as anything else it could grant more than was meant.
            _ => return Err("`match` is exact or wildcard; regex is not served".to_owned()),
        };
        Ok(Self { channels, allow })
    }
}

impl From<Capability> for Written {
    fn from(capability: Capability) -> Self {
        let (channels, matched) = match capability.channels {
            Channels::Exact(names) => (names.iter().map(ToString::to_string).collect(), ""),
            Channels::Wildcard(patterns) => {
                let texts = patterns.iter().map(|it| it.as_str().to_owned());
                (texts.collect(), WILDCARD)
            }
        };
        Self {
            channels,
            matched: matched.to_owned(),
            allow: capability.allow,
        }
    }
}

// === impl Capabilities ===

impl Capabilities {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is granted in a channel: by the first capability that is for it, and by no other. With `by_name_only` patterns do not
    /// count.
    #[must_use]
    pub fn rights_in(&self, channel: &ChannelName, by_name_only: bool) -> Rights {
        let is_for = |capability: &&Capability| capability.is_for(channel, by_name_only);
        let found = self.0.iter().find(is_for);
        found.map_or(Rights::default(), |capability| capability.allow)
    }
}

impl TryFrom<Vec<Capability>> for Capabilities {
    type Error = String;

    fn try_from(all: Vec<Capability>) -> Result<Self, Self::Error> {
        let count: usize = all.iter().map(Capability::count).sum();
        match count.max(all.len()) <= CAPABILITY_CHANNELS_MAX {
            true => Ok(Self(all)),
            false => Err(format!(
                "capabilities name more than {CAPABILITY_CHANNELS_MAX} channels"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rights(caps: &serde_json::Value, channel: &str) -> Vec<&'static str> {
        let caps: Capabilities = serde_json::from_value(caps.clone()).unwrap();
        let channel = ChannelName::parse(channel).unwrap();
        caps.rights_in(&channel, false).into()
    }

    #[test]
    fn the_first_that_is_for_a_channel_decides() {
        let caps = json!([
            {"channels": ["news", "user_42"], "allow": ["sub"]},
            {"channels": ["room:7"], "allow": []},
            {"channels": ["room:*", "*:open"], "match": "wildcard", "allow": ["sub", "pub", "hst", "prs"]},
        ]);
        assert_eq!(rights(&caps, "news"), ["sub"]);
        assert_eq!(rights(&caps, "user_42"), ["sub"]);
        assert_eq!(rights(&caps, "news2"), [""; 0]);
        assert_eq!(rights(&caps, "room:7"), [""; 0]);
        assert_eq!(rights(&caps, "room:8"), ["sub", "pub", "hst", "prs"]);
        assert_eq!(rights(&caps, "a:open"), ["sub", "pub", "hst", "prs"]);
        // A star in a name that is no pattern is a star.
        let exact = json!([{"channels": ["room:*"], "match": "exact", "allow": ["pub"]}]);
        assert_eq!(rights(&exact, "room:8"), [""; 0]);
        assert_eq!(rights(&exact, "room:*"), ["pub"]);
    }

    #[test]
    fn what_is_closed_to_patterns_is_open_to_names() {
        let caps = json!([
            {"channels": ["*"], "match": "wildcard", "allow": ["sub"]},
            {"channels": ["mail:1"], "allow": ["hst"]},
        ]);
        let caps: Capabilities = serde_json::from_value(caps).unwrap();
        let in_channel = |name: &str, by_name_only| {
            caps.rights_in(&ChannelName::parse(name).unwrap(), by_name_only)
        };
        assert_eq!(in_channel("mail:1", false), Right::Subscribe.into());
        assert_eq!(in_channel("mail:1", true), Right::History.into());
        assert_eq!(in_channel("mail:2", true), Rights::default());
    }

    #[test]
    fn what_is_not_understood_grants_nothing_and_says_so() {
        let read = |caps: serde_json::Value| serde_json::from_value::<Capabilities>(caps);
        for (wrong, words) in [
            (
                json!([{"channels": ["a"], "allow": ["all"]}]),
                "sub, pub, hst and prs",
            ),
            (
                json!([{"channels": ["a.*"], "match": "regex", "allow": ["sub"]}]),
                "regex is not served",
            ),
            (json!([{"channels": ["a b"], "allow": ["sub"]}]), "channel"),
            (
                json!([{"channels": [""], "match": "wildcard", "allow": ["sub"]}]),
                "pattern is empty",
            ),
            (json!([{"channels": ["a"]}]), "allow"),
            (json!([{"allow": ["sub"]}]), "channels"),
            (json!({}), "sequence"),
            (
                json!([{"channels": vec!["a"; CAPABILITY_CHANNELS_MAX + 1], "allow": ["sub"]}]),
                "more than 1000",
            ),
            (
                json!(vec![
                    json!({"channels": [], "allow": []});
                    CAPABILITY_CHANNELS_MAX + 1
                ]),
                "more than 1000",
            ),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let room = ChannelName::parse("room:1").unwrap();
        let pattern = Pattern::parse("room:*").unwrap();
        let caps = Capabilities(vec![
            Capability::in_channels(vec![room], Rights::from(Right::Publish)),
            Capability::in_patterns(
                vec![pattern],
                Rights::from(Right::Subscribe) | Right::Presence.into(),
            ),
        ]);
        let written = serde_json::to_value(&caps).unwrap();
        let expected = json!([
            {"channels": ["room:1"], "allow": ["pub"]},
            {"channels": ["room:*"], "match": "wildcard", "allow": ["sub", "prs"]},
        ]);
        assert_eq!(written, expected);
        let read: Capabilities = serde_json::from_value(written).unwrap();
        assert_eq!(read, caps);
    }
}
