//! The master that sentinels choose.
//!
//! A sentinel that is cut off from the others goes on naming a master that they have replaced, so all are asked, and the
//! answer of the highest configuration epoch counts: every failover is numbered higher than the one before. All are
//! listened to as well, and asked again whenever one speaks up or a connection to it is made anew. As a failover takes the
//! consent of most sentinels, most of those that the URL names must be heard for the master to be believed: a node on the
//! small side of a partition, with an old master and a sentinel that both say that all is well, knows that it is not.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{PushInfo, PushKind, RedisError, aio::MultiplexedConnection, cmd};
use tokio::sync::Notify;

use super::{CHECK_INTERVAL, Map, Unfit, ask::ask_all, into_error, is_answer};
use crate::redis::{
    access::{Access, Endpoint},
    backoff::Backoff,
};

/// How long a sentinel may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// When most sentinels have not answered for so long, nobody knows who the master is.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How often that is looked at.
const SILENCE_INTERVAL: Duration = Duration::from_secs(1);

/// What a sentinel says when a failover is done.
const SWITCH_TOPIC: &str = "+switch-master";

/// Some sentinels, and the name by which they know the master.
#[derive(Debug)]
pub(crate) struct Sentinel {
    sentinels: Vec<Endpoint>,
    name: String,
}

/// What one sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    master: Endpoint,
    epoch: u64,
}

impl Sentinel {
    pub(super) fn new(sentinels: Vec<Endpoint>, name: String) -> Self {
        Self { sentinels, name }
    }

    /// The newest answer of all sentinels.
    pub(super) async fn locate(&self, access: &Access) -> Result<Map, Unfit> {
        let questions = self.sentinels.iter().map(async |sentinel| {
            let view = async {
                let mut connection = connect(access, sentinel, |_| Ok(())).await?;
                self.ask(&mut connection).await
            };
            let view: Result<View, RedisError> = view.await;
            view.map_err(|error| format!("sentinel {sentinel}: {}", access.describe(&error)))
        });
        let enough = self.majority();
        let views = ask_all(enough, questions).await.map_err(|why| {
            let all = self.sentinels.len();
            Unfit::Unknown(format!(
                "fewer than {enough} of {all} sentinels name the master: {why}"
            ))
        })?;
        let newest = views.into_iter().max_by_key(|view| view.epoch);
        newest
            .map(|view| Map::single(view.master, view.epoch))
            .ok_or_else(|| Unfit::Unknown("no sentinel has answered".to_owned()))
    }

    fn majority(&self) -> usize {
        self.sentinels.len() / 2 + 1
    }

    /// Listens to all sentinels until one names a newer master than that of the map, or most are silent.
    pub(super) async fn watch(&self, access: &Access, map: &Map) -> Unfit {
        let ears: Vec<_> = self.sentinels.iter().map(Ear::new).collect();
        let mut following: FuturesUnordered<_> = ears
            .iter()
            .map(|ear| self.follow(access, ear, map))
            .collect();
        let news = async {
            match following.next().await {
                Some(news) => news,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = news => news,
            silence = self.silence(&ears) => silence,
        }
    }

    /// Returns once most sentinels have been silent for too long.
    async fn silence(&self, ears: &[Ear<'_>]) -> Unfit {
        loop {
            tokio::time::sleep(SILENCE_INTERVAL).await;
            let heard = ears.iter().filter(|ear| ear.age() < SILENCE_MAX).count();
            if heard < self.majority() {
                return Unfit::Unknown(format!(
                    "only {heard} of {} sentinels answered within {SILENCE_MAX:?}",
                    ears.len()
                ));
            }
        }
    }

    /// Listens to one sentinel, over as many connections as it takes.
    async fn follow(&self, access: &Access, ear: &Ear<'_>, map: &Map) -> Unfit {
        let mut backoff = Backoff::default();
        loop {
            match into_error(self.listen(access, ear, map, &mut backoff).await) {
                Break::News(news) => return news,
                Break::Lost(error) => {
                    let reason = access.describe(&error);
                    tracing::debug!(sentinel = %ear.sentinel, reason, "a sentinel cannot be listened to");
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn listen(
        &self,
        access: &Access,
        ear: &Ear<'_>,
        map: &Map,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Break> {
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        // Whatever is said, and also that the connection is lost, is a reason to ask at once.
        let pushes = move |push: PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                ring.notify_one();
            }
            Ok(())
        };
        let mut connection = connect(access, ear.sentinel, pushes).await?;
        connection.subscribe(SWITCH_TOPIC).await?;
        loop {
            let view = self.ask(&mut connection).await?;
            backoff.reset();
            ear.note();
            if view.is_newer_than(map) {
                return Err(Break::News(Unfit::Switched(view.master)));
            }
            // An interval that passes without a word ends the wait as well; asking shows whether the sentinel lives.
            let _ = tokio::time::timeout(CHECK_INTERVAL, bell.notified()).await;
        }
    }

    /// The epoch is asked for before the address: what changes in between can only make an answer look older than it is.
    ///
    /// Both at once, in the answer to SENTINEL MASTER, would not do: a sentinel that leads a failover counts its epoch there
    /// as soon as the new master is promoted, and goes on naming the old one until the replicas have been told.
    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<View, RedisError> {
        let fields: HashMap<String, String> = cmd("SENTINEL")
            .arg("MASTER")
            .arg(&self.name)
            .query_async(connection)
            .await?;
        let address: Option<(String, u16)> = cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.name)
            .query_async(connection)
            .await?;
        let epoch = fields
            .get("config-epoch")
            .and_then(|epoch| epoch.parse().ok());
        match (address, epoch) {
            (Some((host, port)), Some(epoch)) if !host.is_empty() => Ok(View {
                master: Endpoint::new(host, port),
                epoch,
            }),
            _ => Err((
                redis::ErrorKind::UnexpectedReturnType,
                "the answer of the sentinel names no master",
            )
                .into()),
        }
    }
}

/// One sentinel, and when it was last heard.
struct Ear<'a> {
    sentinel: &'a Endpoint,
    born: Instant,
    /// In milliseconds since `born`.
    heard: AtomicU64,
}

impl<'a> Ear<'a> {
    fn new(sentinel: &'a Endpoint) -> Self {
        Self {
            sentinel,
            born: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    fn note(&self) {
        let now = self.born.elapsed().as_millis();
        self.heard
            .store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
    }

    fn age(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Relaxed));
        self.born.elapsed().saturating_sub(heard)
    }
}

impl View {
    /// Of the same epoch, two names can only be two names of one master.
    fn is_newer_than(&self, map: &Map) -> bool {
        let same = map
            .masters
            .iter()
            .any(|master| master.endpoint == self.master);
        !same && self.epoch > map.epoch
    }
}

/// Why a sentinel is no longer listened to.
enum Break {
    News(Unfit),
    Lost(RedisError),
}

impl From<RedisError> for Break {
    fn from(error: RedisError) -> Self {
        Self::Lost(error)
    }
}

/// Connects to a sentinel with the user and password of the master; to one that refuses these, without.
pub(crate) async fn connect(
    access: &Access,
    sentinel: &Endpoint,
    pushes: impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + Clone + 'static,
) -> Result<MultiplexedConnection, RedisError> {
    let access = access.without_database();
    let connected = access
        .connect_for_pushes(sentinel, ANSWER_TIMEOUT, pushes.clone())
        .await;
    match (connected, access.without_credentials()) {
        (Err(error), Some(bare)) if is_answer(&error) => {
            bare.connect_for_pushes(sentinel, ANSWER_TIMEOUT, pushes)
                .await
        }
        (connected, _) => connected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(port: u16, epoch: u64) -> View {
        View {
            master: Endpoint::new("10.0.0.1", port),
            epoch,
        }
    }

    #[test]
    fn only_a_later_failover_is_news() {
        let map = Map::single(Endpoint::new("10.0.0.1", 1), 7);
        assert!(!view(1, 7).is_newer_than(&map));
        assert!(!view(1, 8).is_newer_than(&map), "back to the same master");
        assert!(view(2, 8).is_newer_than(&map));
        assert!(
            !view(2, 6).is_newer_than(&map),
            "a sentinel that was cut off"
        );
        assert!(!view(2, 7).is_newer_than(&map), "another name of the same");
    }
}
