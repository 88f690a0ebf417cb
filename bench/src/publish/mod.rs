//! The publisher: one thread that sends on the schedule, over HTTP or over WebSocket, and keeps the books.

mod http;
mod ledger;
pub(crate) mod response;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::args::Via;
use crate::dialect::Dialect;
use crate::error::BenchError;
use crate::fleet::Credentials;
use crate::history::{Event, Recorder, content_hash};
use crate::protocol;
use crate::schedule::Schedule;
use crate::target::Target;

pub(crate) use self::ledger::{Ledger, Told};

/// What is published, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Servers, chosen at random for each message.
    pub(crate) targets: Vec<Target>,
    /// Names of the channels; message i goes to channel i modulo their number.
    pub(crate) channels: Arc<Vec<String>>,
    /// Begins every idempotency key.
    pub(crate) run: String,
    /// By which protocol.
    pub(crate) via: Via,
    /// What servers that are not published to over WebSocket speak.
    pub(crate) dialect: Dialect,
    /// Connections, over all servers.
    pub(crate) connections: usize,
    /// Key of the server API.
    pub(crate) api_key: Option<String>,
    /// How WebSocket publishers show who they are.
    pub(crate) credentials: Credentials,
    /// Whether HTTP publications carry a key and are tried again with it.
    pub(crate) idempotent: bool,
    /// Size of the data of each message, in bytes.
    pub(crate) size: usize,
    /// Number of the first message.
    pub(crate) first: u64,
    /// How long after the end of the schedule answers are waited for.
    pub(crate) patience: Duration,
    /// How long a message whose outcome is not known is tried again.
    pub(crate) retry: RetryPolicy,
    /// Where every publish and its outcome is recorded, if anywhere.
    pub(crate) recorder: Option<Recorder>,
}

/// How long a message whose outcome is not known is tried again, before that is its outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// Tries in all, the first one included.
    pub(crate) tries_max: u32,
    /// From the first failure on.
    pub(crate) time_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 500,
            time_max: Duration::from_secs(120),
        }
    }
}

/// What the publisher tells while it runs.
#[derive(Debug, Default)]
pub(crate) struct PublishGauges {
    /// Messages sent, retries not counted.
    pub(crate) sent: AtomicU64,
    /// Messages acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Failures of any kind.
    pub(crate) errors: AtomicU64,
    /// Nothing more will be sent or answered.
    pub(crate) finished: AtomicBool,
}

/// A publisher whose connections are up.
#[derive(Debug)]
pub(crate) struct Publisher {
    start: SyncSender<(Schedule, u64)>,
    gauges: Arc<PublishGauges>,
    thread: JoinHandle<Result<Ledger, BenchError>>,
}

impl Publisher {
    /// Opens the connections and waits until they are up.
    pub(crate) fn prepare(plan: Plan) -> Result<Self, BenchError> {
        let (start, schedule) = mpsc::sync_channel(1);
        let (ready, is_ready) = mpsc::sync_channel(1);
        let gauges = Arc::new(PublishGauges::default());
        let shown = Arc::clone(&gauges);
        let thread = thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || match plan.via {
                Via::Http => http::run(
                    &plan,
                    &Stage {
                        ready,
                        schedule,
                        gauges: shown,
                    },
                ),
                Via::Ws => websocket::run(
                    &plan,
                    &Stage {
                        ready,
                        schedule,
                        gauges: shown,
                    },
                ),
            })
            .map_err(|source| BenchError::system("start a thread", source))?;
        if is_ready.recv().is_err() {
            // It ended before it was ready, so it has an error to tell.
            thread
                .join()
                .map_err(|_| BenchError::Thread("publisher"))??;
            return Err(BenchError::Thread("publisher"));
        }
        Ok(Self {
            start,
            gauges,
            thread,
        })
    }

    /// Begins to send on `schedule`; what is meant to be sent before `measure_from` is warm-up.
    pub(crate) fn start(&self, schedule: Schedule, measure_from: u64) -> Result<(), BenchError> {
        self.start
            .send((schedule, measure_from))
            .map_err(|_| BenchError::Thread("publisher"))
    }

    /// Messages sent, acknowledged, and failures so far.
    pub(crate) fn progress(&self) -> (u64, u64, u64) {
        (
            self.gauges.sent.load(Ordering::Relaxed),
            self.gauges.acknowledged.load(Ordering::Relaxed),
            self.gauges.errors.load(Ordering::Relaxed),
        )
    }

    /// Whether all has been sent and answered, or patience has run out.
    pub(crate) fn has_finished(&self) -> bool {
        self.gauges.finished.load(Ordering::Acquire) || self.thread.is_finished()
    }

    /// Waits for the end and returns the books.
    pub(crate) fn finish(self) -> Result<Ledger, BenchError> {
        drop(self.start);
        self.thread
            .join()
            .map_err(|_| BenchError::Thread("publisher"))?
    }
}

/// The thread's side of a [`Publisher`].
struct Stage {
    ready: SyncSender<()>,
    schedule: Receiver<(Schedule, u64)>,
    gauges: Arc<PublishGauges>,
}

impl Stage {
    /// Says that the connections are up and waits for the schedule; `None` when nobody wants one any more.
    fn ready(&self) -> Option<(Schedule, u64)> {
        self.ready.send(()).ok()?;
        self.schedule.recv().ok()
    }

    /// Waits until the books are asked for: the processor time of a thread can be read only while it lives.
    fn finish(&self, sent: u64, ledger: &mut Ledger) {
        ledger.close();
        self.show(sent, ledger);
        self.gauges.finished.store(true, Ordering::Release);
        // Nothing is ever sent a second time; this ends when the other side lets go.
        let _ = self.schedule.recv();
    }

    fn show(&self, sent: u64, ledger: &Ledger) {
        self.gauges.sent.store(sent, Ordering::Relaxed);
        self.gauges
            .acknowledged
            .store(ledger.acknowledged(), Ordering::Relaxed);
        self.gauges
            .errors
            .store(ledger.failures(), Ordering::Relaxed);
    }
}

impl Plan {
    /// The idempotency key of message `n`.
    fn key(&self, n: u64) -> String {
        format!("{}-{n}", self.run)
    }

    /// Records that message `n` is handed to connection `line` for the first time.
    fn record_invoke(&self, sent: Sent<'_>, now: u64) {
        let Some(recorder) = &self.recorder else {
            return;
        };
        recorder.record(Event::Invoke {
            t: now,
            op: sent.n,
            at: sent.at,
            k: (sent.n % self.channels.len() as u64) as u32,
            h: content_hash(sent.data.as_bytes()),
            p: sent.line as u32,
            pipe: sent.pipe,
            key: sent.keyed.then(|| self.key(sent.n).into()),
        });
    }
}

/// A message that is handed to a connection.
struct Sent<'a> {
    n: u64,
    at: u64,
    data: &'a str,
    line: usize,
    /// Which of the connections that promise order it is, if it is one.
    pipe: Option<u32>,
    /// It carries an idempotency key.
    keyed: bool,
}

/// Builds the data of messages and what surrounds it.
struct Composer {
    /// Names of the channels as JSON strings.
    channels: Vec<String>,
    pad: String,
    size: usize,
}

impl Composer {
    fn new(plan: &Plan) -> Self {
        Self {
            channels: plan
                .channels
                .iter()
                .map(|channel| protocol::quoted(channel))
                .collect(),
            pad: "x".repeat(plan.size),
            size: plan.size,
        }
    }

    /// `"channel":"…","data":{…}` of message `n`, meant to be sent at `at`. Returns where the data begins; it ends
    /// with the text.
    fn compose(&self, out: &mut String, n: u64, at: u64) -> usize {
        use std::fmt::Write;

        let channel = &self.channels[(n % self.channels.len() as u64) as usize];
        // Writing to a string does not fail.
        let _ = write!(out, r#""channel":{channel},"data":"#);
        let begin = out.len();
        let _ = write!(out, r#"{{"at":{at},"n":{n},"pad":""#);
        let pad = self.size.saturating_sub(out.len() - begin + 2);
        out.push_str(&self.pad[..pad]);
        out.push_str("\"}");
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(size: usize) -> Plan {
        Plan {
            targets: Vec::new(),
            channels: Arc::new(vec!["a\"".to_owned(), "b".to_owned()]),
            run: "r".to_owned(),
            via: Via::Http,
            dialect: Dialect::Centrifuge,
            connections: 1,
            api_key: None,
            credentials: Credentials::None,
            idempotent: true,
            size,
            first: 0,
            patience: Duration::ZERO,
            retry: RetryPolicy::default(),
            recorder: None,
        }
    }

    #[test]
    fn data_has_the_size_asked_for_and_says_when_it_was_meant_to_be_sent() {
        for (n, at) in [(0, 5), (99, 123_456_789_012_345)] {
            let mut text = "{".to_owned();
            Composer::new(&plan(200)).compose(&mut text, n, at);
            text.push('}');
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["data"]["at"], at);
            assert_eq!(value["data"]["n"], n);
            let begin = text.find("\"data\":").unwrap() + 7;
            assert_eq!(text.len() - 1 - begin, 200);
            assert_eq!(value["channel"], if n == 0 { "a\"" } else { "b" });
        }
        let mut tiny = String::new();
        Composer::new(&plan(1)).compose(&mut tiny, 7, 7);
        assert!(tiny.ends_with(r#"{"at":7,"n":7,"pad":""}"#));
    }
}
