//! What happened in a run, and whether it may: the rules of a log that numbers in commit order and loses nothing.
//!
//! Numbers are given explicitly, so nothing has to be searched for: each rule is a comparison with what was committed.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Violations that are kept; one is enough to fail.
const VIOLATIONS_MAX: usize = 20;

/// What a run did that it must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// When, on the virtual clock.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.at, self.rule, self.what)
    }
}

/// How much happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that were committed.
    pub committed: u64,
    /// Messages that were acknowledged, repeated ones included.
    pub acknowledged: u64,
    /// Publications that clients received.
    pub received: u64,
    /// News that clients received.
    pub news: u64,
    /// Connections that clients made.
    pub connections: u64,
    /// Times that a node died or stopped.
    pub interruptions: u64,
    /// Times that the log was taken back.
    pub restores: u64,
    /// Messages that were committed by the owner of their channel for another node.
    pub forwarded: u64,
    /// Messages that an owner did not commit in time.
    pub fallbacks: u64,
    /// A digest of everything in its order: the same for the same seed.
    pub digest: u64,
}

/// One of many who read, or one of many who write.
pub(crate) type Who = usize;

/// Sees everything. Shared by all parts of a run.
#[derive(Clone)]
pub(crate) struct Judge(Arc<Mutex<State>>);

struct State {
    started: Instant,
    trace: bool,
    /// A delivery to a live subscriber may take so long after its commit, if the plan allows a bound.
    prompt: Option<Duration>,
    violations: Vec<Violation>,
    figures: Figures,
    digest: DefaultHasher,
    /// What was committed under each epoch, the present one last.
    epochs: Vec<(String, Held)>,
    sent: HashMap<String, Sent>,
    streams: BTreeMap<(Who, String), Stream>,
    /// Per connection of a publisher, epoch and channel: the last of its sends that was acknowledged, and its number.
    pipelines: HashMap<(u64, String, String), (u64, u64)>,
}

/// A moment of the log, to which it can be taken back.
#[derive(Clone)]
pub(crate) struct Mark(Held);

/// What a log holds.
#[derive(Clone, Default)]
struct Held {
    channels: BTreeMap<String, Truth>,
    /// Where each key was committed.
    numbers: HashMap<String, u64>,
}

/// What the log holds of a channel.
#[derive(Clone, Default)]
struct Truth {
    /// Keys and times of commit, number 1 first.
    rows: Vec<(String, Instant)>,
    trimmed: u64,
    /// The highest number that was acknowledged.
    acked: u64,
}

struct Sent {
    channel: String,
    /// The epochs there were, and the highest number that was acknowledged in the channel, when it was first sent.
    floor: (usize, u64),
}

#[derive(Default)]
struct Stream {
    /// The epoch of its position.
    epoch: String,
    /// The last number received; `None` before the first subscribe.
    position: Option<u64>,
    /// Since when it is live, if it is.
    live_since: Option<Instant>,
}

impl Judge {
    pub(crate) fn new(prompt: Option<Duration>, trace: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            started: Instant::now(),
            trace,
            prompt,
            violations: Vec::new(),
            figures: Figures::default(),
            digest: DefaultHasher::new(),
            epochs: vec![("e0".to_owned(), Held::default())],
            sent: HashMap::new(),
            streams: BTreeMap::new(),
            pipelines: HashMap::new(),
        })))
    }

    /// A message is sent for the first time.
    pub(crate) fn sent(&self, key: &str, channel: &str) {
        let mut state = self.state();
        state.note(|| format!("send {channel} {key}"));
        let floor = (state.epochs.len(), state.truth(channel).acked);
        let sent = Sent {
            channel: channel.to_owned(),
            floor,
        };
        state.sent.insert(key.to_owned(), sent);
    }

    /// The log has committed a message.
    pub(crate) fn committed(&self, channel: &str, number: u64, key: &str) {
        let mut state = self.state();
        state.note(|| format!("commit {channel} {number} {key}"));
        state.figures.committed += 1;
        let due = state.truth(channel).rows.len() as u64 + 1;
        if number != due {
            state.violate("dense", || {
                format!("{channel}: {number} was given out, {due} was due")
            });
        }
        let Some(sent) = state.sent.get(key) else {
            state.violate("phantom", || {
                format!("{channel} {number}: nobody sent {key}")
            });
            return;
        };
        let (floor, wanted) = (sent.floor, sent.channel.clone());
        if let Some(before) = state.held().numbers.insert(key.to_owned(), number) {
            state.violate("duplicate", || {
                format!("{channel}: {key} is committed as {before} and {number}")
            });
        }
        if floor.0 == state.epochs.len() && number <= floor.1 {
            state.violate("real-time", || {
                format!(
                    "{channel}: {key} got {number}, sent after {} was acknowledged",
                    floor.1
                )
            });
        }
        if wanted != channel {
            state.violate("phantom", || format!("{key} of {wanted} is in {channel}"));
        }
        let row = (key.to_owned(), Instant::now());
        state.truth(channel).rows.push(row);
    }

    /// The log as it is now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.state().held().clone())
    }

    /// The log was taken back to a mark, under a new epoch.
    pub(crate) fn restored(&self, mark: Mark, epoch: &str) {
        let mut state = self.state();
        state.figures.restores += 1;
        state.note(|| format!("restored as {epoch}"));
        state.epochs.push((epoch.to_owned(), mark.0));
    }

    /// What the log holds of a channel in the end.
    pub(crate) fn held(&self, channel: &str, head: u64, trimmed: u64, rows: &[(u64, String)]) {
        let mut state = self.state();
        let wanted: Vec<(u64, String)> = state
            .truth(channel)
            .rows
            .iter()
            .zip(1..)
            .filter(|(_, number)| *number > trimmed)
            .map(|((key, _), number)| (number, key.clone()))
            .collect();
        let known = state.truth(channel).rows.len() as u64;
        if head != known || rows != wanted {
            state.violate("lost-write", || {
                format!("{channel}: {known} were committed, the log has {head}: {rows:?}")
            });
        }
    }

    /// The log has removed everything up to a number.
    pub(crate) fn trimmed(&self, channel: &str, number: u64) {
        let mut state = self.state();
        let truth = state.truth(channel);
        truth.trimmed = truth.trimmed.max(number);
    }

    /// A publisher was told that its message is committed. `pipeline` is the connection and the place among the sends on
    /// it, if it was sent once only.
    pub(crate) fn acked(
        &self,
        channel: &str,
        (epoch, number): (&str, u64),
        key: &str,
        pipeline: Option<(u64, u64)>,
    ) {
        let mut state = self.state();
        state.note(|| format!("ack {channel} {epoch} {number} {key}"));
        state.figures.acknowledged += 1;
        let truth = state.truth_of(epoch, channel);
        let committed = truth.row(number).map(|row| row.0.clone());
        truth.acked = truth.acked.max(number);
        if committed.as_deref() != Some(key) {
            state.violate("lost-write", || {
                format!("{channel} {number}: {key} is acknowledged, the log has {committed:?}")
            });
        }
        if let Some((connection, place)) = pipeline {
            let line = (connection, epoch.to_owned(), channel.to_owned());
            state.pipelined(line, place, number);
        }
    }

    /// A client's subscription begins or goes on behind a number.
    pub(crate) fn subscribed(
        &self,
        who: Who,
        channel: &str,
        position: u64,
        recovery: &str,
        epoch: &str,
    ) {
        let mut state = self.state();
        state.note(|| format!("client {who}: {channel} from {epoch} {position} ({recovery})"));
        let truth = state.truth_of(epoch, channel);
        let (head, trimmed) = (truth.rows.len() as u64, truth.trimmed);
        let stream = state.stream(who, channel);
        let before = stream.position;
        let same = stream.epoch == epoch;
        let fits = match (recovery, before) {
            ("live", None) => true,
            ("recovered", Some(before)) => same && before == position,
            ("truncated", Some(before)) => same && before < position && position <= trimmed,
            ("reset", Some(_)) => !same && position <= head,
            _ => false,
        };
        if !fits {
            state.violate("resume", || {
                format!(
                    "client {who} at {before:?} of {channel}: {recovery} as {epoch}, {position}, trimmed {trimmed}"
                )
            });
        }
        let stream = state.stream(who, channel);
        epoch.clone_into(&mut stream.epoch);
        stream.position = Some(position);
        stream.live_since = None;
    }

    /// A client wants to begin again behind a number of its epoch.
    pub(crate) fn rewound(&self, who: Who, channel: &str, position: u64) {
        let mut state = self.state();
        state.note(|| format!("client {who}: {channel} back to {position}"));
        state.stream(who, channel).position = Some(position);
    }

    /// A client was told that retention has overtaken it.
    pub(crate) fn truncated(&self, who: Who, channel: &str, oldest: u64) {
        let epoch = self.state().stream(who, channel).epoch.clone();
        self.subscribed(who, channel, oldest.saturating_sub(1), "truncated", &epoch);
    }

    /// A client's connection is gone.
    pub(crate) fn disconnected(&self, who: Who) {
        let mut state = self.state();
        state.note(|| format!("client {who}: disconnected"));
        for (_, stream) in state
            .streams
            .range_mut((who, String::new())..(who + 1, String::new()))
        {
            stream.live_since = None;
        }
    }

    /// A client has received a publication.
    pub(crate) fn received(&self, who: Who, channel: &str, number: u64, key: &str) {
        let mut state = self.state();
        state.note(|| format!("client {who}: {channel} {number} {key}"));
        state.figures.received += 1;
        let now = Instant::now();
        let epoch = state.stream(who, channel).epoch.clone();
        let truth = state.truth_of(&epoch, channel);
        let head = truth.rows.len() as u64;
        let Some((committed, at)) = truth.row(number).cloned() else {
            state.violate("commit-first", || {
                format!("client {who} was shown {channel} {number} {key} before it was committed")
            });
            return;
        };
        if committed != key {
            state.violate("agreement", || {
                format!("client {who}: {channel} {number} is {key}, the log has {committed}")
            });
        }
        let stream = state.stream(who, channel);
        let due = stream.position.map(|position| position + 1);
        let live_since = stream.live_since;
        stream.position = stream.position.max(Some(number));
        if number == head && stream.live_since.is_none() {
            stream.live_since = Some(now);
        }
        if due != Some(number) {
            state.violate("stream", || {
                format!("client {who}: {channel} {number} came, {due:?} was due")
            });
        }
        if let (Some(bound), Some(live_since)) = (state.prompt, live_since)
            && at > live_since
            && now - at > bound
        {
            state.violate("prompt", || {
                format!(
                    "client {who}: {channel} {number} came {:?} after its commit",
                    now - at
                )
            });
        }
    }

    /// A client has read history: what was acknowledged before it asked must be there.
    pub(crate) fn read(
        &self,
        channel: &str,
        (epoch, number): (&str, u64),
        wanted: &str,
        found: Option<&str>,
    ) {
        let mut state = self.state();
        let trimmed = state.truth_of(epoch, channel).trimmed;
        if found != Some(wanted) && number > trimmed {
            state.violate("stable-read", || {
                format!("{channel} {number}: {wanted} was acknowledged, history has {found:?}")
            });
        }
    }

    /// What somebody saw that no rule foresees.
    pub(crate) fn strange(&self, what: String) {
        self.state().violate("protocol", || what);
    }

    /// News came, whole.
    pub(crate) fn heard_news(&self) {
        self.state().figures.news += 1;
    }

    /// Something that no rule is about.
    pub(crate) fn noted(&self, what: impl FnOnce() -> String) {
        self.state().note(what);
    }

    /// Counts a connection of a client.
    pub(crate) fn connected(&self) {
        self.state().figures.connections += 1;
    }

    /// Counts the death or the pause of a node.
    pub(crate) fn interrupted(&self, what: String) {
        let mut state = self.state();
        state.figures.interruptions += 1;
        state.note(|| what);
    }

    /// Whether a client has everything that is committed in its channels.
    pub(crate) fn is_complete(&self, who: Who, channels: &[String]) -> bool {
        let mut state = self.state();
        channels.iter().all(|channel| {
            let head = state.truth(channel).rows.len() as u64;
            let epoch = state.epoch();
            let stream = state.stream(who, channel);
            stream.position == Some(head) && stream.epoch == epoch
        })
    }

    /// A client that should have everything does not.
    pub(crate) fn incomplete(&self, who: Who, channels: &[String]) {
        let mut state = self.state();
        for channel in channels {
            let head = state.truth(channel).rows.len() as u64;
            let epoch = state.epoch();
            let stream = state.stream(who, channel);
            let position = (stream.epoch.clone(), stream.position);
            if position != (epoch.clone(), Some(head)) {
                state.violate("unseen", || {
                    format!(
                        "client {who}: {channel} stands at {position:?}, the head is {epoch} {head}"
                    )
                });
            }
        }
    }

    /// A message was never answered although everything is well again.
    pub(crate) fn unanswered(&self, key: &str) {
        self.state()
            .violate("unanswered", || format!("{key} was never answered"));
    }

    /// The verdict.
    pub(crate) fn verdict(&self) -> (Vec<Violation>, Figures) {
        let mut state = self.state();
        state.figures.digest = state.digest.finish();
        (state.violations.clone(), state.figures)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The present epoch.
    fn epoch(&self) -> String {
        let last = self.epochs.last();
        last.map(|(epoch, _)| epoch.clone()).unwrap_or_default()
    }

    /// What the log holds now.
    fn held(&mut self) -> &mut Held {
        let last = self.epochs.len() - 1;
        &mut self.epochs[last].1
    }

    fn truth(&mut self, channel: &str) -> &mut Truth {
        self.held().truth(channel)
    }

    /// What the log held, or holds, under an epoch; nothing if there was no such epoch.
    fn truth_of(&mut self, epoch: &str, channel: &str) -> &mut Truth {
        let known = self.epochs.iter().position(|(known, _)| known == epoch);
        let at = known.unwrap_or_else(|| {
            self.violate("protocol", || format!("{epoch} never was"));
            self.epochs.insert(0, (epoch.to_owned(), Held::default()));
            0
        });
        self.epochs[at].1.truth(channel)
    }

    fn stream(&mut self, who: Who, channel: &str) -> &mut Stream {
        self.streams.entry((who, channel.to_owned())).or_default()
    }

    /// What is sent over one connection is numbered in the order in which it was sent.
    fn pipelined(&mut self, line: (u64, String, String), place: u64, number: u64) {
        let channel = line.2.clone();
        let last = self.pipelines.entry(line).or_default();
        let before = *last;
        *last = (*last).max((place, number));
        if (place > before.0) != (number > before.1) {
            self.violate("fifo", || {
                format!("{channel}: send {place} of a connection got {number}, {before:?} before")
            });
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let at = self.started.elapsed();
        let what = what();
        (at, &what).hash(&mut self.digest);
        if self.trace {
            eprintln!("{:>12.6} {what}", at.as_secs_f64());
        }
    }

    fn violate(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        let violation = Violation {
            rule,
            at: self.started.elapsed(),
            what: what(),
        };
        if self.trace {
            eprintln!("VIOLATION {violation}");
        }
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

impl Held {
    fn truth(&mut self, channel: &str) -> &mut Truth {
        self.channels.entry(channel.to_owned()).or_default()
    }
}

impl Truth {
    fn row(&self, number: u64) -> Option<&(String, Instant)> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.rows.get(index)
    }
}
