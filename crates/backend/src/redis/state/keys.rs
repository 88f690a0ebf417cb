//! The names of the keys. All keys of a subject are in the partition of the channel of that name, so that its news can be
//! told by the script that changes them.
//!
//! | key | holds | lives for |
//! | --- | --- | --- |
//! | `{head}object:KEY` | hash: value, version, moment | the ttl of its last change |
//! | `{head}floor:KEY` | a version that is ahead of the clock | until the clock has passed it |
//! | `{head}bucket:KEY` | hash: tokens, moment | until it would be full |
//! | `{head}leases:SCOPE` `members:` `ends:` `ttls:` | the leases of a scope | [`KEY_TTL`](super::KEY_TTL), renewed by the nodes in it |
//! | `{head}scopes:NODE` | set: the scopes in which a node has leases | the same, by the node |
//! | `{head}nodes` | nodes, by when their lease ends | the same, by every node |
//! | `{head}dead` | nodes that have ended and are cleared up after, by when the next may try | the same |
//! | `{head}due` | scopes, by when the first lease with a ttl of its own ends | the same |
//! | `{head}swept` | when somebody last looked for what has ended | the same |

use fanfare_engine::port::state::StateKey;
use uuid::Uuid;

use super::super::topics::Topics;

/// Where a key of the state is.
pub(super) fn partition(topics: &Topics, key: &StateKey) -> usize {
    topics.partition_of(key.subject())
}

/// The topic that is told of changes; empty if the subject is no channel.
pub(super) fn topic(topics: &Topics, key: &StateKey) -> String {
    key.channel()
        .map_or_else(String::new, |channel| topics.of(&channel))
}

/// The key of an object.
pub(super) fn object(topics: &Topics, key: &StateKey) -> String {
    of_subject(topics, "object:", key)
}

/// The least version of an object.
pub(super) fn floor(topics: &Topics, key: &StateKey) -> String {
    of_subject(topics, "floor:", key)
}

/// The key of a bucket.
pub(super) fn bucket(topics: &Topics, key: &StateKey) -> String {
    of_subject(topics, "bucket:", key)
}

/// The four keys of a scope, in the order that the scripts know.
pub(super) fn scope(topics: &Topics, key: &StateKey) -> [String; 4] {
    ["leases:", "members:", "ends:", "ttls:"].map(|kind| of_subject(topics, kind, key))
}

/// The scopes in which a node has leases.
pub(super) fn scopes(topics: &Topics, partition: usize, node: Uuid) -> String {
    topics.key(partition, "scopes:", &node.simple().to_string())
}

/// The nodes that live.
pub(super) fn nodes(topics: &Topics, partition: usize) -> String {
    topics.key(partition, "nodes", "")
}

/// The nodes that do not.
pub(super) fn dead(topics: &Topics, partition: usize) -> String {
    topics.key(partition, "dead", "")
}

/// The scopes that are to be looked at.
pub(super) fn due(topics: &Topics, partition: usize) -> String {
    topics.key(partition, "due", "")
}

/// When that was last done.
pub(super) fn swept(topics: &Topics, partition: usize) -> String {
    topics.key(partition, "swept", "")
}

fn of_subject(topics: &Topics, kind: &str, key: &StateKey) -> String {
    topics.key(partition(topics, key), kind, key.as_str())
}
