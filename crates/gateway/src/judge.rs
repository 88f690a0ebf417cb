//! Judges: apps of the same binary that decide who subscribes in namespaces of theirs, from rows that change while clients are there.
//!
//! A call to a judge is like one to the application's backend ([`proxy`]): the client waits and what it says meanwhile is
//! kept, the call is bounded in time and a judge in calls at once, and what is not answered grants nothing. Clients of the Centrifuge
//! protocol that give commands are asked about; over all others a judged namespace has no subscribers.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::port::BoxFuture;
use fanfare_wire::{ChannelName, centrifuge::errors};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tracing::{error, warn};

use crate::{
    access::{ChannelRules, Proxied, RESERVED_NAMESPACE, Right, Rights},
    commands::Act,
    metrics::{Family, Sample, Samples},
    proxy::{self, Call, Granted},
    token::{ConnectionClaims, Seconds},
    unix_seconds,
};

/// How long an answer may take, the wait for a free place among [`CALLS_MAX`] included.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Calls to one judge at once, on one node.
pub const CALLS_MAX: usize = 256;

/// What an app decides of the channels of its namespaces.
pub trait Judge: Send + Sync + 'static {
    /// The namespaces that it judges; nobody gets into them otherwise: no class, no capability, no token and no server API subscribe grants
    /// it. Asked once, at the start. One that the channel rules do not name has the default options there.
    fn namespaces(&self) -> &[&str];

    /// May this client subscribe (and read history, resume from any position, ask for presence)? Called for each subscribe, and again before
    /// [`Verdict::Yes`]'s seconds are over.
    ///
    /// It answers from what is committed when it is called, or later: a subscribe that is asked about after the node has heard of an
    /// [`unsubscribe`](crate::commands::unsubscribe_draft) must find what was committed with that. One that was under way is asked again.
    fn may_subscribe(&self, asked: Asked) -> BoxFuture<'static, Verdict>;
}

/// Who wants to subscribe to what.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The user; empty for an anonymous client.
    pub user: String,
    /// The channel, in one of the judge's namespaces.
    pub channel: ChannelName,
    /// What the client's connection token says, or the application's backend; `None` for an anonymous client.
    pub claims: Option<Arc<ConnectionClaims>>,
}

/// What a judge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may, for so long. The judge is asked again when at least three quarters of it are over, at random, so that those who came
    /// together are not asked about together.
    Yes {
        /// In seconds, at least 1.
        seconds: u32,
    },
    /// It may not: it is refused, or its subscription ends.
    No,
    /// That cannot be said now: a client that subscribes comes again by itself; one that is subscribed stays for 25 seconds at most.
    Away,
}

/// The judges of a node.
#[derive(Default)]
pub(crate) struct Judges {
    lines: Vec<Arc<Line>>,
    by_namespace: BTreeMap<String, Arc<Line>>,
}

/// One judge, and what goes on there.
struct Line {
    judge: Arc<dyn Judge>,
    /// For metrics.
    namespaces: String,
    places: Semaphore,
    runtime: Handle,
    ended: [AtomicU64; ENDS.len()],
    /// The second of the last warning.
    warned: AtomicI64,
}

/// How a call ends.
const ENDS: [&str; 3] = ["yes", "no", "away"];

impl Judges {
    /// Judges of a node. Must be called within a tokio runtime, if there are any.
    pub(crate) fn start(judges: Vec<Arc<dyn Judge>>) -> Self {
        let mut all = Self::default();
        for judge in judges {
            let namespaces = judge.namespaces().iter().map(|&it| it.to_owned());
            let namespaces: Vec<String> = namespaces.collect();
            let line = Arc::new(Line {
                judge,
                namespaces: namespaces.join(","),
                places: Semaphore::new(CALLS_MAX),
                runtime: Handle::current(),
                ended: Default::default(),
                warned: AtomicI64::new(0),
            });
            for namespace in namespaces {
                let is_possible = !namespace.is_empty() && namespace != RESERVED_NAMESPACE;
                if !is_possible || all.by_namespace.contains_key(&namespace) {
                    // Whoever came first has it.
                    error!(namespace, "an app judges a namespace that it cannot have");
                    continue;
                }
                all.by_namespace.insert(namespace, Arc::clone(&line));
            }
            all.lines.push(line);
        }
        all
    }

    /// Takes what would let clients in otherwise out of the options of judged namespaces.
    pub(crate) fn restrict(&self, rules: &mut ChannelRules) {
        for namespace in self.by_namespace.keys() {
            let options = rules.namespaces.entry(namespace.clone()).or_default();
            options.proxied = Proxied::default();
            options.allow_user_limited_channels = false;
            options.personal_channels = false;
        }
    }

    /// Whether a judge decides who subscribes there.
    pub(crate) fn decide(&self, channel: &ChannelName) -> bool {
        self.by_namespace.contains_key(channel.namespace())
    }

    /// Whether a command of the application's servers would let clients in where a judge decides.
    pub(crate) fn forbid(&self, act: &Act) -> bool {
        let Act::Subscribe { channel, .. } = act else {
            return false;
        };
        ChannelName::parse(channel).is_ok_and(|channel| self.decide(&channel))
    }

    /// Asks. `done` is called with the answer on another thread, unless the call is dropped before. `None`: there is nobody to be asked.
    pub(crate) fn ask(
        &self,
        asked: Asked,
        done: impl FnOnce(proxy::Verdict) + Send + 'static,
    ) -> Option<Call> {
        let line = Arc::clone(self.by_namespace.get(asked.channel.namespace())?);
        let runtime = line.runtime.clone();
        let task = runtime.spawn(async move {
            let verdict = line.call(asked).await;
            line.ended[verdict.end()].fetch_add(1, Relaxed);
            done(verdict.into());
        });
        Some(Call::of(task.abort_handle()))
    }

    /// What was counted, if there are judges.
    pub(crate) fn family(&self) -> Option<Family> {
        let mut samples: Vec<Sample> = Vec::new();
        for line in &self.lines {
            for (end, count) in ENDS.iter().zip(&line.ended) {
                let namespaces = line.namespaces.clone();
                let labels = vec![("namespaces", namespaces), ("end", (*end).to_owned())];
                samples.push((labels, count.load(Relaxed)));
            }
        }
        (!samples.is_empty()).then_some(Family {
            name: "judge_calls",
            help: "Questions to apps whether a client may subscribe, by whose channels and how they ended",
            samples: Samples::Counter(samples),
        })
    }
}

impl Line {
    async fn call(&self, asked: Asked) -> Verdict {
        let answering = async {
            // It fails only if it is closed, and nobody closes it.
            let _place = self.places.acquire().await.ok()?;
            self.ask(asked).await
        };
        match timeout(PATIENCE, answering).await {
            Ok(Some(verdict)) => verdict,
            Ok(None) => self.failed("it panicked"),
            Err(_) => self.failed("it did not answer in time"),
        }
    }

    /// Its answer; `None` if it panicked, which ends this call and nothing else.
    async fn ask(&self, asked: Asked) -> Option<Verdict> {
        let judge = Arc::clone(&self.judge);
        let mut judging = Box::pin(async move { judge.may_subscribe(asked).await });
        poll_fn(move |cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| judging.as_mut().poll(cx)));
            match polled {
                Ok(polled) => polled.map(Some),
                Err(_) => std::task::Poll::Ready(None),
            }
        })
        .await
    }

    /// Says so in the log, once a second at most: when a database is away every client hears of it.
    fn failed(&self, problem: &str) -> Verdict {
        let now = unix_seconds();
        if self.warned.swap(now, Relaxed) != now {
            warn!(
                namespaces = self.namespaces,
                problem, "an app does not say who may subscribe"
            );
        }
        Verdict::Away
    }
}

impl Verdict {
    /// Its place among [`ENDS`].
    fn end(self) -> usize {
        match self {
            Self::Yes { .. } => 0,
            Self::No => 1,
            Self::Away => 2,
        }
    }
}

/// As if the application's backend had said so.
impl From<Verdict> for proxy::Verdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Yes { seconds } => Self::Granted(Box::new(Granted {
                expire_at: Some(unix_seconds() + spread(seconds.max(1))),
                allow: Rights::from(Right::History) | Rights::from(Right::Presence),
                ..Granted::default()
            })),
            Verdict::No => Self::Refused {
                code: errors::PERMISSION_DENIED.code,
                message: errors::PERMISSION_DENIED.message.to_owned(),
            },
            Verdict::Away => Self::Failed,
        }
    }
}

fn spread(seconds: u32) -> Seconds {
    (seconds - rand::random_range(0..=seconds / 4)).into()
}

#[cfg(test)]
mod tests;
