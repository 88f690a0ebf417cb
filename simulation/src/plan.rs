//! What a seed stands for: the sizes of a run, and which faults it has how often.

use std::time::Duration;

use fanfare_engine::port::log::LANE_LOG_KEPT;

use crate::dice::Dice;

/// With nothing but the bus at fault, a live subscriber has everything within so long of its commit: the sweep finds it
/// after 200 ms, a late hint is waited for, the log answers.
const PROMPT: Duration = Duration::from_millis(500);
/// With nothing at fault at all, hints bring everything within so long; the sweep has no part in it.
const AT_ONCE: Duration = Duration::from_millis(20);

/// The sizes and faults of a run. Probabilities are per occasion.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Nodes at the beginning; those that die come back.
    pub nodes: usize,
    /// Shards of each node.
    pub shards: usize,
    /// Channels.
    pub channels: usize,
    /// Clients that subscribe.
    pub clients: usize,
    /// Clients that publish.
    pub publishers: usize,
    /// Publishes that one of them has under way at most.
    pub window: usize,
    /// How often faults happen, end, and everything has to become complete.
    pub rounds: u64,
    /// For how long faults happen and new messages are published in a round, on the virtual clock.
    pub duration: Duration,
    /// Between two publishes of a publisher, in milliseconds.
    pub pause_ms: u64,
    /// Longest payload in bytes.
    pub payload_max: u64,
    /// Publications that a channel keeps, if not all.
    pub keep: Option<u64>,
    /// How long entries of the lane log are kept.
    pub lane_log_kept: Duration,
    /// What the bus does to hints.
    pub bus: BusFaults,
    /// What happens between nodes and the log.
    pub log: LogFaults,
    /// What happens to nodes.
    pub node: NodeFaults,
    /// What clients and their connections do.
    pub client: ClientFaults,
    /// Whether nodes own channels for each other, and what happens to what they hand on.
    pub owners: Option<OwnerFaults>,
    /// Between two pieces of news that somebody tells, in milliseconds, if anybody does.
    pub news_ms: Option<u64>,
    /// A promise that is broken on purpose, to see whether it is noticed.
    pub breach: Option<Breach>,
}

/// What the bus does to hints.
#[derive(Debug, Clone, Default)]
pub struct BusFaults {
    /// A hint is lost.
    pub lose: f64,
    /// It comes twice.
    pub repeat: f64,
    /// It takes up to [`slow_ms`](Self::slow_ms) instead of a few milliseconds.
    pub slow: f64,
    /// See [`slow`](Self::slow).
    pub slow_ms: u64,
    /// In each tenth of a second: a node is cut off. It notices after 1.5 seconds.
    pub cut: f64,
    /// In each tenth of a second: all hints are lost for a while, and nobody is told.
    pub silence: f64,
}

/// What happens where nodes own channels for each other.
#[derive(Debug, Clone, Default)]
pub struct OwnerFaults {
    /// A batch is said to have waited for others: nodes hand its channels to their owners.
    pub contended: f64,
    /// What is handed on, or its answer, takes up to 1.5 seconds instead of a millisecond.
    pub late: f64,
    /// What is handed on is lost, and everything behind it; after up to 3 seconds the link ends.
    pub lose: f64,
    /// The drafts are committed, the answer is lost, and the link ends.
    pub lose_answer: f64,
    /// The owner takes the drafts a second time up to 2 seconds later.
    pub repeat: f64,
}

/// What happens between a node and the log.
#[derive(Debug, Clone, Default)]
pub struct LogFaults {
    /// A call takes up to half a second instead of a few milliseconds.
    pub slow: f64,
    /// A read fails.
    pub fail: f64,
    /// The connection is lost during a commit; half of these find out what became of it.
    pub lose_answer: f64,
    /// In each tenth of a second: the log is away for up to three seconds.
    pub away: f64,
    /// In each tenth of a second: the log is copied, or replaced by its copy under a new epoch. What was committed between
    /// is lost, and everybody has to be told.
    pub restore: f64,
}

/// What happens to a node.
#[derive(Debug, Clone, Default)]
pub struct NodeFaults {
    /// At an await: the others go first.
    pub yields: f64,
    /// At an await: it stops for up to [`pause_ms`](Self::pause_ms).
    pub pause: f64,
    /// See [`pause`](Self::pause).
    pub pause_ms: u64,
    /// At an await: it dies, and comes back after up to two seconds.
    pub crash: f64,
}

/// What clients and their connections do.
#[derive(Debug, Clone, Default)]
pub struct ClientFaults {
    /// At a read: the connection is given up without a word.
    pub leave: f64,
    /// How long the client stays away then at most, in milliseconds, if not for a second.
    pub away_ms: u64,
    /// At a read: a channel is left and subscribed to again from its position.
    pub resubscribe: f64,
    /// At a subscribe: it asks for an earlier position than the one that it has.
    pub rewind: f64,
    /// The client takes up to this long between two reads, in milliseconds.
    pub slow_ms: u64,
    /// Bytes that the way to a client holds.
    pub capacity: u64,
    /// A write is cut short although there is room.
    pub cut_short: f64,
}

/// A promise that is broken on purpose, to see whether it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    /// One frame of a hundred is not written.
    DropSome,
    /// What is published last is not written.
    DropLast,
    /// Two frames change places.
    Swap,
    /// A frame is written twice.
    Repeat,
    /// A frame has the payload of another.
    Garble,
    /// Commits are acknowledged, and shown, that the log then loses.
    Uncommitted,
    /// Entries of the lane log are skipped, and the bus says nothing.
    SkipSweep,
    /// The bus says that it is up, and carries nothing.
    NoHints,
    /// A repeated idempotency key is committed again.
    ForgetKeys,
    /// The log is taken back to an earlier state, and keeps its epoch.
    KeepEpoch,
    /// What nodes hand to each other overtakes what was handed on before.
    Overtake,
    /// A node says that it has committed what it was handed, and has not.
    EmptyPromise,
}

impl Plan {
    /// The plan of a seed. Every third seed has few faults, so that what is only seen in quiet is seen; some have a single
    /// kind; the others have everything.
    pub(crate) fn draw(dice: &Dice) -> Self {
        let mut plan = Self::quiet(dice);
        match dice.between(0, 5) {
            0 => {}
            1 => plan.bus = BusFaults::draw(dice),
            2 => {
                plan.bus = BusFaults::draw(dice);
                plan.client = ClientFaults::draw(dice);
            }
            3 => {
                plan.log = LogFaults::draw(dice);
                plan.node.yields = 0.05;
            }
            _ => {
                plan.bus = BusFaults::draw(dice);
                plan.log = LogFaults::draw(dice);
                plan.node = NodeFaults::draw(dice);
                plan.client = ClientFaults::draw(dice);
            }
        }
        if dice.chance(0.2) {
            plan.keep = Some(dice.between(20, 400));
        }
        plan
    }

    /// A plan without faults.
    pub(crate) fn quiet(dice: &Dice) -> Self {
        Self {
            nodes: dice.between(1, 4) as usize,
            shards: dice.between(1, 2) as usize,
            channels: dice.between(1, 5) as usize,
            clients: dice.between(2, 8) as usize,
            publishers: dice.between(1, 4) as usize,
            window: dice.between(1, 16) as usize,
            rounds: 1,
            duration: dice.millis(2000, 15_000),
            pause_ms: dice.between(1, 80),
            payload_max: dice.between(1, 400),
            keep: None,
            lane_log_kept: LANE_LOG_KEPT,
            bus: BusFaults::default(),
            log: LogFaults::default(),
            node: NodeFaults::default(),
            client: ClientFaults {
                capacity: 64 << 10,
                ..ClientFaults::default()
            },
            owners: None,
            news_ms: None,
            breach: None,
        }
    }

    /// News of the moment, in every second seed. They have a dice of their own for the same reason.
    pub(crate) fn tell(&mut self, dice: &Dice) {
        self.news_ms = dice.chance(0.5).then(|| dice.between(1, 100));
    }

    /// Channels with owners, in half of the seeds. They have a dice of their own for the same reason.
    pub(crate) fn own(&mut self, dice: &Dice) {
        self.owners = dice.chance(0.5).then(|| OwnerFaults::draw(dice));
    }

    /// What more than half of the seeds have besides. It has a dice of its own, so that seeds of before mean what they meant.
    pub(crate) fn widen(&mut self, dice: &Dice) {
        match dice.between(0, 19) {
            0..=3 => self.rounds = dice.between(2, 4),
            4..=6 => {
                self.rounds = dice.between(1, 2);
                self.client.rewind = 0.3;
                self.client.leave = 0.02;
                self.client.resubscribe = 0.02;
            }
            // Nobody is where a message is published, for longer than a node keeps a channel that nobody reads.
            7 => {
                self.duration = dice.millis(60_000, 150_000);
                self.pause_ms = dice.between(200, 4000);
                (self.log, self.node) = (LogFaults::default(), NodeFaults::default());
                if dice.chance(0.5) {
                    self.bus = BusFaults::default();
                }
                self.client.slow_ms = 0;
                self.client.leave = 0.1;
                self.client.away_ms = dice.between(20_000, 60_000);
            }
            // A node sleeps for longer than the lane log reaches.
            8 => {
                self.rounds = dice.between(2, 4);
                self.nodes = self.nodes.max(2);
                self.pause_ms = dice.between(50, 1000);
                self.lane_log_kept = dice.millis(1500, 6000);
                self.node.pause = 0.003;
                self.node.pause_ms = dice.between(5000, 20_000);
            }
            // Hardly anything is published, so that what is lost is not shown by what comes after it.
            9 => {
                self.rounds = dice.between(2, 4);
                self.pause_ms = dice.between(300, 2000);
            }
            // Nodes begin again and again while the log is slow, and hardly anything follows what is published meanwhile.
            10 => {
                self.rounds = dice.between(8, 16);
                self.duration = dice.millis(500, 2500);
                self.pause_ms = dice.between(50, 500);
                self.log.slow = 0.3;
                self.node.crash = 0.003;
            }
            _ => {}
        }
    }

    /// How long a delivery to a live subscriber may take after its commit, if nothing but the bus stands between the two.
    pub(crate) fn bound(&self) -> Option<Duration> {
        let LogFaults {
            slow,
            fail,
            lose_answer,
            away,
            restore,
        } = self.log;
        let NodeFaults {
            yields,
            pause,
            crash,
            ..
        } = self.node;
        let others = [slow, fail, lose_answer, away, restore, yields, pause, crash];
        if others.iter().any(|fault| *fault > 0.0) || self.client.slow_ms > 0 {
            return None;
        }
        let BusFaults {
            lose,
            repeat,
            slow,
            cut,
            silence,
            ..
        } = self.bus;
        let is_well = [lose, repeat, slow, cut, silence]
            .iter()
            .all(|fault| *fault == 0.0);
        // A node alone needs no hints.
        Some(if is_well || self.nodes == 1 {
            AT_ONCE
        } else {
            PROMPT
        })
    }
}

impl BusFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            lose: some(0.3),
            repeat: some(0.2),
            slow: some(0.3),
            slow_ms: dice.between(1, 400),
            cut: some(0.02),
            silence: some(0.02),
        }
    }
}

impl OwnerFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            contended: 0.5,
            late: some(0.1),
            lose: some(0.02),
            lose_answer: some(0.02),
            repeat: some(0.1),
        }
    }
}

impl LogFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            slow: some(0.05),
            fail: some(0.05),
            lose_answer: some(0.02),
            away: some(0.01),
            restore: match dice.chance(0.3) {
                true => 0.03,
                false => 0.0,
            },
        }
    }
}

impl NodeFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            yields: some(0.1),
            pause: some(0.001),
            pause_ms: dice.between(100, 20_000),
            crash: some(0.001),
        }
    }
}

impl ClientFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            leave: some(0.01),
            away_ms: 0,
            resubscribe: some(0.01),
            rewind: 0.0,
            slow_ms: match dice.chance(0.3) {
                true => dice.between(1, 300),
                false => 0,
            },
            capacity: dice.between(200, 8000),
            cut_short: some(0.2),
        }
    }
}
