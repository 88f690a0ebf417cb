//! A new epoch in a shard: no cursor of before stands anywhere in the new log, so all of them go, and the connections
//! that had them are sent away over a short window, to come back and be told.

use fanfare_wire::Epoch;

use super::{
    channel::ShardChannel,
    inbox::ConnKey,
    session::Event,
    shard::{Shard, key},
};

/// Connections that were there when the epoch changed and have not been sent away yet.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// The next one last.
    conns: Vec<ConnKey>,
    per_second: usize,
}

impl Shard {
    /// The log has another epoch than this shard has worked in.
    pub(super) fn new_epoch(&mut self, epoch: Epoch, window_seconds: u32) {
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        for (_, conn) in &mut self.conns {
            let gone = i64::try_from(conn.subs.len()).unwrap_or(i64::MAX);
            self.common.metrics.subscriptions.add(-gone);
            conn.subs.clear();
        }
        let channels: Vec<u32> = self.channels.iter().map(|(index, _)| key(index)).collect();
        for channel in channels {
            self.begin_anew(channel);
        }
        self.leaving.conns = self.conns.iter().map(|(_, conn)| conn.key).collect();
        let seconds = window_seconds.max(1) as usize;
        self.leaving.per_second = self.leaving.conns.len().div_ceil(seconds);
    }

    /// Sends the next connections away.
    pub(super) fn leave_some(&mut self) {
        for _ in 0..self.leaving.per_second {
            let Some(conn) = self.leaving.conns.pop() else {
                self.leaving = Leaving::default();
                return;
            };
            if self.conn(conn).is_some() {
                self.call(conn.index, |session, cx| {
                    session.on_event(Event::Reset, cx);
                });
            }
        }
    }

    /// Empties a channel. Subscribes that are under way go on once it is live in the new epoch.
    fn begin_anew(&mut self, channel: u32) {
        let found = &mut self.channels[channel as usize];
        let name = found.name.clone();
        let joining = std::mem::take(&mut found.joining);
        *found = ShardChannel {
            joining,
            // It may stand in the list of those with news.
            dirty: found.dirty,
            ..ShardChannel::new(name.clone())
        };
        if found.joining.is_empty() {
            self.drop_if_unused(channel);
        } else {
            for joining in &mut found.joining {
                joining.late = false;
            }
            self.common.upstream.attach(name, &self.inbox);
        }
    }
}
