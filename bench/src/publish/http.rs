//! Publishing over `POST /api/publish`, or what another dialect has for it, on a pool of kept connections, one request at a time on each.
//!
//! A message whose outcome is not known is sent again with the same idempotency key, to any server, until it is answered or
//! patience runs out: a server must then commit it once and say where. The next try goes to another server than the last one,
//! if there is one that takes it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write;
use std::io::{self, Read};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::dialect::{Address, Body, Told};
use crate::error::BenchError;
use crate::link::{self, Outbox};
use crate::publish::response::Answer;
use crate::publish::{Composer, Ledger, Plan, Sent, Stage, Told as Acknowledgement};
use crate::random::Random;

/// How long one request may take, in nanoseconds.
const REQUEST_PATIENCE: u64 = 5 * SECOND;

/// How long after a loss a connection is opened again, in nanoseconds.
const REOPEN_AFTER: u64 = 200 * MILLISECOND;

/// A message is sent again after this time at least, plus a random part that doubles with each try up to the second one.
const BACKOFF: (u64, u64) = (100 * MILLISECOND, 2 * SECOND);

/// How long the first connections may take to come up.
const CONNECT_PATIENCE: u64 = 15 * SECOND;

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_millis(50);

/// Publishes all of the plan.
pub(crate) fn run(plan: &Plan, stage: &Stage) -> Result<Ledger, BenchError> {
    let mut pool = Pool::connect(plan)?;
    let Some((schedule, measure_from)) = stage.ready() else {
        return Err(BenchError::Thread("main"));
    };
    let mut desk = Desk {
        plan,
        composer: Composer::new(plan),
        ledger: Ledger::new(plan.first, schedule, measure_from, plan.recorder.clone()),
        next: 0,
        settled: 0,
        retries: BinaryHeap::new(),
        doubts: HashMap::new(),
        random: Random::new(1),
        request: String::new(),
        key: plan
            .api_key
            .as_ref()
            .map(|key| format!("X-API-Key: {key}\r\n"))
            .unwrap_or_default(),
    };
    let patience = plan.patience.as_nanos() as u64;
    let deadline = schedule.end() + patience;
    while desk.settled < schedule.total() {
        let now = clock::now();
        if now > deadline {
            break;
        }
        pool.reopen_due(plan, now);
        desk.send_due(&mut pool, now);
        let wait = desk.wait(&pool, now);
        pool.serve(wait, &mut desk)?;
        pool.give_up_overdue(clock::now(), &mut desk);
        stage.show(desk.next, &desk.ledger);
    }
    stage.finish(desk.next, &mut desk.ledger);
    Ok(desk.ledger)
}

/// What is to be sent, and the books.
struct Desk<'a> {
    plan: &'a Plan,
    composer: Composer,
    ledger: Ledger,
    /// The next message of the schedule.
    next: u64,
    /// Messages that were answered for good.
    settled: u64,
    /// When to send which message again.
    retries: BinaryHeap<Reverse<(u64, u64)>>,
    /// Messages whose outcome is not known so far.
    doubts: HashMap<u64, Doubt>,
    random: Random,
    request: String,
    /// The header that opens the server's API, with its end of line; empty without a key.
    key: String,
}

/// A message whose outcome is not known so far.
struct Doubt {
    /// Tries that were made.
    tries: u32,
    /// When the first one failed.
    since: u64,
    /// The server that the latest one went to.
    target: usize,
}

impl Desk<'_> {
    fn send_due(&mut self, pool: &mut Pool, now: u64) {
        let due = self.ledger.schedule().due(now);
        loop {
            let again = self.retries.peek().filter(|Reverse((at, _))| *at <= now);
            let again = again.map(|Reverse((_, index))| *index);
            let Some(index) = again.or_else(|| (self.next < due).then_some(self.next)) else {
                return;
            };
            let failed_at = self.doubts.get(&index).map(|doubt| doubt.target);
            let Some(slot) = pool.take_free(failed_at) else {
                return;
            };
            if again.is_some() {
                self.retries.pop();
                self.ledger.sent_again(index, slot, now);
            } else {
                self.next += 1;
                self.ledger.sent(index, now);
            }
            let line = again.is_none().then_some(slot);
            self.compose(index, pool.lines[slot].target, line, now);
            if let Err(error) = pool.send(slot, index, now, self.request.as_bytes()) {
                pool.failed(slot, now, &error.to_string(), self);
            }
        }
    }

    /// Puts the request to a server together; what goes out for the first time, on connection `first_line`, is recorded.
    fn compose(&mut self, index: u64, target: usize, first_line: Option<usize>, now: u64) {
        let n = self.ledger.number(index);
        let at = self.ledger.schedule().intended(index);
        let mut body = String::with_capacity(self.plan.size + 128);
        body.push('{');
        let begin = self.composer.compose(&mut body, n, at);
        let data = begin..body.len();
        if let Some(line) = first_line {
            let sent = Sent {
                n,
                at,
                data: &body[data.clone()],
                line,
                pipe: None,
                keyed: self.plan.idempotent,
            };
            self.plan.record_invoke(sent, now);
        }
        if self.plan.idempotent {
            // Writing to a string does not fail.
            let _ = write!(body, r#","idempotency_key":"{}""#, self.plan.key(n));
        }
        body.push('}');
        self.request.clear();
        let target = &self.plan.targets[target];
        let address = Address {
            base: &target.base,
            host: &target.host,
            key: &self.key,
        };
        let channel = &self.plan.channels[(n % self.plan.channels.len() as u64) as usize];
        let body = Body {
            whole: &body,
            data: &body[data],
        };
        let request = &mut self.request;
        self.plan.dialect.request(request, &address, channel, &body);
    }

    fn wait(&self, pool: &Pool, now: u64) -> Duration {
        if pool.free.is_empty() {
            return TICK;
        }
        let schedule = self.ledger.schedule();
        let mut until = u64::MAX;
        if self.next < schedule.total() {
            until = schedule.intended(self.next);
        }
        if let Some(Reverse((at, _))) = self.retries.peek() {
            until = until.min(*at);
        }
        clock::between(now, until).min(TICK)
    }

    /// Server `target` answered message `index`.
    fn answered(&mut self, index: u64, target: usize, answer: Answer, now: u64) {
        match answer {
            Answer::Acknowledged {
                offset,
                epoch,
                duplicate,
            } => {
                let told = Acknowledgement {
                    offset,
                    epoch,
                    duplicate,
                };
                self.ledger.acknowledge(index, told, now);
                self.settle(index);
            }
            // A server that failed may have committed before it did.
            Answer::Later(error) => self.unanswered(index, target, error, now),
            Answer::Refused(error) => {
                self.ledger.refused(index, error, now);
                self.settle(index);
            }
        }
    }

    /// Whether message `index`, which went to server `target`, was committed is not known.
    fn unanswered(&mut self, index: u64, target: usize, error: String, now: u64) {
        let doubt = self.doubts.entry(index).or_insert(Doubt {
            tries: 0,
            since: now,
            target,
        });
        doubt.tries += 1;
        doubt.target = target;
        let policy = &self.plan.retry;
        let spent =
            doubt.tries >= policy.tries_max || clock::between(doubt.since, now) >= policy.time_max;
        if !self.plan.idempotent || spent {
            self.ledger.given_up(index, error, now);
            self.settle(index);
            return;
        }
        self.ledger.unanswered(index, error);
        let spread = (BACKOFF.0 << doubt.tries.min(10)).min(BACKOFF.1);
        let at = now + BACKOFF.0 + self.random.below(spread);
        self.retries.push(Reverse((at, index)));
    }

    fn settle(&mut self, index: u64) {
        self.doubts.remove(&index);
        self.settled += 1;
    }
}

/// The connections.
struct Pool {
    poll: Poll,
    events: Option<Events>,
    lines: Vec<Line>,
    /// Connections that are up and have nothing to do.
    free: Vec<usize>,
    random: Random,
    scratch: Vec<u8>,
}

struct Line {
    target: usize,
    stream: Option<TcpStream>,
    connected: bool,
    out: Outbox,
    /// What was read of the response so far.
    response: Vec<u8>,
    /// The message that is under way, and since when.
    busy: Option<(u64, u64)>,
    /// When to open it again, while it is closed.
    reopen_at: u64,
}

impl Pool {
    fn connect(plan: &Plan) -> Result<Self, BenchError> {
        let poll =
            Poll::new().map_err(|source| BenchError::system("create an epoll instance", source))?;
        let lines = (0..plan.connections).map(|number| Line {
            target: number % plan.targets.len(),
            stream: None,
            connected: false,
            out: Outbox::default(),
            response: Vec::new(),
            busy: None,
            reopen_at: 0,
        });
        let mut pool = Self {
            poll,
            events: Some(Events::with_capacity(256)),
            lines: lines.collect(),
            free: Vec::new(),
            random: Random::new(u64::MAX),
            scratch: vec![0; link::SCRATCH_BYTES],
        };
        let begun = clock::now();
        let mut failure = "no answer".to_owned();
        loop {
            let now = clock::now();
            pool.reopen_due(plan, now);
            if pool.free.len() == pool.lines.len() {
                return Ok(pool);
            }
            if now > begun + CONNECT_PATIENCE {
                return Err(BenchError::NotReady {
                    what: "publisher connections",
                    ready: pool.free.len(),
                    wanted: pool.lines.len(),
                    seconds: CONNECT_PATIENCE / SECOND,
                    reason: failure,
                });
            }
            pool.wait_connected(&mut failure)?;
        }
    }

    fn wait_connected(&mut self, failure: &mut String) -> Result<(), BenchError> {
        let mut events = self
            .events
            .take()
            .unwrap_or_else(|| Events::with_capacity(256));
        poll(&mut self.poll, &mut events, TICK)?;
        for event in &events {
            let slot = event.token().0;
            if let Err(error) = self.check_connected(slot) {
                *failure = error.to_string();
                self.close(slot, clock::now());
            }
        }
        self.events = Some(events);
        Ok(())
    }

    /// Marks a connection free when it has just come up.
    fn check_connected(&mut self, slot: usize) -> io::Result<()> {
        let line = &mut self.lines[slot];
        let Some(stream) = &line.stream else {
            return Ok(());
        };
        if line.connected {
            return Ok(());
        }
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                line.connected = true;
                self.free.push(slot);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn reopen_due(&mut self, plan: &Plan, now: u64) {
        for slot in 0..self.lines.len() {
            let line = &mut self.lines[slot];
            if line.stream.is_some() || line.reopen_at > now {
                continue;
            }
            let opened =
                link::connect(plan.targets[line.target].address, None).and_then(|mut stream| {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    self.poll
                        .registry()
                        .register(&mut stream, Token(slot), both)?;
                    Ok(stream)
                });
            match opened {
                Ok(stream) => {
                    line.stream = Some(stream);
                    line.out.raw(plan.dialect.introduce());
                }
                Err(_) => line.reopen_at = now + REOPEN_AFTER,
            }
        }
    }

    /// A free connection, chosen at random; one to another server than `except`, if there is one.
    fn take_free(&mut self, except: Option<usize>) -> Option<usize> {
        let count = self.free.len();
        if count == 0 {
            return None;
        }
        let begin = self.random.below(count as u64) as usize;
        let other = |&place: &usize| Some(self.lines[self.free[place]].target) != except;
        let chosen = (0..count)
            .map(|step| (begin + step) % count)
            .find(other)
            .unwrap_or(begin);
        Some(self.free.swap_remove(chosen))
    }

    fn send(&mut self, slot: usize, index: u64, now: u64, request: &[u8]) -> io::Result<()> {
        let line = &mut self.lines[slot];
        line.busy = Some((index, now));
        line.out.raw(request);
        match &mut line.stream {
            Some(stream) => line.out.flush(stream),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn serve(&mut self, wait: Duration, desk: &mut Desk<'_>) -> Result<(), BenchError> {
        let mut events = self
            .events
            .take()
            .unwrap_or_else(|| Events::with_capacity(256));
        poll(&mut self.poll, &mut events, wait)?;
        for event in &events {
            let slot = event.token().0;
            let result = self
                .check_connected(slot)
                .and_then(|()| self.read(slot, desk));
            if let Err(error) = result {
                self.failed(slot, clock::now(), &error.to_string(), desk);
            }
        }
        self.events = Some(events);
        Ok(())
    }

    fn read(&mut self, slot: usize, desk: &mut Desk<'_>) -> io::Result<()> {
        let line = &mut self.lines[slot];
        let Some(stream) = &mut line.stream else {
            return Ok(());
        };
        if !line.connected {
            return Ok(());
        }
        line.out.flush(stream)?;
        let mut ended = false;
        loop {
            match stream.read(&mut self.scratch) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(count) => line.response.extend_from_slice(&self.scratch[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if link::is_not_ready(&error) => break,
                Err(error) => return Err(error),
            }
        }
        let now = clock::now();
        let dialect = desk.plan.dialect;
        while let Some((told, length)) = dialect.told(&line.response).map_err(io::Error::other)? {
            line.response.drain(..length);
            match told {
                Told::Answer(answer, closes) => {
                    ended |= closes;
                    let Some((index, _)) = line.busy.take() else {
                        return Err(io::Error::other("an answer that nobody asked for"));
                    };
                    desk.answered(index, line.target, answer, now);
                    self.free.push(slot);
                }
                Told::Say(words) => line.out.raw(words),
                Told::Nothing => {}
            }
        }
        if let Some(stream) = &mut line.stream {
            line.out.flush(stream)?;
        }
        if ended {
            Err(io::Error::other("the server closed the connection"))
        } else {
            Ok(())
        }
    }

    fn give_up_overdue(&mut self, now: u64, desk: &mut Desk<'_>) {
        for slot in 0..self.lines.len() {
            if let Some((_, since)) = self.lines[slot].busy
                && now > since + REQUEST_PATIENCE
            {
                self.failed(slot, now, "no answer in time", desk);
            }
        }
    }

    /// A connection is over; what was under way on it may be sent again.
    fn failed(&mut self, slot: usize, now: u64, error: &str, desk: &mut Desk<'_>) {
        if let Some((index, _)) = self.close(slot, now) {
            let target = self.lines[slot].target;
            desk.unanswered(index, target, format!("io: {error}"), now);
        }
    }

    fn close(&mut self, slot: usize, now: u64) -> Option<(u64, u64)> {
        let line = &mut self.lines[slot];
        line.stream = None;
        line.connected = false;
        line.out = Outbox::default();
        line.response = Vec::new();
        line.reopen_at = now + REOPEN_AFTER;
        self.free.retain(|&free| free != slot);
        line.busy.take()
    }
}

/// Waits for readiness; an interruption counts as none.
pub(super) fn poll(poll: &mut Poll, events: &mut Events, wait: Duration) -> Result<(), BenchError> {
    match poll.poll(events, Some(wait)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => {
            Err(BenchError::system("wait for readiness", error))
        }
        _ => Ok(()),
    }
}
