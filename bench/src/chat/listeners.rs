//! Clients that follow one channel over the Centrifuge protocol, each checking what it gets: numbers without a hole, `ts` that rise,
//! each message once.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::{Events, Poll, Token};
use serde_json::Value;

use crate::error::BenchError;
use crate::latency::Latency;
use crate::link::{Ended, Handler, Link, Outbox, SCRATCH_BYTES};
use crate::protocol::{SUBSCRIBE_ID, connect_command, subscribe_command};
use crate::target::{Target, WEBSOCKET_PATH};

/// Threads that serve them.
const THREADS: usize = 2;
const TICK: Duration = Duration::from_millis(50);

/// What all of them share with those who post.
#[derive(Debug)]
pub(crate) struct Board {
    /// When each message was meant to be posted.
    pub(crate) meant: Vec<AtomicU64>,
    /// Subscriptions that are confirmed.
    pub(crate) live: AtomicUsize,
    /// Messages that have come, over all clients.
    pub(crate) seen: AtomicUsize,
    /// It is over.
    pub(crate) ended: AtomicBool,
}

/// How to get in: a client each.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) target: Target,
    pub(crate) connection: String,
    /// For servers that do not know by themselves who is in a channel.
    pub(crate) subscription: String,
}

/// What they found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) latency: Option<Latency>,
    /// Messages of the run that came, over all clients.
    pub(crate) delivered: usize,
    /// What was wrong, and how often.
    pub(crate) wrong: HashMap<String, u64>,
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Listeners {
    threads: Vec<JoinHandle<io::Result<Findings>>>,
}

struct Listener {
    way: Way,
    channel: String,
    board: Arc<Board>,
    at: u64,
    offset: Option<u64>,
    last_ts: String,
    found: Findings,
    /// It has asked to be let in with its token.
    insisted: bool,
}

impl Listeners {
    /// Starts a client for each way.
    pub(crate) fn start(ways: &[Way], channel: &str, board: &Arc<Board>) -> Self {
        let threads = (0..THREADS).map(|thread| {
            let ways: Vec<Way> = ways.iter().skip(thread).step_by(THREADS).cloned().collect();
            let (channel, board) = (channel.to_owned(), Arc::clone(board));
            thread::spawn(move || serve(ways, &channel, &board))
        });
        Self {
            threads: threads.collect(),
        }
    }

    /// Waits for them to end, after [`Board::ended`].
    pub(crate) fn finish(self) -> Result<Findings, BenchError> {
        let mut all = Findings::default();
        let mut latency = Latency::new();
        for thread in self.threads {
            let found = thread.join().map_err(|_| BenchError::Thread("listener"))?;
            let found = found.map_err(|source| BenchError::system("listen", source))?;
            all.delivered += found.delivered;
            latency.merge(found.latency.as_ref().unwrap_or(&Latency::new()));
            for (wrong, count) in found.wrong {
                *all.wrong.entry(wrong).or_default() += count;
            }
        }
        all.latency = Some(latency);
        Ok(all)
    }
}

fn serve(ways: Vec<Way>, channel: &str, board: &Arc<Board>) -> io::Result<Findings> {
    let mut poll = Poll::new()?;
    let mut clients = Vec::with_capacity(ways.len());
    for (number, way) in ways.into_iter().enumerate() {
        let link = Link::open(
            &way.target,
            WEBSOCKET_PATH,
            None,
            poll.registry(),
            Token(number),
        )?;
        let listener = Listener {
            way,
            channel: channel.to_owned(),
            board: Arc::clone(board),
            at: 0,
            offset: None,
            last_ts: String::new(),
            found: Findings {
                latency: Some(Latency::new()),
                ..Findings::default()
            },
            insisted: false,
        };
        clients.push((Some(link), listener));
    }
    let mut events = Events::with_capacity(256);
    let mut scratch = vec![0; SCRATCH_BYTES];
    while !board.ended.load(Ordering::Acquire) {
        match poll.poll(&mut events, Some(TICK)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let Some((link, listener)) = clients.get_mut(event.token().0) else {
                continue;
            };
            let Some(open) = link else { continue };
            let closing = event.is_read_closed() || event.is_error();
            if let Err(ended) = open.ready(&mut scratch, closing, listener) {
                listener.wrong(format!("a connection was lost: {ended}"));
                *link = None;
            }
        }
    }
    let mut all = Findings::default();
    let mut latency = Latency::new();
    for (_, listener) in clients {
        let found = listener.found;
        all.delivered += found.delivered;
        latency.merge(found.latency.as_ref().unwrap_or(&Latency::new()));
        for (wrong, count) in found.wrong {
            *all.wrong.entry(wrong).or_default() += count;
        }
    }
    all.latency = Some(latency);
    Ok(all)
}

impl Listener {
    fn wrong(&mut self, what: String) {
        *self.found.wrong.entry(what).or_default() += 1;
    }

    fn publication(&mut self, publication: &Value) {
        let offset = publication["offset"].as_u64().unwrap_or(0);
        if self.offset.is_some_and(|last| offset != last + 1) {
            self.wrong("a number that is not the next".to_owned());
        }
        self.offset = Some(offset);
        let data = &publication["data"];
        let ts = data["event_ts"].as_str().unwrap_or_default();
        if ts <= self.last_ts.as_str() {
            self.wrong("a ts that is not greater than the one before".to_owned());
        }
        ts.clone_into(&mut self.last_ts);
        let number = data["client_msg_id"]
            .as_str()
            .and_then(|key| key.strip_prefix("bench-"));
        let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
            return;
        };
        let Some(meant) = self.board.meant.get(number) else {
            return;
        };
        if let Some(latency) = &mut self.found.latency {
            latency.record(meant.load(Ordering::Acquire), self.at);
        }
        self.found.delivered += 1;
        self.board.seen.fetch_add(1, Ordering::AcqRel);
    }
}

impl Handler for Listener {
    fn opened(&mut self, out: &mut Outbox) {
        out.text(connect_command(Some(&self.way.connection)).as_bytes());
        out.text(subscribe_command(&self.channel, None, None).as_bytes());
    }

    fn read_at(&mut self, now: u64) {
        self.at = now;
    }

    fn message(&mut self, text: &[u8], out: &mut Outbox) -> Result<(), Ended> {
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let message: Value = serde_json::from_slice(line)
                .map_err(|error| Ended::Protocol(format!("no JSON: {error}")))?;
            if message.as_object().is_some_and(serde_json::Map::is_empty) {
                out.text(b"{}");
            } else if message["id"] == SUBSCRIBE_ID
                && message.get("error").is_some()
                && !self.insisted
            {
                self.insisted = true;
                let token = Some(self.way.subscription.as_str());
                out.text(subscribe_command(&self.channel, token, None).as_bytes());
            } else if let Some(error) = message.get("error") {
                return Err(Ended::Protocol(error.to_string()));
            } else if message["id"] == SUBSCRIBE_ID {
                self.offset = message["subscribe"]["offset"].as_u64();
                self.board.live.fetch_add(1, Ordering::AcqRel);
            } else if let Some(publication) = message["push"].get("pub") {
                let publication = publication.clone();
                self.publication(&publication);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        let target = Target::parse("--target", "http://127.0.0.1:1").unwrap();
        Listener {
            way: Way {
                target,
                connection: String::new(),
                subscription: String::new(),
            },
            channel: String::new(),
            board: Arc::new(Board {
                meant: (0..3).map(|_| AtomicU64::new(1)).collect(),
                live: AtomicUsize::new(0),
                seen: AtomicUsize::new(0),
                ended: AtomicBool::new(false),
            }),
            at: 2,
            offset: Some(0),
            last_ts: String::new(),
            found: Findings::default(),
            insisted: false,
        }
    }

    #[test]
    fn holes_repeats_and_inversions_are_seen() {
        let publication = |offset: u64, ts: &str, number: usize| serde_json::json!({ "offset": offset, "data": { "event_ts": ts, "client_msg_id": format!("bench-{number}") } });
        let mut good = listener();
        good.publication(&publication(1, "1.000001", 0));
        good.publication(&publication(2, "1.000002", 1));
        assert!(good.found.wrong.is_empty() && good.found.delivered == 2);
        for second in [
            publication(3, "1.000002", 1),
            publication(1, "1.000002", 1),
            publication(2, "1.000001", 1),
        ] {
            let mut bad = listener();
            bad.publication(&publication(1, "1.000001", 0));
            bad.publication(&second);
            assert_eq!(bad.found.wrong.len(), 1, "{second}");
        }
    }
}
