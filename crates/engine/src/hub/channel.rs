//! A channel in a shard: its cursors there, and what they wait for.

use std::{collections::HashMap, sync::Arc};

use fanfare_wire::{ChannelName, Run, Seq};

use super::{cursors::Cursors, inbox::ConnKey, join::Joining, told::Waiting};
use crate::channels::Attachment;

/// A channel with subscribers in this shard.
pub(crate) struct ShardChannel {
    pub(super) name: ChannelName,
    /// `None` until the channel is live on this node.
    pub(super) attachment: Option<Attachment>,
    /// What the last pass reached.
    pub(super) head: Seq,
    /// Publications since then.
    pub(super) fresh: Vec<Arc<Run>>,
    /// News since the last turn.
    pub(super) told: Waiting,
    pub(super) cursors: Cursors,
    pub(super) joining: Vec<Joining>,
    /// The read of its head that is under way.
    pub(super) refreshing: Option<u64>,
    pub(super) page_waiters: HashMap<u64, Vec<ConnKey>>,
    pub(super) dirty: bool,
    /// Somebody works on it: sessions that answer by leaving must not take it away.
    pub(super) held: bool,
}

impl ShardChannel {
    pub(super) fn new(name: ChannelName) -> Self {
        Self {
            name,
            attachment: None,
            head: Seq::ZERO,
            fresh: Vec::new(),
            told: Waiting::default(),
            cursors: Cursors::default(),
            joining: Vec::new(),
            refreshing: None,
            page_waiters: HashMap::new(),
            dirty: false,
            held: false,
        }
    }
}
