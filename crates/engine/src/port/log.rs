//! The log: the durable publications of all channels, and the only truth.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fanfare_wire::{ChannelName, Draft, Epoch, Millis, Publication, Seq};
use thiserror::Error;

use super::BoxFuture;

/// Longest idempotency key in bytes.
pub const KEY_BYTES_MAX: usize = 128;

/// How long an idempotency key is remembered at least.
pub const KEYS_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long an entry of the lane log is kept at least.
pub const LANE_LOG_KEPT: Duration = Duration::from_secs(15 * 60);

/// A node that was silent for longer is no longer listed by [`heartbeat`](Log::heartbeat).
pub const NODE_SILENCE_MAX: Duration = Duration::from_secs(10);

/// The durable publications of all channels.
///
/// Guarantees that every implementation gives, checked by `contract::log`:
/// 1. **Commit first.** [`append`](Log::append) returns after the commit is flushed to stable storage. The batch is
///    atomic: all of it or nothing.
/// 2. **Sequence is commit order.** In each channel the numbers are 1, 2, 3 … without holes, whatever happens to
///    writers and however many nodes write; whoever can see number n can see all before it (retention apart).
///    Within a batch the drafts of a channel are numbered in the batch's order.
/// 3. **Idempotency.** A draft whose `idempotency_key` was committed before in the same channel (in this batch or any
///    other, through any node, within the retention of keys of at least 24 hours) is not committed again: its outcome
///    has the first one's number and time, and `duplicate`.
/// 4. **No guess.** If the connection is lost during the commit, `append` finds out what happened before it answers;
///    [`AppendError::Unknown`] only if it cannot.
/// 5. **Lane log.** Every committed batch that numbered at least one publication adds one entry to its lane's log, in
///    the same transaction. Entries of a lane appear in the order of their n, which are 1, 2, 3 … without holes: a
///    reader that has seen n has seen all before it.
/// 6. A paused or dead node holds no lock: the whole batch is one call.
/// 7. **One epoch, one history.** Within an epoch a number of a channel stands for one publication for ever, and nothing
///    that was acknowledged goes away, retention apart. A log that may have lost commits (its database was restored, or
///    failed over to a replica that lagged) takes a new epoch before it answers again, the same one for all nodes.
pub trait Log: Send + Sync + 'static {
    /// The identity of this log now; never waits. It may change while the log is open, and never comes back.
    ///
    /// What a call answers belongs to one epoch. It is the one that this method gives, if it gives the same one before
    /// the call and after it; otherwise the caller discards the answer. [`append`](Log::append) names the epoch itself.
    fn epoch(&self) -> Epoch;

    /// Commits a batch in this node's own lane. The engine has one batch in flight at a time; a second concurrent
    /// call waits for the first.
    fn append<'a>(&'a self, batch: &'a [Draft]) -> BoxFuture<'a, Result<Committed, AppendError>>;

    /// Reads publications of a channel; empty if there are none in the range. Any number of reads run at once; the
    /// engine keeps a ceiling on them.
    fn read<'a>(
        &'a self,
        channel: &'a ChannelName,
        range: ReadRange,
    ) -> BoxFuture<'a, Result<Vec<Publication>, LogError>>;

    /// The heads of some channels, in the order asked, as committed when the call was made or later. A channel without
    /// publications has the head 0.
    fn heads<'a>(
        &'a self,
        channels: &'a [ChannelName],
    ) -> BoxFuture<'a, Result<Vec<Head>, LogError>>;

    /// Where every lane stands now; the start for [`sweep`](Log::sweep).
    fn lanes(&self) -> BoxFuture<'_, Result<LaneCursors, LogError>>;

    /// All entries of all lanes after the cursors, read in one snapshot, ordered by lane and n. A lane without a cursor
    /// is new and read from its beginning. Entries are kept for at least [`lane_log_kept`](Log::lane_log_kept). Returns at
    /// most `limit` entries.
    fn sweep<'a>(
        &'a self,
        cursors: &'a LaneCursors,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LaneBatch>, LogError>>;

    /// Whether others than nodes publish into this log, as far as [`lanes`](Self::lanes) and [`sweep`](Self::sweep) have shown; never
    /// waits. What they commit is [`unannounced`](LaneBatch::unannounced), so the log is swept more often.
    fn expects_unannounced(&self) -> bool {
        false
    }

    /// How long entries of the lane log are kept at least.
    fn lane_log_kept(&self) -> Duration {
        LANE_LOG_KEPT
    }

    /// Removes what the rules no longer keep, in steps that never block an append for long, and old idempotency keys
    /// and lane-log entries with it. Channels that match no rule are kept for ever. When several nodes trim at once,
    /// one does the work and the others return at once.
    fn trim<'a>(&'a self, rules: &'a [Retention]) -> BoxFuture<'a, Result<Trimmed, LogError>>;

    /// Removes a channel's publications up to and including a number, or up to its head if that is less; as retention does: numbers go
    /// on behind them, and idempotency keys stay. In steps that never block an append for long, the oldest first; after a failure
    /// the beginning may be gone. Returns where the channel stands then. May be called again without harm, by several nodes at once
    /// and beside [`trim`](Log::trim).
    fn remove<'a>(
        &'a self,
        channel: &'a ChannelName,
        up_to: Seq,
    ) -> BoxFuture<'a, Result<Head, LogError>>;

    /// Tells the others that this node is alive, with a few words about itself (a JSON object), and returns the records
    /// of all nodes heard of within the last 10 seconds, this one included.
    fn heartbeat(&self, about: Bytes) -> BoxFuture<'_, Result<Vec<NodeRecord>, LogError>>;
}

/// What a batch became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The epoch in which the numbers below count.
    pub epoch: Epoch,
    /// The lane that committed it.
    pub lane: LaneId,
    /// The number of the batch in its lane, from 1. A batch of duplicates only has the number 0 and no lane-log entry.
    pub n: u64,
    /// One outcome per draft, in the batch's order.
    pub outcomes: Vec<Outcome>,
    /// Whether others held it up. A hint: nothing depends on it but who commits next.
    pub contention: Option<Contention>,
}

/// A batch waited for somebody else's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contention {
    /// For how long.
    pub waited: Duration,
    /// The channels in which others committed meanwhile.
    pub channels: Vec<ChannelName>,
}

/// What a draft became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the channel.
    pub seq: Seq,
    /// When it was committed, by the database's clock.
    pub time: Millis,
    /// It had been committed before under the same idempotency key.
    pub duplicate: bool,
}

/// Why a batch was not acknowledged.
#[derive(Debug, Clone, Error)]
pub enum AppendError {
    /// Nothing of the batch was committed, nor ever will be. Try again later.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The batch may have been committed, or was committed to a log that is no longer the one. Try again with the same
    /// idempotency keys.
    #[error("the outcome of the commit is not known: {0}")]
    Unknown(String),
}

/// Why the log did not answer.
#[derive(Debug, Clone, Error)]
#[error("the log is not available: {0}")]
pub struct LogError(pub String);

/// A range of a channel's publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRange {
    /// Forward: numbers greater than this. Backward: numbers less than this; [`Seq::ZERO`] means "from the head".
    pub from: Seq,
    /// At most this many.
    pub limit: usize,
    /// Which way.
    pub direction: Direction,
}

/// The way of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending numbers.
    Forward,
    /// Descending numbers.
    Backward,
}

/// How far a channel reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// The last number given out; 0 if none.
    pub seq: Seq,
    /// The last number removed by retention; 0 if none. `trimmed + 1` is the oldest that can be read.
    pub trimmed: Seq,
}

/// One database session of one node that appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub i64);

/// How far each lane has been read: lane to n.
pub type LaneCursors = BTreeMap<LaneId, u64>;

/// One entry of the lane log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneBatch {
    /// Whose.
    pub lane: LaneId,
    /// Which of its batches, from 1.
    pub n: u64,
    /// What it added: channel, first and last number.
    pub channels: Vec<(ChannelName, Seq, Seq)>,
    /// No node committed it, so none sends a hint of it: the sweep is its way of delivery.
    pub unannounced: bool,
}

/// What a namespace keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// The namespace; the empty string for channels outside all namespaces.
    pub namespace: String,
    /// Publications older than this go.
    pub age_max: Option<Duration>,
    /// All but so many of the newest go.
    pub count_max: Option<u64>,
}

/// What a trim removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Publications.
    pub publications: u64,
    /// Idempotency keys.
    pub keys: u64,
    /// Lane-log entries.
    pub lane_batches: u64,
}

/// A node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// The lane it commits in.
    pub lane: LaneId,
    /// Its own words, a JSON object.
    pub about: Bytes,
}
