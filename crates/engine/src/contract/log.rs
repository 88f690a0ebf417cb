//! The contract of the log: what [`Log`] promises, as cases that every implementation passes.
//!
//! [`all`] takes two nodes on one database and runs the cases one after the other, each in channels of its own, so the
//! database may be shared, with other things in it. What needs a particular database (its death, its restart, a
//! second process) is tested beside the implementation.

mod append;
mod epoch;
mod lanes;
mod read;
mod remove;
mod trim;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use fanfare_wire::{ChannelName, Draft, Json, Publication, Seq};
use uuid::Uuid;

use crate::port::{Committed, Direction, Log, ReadRange};

/// How long a case waits for what must come by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs every case. `open` gives a node's handle on one and the same database each time; a database for one process
/// only gives the same handle again.
///
/// # Panics
/// When a promise is broken; the message names the case and the promise.
pub async fn all<O, F>(open: O)
where
    O: Fn() -> F,
    F: Future<Output = Arc<dyn Log>>,
{
    let nodes = Nodes {
        a: open().await,
        b: open().await,
    };
    macro_rules! run {
        ($($part:ident :: $case:ident),* $(,)?) => {
            $(
                eprintln!("log contract: {}", stringify!($part::$case));
                $part::$case(&nodes).await;
            )*
        };
    }
    run![
        append::numbers_are_dense_under_concurrent_writers,
        append::a_batch_is_numbered_in_its_order,
        append::a_batch_over_many_new_channels,
        append::an_empty_batch_commits_nothing,
        append::a_key_commits_once_within_a_batch,
        append::a_key_commits_once_across_batches_and_nodes,
        append::a_key_raced_by_all_nodes_commits_once,
        append::a_key_counts_in_its_channel_only,
        append::a_batch_of_duplicates_has_no_number,
        append::time_never_goes_back_in_a_channel,
        read::publications_come_back_byte_for_byte,
        read::ranges_forward,
        read::ranges_backward,
        read::heads_in_the_order_asked,
        read::both_nodes_are_one_log,
        lanes::entries_say_what_was_committed,
        lanes::a_limit_keeps_the_order,
        lanes::a_sweep_beside_writers_skips_nothing,
        lanes::nodes_hear_of_each_other,
        epoch::is_one_for_all_nodes,
        trim::by_count,
        trim::by_age,
        trim::in_many_steps,
        trim::what_no_rule_names_is_kept,
        trim::at_once_on_both_nodes,
        trim::beside_writers,
        remove::what_is_named_goes_and_numbers_go_on,
        remove::in_many_steps,
        remove::beside_retention,
    ];
}

/// Runs the case of a log whose epoch can change while it is open. `change` makes it change without losing anything.
///
/// # Panics
/// When a promise is broken.
pub async fn epoch_change<O, F, C>(open: O, change: impl FnOnce() -> C)
where
    O: Fn() -> F,
    F: Future<Output = Arc<dyn Log>>,
    C: Future<Output = ()>,
{
    let nodes = Nodes {
        a: open().await,
        b: open().await,
    };
    epoch::changes_for_all_nodes(&nodes, change).await;
}

/// Two nodes on one database.
struct Nodes {
    a: Arc<dyn Log>,
    b: Arc<dyn Log>,
}

impl Nodes {
    fn both(&self) -> [&Arc<dyn Log>; 2] {
        [&self.a, &self.b]
    }
}

/// Makes names that no other case and no earlier run has used.
struct Names {
    namespace: String,
}

impl Names {
    fn new() -> Self {
        Self {
            namespace: Uuid::now_v7().simple().to_string(),
        }
    }

    fn channel(&self, rest: impl std::fmt::Display) -> ChannelName {
        ChannelName::parse(&format!("{}:{rest}", self.namespace)).unwrap()
    }
}

fn draft(channel: &ChannelName, data: impl std::fmt::Display) -> Draft {
    let data = Json::parse(data.to_string().as_bytes()).unwrap();
    Draft::new(channel.clone(), Uuid::now_v7(), data)
}

fn keyed(channel: &ChannelName, key: &str) -> Draft {
    let mut draft = draft(channel, 0);
    draft.idempotency_key = Some(key.to_owned());
    draft
}

fn drafts(channel: &ChannelName, count: usize) -> Vec<Draft> {
    (0..count).map(|number| draft(channel, number)).collect()
}

fn numbers(committed: &Committed) -> Vec<u64> {
    committed
        .outcomes
        .iter()
        .map(|outcome| outcome.seq.0)
        .collect()
}

fn seqs(publications: &[Publication]) -> Vec<u64> {
    publications
        .iter()
        .map(|publication| publication.seq.0)
        .collect()
}

fn forward(from: u64, limit: usize) -> ReadRange {
    ReadRange {
        from: Seq(from),
        limit,
        direction: Direction::Forward,
    }
}

fn backward(from: u64, limit: usize) -> ReadRange {
    ReadRange {
        from: Seq(from),
        limit,
        direction: Direction::Backward,
    }
}

async fn publish(log: &Arc<dyn Log>, channel: &ChannelName, count: usize) {
    for chunk in drafts(channel, count).chunks(500) {
        log.append(chunk).await.unwrap();
    }
}

/// Numbers that stand for chance and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What writers were told: channel to number to publication.
type Acknowledged = BTreeMap<ChannelName, BTreeMap<u64, Uuid>>;

fn note(acknowledged: &mut Acknowledged, batch: &[Draft], committed: &Committed) {
    assert_eq!(
        committed.outcomes.len(),
        batch.len(),
        "one outcome per draft"
    );
    for (draft, outcome) in batch.iter().zip(&committed.outcomes) {
        assert!(!outcome.duplicate);
        let channel = acknowledged.entry(draft.channel.clone()).or_default();
        let before = channel.insert(outcome.seq.0, draft.id);
        assert_eq!(
            before, None,
            "{} {} given out twice",
            draft.channel, outcome.seq
        );
    }
}

/// Writes `batches` random batches over `channels` and gives what was acknowledged, and the batches with it.
async fn write_at_random(
    log: Arc<dyn Log>,
    channels: Vec<ChannelName>,
    batches: usize,
    seed: u64,
) -> Vec<(Vec<Draft>, Committed)> {
    let mut dice = Dice(seed);
    let mut written = Vec::new();
    for _ in 0..batches {
        let count = 1 + dice.throw(12);
        let pick = |dice: &mut Dice| &channels[dice.throw(channels.len() as u64) as usize];
        let batch: Vec<_> = (0..count)
            .map(|number| draft(pick(&mut dice), number))
            .collect();
        let committed = log.append(&batch).await.unwrap();
        written.push((batch, committed));
    }
    written
}

/// Four concurrent writers on each node.
async fn write_from_everywhere(
    nodes: &Nodes,
    channels: &[ChannelName],
    batches: usize,
) -> Vec<(Vec<Draft>, Committed)> {
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..4 {
        for (node, log) in nodes.both().into_iter().enumerate() {
            let seed = seed * 2 + node as u64;
            writers.spawn(write_at_random(
                log.clone(),
                channels.to_vec(),
                batches,
                seed,
            ));
        }
    }
    writers.join_all().await.into_iter().flatten().collect()
}
