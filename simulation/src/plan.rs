//! What a seed stands for: the sizes of a run, and which faults it has how often.

use std::time::Duration;

use crate::dice::Dice;

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
    /// For how long faults happen and new messages are published, on the virtual clock.
    pub duration: Duration,
    /// Between two publishes of a publisher, in milliseconds.
    pub pause_ms: u64,
    /// Longest payload in bytes.
    pub payload_max: u64,
    /// Publications that a channel keeps, if not all.
    pub keep: Option<u64>,
    /// What the bus does to hints.
    pub bus: BusFaults,
    /// What happens between nodes and the log.
    pub log: LogFaults,
    /// What happens to nodes.
    pub node: NodeFaults,
    /// What clients and their connections do.
    pub client: ClientFaults,
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
    /// At a read: a channel is left and subscribed to again from its position.
    pub resubscribe: f64,
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
    /// A repeated idempotency key is committed again.
    ForgetKeys,
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
            duration: dice.millis(2000, 15_000),
            pause_ms: dice.between(1, 80),
            payload_max: dice.between(1, 400),
            keep: None,
            bus: BusFaults::default(),
            log: LogFaults::default(),
            node: NodeFaults::default(),
            client: ClientFaults {
                capacity: 64 << 10,
                ..ClientFaults::default()
            },
            breach: None,
        }
    }

    /// Whether nothing but the bus stands between a commit and a client, so that a delivery later than the sweep allows
    /// is a fault.
    pub(crate) fn is_prompt(&self) -> bool {
        let LogFaults {
            slow,
            fail,
            lose_answer,
            away,
        } = self.log;
        let NodeFaults {
            yields,
            pause,
            crash,
            ..
        } = self.node;
        let others = [slow, fail, lose_answer, away, yields, pause, crash];
        others.iter().all(|fault| *fault == 0.0) && self.client.slow_ms == 0
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

impl LogFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            slow: some(0.05),
            fail: some(0.05),
            lose_answer: some(0.02),
            away: some(0.01),
        }
    }
}

impl NodeFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            yields: some(0.1),
            pause: some(0.0005),
            pause_ms: dice.between(100, 20_000),
            crash: some(0.0005),
        }
    }
}

impl ClientFaults {
    fn draw(dice: &Dice) -> Self {
        let some = |most| if dice.chance(0.5) { most } else { 0.0 };
        Self {
            leave: some(0.01),
            resubscribe: some(0.01),
            slow_ms: match dice.chance(0.3) {
                true => dice.between(1, 300),
                false => 0,
            },
            capacity: dice.between(200, 8000),
            cut_short: some(0.2),
        }
    }
}
