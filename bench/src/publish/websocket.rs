//! Publishing with the Centrifuge `publish` command: many commands in one frame, many frames under way.
//!
//! This is the path for commit benchmarks. The reply of this command carries no offset, and a lost connection leaves
//! what was under way on it unknown: it is counted as such and not sent again.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use memchr::{memchr, memmem};
use mio::{Events, Poll, Token};

use crate::clock::{self, MILLISECOND, SECOND};
use crate::error::BenchError;
use crate::fleet::Credentials;
use crate::link::{Ended, Handler, Link, Outbox, SCRATCH_BYTES};
use crate::protocol::{self, ApiError, CONNECT_ID, Reply};
use crate::publish::http::poll;
use crate::publish::{Composer, Ledger, Plan, Sent, Stage, Told};
use crate::random::Random;
use crate::target::WEBSOCKET_PATH;

/// Bytes of commands put into one frame: well below the 64 KiB that servers commonly take.
const FRAME_BYTES: usize = 16 << 10;

/// Bytes that may wait to be written to one connection before it gets no more.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// Publications under way on one connection.
const UNDER_WAY_MAX: usize = 65_536;

/// Command id of message 0 of the schedule; those below belong to connect.
const FIRST_ID: u64 = 16;

/// How long the first connections may take to come up.
const CONNECT_PATIENCE: u64 = 15 * SECOND;

/// How long after a loss a connection is opened again.
const REOPEN_AFTER: u64 = 200 * MILLISECOND;

/// The longest wait between two looks at the clock.
const TICK: Duration = Duration::from_millis(50);

/// The shortest: several messages that fall due within it share a frame.
const GATHER: Duration = Duration::from_millis(1);

/// Publishes all of the plan.
pub(crate) fn run(plan: &Plan, stage: &Stage) -> Result<Ledger, BenchError> {
    let mut pool = Pool::connect(plan)?;
    let Some((schedule, measure_from)) = stage.ready() else {
        return Err(BenchError::Thread("main"));
    };
    let recorder = plan.recorder.clone();
    let mut ledger = Ledger::new(plan.first, schedule, measure_from, recorder);
    let composer = Composer::new(plan);
    let deadline = schedule.end() + plan.patience.as_nanos() as u64;
    let mut next = 0;
    loop {
        let now = clock::now();
        if now > deadline || (next == schedule.total() && pool.under_way() == 0) {
            break;
        }
        pool.reopen_due(plan, now);
        let due = schedule.due(now);
        let stuck = next < due && !pool.send_due(plan, &composer, &mut ledger, &mut next, due, now);
        let wait = match next {
            _ if stuck => TICK,
            next if next < schedule.total() => {
                clock::between(now, schedule.intended(next)).clamp(GATHER, TICK)
            }
            _ => TICK,
        };
        pool.serve(wait, Some(&mut ledger), plan)?;
        stage.show(next, &ledger);
    }
    stage.finish(next, &mut ledger);
    Ok(ledger)
}

struct Pool {
    poll: Poll,
    events: Option<Events>,
    lines: Vec<Line>,
    random: Random,
    scratch: Vec<u8>,
    batch: String,
    failure: String,
    /// Connections that were opened so far.
    opened: u32,
}

struct Line {
    target: usize,
    link: Option<Link>,
    state: State,
    reopen_at: u64,
    /// Which of all connections so far it is.
    pipe: u32,
}

#[derive(Default)]
struct State {
    /// The server has accepted the connection.
    ready: bool,
    pong: bool,
    /// Indexes of the messages under way, oldest first.
    under_way: VecDeque<u64>,
}

impl Pool {
    fn connect(plan: &Plan) -> Result<Self, BenchError> {
        let poll =
            Poll::new().map_err(|source| BenchError::system("create an epoll instance", source))?;
        let lines = (0..plan.connections).map(|number| Line {
            target: number % plan.targets.len(),
            link: None,
            state: State::default(),
            reopen_at: 0,
            pipe: 0,
        });
        let mut pool = Self {
            poll,
            events: Some(Events::with_capacity(256)),
            lines: lines.collect(),
            random: Random::new(u64::MAX),
            scratch: vec![0; SCRATCH_BYTES],
            opened: 0,
            batch: String::with_capacity(FRAME_BYTES + plan.size + 256),
            failure: "no answer".to_owned(),
        };
        let begun = clock::now();
        loop {
            let now = clock::now();
            pool.reopen_due(plan, now);
            let ready = pool.lines.iter().filter(|line| line.state.ready).count();
            if ready == pool.lines.len() {
                return Ok(pool);
            }
            if now > begun + CONNECT_PATIENCE {
                return Err(BenchError::NotReady {
                    what: "publisher connections",
                    ready,
                    wanted: pool.lines.len(),
                    seconds: CONNECT_PATIENCE / SECOND,
                    reason: pool.failure,
                });
            }
            pool.serve(TICK, None, plan)?;
        }
    }

    fn under_way(&self) -> usize {
        self.lines
            .iter()
            .map(|line| line.state.under_way.len())
            .sum()
    }

    fn reopen_due(&mut self, plan: &Plan, now: u64) {
        for (slot, line) in self.lines.iter_mut().enumerate() {
            if line.link.is_some() || line.reopen_at > now {
                continue;
            }
            match Link::open(
                &plan.targets[line.target],
                WEBSOCKET_PATH,
                None,
                self.poll.registry(),
                Token(slot),
            ) {
                Ok(link) => {
                    line.link = Some(link);
                    line.pipe = self.opened;
                    self.opened += 1;
                }
                Err(error) => {
                    self.failure = error.to_string();
                    line.reopen_at = now + REOPEN_AFTER;
                }
            }
        }
    }

    /// Sends everything that is due, a frame at a time to a connection chosen at random; `false` when none of them takes
    /// more.
    fn send_due(
        &mut self,
        plan: &Plan,
        composer: &Composer,
        ledger: &mut Ledger,
        next: &mut u64,
        due: u64,
        now: u64,
    ) -> bool {
        while *next < due {
            let begin = self.random.below(self.lines.len() as u64) as usize;
            let count = self.lines.len();
            let able = (0..count)
                .map(|step| (begin + step) % count)
                .find(|&slot| self.lines[slot].takes_more());
            let Some(slot) = able else { return false };
            let line = &mut self.lines[slot];
            self.batch.clear();
            while *next < due
                && self.batch.len() < FRAME_BYTES
                && line.state.under_way.len() < UNDER_WAY_MAX
            {
                if !self.batch.is_empty() {
                    self.batch.push('\n');
                }
                // Writing to a string does not fail.
                let _ = write!(self.batch, r#"{{"id":{},"publish":{{"#, FIRST_ID + *next);
                let (n, at) = (ledger.number(*next), ledger.schedule().intended(*next));
                let data = composer.compose(&mut self.batch, n, at);
                let sent = Sent {
                    n,
                    at,
                    data: &self.batch[data..],
                    line: slot,
                    pipe: Some(line.pipe),
                    keyed: false,
                };
                plan.record_invoke(sent, now);
                self.batch.push_str("}}");
                line.state.under_way.push_back(*next);
                ledger.sent(*next, now);
                *next += 1;
            }
            if let Some(link) = &mut line.link {
                link.out().text(self.batch.as_bytes());
                if let Err(ended) = link.flush() {
                    self.ended(slot, &ended, Some(ledger));
                }
            }
        }
        true
    }

    fn serve(
        &mut self,
        wait: Duration,
        mut ledger: Option<&mut Ledger>,
        plan: &Plan,
    ) -> Result<(), BenchError> {
        let mut events = self
            .events
            .take()
            .unwrap_or_else(|| Events::with_capacity(256));
        poll(&mut self.poll, &mut events, wait)?;
        for event in &events {
            let slot = event.token().0;
            let Some(Line {
                link: Some(link),
                state,
                ..
            }) = self.lines.get_mut(slot)
            else {
                continue;
            };
            let mut talk = Talk {
                state,
                ledger: ledger.as_deref_mut(),
                credentials: &plan.credentials,
                now: 0,
            };
            let closing = event.is_read_closed() || event.is_error();
            if let Err(ended) = link.ready(&mut self.scratch, closing, &mut talk) {
                self.ended(slot, &ended, ledger.as_deref_mut());
            }
        }
        self.events = Some(events);
        Ok(())
    }

    fn ended(&mut self, slot: usize, ended: &Ended, ledger: Option<&mut Ledger>) {
        self.failure = ended.to_string();
        let line = &mut self.lines[slot];
        line.link = None;
        line.reopen_at = clock::now() + REOPEN_AFTER;
        let state = std::mem::take(&mut line.state);
        if let Some(ledger) = ledger {
            if state.under_way.is_empty() {
                ledger.note(format!("io: {ended}"));
            }
            for index in state.under_way {
                ledger.given_up(index, format!("io: {ended}"), clock::now());
            }
        }
    }
}

impl Line {
    fn takes_more(&mut self) -> bool {
        let ready = self.state.ready && self.state.under_way.len() < UNDER_WAY_MAX;
        ready
            && self
                .link
                .as_mut()
                .is_some_and(|link| link.out().waiting() < WAITING_BYTES_MAX)
    }
}

/// A line while it is served.
struct Talk<'a> {
    state: &'a mut State,
    ledger: Option<&'a mut Ledger>,
    credentials: &'a Credentials,
    now: u64,
}

impl Handler for Talk<'_> {
    fn opened(&mut self, out: &mut Outbox) {
        out.text(protocol::connect_command(self.credentials.connection().as_deref()).as_bytes());
    }

    fn read_at(&mut self, now: u64) {
        self.now = now;
    }

    fn message(&mut self, text: &[u8], out: &mut Outbox) -> Result<(), Ended> {
        let mut rest = text;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let object = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if object == b"{}" {
                if self.state.pong {
                    out.text(b"{}");
                }
            } else if !object.is_empty() {
                self.reply(object)?;
            }
        }
        Ok(())
    }
}

impl Talk<'_> {
    fn reply(&mut self, text: &[u8]) -> Result<(), Ended> {
        // The ordinary answer, `{"id":N,"publish":{}}`, is not worth a parser.
        if let Some(id) = plain_acknowledgement(text) {
            return self.settle(id, Ok(()));
        }
        let reply: Reply<'_> = serde_json::from_slice(text)
            .map_err(|error| Ended::Protocol(format!("a reply that cannot be read: {error}")))?;
        if let Some(goodbye) = reply.push.and_then(|push| push.disconnect) {
            return Err(Ended::Closed {
                code: goodbye.code,
                reason: goodbye.reason,
            });
        }
        match (reply.id, reply.error) {
            (0, _) => Ok(()),
            (CONNECT_ID, Some(error)) => Err(Ended::Protocol(format!(
                "connect was refused: {} {}",
                error.code, error.message
            ))),
            (CONNECT_ID, None) => {
                self.state.ready = true;
                self.state.pong = reply.connect.is_some_and(|connect| connect.pong);
                Ok(())
            }
            (id, Some(error)) => self.settle(id, Err(error)),
            (id, None) => self.settle(id, Ok(())),
        }
    }

    fn settle(&mut self, id: u64, result: Result<(), ApiError>) -> Result<(), Ended> {
        let unasked = || Ended::Protocol(format!("a reply to command {id}, which was not sent"));
        let index = id.checked_sub(FIRST_ID).ok_or_else(unasked)?;
        // Answers come in the order of the commands, or nearly so.
        let place = self
            .state
            .under_way
            .iter()
            .position(|&sent| sent == index)
            .ok_or_else(unasked)?;
        self.state.under_way.remove(place);
        if let Some(ledger) = &mut self.ledger {
            match result {
                Ok(()) => ledger.acknowledge(index, Told::default(), self.now),
                Err(error) => {
                    let text = format!("api {} {}", error.code, error.message);
                    if error.leaves_unknown() {
                        ledger.given_up(index, text, self.now);
                    } else {
                        ledger.refused(index, text, self.now);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The id of `{"id":N,"publish":{…}}`; `None` when it is anything else, or carries an error.
fn plain_acknowledgement(text: &[u8]) -> Option<u64> {
    let rest = text.strip_prefix(br#"{"id":"#)?;
    let comma = memchr(b',', rest)?;
    if !rest[comma..].starts_with(br#","publish":{"#) || memmem::find(rest, br#""error""#).is_some()
    {
        return None;
    }
    str::from_utf8(&rest[..comma]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;

    fn hear(ledger: &mut Ledger, state: &mut State, text: &str) -> Result<Vec<u8>, Ended> {
        let mut out = Outbox::default();
        let mut talk = Talk {
            state,
            ledger: Some(ledger),
            credentials: &Credentials::None,
            now: 1,
        };
        talk.message(text.as_bytes(), &mut out)?;
        Ok(vec![0; out.waiting()])
    }

    #[test]
    fn answers_settle_what_is_under_way_in_any_order() {
        let mut ledger = Ledger::new(0, Schedule::new(0, 10.0, 1.0), 0, None);
        for index in 0..3 {
            ledger.sent(index, 0);
        }
        let mut state = State {
            pong: true,
            ..State::default()
        };
        state.under_way.extend([0, 1, 2]);
        let text = "{\"id\":17,\"publish\":{}}\n{\"id\":16,\"publish\":{}}\n{}\n\
            {\"id\":18,\"error\":{\"code\":103,\"message\":\"permission denied\"}}";
        let pong = hear(&mut ledger, &mut state, text).unwrap();
        assert!(!pong.is_empty());
        assert!(state.under_way.is_empty());
        let report = ledger.report(10.0);
        assert_eq!((report.acknowledged, report.refused), (2, 1));
        assert_eq!(report.errors["api 103 permission denied"], 1);
    }

    #[test]
    fn an_answer_to_nothing_ends_the_connection() {
        let mut ledger = Ledger::new(0, Schedule::new(0, 10.0, 1.0), 0, None);
        let mut state = State::default();
        assert!(hear(&mut ledger, &mut state, "{\"id\":17,\"publish\":{}}").is_err());
        assert!(hear(&mut ledger, &mut state, "{\"id\":3,\"publish\":{}}").is_err());
        assert!(hear(&mut ledger, &mut state, "nonsense").is_err());
        assert_eq!(ledger.acknowledged(), 0);
    }

    #[test]
    fn only_the_plain_answer_is_taken_without_a_parser() {
        assert_eq!(
            plain_acknowledgement(br#"{"id":42,"publish":{}}"#),
            Some(42)
        );
        assert_eq!(
            plain_acknowledgement(br#"{"id":42,"publish":{"offset":1}}"#),
            Some(42)
        );
        assert_eq!(
            plain_acknowledgement(br#"{"id":42,"publish":{},"error":{"code":1}}"#),
            None
        );
        assert_eq!(plain_acknowledgement(br#"{"id":-1,"publish":{}}"#), None);
        assert_eq!(
            plain_acknowledgement(br#"{"id":42,"error":{"code":1}}"#),
            None
        );
    }
}
