//! How the server subscribes a client to a channel: what a token, a backend or the server API says of it, in one shape.

use std::collections::BTreeMap;

use fanfare_wire::{ChannelName, Json};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::Seconds;
use crate::access::{Overrides, Terms};

/// Longest [`info`](SubOptions::info) in bytes: it is told with every join and in every list.
pub const SUB_INFO_BYTES_MAX: usize = 8 << 10;

/// The options of one subscription that the server makes for a client. In JSON: `info`, `data`, `expire_at` (in seconds since 1970; 0: never), and
/// `override`. Other members are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Shape", into = "Shape")]
pub struct SubOptions {
    /// What is told to others about the subscription (`chan_info`).
    pub info: Option<Json>,
    /// What the application says to the client.
    pub data: Option<Json>,
    /// Until when it holds.
    pub expire_at: Option<Seconds>,
    /// Where it differs from the namespace.
    pub overrides: Overrides,
}

impl SubOptions {
    /// Whether they are within the limits.
    #[must_use]
    pub fn fit(&self) -> bool {
        let info_bytes = self.info.as_ref().map_or(0, |it| it.as_bytes().len());
        info_bytes <= SUB_INFO_BYTES_MAX
    }

    /// The terms of the subscription.
    pub(crate) fn terms(&self) -> Option<Box<Terms>> {
        let terms = Terms {
            info: self.info.clone(),
            overrides: self.overrides,
            ..Terms::default()
        };
        terms.boxed()
    }

    /// Whether there is anything in them.
    fn say_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// The channels of a connection, and the options of those that have any: what stands in a token beside, each once.
#[must_use]
pub fn channels_of(
    mut channels: Vec<ChannelName>,
    subs: BTreeMap<ChannelName, SubOptions>,
) -> (Vec<ChannelName>, BTreeMap<ChannelName, SubOptions>) {
    channels.extend(subs.keys().cloned());
    channels.sort_unstable();
    channels.dedup();
    let subs = subs.into_iter().filter(|(_, it)| !it.say_nothing());
    (channels, subs.collect())
}

/// As it stands in JSON.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Shape {
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "is_zero")]
    expire_at: Seconds,
    #[serde(skip_serializing_if = "Option::is_none", rename = "override")]
    overrides: Option<Overrides>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it so")]
fn is_zero(number: &Seconds) -> bool {
    *number == 0
}

impl From<Shape> for SubOptions {
    fn from(shape: Shape) -> Self {
        let json = |raw: Option<Box<RawValue>>| raw.map(|raw| Json::from_raw(&raw));
        Self {
            info: json(shape.info),
            data: json(shape.data),
            expire_at: (shape.expire_at != 0).then_some(shape.expire_at),
            overrides: shape.overrides.unwrap_or_default(),
        }
    }
}

impl From<SubOptions> for Shape {
    fn from(options: SubOptions) -> Self {
        // What is a JSON text is one again.
        let raw = |json: Option<Json>| {
            let text = json.and_then(|json| String::from_utf8(json.as_bytes().to_vec()).ok());
            text.map(|text| RawValue::from_string(text).or_else(|_| to_raw_value(&())))
                .and_then(Result::ok)
        };
        let overrides = Some(options.overrides).filter(|it| !it.is_empty());
        Self {
            info: raw(options.info),
            data: raw(options.data),
            expire_at: options.expire_at.unwrap_or(0),
            overrides,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Switch;

    fn read(text: &str) -> SubOptions {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn options_are_read_as_centrifugo_has_them() {
        let json = |text: &str| Some(Json::parse(text.as_bytes()).unwrap());
        let full = read(
            r#"{"info":{"name":"x"},"data":[1],"expire_at":1700000000,"b64data":"x","override":{
                "presence":{"value":false},"force_push_join_leave":{"value":true},"force_positioning":{"value":true}}}"#,
        );
        let expected = SubOptions {
            info: json("{\"name\":\"x\"}"),
            data: json("[1]"),
            expire_at: Some(1_700_000_000),
            overrides: Overrides {
                presence: Some(Switch { value: false }),
                force_push_join_leave: Some(Switch { value: true }),
                ..Overrides::default()
            },
        };
        assert_eq!(full, expected);
        let again = serde_json::to_string(&full).unwrap();
        assert_eq!(read(&again), expected, "{again}");
        for nothing in [
            "{}",
            r#"{"info":null,"data":null,"expire_at":0,"override":{}}"#,
        ] {
            assert_eq!(read(nothing), SubOptions::default(), "{nothing}");
        }
        assert_eq!(serde_json::to_string(&SubOptions::default()).unwrap(), "{}");
        for wrong in ["[]x", r#"{"expire_at":"soon"}"#, r#"{"override":[true]}"#] {
            assert!(
                serde_json::from_str::<SubOptions>(wrong).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_channel_is_named_once_and_nothing_is_said_of_those_without_options() {
        let name = |name: &str| ChannelName::parse(name).unwrap();
        let said = SubOptions {
            expire_at: Some(1),
            ..SubOptions::default()
        };
        let subs = [
            (name("c"), said.clone()),
            (name("a"), SubOptions::default()),
        ];
        let (channels, subs) = channels_of(vec![name("b"), name("a")], subs.into());
        assert_eq!(channels, ["a", "b", "c"].map(name));
        assert_eq!(subs, [(name("c"), said)].into());
    }
}
