//! The master that sentinels choose.
//!
//! A sentinel that is cut off from the others goes on naming a master that they have replaced, so all are asked, and the
//! answer of the highest configuration epoch counts: every failover is numbered higher than the one before. All are
//! listened to as well, and asked again whenever one speaks up or a connection to it is made anew.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

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
        let views = ask_all(questions).await.map_err(Unfit::Unknown)?;
        let newest = views.into_iter().max_by_key(|view| view.epoch);
        newest
            .map(|view| Map::single(view.master, view.epoch))
            .ok_or_else(|| Unfit::Unknown("no sentinel has answered".to_owned()))
    }

    /// Listens to all sentinels until one names a newer master than that of the map.
    pub(super) async fn watch(&self, access: &Access, map: &Map) -> Unfit {
        let mut following: FuturesUnordered<_> = self
            .sentinels
            .iter()
            .map(|sentinel| self.follow(access, sentinel, map))
            .collect();
        match following.next().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Listens to one sentinel, over as many connections as it takes.
    async fn follow(&self, access: &Access, sentinel: &Endpoint, map: &Map) -> Unfit {
        let mut backoff = Backoff::default();
        loop {
            match into_error(self.listen(access, sentinel, map, &mut backoff).await) {
                Break::News(news) => return news,
                Break::Lost(error) => {
                    let reason = access.describe(&error);
                    tracing::debug!(%sentinel, reason, "a sentinel cannot be listened to");
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn listen(
        &self,
        access: &Access,
        sentinel: &Endpoint,
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
        let mut connection = connect(access, sentinel, pushes).await?;
        connection.subscribe(SWITCH_TOPIC).await?;
        loop {
            let view = self.ask(&mut connection).await?;
            backoff.reset();
            if view.is_newer_than(map) {
                return Err(Break::News(Unfit::Switched(view.master)));
            }
            // An interval that passes without a word ends the wait as well; asking shows whether the sentinel lives.
            let _ = tokio::time::timeout(CHECK_INTERVAL, bell.notified()).await;
        }
    }

    async fn ask(&self, connection: &mut MultiplexedConnection) -> Result<View, RedisError> {
        let fields: HashMap<String, String> = cmd("SENTINEL")
            .arg("MASTER")
            .arg(&self.name)
            .query_async(connection)
            .await?;
        View::parse(&fields).ok_or_else(|| {
            (
                redis::ErrorKind::UnexpectedReturnType,
                "the answer of the sentinel names no master",
            )
                .into()
        })
    }
}

impl View {
    fn parse(fields: &HashMap<String, String>) -> Option<Self> {
        let host = fields.get("ip").filter(|host| !host.is_empty())?;
        let port = fields.get("port")?.parse().ok()?;
        Some(Self {
            master: Endpoint::new(host.as_str(), port),
            epoch: fields.get("config-epoch")?.parse().ok()?,
        })
    }

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
        let fields = [
            ("name", "main".to_owned()),
            ("ip", "10.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("config-epoch", epoch.to_string()),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        View::parse(&fields.into_iter().collect()).unwrap()
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

    #[test]
    fn an_answer_without_a_master_is_none() {
        assert_eq!(View::parse(&HashMap::new()), None);
    }
}
