//! The names under which nodes meet in Redis.
//!
//! `{prefix}:{origin}:c:{channel}` carries the hints of a channel, `{prefix}:{origin}:h:{node}` a node's own heartbeat.
//! The origin is the first epoch of the log: it keeps clusters on different databases apart that share a Redis, and stays
//! when the log takes another epoch. Hints say themselves of which epoch they are.

use fanfare_wire::{ChannelName, Epoch};
use uuid::Uuid;

/// The topics of one node.
#[derive(Debug)]
pub(super) struct Topics {
    channels: String,
    heartbeat: String,
}

impl Topics {
    pub(super) fn new(prefix: &str, origin: &Epoch, node: Uuid) -> Self {
        Self {
            channels: format!("{prefix}:{origin}:c:"),
            heartbeat: format!("{prefix}:{origin}:h:{node}"),
        }
    }

    /// Where the hints of a channel go.
    pub(super) fn of(&self, channel: &ChannelName) -> String {
        [&self.channels, channel.as_str()].concat()
    }

    /// Whether this is where the hints of a channel go.
    pub(super) fn is_of(&self, topic: &[u8], channel: &ChannelName) -> bool {
        topic.strip_prefix(self.channels.as_bytes()) == Some(channel.as_str().as_bytes())
    }

    /// Where this node, and no other, beats.
    pub(super) fn heartbeat(&self) -> &str {
        &self.heartbeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_its_own_topic() {
        let origin = Epoch::parse("e1").unwrap();
        let topics = Topics::new("app", &origin, Uuid::nil());
        let channel = ChannelName::parse("chat:general").unwrap();
        assert_eq!(topics.of(&channel), "app:e1:c:chat:general");
        assert!(topics.is_of(b"app:e1:c:chat:general", &channel));
        assert!(!topics.is_of(b"app:e1:c:chat:general2", &channel));
        assert!(!topics.is_of(b"app:e2:c:chat:general", &channel));
        assert!(!topics.is_of(b"chat:general", &channel));
    }
}
