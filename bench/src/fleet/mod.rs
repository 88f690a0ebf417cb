//! The subscribers: many connections on few threads, each of which checks its own stream.

mod jitter;
mod recent;
mod seat;
mod unnumbered;
mod worker;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::dialect::Dialect;
use crate::error::BenchError;
use crate::fleet::worker::Worker;
use crate::history::Recorder;
use crate::latency::Latency;
use crate::target::Target;
use crate::token::Signer;
use crate::verify::{Contents, StreamFaults};

pub(crate) use self::jitter::{Jitter, nanoseconds};

/// Connections from one source address to one target before another source address is needed; Linux gives out about
/// 28,000 ports by itself.
pub(crate) const PER_SOURCE_ADDRESS: usize = 15_000;

/// Reasons for lost connections that are told apart.
const REASONS_MAX: usize = 32;

/// How subscribers connect, and to what.
#[derive(Debug)]
pub(crate) struct FleetOptions {
    /// Servers, taken in turn.
    pub(crate) targets: Vec<Target>,
    /// Addresses to connect from; empty to let the system choose.
    pub(crate) sources: Vec<Ipv4Addr>,
    /// Subscribers in a row that connect from the same one.
    pub(crate) per_source: usize,
    /// Names of the channels; client i subscribes to channel i modulo their number.
    pub(crate) channels: Vec<String>,
    /// What they speak.
    pub(crate) dialect: Dialect,
    /// How they show who they are.
    pub(crate) credentials: Credentials,
    /// Threads.
    pub(crate) threads: usize,
    /// Number of the first subscriber, and the step to the next one: several processes may share the numbers.
    pub(crate) numbers: (usize, usize),
    /// New connections a second, over all threads.
    pub(crate) connect_rate: f64,
    /// Whether a connection that was lost is opened again on another server, from its position.
    pub(crate) reconnect: bool,
    /// Where every subscription and delivery is recorded, if anywhere.
    pub(crate) recorder: Option<Recorder>,
}

impl FleetOptions {
    /// The address that subscriber `number` connects from. Stretches, not turns: servers are taken in turn, so that each
    /// stretch is spread over all of them and no pair of addresses runs out of ports.
    fn source(&self, number: usize) -> Option<Ipv4Addr> {
        let last = self.sources.len().checked_sub(1)?;
        Some(self.sources[(number / self.per_source.max(1)).min(last)])
    }
}

/// How clients show who they are.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// Not at all.
    None,
    /// With a token that was given.
    Token(String),
    /// With tokens signed here.
    Signer(Signer),
}

impl Credentials {
    /// The token to connect with.
    pub(crate) fn connection(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Token(token) => Some(token.clone()),
            Self::Signer(signer) => Some(signer.connection()),
        }
    }

    /// The token to subscribe to `channel` with.
    pub(crate) fn subscription(&self, channel: &str) -> Option<String> {
        match self {
            Self::Signer(signer) => Some(signer.subscription(channel)),
            Self::None | Self::Token(_) => None,
        }
    }
}

/// What a thread tells while it runs. Written by the thread alone, after each round of readiness.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Subscribers whose subscription is confirmed and whose connection is up.
    pub(crate) live: AtomicUsize,
    /// Subscribers that were given up.
    pub(crate) lost: AtomicUsize,
    /// Deliveries of any kind.
    pub(crate) delivered: AtomicU64,
    /// Violations of any kind.
    pub(crate) violations: AtomicU64,
    /// Connections opened again.
    pub(crate) reconnects: AtomicU64,
    /// Subscribers that lack something of what was expected last.
    pub(crate) incomplete: AtomicUsize,
    /// The latest failure of a connection.
    pub(crate) failure: Mutex<String>,
}

/// What a thread is told.
pub(crate) enum Order {
    /// Have this many subscribers in all.
    ConnectTo(usize),
    /// Record latencies of what was meant to be sent at this time or later.
    Measure(u64),
    /// Hand over what was recorded and begin anew.
    TakeLatency(Sender<Latency>),
    /// Cut connections from now on, as told.
    Jitter(Jitter),
    /// Say who lacks something: publications by channel since the first subscription. Confirmed once counted.
    Expect(Arc<Vec<u64>>, Sender<()>),
    /// End.
    Finish,
}

/// What the subscribers of a thread, or of all, found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Latencies not taken before.
    pub(crate) latency: Latency,
    /// From the moment at which a subscriber came back until it had each message that it had missed.
    pub(crate) replay: Latency,
    /// From the moment at which a subscriber came back until its subscription was confirmed.
    pub(crate) rejoin: Latency,
    /// Connections that were cut on purpose.
    pub(crate) cuts: u64,
    /// Which message stood under which offset.
    pub(crate) contents: Contents,
    /// Different publications received by each subscriber, with its channel.
    pub(crate) received: Vec<(u32, u64)>,
    /// What was wrong with the streams.
    pub(crate) faults: StreamFaults,
    /// See [`crate::report::SubscriberReport::mismatched`].
    pub(crate) mismatched: u64,
    /// See [`crate::report::SubscriberReport::malformed`].
    pub(crate) malformed: u64,
    /// Connections opened again.
    pub(crate) reconnects: u64,
    /// Of those, went on without a gap.
    pub(crate) recovered: u64,
    /// Of those, could not.
    pub(crate) unrecovered: u64,
    /// Connections that ended, by reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// The first violation: when, and what.
    pub(crate) first_violation: Option<(u64, String)>,
    /// Versions that the servers told.
    pub(crate) versions: Vec<String>,
}

impl Findings {
    /// Adds those of others.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        self.replay.merge(&other.replay);
        self.rejoin.merge(&other.rejoin);
        self.cuts += other.cuts;
        self.mismatched += other.mismatched + self.contents.merge(&other.contents);
        self.received.extend(other.received);
        self.faults.add(other.faults);
        self.malformed += other.malformed;
        self.reconnects += other.reconnects;
        self.recovered += other.recovered;
        self.unrecovered += other.unrecovered;
        for (reason, count) in other.closed {
            count_reason(&mut self.closed, reason, count);
        }
        let both = [self.first_violation.take(), other.first_violation];
        self.first_violation = both
            .into_iter()
            .flatten()
            .min_by_key(|violation| violation.0);
        for version in other.versions {
            if !self.versions.contains(&version) {
                self.versions.push(version);
            }
        }
    }
}

/// All subscribers. Its threads end when it is dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    options: Arc<FleetOptions>,
    crews: Vec<Crew>,
}

#[derive(Debug)]
struct Crew {
    orders: Sender<Order>,
    waker: Waker,
    gauges: Arc<Gauges>,
    thread: Option<JoinHandle<Result<Findings, BenchError>>>,
}

impl Fleet {
    /// Starts the threads; nobody connects yet.
    pub(crate) fn start(options: FleetOptions) -> Result<Self, BenchError> {
        let options = Arc::new(options);
        let mut crews = Vec::with_capacity(options.threads);
        for index in 0..options.threads {
            crews.push(Crew::start(&options, index)?);
        }
        Ok(Self { options, crews })
    }

    /// Connects up to `clients` subscribers in all, and waits until each of them is subscribed. `tick` is told how many
    /// are, several times a second.
    pub(crate) fn connect_to(
        &self,
        clients: usize,
        patience: Duration,
        mut tick: impl FnMut(usize),
    ) -> Result<(), BenchError> {
        self.tell(|| Order::ConnectTo(clients))?;
        let begun = clock::now();
        let ramp = Duration::from_secs_f64(clients as f64 / self.options.connect_rate);
        let mut last = (0, begun);
        loop {
            let live = self.sum(|gauges| gauges.live.load(Ordering::Relaxed));
            let lost = self.sum(|gauges| gauges.lost.load(Ordering::Relaxed));
            tick(live);
            if live >= clients {
                return Ok(());
            }
            let now = clock::now();
            if live > last.0 {
                last = (live, now);
            }
            // The ramp may take as long as it was told to; standing still may not.
            let stuck = clock::between(last.1, now) > patience && clock::between(begun, now) > ramp;
            if lost > 0 || stuck || self.crews.iter().any(Crew::has_ended) {
                return Err(BenchError::NotReady {
                    what: "subscribers",
                    ready: live,
                    wanted: clients,
                    seconds: clock::between(begun, now).as_secs(),
                    reason: self.failure(),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Records latencies of what was meant to be sent at `from` or later.
    pub(crate) fn measure(&self, from: u64) -> Result<(), BenchError> {
        self.tell(|| Order::Measure(from))
    }

    /// Cuts connections from now on, as told.
    pub(crate) fn jitter(&self, jitter: Jitter) -> Result<(), BenchError> {
        self.tell(|| Order::Jitter(jitter))
    }

    /// Hands over the latencies recorded since it was last asked.
    pub(crate) fn take_latency(&self) -> Result<Latency, BenchError> {
        let (sender, receiver) = mpsc::channel();
        self.tell(|| Order::TakeLatency(sender.clone()))?;
        drop(sender);
        let mut latency = Latency::new();
        for part in receiver {
            latency.merge(&part);
        }
        Ok(latency)
    }

    /// Waits until every subscriber has received as many publications as `expected` says for its channel; returns how
    /// many have not when patience ran out.
    pub(crate) fn wait_complete(
        &self,
        expected: Vec<u64>,
        patience: Duration,
        mut tick: impl FnMut(usize),
    ) -> Result<usize, BenchError> {
        let expected = Arc::new(expected);
        let (sender, receiver) = mpsc::channel();
        self.tell(|| Order::Expect(Arc::clone(&expected), sender.clone()))?;
        drop(sender);
        // Ends when each thread has counted for the first time.
        while receiver.recv().is_ok() {}
        let begun = clock::now();
        loop {
            let incomplete = self.sum(|gauges| gauges.incomplete.load(Ordering::Acquire));
            tick(incomplete);
            if incomplete == 0
                || clock::between(begun, clock::now()) > patience
                || self.crews.iter().any(Crew::has_ended)
            {
                return Ok(incomplete);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Deliveries so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.crews
            .iter()
            .map(|crew| crew.gauges.delivered.load(Ordering::Relaxed))
            .sum()
    }

    /// Violations so far.
    pub(crate) fn violations(&self) -> u64 {
        self.crews
            .iter()
            .map(|crew| crew.gauges.violations.load(Ordering::Relaxed))
            .sum()
    }

    /// Subscribers that are subscribed now.
    pub(crate) fn live(&self) -> usize {
        self.sum(|gauges| gauges.live.load(Ordering::Relaxed))
    }

    /// Reconnections so far.
    pub(crate) fn reconnects(&self) -> u64 {
        self.crews
            .iter()
            .map(|crew| crew.gauges.reconnects.load(Ordering::Relaxed))
            .sum()
    }

    /// Ends all subscribers and returns what they found.
    pub(crate) fn finish(mut self) -> Result<Findings, BenchError> {
        self.tell(|| Order::Finish)?;
        let mut all: Option<Findings> = None;
        for crew in &mut self.crews {
            let Some(thread) = crew.thread.take() else {
                continue;
            };
            let findings = thread
                .join()
                .map_err(|_| BenchError::Thread("subscriber"))??;
            match &mut all {
                Some(all) => all.merge(findings),
                None => all = Some(findings),
            }
        }
        all.ok_or(BenchError::Thread("subscriber"))
    }

    fn sum(&self, gauge: impl Fn(&Gauges) -> usize) -> usize {
        self.crews.iter().map(|crew| gauge(&crew.gauges)).sum()
    }

    fn failure(&self) -> String {
        let mut failures = self.crews.iter().map(|crew| {
            let failure = crew
                .gauges
                .failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failure.clone()
        });
        failures
            .rfind(|failure| !failure.is_empty())
            .unwrap_or_else(|| "none; they are still under way".to_owned())
    }

    fn tell(&self, order: impl Fn() -> Order) -> Result<(), BenchError> {
        for crew in &self.crews {
            crew.orders
                .send(order())
                .map_err(|_| BenchError::Thread("subscriber"))?;
            crew.waker
                .wake()
                .map_err(|source| BenchError::system("wake a thread", source))?;
        }
        Ok(())
    }
}

impl Crew {
    fn start(options: &Arc<FleetOptions>, index: usize) -> Result<Self, BenchError> {
        let poll =
            Poll::new().map_err(|source| BenchError::system("create an epoll instance", source))?;
        let waker = Waker::new(poll.registry(), Token(worker::WAKER))
            .map_err(|source| BenchError::system("create a waker", source))?;
        let (orders, receiver): (_, Receiver<Order>) = mpsc::channel();
        let gauges = Arc::new(Gauges::default());
        let worker = Worker::new(
            Arc::clone(options),
            index,
            poll,
            receiver,
            Arc::clone(&gauges),
        );
        let thread = thread::Builder::new()
            .name(format!("subscribers-{index}"))
            .spawn(move || worker.run())
            .map_err(|source| BenchError::system("start a thread", source))?;
        Ok(Self {
            orders,
            waker,
            gauges,
            thread: Some(thread),
        })
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that does not take the order has ended already.
            let _ = self.orders.send(Order::Finish);
            let _ = self.waker.wake();
            let _ = thread.join();
        }
    }
}

/// Counts a reason, under "other" when there are too many different ones.
pub(crate) fn count_reason(reasons: &mut BTreeMap<String, u64>, reason: String, count: u64) {
    let known = reasons.len() < REASONS_MAX || reasons.contains_key(&reason);
    let reason = if known { reason } else { "other".to_owned() };
    *reasons.entry(reason).or_default() += count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_used_in_stretches() {
        let mut options = FleetOptions {
            targets: Vec::new(),
            sources: Vec::new(),
            per_source: 10,
            channels: Vec::new(),
            dialect: Dialect::default(),
            credentials: Credentials::None,
            threads: 1,
            numbers: (0, 1),
            connect_rate: 1.0,
            reconnect: false,
            recorder: None,
        };
        assert_eq!(options.source(99), None);
        options.sources = vec![Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
        assert_eq!(options.source(9), Some(options.sources[0]));
        assert_eq!(options.source(10), Some(options.sources[1]));
        assert_eq!(options.source(99), Some(options.sources[1]));
    }

    #[test]
    fn too_many_reasons_become_one() {
        let mut reasons = BTreeMap::new();
        for number in 0..100 {
            count_reason(&mut reasons, number.to_string(), 2);
        }
        assert_eq!(reasons.len(), REASONS_MAX + 1);
        assert_eq!(reasons["other"], 2 * (100 - REASONS_MAX as u64));
    }
}
