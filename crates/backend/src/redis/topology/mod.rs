//! The topologies: where the masters are now, which partition each of them serves, and how to notice that this is no
//! longer so. Everything else of the bus is the same for all of them.
//!
//! | topology | masters | partitions | what tells of a change |
//! | --- | --- | --- | --- |
//! | single | the one of the URL | 1 | nothing: it is where it is |
//! | sentinel | the one that the sentinels name | 1 | `+switch-master` of every sentinel, and asking each of them |
//! | cluster | all that own a partition | 128 | `MOVED`, `sunsubscribe`, and asking every master for its slots |
//!
//! Every one of them also asks each master for its role. A map is never trusted for longer than its session.

mod ask;
mod cluster;
mod sentinel;

use std::{convert::Infallible, time::Duration};

use redis::{ErrorKind, RedisError, Value, aio::MultiplexedConnection, cmd};
use thiserror::Error;

pub(crate) use self::sentinel::connect as connect_to_sentinel;
use self::{cluster::Cluster, sentinel::Sentinel};
use super::{
    access::{Access, Endpoint},
    address::Kind,
    partition::PARTITIONS,
};

/// How often every master is asked whether it still is one.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Every so many checks, a master of a cluster is asked for its view of all slots: every 30 seconds.
pub(super) const CHECKS_PER_DEEP_ONE: u64 = 6;

/// How servers of Redis belong together.
#[derive(Debug)]
pub(crate) enum Topology {
    /// One server.
    Single(Endpoint),
    /// One master at a time, chosen by sentinels.
    Sentinel(Sentinel),
    /// Several masters, each with a share of the partitions.
    Cluster(Cluster),
}

/// Where the masters are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// Every master that is needed.
    pub(crate) masters: Vec<Master>,
    /// For each partition, the place of its master in `masters`.
    pub(super) owners: Vec<usize>,
    /// How new this view is: grows with every change of masters. 0 where there is no such thing.
    pub(super) epoch: u64,
}

/// A server that takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Master {
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// Its name in a cluster; empty elsewhere.
    id: String,
}

/// Why the masters cannot be used as they were thought to be.
#[derive(Debug, Clone, Error)]
pub(crate) enum Unfit {
    /// Nobody could say where the masters are.
    #[error("{0}")]
    Unknown(String),
    /// It is something else by now.
    #[error("{0} is a {1}, not a master; hints published there would reach few")]
    NotMaster(Endpoint, String),
    /// The user may not ask.
    #[error(
        "{0} does not tell what must be known: {1}; allow the user the commands ROLE, CLUSTER and INFO"
    )]
    Untold(Endpoint, String),
    /// Another master has taken over.
    #[error("the sentinels name a new master, {0}")]
    Switched(Endpoint),
    /// Slots have other owners.
    #[error("{0} says that the cluster has changed")]
    Changed(Endpoint),
    /// The cluster as a whole does not work.
    #[error("{0} says that the cluster is not well: {1}")]
    Sick(Endpoint, String),
    /// The server could not be asked.
    #[error("{0} cannot be asked: {1}")]
    Mute(Endpoint, String),
}

/// The commands by which hints travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commands {
    /// PUBLISH, SUBSCRIBE, UNSUBSCRIBE.
    Classic,
    /// SPUBLISH, SSUBSCRIBE, SUNSUBSCRIBE: a topic lives on one master of a cluster instead of all its nodes.
    Sharded,
}

impl Topology {
    pub(crate) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Single(endpoint) => Self::Single(endpoint.clone()),
            Kind::Sentinel(sentinels, name) => {
                Self::Sentinel(Sentinel::new(sentinels.clone(), name.clone()))
            }
            Kind::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone())),
        }
    }

    /// Over how many places the topics are spread.
    pub(super) fn partitions(&self) -> usize {
        match self {
            Self::Single(_) | Self::Sentinel(_) => 1,
            Self::Cluster(_) => PARTITIONS,
        }
    }

    /// By which commands hints travel.
    pub(super) fn commands(&self) -> Commands {
        match self {
            Self::Single(_) | Self::Sentinel(_) => Commands::Classic,
            Self::Cluster(_) => Commands::Sharded,
        }
    }

    /// Finds out where the masters are. Returns within seconds.
    pub(crate) async fn locate(&self, access: &Access) -> Result<Map, Unfit> {
        match self {
            Self::Single(endpoint) => Ok(Map::single(endpoint.clone(), 0)),
            Self::Sentinel(sentinel) => sentinel.locate(access).await,
            Self::Cluster(cluster) => cluster.locate(access).await,
        }
    }

    /// Waits until somebody says that a map no longer holds.
    pub(super) async fn watch(&self, access: &Access, map: &Map) -> Unfit {
        match self {
            Self::Sentinel(sentinel) => sentinel.watch(access, map).await,
            // A cluster is watched by asking its masters themselves.
            Self::Single(_) | Self::Cluster(_) => std::future::pending().await,
        }
    }

    /// Asks a master of a map whether it is still what the map says, and with `deep` whether the whole map still holds.
    pub(super) async fn check(
        &self,
        connection: &mut MultiplexedConnection,
        access: &Access,
        master: &Master,
        map: &Map,
        deep: bool,
    ) -> Result<(), Unfit> {
        let role = match role(connection).await {
            Err(error) if is_answer(&error) => Err(Unfit::Untold(
                master.endpoint.clone(),
                access.describe(&error),
            )),
            Err(error) => {
                return Err(Unfit::Mute(
                    master.endpoint.clone(),
                    access.describe(&error),
                ));
            }
            Ok(role) if role == "master" => Ok(()),
            Ok(role) => return Err(Unfit::NotMaster(master.endpoint.clone(), role)),
        };
        match self {
            // A user that may not ask for the role is believed to know where it connects to.
            Self::Single(_) => Ok(()),
            Self::Sentinel(_) => role,
            Self::Cluster(_) => {
                role?;
                cluster::check(connection, access, master, map, deep).await
            }
        }
    }
}

impl Map {
    fn single(endpoint: Endpoint, epoch: u64) -> Self {
        let id = String::new();
        Self {
            masters: vec![Master { endpoint, id }],
            owners: vec![0],
            epoch,
        }
    }

    /// The place of the master of a partition.
    pub(super) fn owner(&self, partition: usize) -> usize {
        self.owners.get(partition).copied().unwrap_or_default()
    }

    /// A partition that a master serves.
    pub(super) fn partition_of(&self, master: usize) -> usize {
        let first = self.owners.iter().position(|owner| *owner == master);
        first.unwrap_or_default()
    }
}

/// What a server says about itself: `master`, `slave` or `sentinel`.
pub(super) async fn role(connection: &mut MultiplexedConnection) -> Result<String, RedisError> {
    let answer: Value = cmd("ROLE").query_async(connection).await?;
    let first = match answer {
        Value::Array(fields) => fields.into_iter().next(),
        _ => None,
    };
    Ok(match first {
        Some(Value::BulkString(role)) => String::from_utf8_lossy(&role).into_owned(),
        _ => "server without a role".to_owned(),
    })
}

/// Whether an error is an answer of the server, and not the lack of one.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(_)
            | ErrorKind::Extension
            | ErrorKind::AuthenticationFailed
            | ErrorKind::UnexpectedReturnType
    )
}

/// What a future that ends only by failing has come to.
pub(super) fn into_error<E>(result: Result<Infallible, E>) -> E {
    match result {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_server_serves_its_one_partition() {
        let map = Map::single(Endpoint::new("h", 1), 0);
        assert_eq!((map.owner(0), map.partition_of(0)), (0, 0));
        assert_eq!(map.masters.len(), 1);
    }
}
