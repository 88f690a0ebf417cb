//! `POST /api/channels`: the channels that somebody is subscribed to, with how many connections, over all nodes.
//!
//! Each node counts its own when it is asked. The one that has the request asks the others, by the same request at the addresses that they
//! advertise; without Redis, therefore.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use serde::{Deserialize, Serialize};

use super::{Answered, ApiResult, or_default, to_json, understood};
use crate::{Gateway, forward};

/// Channels that are listed.
const CHANNELS_MAX: usize = 10_000;
/// Longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 255;
/// Longest answer of another node, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

#[derive(Deserialize)]
struct ChannelsRequest {
    #[serde(default, deserialize_with = "or_default")]
    pattern: String,
}

#[derive(Default, Serialize, Deserialize)]
struct ChannelsResult {
    channels: BTreeMap<String, Subscribers>,
    /// There are more, behind those that are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Some node could not be asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Subscribers {
    num_clients: u64,
}

/// What another node answers.
#[derive(Deserialize)]
struct Answer {
    result: Option<ChannelsResult>,
}

/// `POST /api/channels`.
pub(super) async fn channels(gateway: &Gateway, headers: &HeaderMap, body: &[u8]) -> Answered {
    let ChannelsRequest { pattern } = understood(body)?;
    let pattern = Some(pattern).filter(|it| it.len() <= PATTERN_BYTES_MAX)?;
    Some(list(gateway, headers, &pattern).await)
}

async fn list(gateway: &Gateway, headers: &HeaderMap, pattern: &str) -> ApiResult {
    let mut all = own(gateway, pattern).await;
    if !forward::is_forwarded(headers) {
        let ask = || request(headers, pattern);
        for answer in gateway.others.ask_all(ask, ANSWER_BYTES_MAX).await {
            match answer.as_deref().map(read) {
                Some(Some(theirs)) => all.add(theirs),
                _ => all.degraded = true,
            }
        }
    }
    to_json(&all)
}

/// The channels of this node.
async fn own(gateway: &Gateway, pattern: &str) -> ChannelsResult {
    let is_listed = |name: &str| pattern.is_empty() || matches(pattern, name);
    let subscribers = gateway.engine.subscribers().await;
    // The server's own, and those of namespaces that do not exist, are nobody's.
    let listed = subscribers.into_iter().filter(|(channel, _)| {
        gateway.config.rules.of(channel).is_some() && is_listed(channel.as_str())
    });
    let channels = listed.map(|(channel, count)| {
        let num_clients = count as u64;
        (channel.as_str().to_owned(), Subscribers { num_clients })
    });
    let mut own = ChannelsResult {
        channels: channels.collect(),
        ..ChannelsResult::default()
    };
    own.cut();
    own
}

impl ChannelsResult {
    /// Keeps as many as are listed, the first by name.
    fn cut(&mut self) {
        if let Some(first) = self.channels.keys().nth(CHANNELS_MAX).cloned() {
            self.channels.split_off(&first);
            self.truncated = true;
        }
    }

    /// Adds those of another node. How many there are behind the end of a list that was cut is not known.
    fn add(&mut self, theirs: Self) {
        let end = |list: &Self| {
            let last = list.channels.last_key_value();
            last.filter(|_| list.truncated)
                .map(|(name, _)| name.clone())
        };
        let ends = [end(self), end(&theirs)].into_iter().flatten().min();
        for (name, subscribers) in theirs.channels {
            self.channels.entry(name).or_default().num_clients += subscribers.num_clients;
        }
        if let Some(end) = ends {
            self.channels.retain(|name, _| *name <= end);
            self.truncated = true;
        }
        self.degraded |= theirs.degraded;
        self.cut();
    }
}

/// The same request for another node, with the key of whoever has asked.
fn request(headers: &HeaderMap, pattern: &str) -> Option<Request<Body>> {
    let body = serde_json::json!({ "pattern": pattern }).to_string();
    let mut request =
        Request::post("/api/channels").header(header::CONTENT_TYPE, "application/json");
    for name in ["x-api-key", "authorization"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    request.body(Body::from(body)).ok()
}

fn read(answer: &[u8]) -> Option<ChannelsResult> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.result
}

/// Whether a name is one of a pattern, in which `*` stands for any characters, and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where to go on if the last star has to stand for one character more.
    let mut star = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, from)) = star else {
                    return false;
                };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                seen = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_stars_and_question_marks() {
        for (pattern, name, fits) in [
            ("*", "room:1", true),
            ("room:*", "room:1", true),
            ("room:*", "room:", true),
            ("room:*", "rooms:1", false),
            ("*:1", "room:1", true),
            ("*:1", "room:11", false),
            ("r*m:*1*", "room:2103", true),
            ("r*m:*1*", "room:203", false),
            ("room:?", "room:1", true),
            ("room:?", "room:12", false),
            ("room:1", "room:1", true),
            ("room:1", "room:12", false),
            ("**", "", true),
            ("?", "", false),
            ("a*b*c", "abbbbc", true),
            ("a*b*c", "abbbbd", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        // In linear time for each star.
        let stars = "*a".repeat(100);
        assert!(!matches(&stars, &"b".repeat(255)));
    }

    fn listed(names: impl IntoIterator<Item = u64>, truncated: bool) -> ChannelsResult {
        let channels = names
            .into_iter()
            .map(|name| (format!("{name:05}"), Subscribers { num_clients: 1 }));
        ChannelsResult {
            channels: channels.collect(),
            truncated,
            degraded: false,
        }
    }

    #[test]
    fn what_is_listed_is_counted_on_all_nodes() {
        let mut all = listed([1, 2, 5], false);
        all.add(listed([2, 3], false));
        let counts: Vec<_> = all.channels.values().map(|it| it.num_clients).collect();
        assert_eq!(counts, [1, 2, 1, 1]);
        assert!(!all.truncated);
        // Behind 00004 the other node may have more of 00005.
        all.add(listed([3, 4], true));
        assert_eq!(all.channels.last_key_value().unwrap().0, "00004");
        assert!(all.truncated);
        let mut many = listed(0..20_000, false);
        many.cut();
        assert_eq!((many.channels.len(), many.truncated), (CHANNELS_MAX, true));
    }
}
