//! Publishing over `POST /api/publish` on a pool of kept connections, one request at a time on each.
//!
//! A message whose outcome is not known is sent again with the same idempotency key, to any server, until it is answered or
//! patience runs out: a server must then commit it once and say where.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::io::{self, Read};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::error::BenchError;
use crate::link::{self, Outbox};
use crate::publish::response::{self, Answer};
use crate::publish::{Composer, Fate, Ledger, Plan, Stage};
use crate::random::Random;
use crate::target::PUBLISH_PATH;

/// How long one request may take, in nanoseconds.
const REQUEST_PATIENCE: u64 = 5 * SECOND;

/// How long after a failure a message is sent again, or a connection opened again.
const RETRY_AFTER: u64 = 200 * MILLISECOND;

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
        ledger: Ledger::new(plan.first, schedule, measure_from),
        next: 0,
        settled: 0,
        retries: BinaryHeap::new(),
        request: String::new(),
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
    request: String,
}

impl Desk<'_> {
    fn send_due(&mut self, pool: &mut Pool, now: u64) {
        let due = self.ledger.schedule().due(now);
        while let Some(slot) = pool.take_free() {
            let again = self
                .retries
                .peek()
                .map(|Reverse(retry)| *retry)
                .filter(|(at, _)| *at <= now);
            let index = if let Some((_, index)) = again {
                self.retries.pop();
                self.ledger.sent_again(index);
                index
            } else if self.next < due {
                self.next += 1;
                self.ledger.sent(self.next - 1, now);
                self.next - 1
            } else {
                pool.free.push(slot);
                return;
            };
            self.compose(index, &pool.heads[pool.lines[slot].target]);
            if let Err(error) = pool.send(slot, index, now, self.request.as_bytes()) {
                pool.failed(slot, now, &error.to_string(), self);
            }
        }
    }

    fn compose(&mut self, index: u64, head: &str) {
        let n = self.ledger.number(index);
        let mut body = String::with_capacity(self.plan.size + 128);
        body.push('{');
        self.composer
            .compose(&mut body, n, self.ledger.schedule().intended(index));
        if self.plan.idempotent {
            // Writing to a string does not fail.
            let _ = write!(body, r#","idempotency_key":"{}-{n}""#, self.plan.run);
        }
        body.push('}');
        self.request.clear();
        self.request.push_str(head);
        let _ = write!(self.request, "{}\r\n\r\n{body}", body.len());
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

    fn answered(&mut self, index: u64, answer: Answer, now: u64) {
        match answer {
            Answer::Acknowledged { offset, duplicate } => {
                self.ledger.acknowledge(index, offset, duplicate, now);
                self.settled += 1;
            }
            // A server that failed may have committed before it did.
            Answer::Later(error) => self.unanswered(index, error, now),
            Answer::Refused(error) => {
                self.ledger.fail(index, Fate::Refused, error);
                self.settled += 1;
            }
        }
    }

    /// Whether message `index` was committed is not known.
    fn unanswered(&mut self, index: u64, error: String, now: u64) {
        self.ledger.fail(index, Fate::Unknown, error);
        if self.plan.idempotent {
            self.retries.push(Reverse((now + RETRY_AFTER, index)));
        } else {
            self.settled += 1;
        }
    }
}

/// The connections.
struct Pool {
    poll: Poll,
    events: Option<Events>,
    lines: Vec<Line>,
    /// What requests to each target begin with, up to the length of the body.
    heads: Vec<String>,
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
        let key = plan
            .api_key
            .as_ref()
            .map(|key| format!("X-API-Key: {key}\r\n"))
            .unwrap_or_default();
        let heads = plan.targets.iter().map(|target| {
            format!(
                "POST {}{PUBLISH_PATH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}Content-Length: ",
                target.base, target.host
            )
        });
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
            heads: heads.collect(),
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
                Ok(stream) => line.stream = Some(stream),
                Err(_) => line.reopen_at = now + RETRY_AFTER,
            }
        }
    }

    /// A free connection, chosen at random.
    fn take_free(&mut self) -> Option<usize> {
        if self.free.is_empty() {
            return None;
        }
        let chosen = self.random.below(self.free.len() as u64) as usize;
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
        if let Some((response, length)) =
            response::parse(&line.response).map_err(io::Error::other)?
        {
            let answer = response.answer();
            ended |= response.closes;
            line.response.drain(..length);
            let Some((index, _)) = line.busy.take() else {
                return Err(io::Error::other("an answer that nobody asked for"));
            };
            desk.answered(index, answer, now);
            self.free.push(slot);
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
            desk.unanswered(index, format!("io: {error}"), now);
        }
    }

    fn close(&mut self, slot: usize, now: u64) -> Option<(u64, u64)> {
        let line = &mut self.lines[slot];
        line.stream = None;
        line.connected = false;
        line.out = Outbox::default();
        line.response = Vec::new();
        line.reopen_at = now + RETRY_AFTER;
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
