//! A log in memory whose answers can be held back, so that what must not happen meanwhile can happen meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use fanfare_engine::{
    memory::log::MemoryLog,
    port::{
        AppendError, BoxFuture, Committed, Contention, Head, LaneBatch, LaneCursors, Log, LogError,
        NodeRecord, ReadRange, Retention, Trimmed,
    },
    publish::owners::CONTENDED_MIN,
};
use fanfare_wire::{ChannelName, Draft, Epoch, Publication, Seq};
use tokio::sync::watch;

/// Answers of one kind: read when they are asked for, given when the gate is open.
pub(crate) struct Gate {
    /// So many answers may be given, in the order in which they were asked for.
    passes: watch::Sender<usize>,
    waiting: AtomicUsize,
    asked: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            passes: watch::Sender::new(usize::MAX),
            waiting: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    pub(crate) fn close(&self) {
        self.passes.send_replace(self.asked());
    }

    pub(crate) fn open(&self) {
        self.passes.send_replace(usize::MAX);
    }

    /// Gives the answer that has been held back for longest.
    pub(crate) fn give_one(&self) {
        self.passes.send_modify(|passes| *passes += 1);
    }

    /// How many answers are held back.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// How often something was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    pub(crate) async fn pass(&self) {
        let place = self.asked.fetch_add(1, SeqCst) + 1;
        self.waiting.fetch_add(1, SeqCst);
        let mut passes = self.passes.subscribe();
        // The sender lives in self.
        passes.wait_for(|passes| *passes >= place).await.unwrap();
        self.waiting.fetch_sub(1, SeqCst);
    }
}

/// The gates of a log.
#[derive(Default)]
pub(crate) struct Gates {
    pub(crate) reads: Gate,
    pub(crate) heads: Gate,
    pub(crate) sweeps: Gate,
    pub(crate) transactions: Gate,
    pub(crate) appends: Gate,
    /// Every batch says that it had to wait for others.
    pub(crate) contended: AtomicBool,
    /// Heads cannot be read.
    pub(crate) fail_heads: AtomicBool,
}

pub(crate) struct GatedLog {
    pub(crate) log: MemoryLog,
    pub(crate) gates: Arc<Gates>,
}

impl Log for GatedLog {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>> {
        Box::pin(async move {
            let mut committed = self.log.append(batch).await?;
            self.gates.appends.pass().await;
            committed.contention = self.gates.contended.load(SeqCst).then(|| Contention {
                waited: 2 * CONTENDED_MIN,
                channels: batch.iter().map(|draft| draft.channel.clone()).collect(),
            });
            Ok(committed)
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>> {
        Box::pin(async move {
            let answer = self.log.read(channel, range).await;
            self.gates.reads.pass().await;
            answer
        })
    }

    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>> {
        Box::pin(async move {
            let answer = self.log.heads(channels).await;
            self.gates.heads.pass().await;
            match self.gates.fail_heads.load(SeqCst) {
                true => Err(LogError("on purpose".to_owned())),
                false => answer,
            }
        })
    }

    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>> {
        self.log.lanes()
    }

    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>> {
        Box::pin(async move {
            let answer = self.log.sweep(cursors, limit).await;
            self.gates.sweeps.pass().await;
            answer
        })
    }

    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>> {
        self.log.trim(rules)
    }

    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>> {
        self.log.remove(channel, up_to)
    }

    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>> {
        self.log.heartbeat(about)
    }
}
