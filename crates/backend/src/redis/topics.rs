//! The names under which nodes meet in Redis.
//!
//! `{prefix}:{origin}:c:{channel}` carries the hints and news of a channel, `{prefix}:{origin}:h:{node}` a node's own heartbeat.
//! Keys of the state begin in the same way.
//! The origin is the first epoch of the log: it keeps clusters on different databases apart that share a Redis, and stays
//! when the log takes another epoch. Hints say themselves of which epoch they are. In a Redis Cluster the tag of the
//! partition stands after the prefix, in braces, so that rules of access on `{prefix}:*` hold there too.

use fanfare_wire::{ChannelName, Epoch};
use uuid::Uuid;

use super::partition::{partition_of, tag};

/// The topics of one node.
#[derive(Debug)]
pub(super) struct Topics {
    node: Uuid,
    /// How the topics of each partition begin.
    heads: Vec<String>,
}

impl Topics {
    /// With one partition, topics have no tag.
    pub(super) fn new(prefix: &str, origin: &Epoch, node: Uuid, partitions: usize) -> Self {
        let heads = if partitions <= 1 {
            vec![format!("{prefix}:{origin}:")]
        } else {
            (0..partitions)
                .map(|partition| format!("{prefix}:{{{}}}:{origin}:", tag(partition)))
                .collect()
        };
        Self { node, heads }
    }

    /// The node that they are of.
    pub(super) fn node(&self) -> Uuid {
        self.node
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> usize {
        self.heads.len()
    }

    /// The partition of a channel.
    pub(super) fn partition(&self, channel: &ChannelName) -> usize {
        self.partition_of(channel.as_str())
    }

    /// The partition of whatever belongs to a subject: that of the channel of this name.
    pub(super) fn partition_of(&self, subject: &str) -> usize {
        partition_of(subject, self.partitions())
    }

    /// A key in a partition.
    pub(super) fn key(&self, partition: usize, kind: &str, name: &str) -> String {
        [self.head(partition), kind, name].concat()
    }

    /// Where the hints and news of a channel go.
    pub(super) fn of(&self, channel: &ChannelName) -> String {
        [self.head(self.partition(channel)), "c:", channel.as_str()].concat()
    }

    /// Whether this is where the hints and news of a channel go.
    pub(super) fn is_of(&self, topic: &[u8], channel: &ChannelName) -> bool {
        let head = self.head(self.partition(channel)).as_bytes();
        let rest = topic.strip_prefix(head);
        rest.and_then(|rest| rest.strip_prefix(b"c:")) == Some(channel.as_str().as_bytes())
    }

    /// Where this node, and no other, beats to prove that it reaches a partition.
    pub(super) fn heartbeat(&self, partition: usize) -> String {
        format!("{}h:{}", self.head(partition), self.node)
    }

    fn head(&self, partition: usize) -> &str {
        self.heads.get(partition).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::partition::PARTITIONS, *};

    #[test]
    fn every_channel_has_its_own_topic() {
        let origin = Epoch::parse("e1").unwrap();
        let topics = Topics::new("app", &origin, Uuid::nil(), 1);
        let channel = ChannelName::parse("chat:general").unwrap();
        assert_eq!(topics.of(&channel), "app:e1:c:chat:general");
        assert!(topics.is_of(b"app:e1:c:chat:general", &channel));
        assert!(!topics.is_of(b"app:e1:c:chat:general2", &channel));
        assert!(!topics.is_of(b"app:e2:c:chat:general", &channel));
        assert!(!topics.is_of(b"chat:general", &channel));
    }

    #[test]
    fn in_a_cluster_the_tag_is_that_of_the_partition() {
        let origin = Epoch::parse("e1").unwrap();
        let topics = Topics::new("app", &origin, Uuid::nil(), PARTITIONS);
        let channel = ChannelName::parse("chat:general").unwrap();
        let tag = tag(topics.partition(&channel));
        let topic = topics.of(&channel);
        assert_eq!(topic, format!("app:{{{tag}}}:e1:c:chat:general"));
        assert!(topics.is_of(topic.as_bytes(), &channel));
        assert!(!topics.is_of(b"app:{x}:e1:c:chat:general", &channel));
        assert_ne!(topics.heartbeat(0), topics.heartbeat(1));
    }
}
