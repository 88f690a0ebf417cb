//! One thread of subscribers: a readiness loop over its connections, with the ramp, the reconnections and the orders.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::error::BenchError;
use crate::fleet::jitter::AGAIN_AFTER;
use crate::fleet::seat::{Board, Seat, Session, Stage};
use crate::fleet::unnumbered;
use crate::fleet::{Findings, FleetOptions, Gauges, Jitter, Order, count_reason};
use crate::history::Event as HistoryEvent;
use crate::link::{Ended, Link, SCRATCH_BYTES};
use crate::random::Random;
use crate::verify::StreamFaults;

/// Token of the waker.
pub(crate) const WAKER: usize = usize::MAX;

/// Readiness events taken at once.
const EVENTS: usize = 1_024;

/// Connections of one thread that may be joining at the same time during the ramp.
const JOINING_MAX: usize = 512;

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Connections in a row that may fail before a subscriber is given up.
const FAILURES_MAX: u32 = 20;

/// A reconnection comes after this time at least, plus a random part that doubles up to the second one.
const BACKOFF: (u64, u64) = (100 * MILLISECOND, 5 * SECOND);

/// A server may be silent for its ping interval plus this, in seconds.
const SILENCE_SECONDS: u64 = 10;

/// A connection that is not subscribed after this is tried again, in seconds.
const JOIN_SECONDS: u64 = 20;

/// A thread of subscribers.
pub(crate) struct Worker {
    index: usize,
    poll: Poll,
    orders: Receiver<Order>,
    gauges: Arc<Gauges>,
    board: Board,
    clients: Vec<Client>,
    scratch: Vec<u8>,
    random: Random,
    /// How many of `clients` are to be connected.
    goal: usize,
    /// How many have begun.
    begun: usize,
    joining: usize,
    live: usize,
    lost: usize,
    reconnects: u64,
    /// When the next one of the ramp is due.
    next_begin: u64,
    /// Reconnections to come.
    timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// Cuts to come, and how they are made.
    cuts: BinaryHeap<Reverse<(u64, u32)>>,
    jitter: Option<Jitter>,
    cut: u64,
    expected: Option<Arc<Vec<u64>>>,
    closed: BTreeMap<String, u64>,
    /// When the clients were last looked through, in seconds.
    swept: u64,
}

struct Client {
    link: Option<Link>,
    seat: Seat,
}

impl Worker {
    /// Thread `index` of those that `options` asks for.
    pub(crate) fn new(
        options: Arc<FleetOptions>,
        index: usize,
        poll: Poll,
        orders: Receiver<Order>,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            index,
            poll,
            orders,
            gauges,
            board: Board::new(options),
            clients: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            random: Random::new(index as u64),
            goal: 0,
            begun: 0,
            joining: 0,
            live: 0,
            lost: 0,
            reconnects: 0,
            next_begin: 0,
            timers: BinaryHeap::new(),
            cuts: BinaryHeap::new(),
            jitter: None,
            cut: 0,
            expected: None,
            closed: BTreeMap::new(),
            swept: 0,
        }
    }

    /// Runs until told to finish.
    pub(crate) fn run(mut self) -> Result<Findings, BenchError> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let wait = self.wait();
            if let Err(source) = self.poll.poll(&mut events, Some(wait))
                && source.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(BenchError::system("wait for readiness", source));
            }
            for event in &events {
                if event.token().0 != WAKER {
                    self.serve(event);
                }
            }
            let now = clock::now();
            if !self.take_orders(now) {
                return Ok(self.findings());
            }
            self.begin_due(now);
            self.cut_due(now);
            self.reconnect_due(now);
            if now / SECOND != self.swept {
                self.swept = now / SECOND;
                self.sweep();
            }
            self.show();
        }
    }

    fn wait(&self) -> Duration {
        let mut until = u64::MAX;
        if self.begun < self.goal && self.joining < JOINING_MAX {
            until = self.next_begin;
        }
        for timers in [&self.timers, &self.cuts] {
            if let Some(Reverse((at, _))) = timers.peek() {
                until = until.min(*at);
            }
        }
        // Somebody waits for the last deliveries: look often.
        let tick = if self.expected.is_some() {
            TICK / 10
        } else {
            TICK
        };
        clock::between(clock::now(), until).min(tick)
    }

    /// Takes what has been ordered; `false` when this is the end.
    fn take_orders(&mut self, now: u64) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::ConnectTo(clients)) => {
                    let threads = self.board.options.threads;
                    self.goal = clients / threads + usize::from(self.index < clients % threads);
                    self.next_begin = now;
                }
                Ok(Order::Measure(from)) => {
                    self.board.measure_from = from;
                    self.expected = None;
                }
                Ok(Order::TakeLatency(sender)) => {
                    let latency =
                        std::mem::replace(&mut self.board.latency, crate::latency::Latency::new());
                    // Whoever asked may have gone.
                    let _ = sender.send(latency);
                }
                Ok(Order::Jitter(jitter)) => {
                    self.jitter = Some(jitter);
                    let firsts = (0..self.clients.len() as u32)
                        .map(|slot| Reverse((jitter.first(&mut self.random), slot)));
                    self.cuts = firsts.collect();
                }
                Ok(Order::Expect(expected, counted)) => {
                    self.expected = Some(expected);
                    self.show();
                    let _ = counted.send(());
                }
                Ok(Order::Finish) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Begins those of the ramp whose time has come.
    fn begin_due(&mut self, now: u64) {
        let options = Arc::clone(&self.board.options);
        let interval = (SECOND as f64 * options.threads as f64 / options.connect_rate) as u64;
        while self.begun < self.goal && self.joining < JOINING_MAX && self.next_begin <= now {
            let (first, step) = options.numbers;
            let number = first + step * (self.begun * options.threads + self.index);
            let (channel, target) = place(number, options.channels.len(), options.targets.len());
            let seat = Seat {
                number: number as u32,
                channel,
                target,
                ..Seat::default()
            };
            self.clients.push(Client { link: None, seat });
            self.begun += 1;
            self.open(self.begun - 1, now);
            self.next_begin = (self.next_begin + interval).max(now.saturating_sub(SECOND / 10));
        }
    }

    fn reconnect_due(&mut self, now: u64) {
        while let Some(&Reverse((at, slot))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            self.open(slot as usize, now);
        }
    }

    /// Cuts those whose turn it is: without a word, as a lost network does.
    fn cut_due(&mut self, now: u64) {
        let Some(jitter) = self.jitter else { return };
        while let Some(&Reverse((at, slot))) = self.cuts.peek() {
            if at > now {
                return;
            }
            self.cuts.pop();
            if now > jitter.until {
                self.cuts.clear();
                return;
            }
            let Client { link, seat } = &mut self.clients[slot as usize];
            if seat.stage != Stage::Live {
                self.cuts.push(Reverse((now + AGAIN_AFTER, slot)));
                continue;
            }
            if let Some(link) = link.take() {
                link.abort();
            }
            seat.stage = Stage::Waiting;
            seat.target = another_target(
                &mut self.random,
                seat.target,
                self.board.options.targets.len(),
            );
            // It is back when it begins to connect; until then this says that it is to be noted.
            seat.back = u64::MAX;
            self.live -= 1;
            self.cut += 1;
            self.reconnects += 1;
            self.timers.push(Reverse((now + jitter.offline, slot)));
            let next = jitter.next(now, &mut self.random);
            self.cuts.push(Reverse((next, slot)));
        }
    }

    fn open(&mut self, slot: usize, now: u64) {
        let options = Arc::clone(&self.board.options);
        let seat = &mut self.clients[slot].seat;
        let target = &options.targets[seat.target as usize];
        let source = options.source(seat.number as usize);
        seat.stage = Stage::Joining;
        if seat.back == u64::MAX {
            seat.back = now;
        }
        seat.heard = (now / SECOND) as u32;
        self.joining += 1;
        let path = options
            .dialect
            .path(&options.channels[seat.channel as usize]);
        match Link::open(target, &path, source, self.poll.registry(), Token(slot)) {
            Ok(link) => self.clients[slot].link = Some(link),
            Err(error) => self.ended(slot, &error.into()),
        }
    }

    fn serve(&mut self, event: &Event) {
        let slot = event.token().0;
        let Some(Client {
            link: Some(link),
            seat,
        }) = self.clients.get_mut(slot)
        else {
            return;
        };
        let before = seat.stage;
        let mut session = Session {
            seat,
            board: &mut self.board,
            now: 0,
        };
        let closing = event.is_read_closed() || event.is_error();
        let result = link.ready(&mut self.scratch, closing, &mut session);
        if before == Stage::Joining && seat.stage == Stage::Live {
            self.joining -= 1;
            self.live += 1;
        }
        if let Err(ended) = result {
            self.ended(slot, &ended);
        }
    }

    /// A connection is over: decides whether and when the subscriber comes back.
    fn ended(&mut self, slot: usize, ended: &Ended) {
        let options = Arc::clone(&self.board.options);
        let client = &mut self.clients[slot];
        client.link = None;
        match client.seat.stage {
            Stage::Live => self.live -= 1,
            Stage::Joining => self.joining -= 1,
            Stage::Waiting | Stage::Lost => {}
        }
        let reason = ended.to_string();
        count_reason(&mut self.closed, reason.clone(), 1);
        let describe = format!(
            "{}: {reason}",
            options.targets[client.seat.target as usize].host
        );
        *self
            .gauges
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = describe;

        let seat = &mut client.seat;
        let was_live = seat.stage == Stage::Live;
        seat.failures += 1;
        let subscribed_before = seat.epoch.is_some();
        let hopeless = ended.is_final() || (seat.failures > FAILURES_MAX && !options.reconnect);
        if hopeless || (subscribed_before && !options.reconnect) {
            seat.stage = Stage::Lost;
            self.lost += 1;
            // Not an end on purpose: what it lacks, it lacks.
            record_lost(&options, seat.number, reason);
            return;
        }
        if subscribed_before {
            self.reconnects += 1;
        }
        if was_live {
            record_lost(&options, seat.number, reason);
        }
        seat.stage = Stage::Waiting;
        seat.target = another_target(&mut self.random, seat.target, options.targets.len());
        let spread = (BACKOFF.0 << seat.failures.min(10)).min(BACKOFF.1);
        let at = clock::now() + BACKOFF.0 + self.random.below(spread);
        self.timers.push(Reverse((at, slot as u32)));
    }

    /// Ends connections whose server has been silent for too long.
    fn sweep(&mut self) {
        for slot in 0..self.clients.len() {
            let Client {
                link: Some(_),
                seat,
            } = &self.clients[slot]
            else {
                continue;
            };
            let silent = self.swept.saturating_sub(u64::from(seat.heard));
            let limit = match seat.stage {
                Stage::Joining => JOIN_SECONDS,
                Stage::Live if seat.ping > 0 => u64::from(seat.ping) + SILENCE_SECONDS,
                _ => continue,
            };
            if silent > limit {
                self.ended(slot, &Ended::Silent(limit));
            }
        }
    }

    fn show(&self) {
        if let Some(expected) = &self.expected {
            let lacks = |client: &&Client| {
                client.seat.stream.distinct() < expected[client.seat.channel as usize]
            };
            let incomplete = self.clients.iter().filter(lacks).count();
            self.gauges.incomplete.store(incomplete, Ordering::Release);
        }
        self.gauges.live.store(self.live, Ordering::Relaxed);
        self.gauges.lost.store(self.lost, Ordering::Relaxed);
        self.gauges
            .reconnects
            .store(self.reconnects, Ordering::Relaxed);
        self.gauges
            .delivered
            .store(self.board.delivered, Ordering::Relaxed);
        self.gauges
            .violations
            .store(self.board.violations, Ordering::Relaxed);
    }

    fn findings(self) -> Findings {
        let seats = self.clients.iter().map(|client| &client.seat);
        let (received, faults) = if self.board.options.dialect.is_numbered() {
            let mut faults = StreamFaults::default();
            for seat in seats.clone() {
                faults.add(seat.stream.faults_so_far());
            }
            let received = seats.map(|seat| (seat.channel, seat.stream.distinct()));
            (received.collect(), faults)
        } else {
            unnumbered::judge(seats)
        };
        Findings {
            latency: self.board.latency,
            replay: self.board.replay,
            rejoin: self.board.rejoin,
            cuts: self.cut,
            contents: self.board.contents,
            received,
            faults,
            mismatched: self.board.mismatched,
            malformed: self.board.malformed,
            reconnects: self.reconnects,
            recovered: self.board.recovered,
            unrecovered: self.board.unrecovered,
            closed: self.closed,
            first_violation: self.board.first_violation,
            versions: self.board.versions,
        }
    }
}

/// The channel and the server of the subscriber with a number. Channels are taken in turn, and so are the servers within
/// each channel, beginning with another one in the next.
fn place(number: usize, channels: usize, targets: usize) -> (u32, u32) {
    let (round, channel) = (number / channels, number % channels);
    (channel as u32, ((channel + round) % targets) as u32)
}

/// Any server but the one at hand, if there is another one: those who leave a server spread over all others.
fn another_target(random: &mut Random, current: u32, targets: usize) -> u32 {
    let others = targets.saturating_sub(1) as u64;
    ((u64::from(current) + 1 + random.below(others)) % targets as u64) as u32
}

fn record_lost(options: &FleetOptions, client: u32, why: String) {
    if let Some(recorder) = &options.recorder {
        recorder.record(HistoryEvent::Lost {
            t: clock::now(),
            c: client,
            why: why.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_is_spread_over_all_servers() {
        for (channels, targets) in [(1, 4), (2, 4), (3, 4), (100, 4), (100, 16), (7, 3)] {
            let mut subscribers = vec![vec![0; targets]; channels];
            for number in 0..channels * targets * 5 {
                let (channel, target) = place(number, channels, targets);
                subscribers[channel as usize][target as usize] += 1;
            }
            let even = subscribers.iter().flatten().all(|count| *count == 5);
            assert!(even, "{channels} channels, {targets} servers");
        }
    }

    #[test]
    fn a_lost_server_is_left_for_any_of_the_others() {
        let mut random = Random::new(3);
        let mut seen = [0; 4];
        for _ in 0..400 {
            seen[another_target(&mut random, 2, 4) as usize] += 1;
        }
        assert!(
            seen[2] == 0 && seen[0] > 50 && seen[1] > 50 && seen[3] > 50,
            "{seen:?}"
        );
        assert_eq!(another_target(&mut random, 0, 1), 0);
    }
}
