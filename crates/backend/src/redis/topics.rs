//! The names under which nodes meet in Redis.
//!
//! `{prefix}:{epoch}:c:{channel}` carries the hints of a channel, `{prefix}:{epoch}:h:{node}` a node's own heartbeat.
//! The epoch keeps clusters on different databases apart that share a Redis.

use fanfare_wire::{ChannelName, Epoch};
use uuid::Uuid;

/// The topics of one node.
#[derive(Debug)]
pub(super) struct Topics {
    epoch: Epoch,
    channels: String,
    heartbeat: String,
}

impl Topics {
    pub(super) fn new(prefix: &str, epoch: &Epoch, node: Uuid) -> Self {
        Self {
            epoch: epoch.clone(),
            channels: format!("{prefix}:{epoch}:c:"),
            heartbeat: format!("{prefix}:{epoch}:h:{node}"),
        }
    }

    /// The epoch that all hints here belong to.
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
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
        let epoch = Epoch::parse("e1").unwrap();
        let topics = Topics::new("app", &epoch, Uuid::nil());
        let channel = ChannelName::parse("chat:general").unwrap();
        assert_eq!(topics.of(&channel), "app:e1:c:chat:general");
        assert!(topics.is_of(b"app:e1:c:chat:general", &channel));
        assert!(!topics.is_of(b"app:e1:c:chat:general2", &channel));
        assert!(!topics.is_of(b"app:e2:c:chat:general", &channel));
        assert!(!topics.is_of(b"chat:general", &channel));
    }
}
