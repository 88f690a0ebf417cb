//! The masters of a Redis Cluster.
//!
//! Any node tells who owns which slots; a node that is cut off or slow tells what used to be. So all that are known are
//! asked, and of those that say that the cluster is well, the one of the highest epoch counts: every change of owners is
//! numbered higher than the one before. Afterwards every master is asked regularly, each for its own view.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::{RedisError, Value, aio::MultiplexedConnection, cmd};

use super::{Map, Master, Unfit, ask::ask_all, is_answer};
use crate::redis::{
    access::{Access, Endpoint},
    partition::{PARTITIONS, slot},
};

/// How long a node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Most masters that are remembered beside those of the URL.
const KNOWN_MAX: usize = 64;

/// Some nodes of a cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    seeds: Vec<Endpoint>,
    /// The masters that were last found; the nodes of the URL may be gone by now.
    known: Mutex<Vec<Endpoint>>,
}

/// What one node says of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// `ok`, or what is wrong.
    word: String,
    epoch: u64,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Endpoint>) -> Self {
        Self {
            seeds,
            known: Mutex::default(),
        }
    }

    /// The newest view of all nodes that can be asked.
    pub(super) async fn locate(&self, access: &Access) -> Result<Map, Unfit> {
        let nodes = self.nodes();
        let questions = nodes.iter().map(async |node| {
            let view = async {
                let mut connection = access.connect(node, ANSWER_TIMEOUT).await?;
                let state = ask_state(&mut connection).await?;
                let slots = ask_slots(&mut connection).await?;
                Ok((node.clone(), state, slots))
            };
            let view: Result<_, RedisError> = view.await;
            view.map_err(|error| format!("{node}: {}", access.describe(&error)))
        });
        let views = ask_all(1, questions).await.map_err(Unfit::Unknown)?;
        let newest = views
            .into_iter()
            .max_by_key(|(_, state, _)| (state.is_ok(), state.epoch));
        let Some((node, state, slots)) = newest else {
            return Err(Unfit::Unknown("no node has answered".to_owned()));
        };
        if !state.is_ok() {
            return Err(Unfit::Sick(node, format!("cluster_state:{}", state.word)));
        }
        let map = parse_slots(&slots, &node, state.epoch).map_err(|why| Unfit::Sick(node, why))?;
        self.remember(&map);
        Ok(map)
    }

    /// The masters that were found last come first, then the nodes of the URL.
    fn nodes(&self) -> Vec<Endpoint> {
        let mut nodes = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for seed in &self.seeds {
            if !nodes.contains(seed) {
                nodes.push(seed.clone());
            }
        }
        nodes
    }

    fn remember(&self, map: &Map) {
        let masters = map.masters.iter().take(KNOWN_MAX);
        let masters = masters.map(|master| master.endpoint.clone()).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = masters;
    }
}

impl State {
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok());
        Self {
            word: field("cluster_state")
                .unwrap_or("unknown")
                .trim()
                .to_owned(),
            epoch: epoch.unwrap_or_default(),
        }
    }

    fn is_ok(&self) -> bool {
        self.word == "ok"
    }
}

/// Asks a master whether the cluster is well, and when that is due or something has changed, whether the map holds.
///
/// A master that lost sight of the others goes on carrying messages within its own part; it says that it is not well.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    access: &Access,
    master: &Master,
    map: &Map,
    deep: bool,
) -> Result<(), Unfit> {
    let endpoint = &master.endpoint;
    let failed = |error: RedisError| {
        let why = access.describe(&error);
        if is_answer(&error) {
            Unfit::Untold(endpoint.clone(), why)
        } else {
            Unfit::Mute(endpoint.clone(), why)
        }
    };
    let state = ask_state(connection).await.map_err(failed)?;
    if !state.is_ok() {
        let why = format!("cluster_state:{}", state.word);
        return Err(Unfit::Sick(endpoint.clone(), why));
    }
    if !deep && state.epoch <= map.epoch {
        return Ok(());
    }
    let slots = ask_slots(connection).await.map_err(failed)?;
    match parse_slots(&slots, endpoint, state.epoch) {
        Ok(view) if view.has_owners_of(map) => Ok(()),
        Ok(_) => Err(Unfit::Changed(endpoint.clone())),
        Err(why) => Err(Unfit::Sick(endpoint.clone(), why)),
    }
}

async fn ask_state(connection: &mut MultiplexedConnection) -> Result<State, RedisError> {
    let info: String = cmd("CLUSTER").arg("INFO").query_async(connection).await?;
    Ok(State::parse(&info))
}

async fn ask_slots(connection: &mut MultiplexedConnection) -> Result<Value, RedisError> {
    // Known by every version, and by all that is like Redis; CLUSTER SHARDS is not.
    cmd("CLUSTER").arg("SLOTS").query_async(connection).await
}

impl Map {
    /// Every partition has the same master in both.
    fn has_owners_of(&self, other: &Self) -> bool {
        let id = |map: &Self, partition: usize| {
            let master = map.masters.get(map.owner(partition));
            master.map(|master| master.id.clone())
        };
        (0..PARTITIONS).all(|partition| id(self, partition) == id(other, partition))
    }
}

/// Reads an answer to CLUSTER SLOTS that was given by `node`: first and last slot of a range, and its servers, the
/// master first.
fn parse_slots(answer: &Value, node: &Endpoint, epoch: u64) -> Result<Map, String> {
    let Value::Array(ranges) = answer else {
        return Err("the answer to CLUSTER SLOTS has another form".to_owned());
    };
    let ranges: Vec<_> = ranges
        .iter()
        .filter_map(|range| parse_range(range, node))
        .collect();
    let mut masters: Vec<Master> = Vec::new();
    let mut owners = Vec::with_capacity(PARTITIONS);
    for partition in 0..PARTITIONS {
        let slot = i64::from(slot(partition));
        let range = ranges
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot));
        let Some((_, _, master)) = range else {
            return Err(format!("nobody owns slot {slot}"));
        };
        let place = masters.iter().position(|known| known.id == master.id);
        owners.push(place.unwrap_or_else(|| {
            masters.push(master.clone());
            masters.len() - 1
        }));
    }
    let places: HashSet<_> = masters
        .iter()
        .map(|master| master.endpoint.to_string())
        .collect();
    if places.len() != masters.len() {
        return Err("two masters have one address".to_owned());
    }
    Ok(Map {
        masters,
        owners,
        epoch,
    })
}

fn parse_range(range: &Value, node: &Endpoint) -> Option<(i64, i64, Master)> {
    let Value::Array(fields) = range else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = fields.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), id, ..] = master.as_slice() else {
        return None;
    };
    let port = u16::try_from(*port).ok()?;
    let endpoint = match text(host) {
        // A node that does not know its own address means: where you asked.
        None | Some("" | "?") => node.with_port(port),
        Some(host) => Endpoint::new(host, port),
    };
    let id = text(id)?.to_owned();
    Some((*first, *last, Master { endpoint, id }))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64, id: &str) -> Value {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let master = Value::Array(vec![text(host), Value::Int(port), text(id), Value::Nil]);
        let replica = Value::Array(vec![text("replica"), Value::Int(9), text("r"), Value::Nil]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
    }

    #[test]
    fn slots_become_a_map() {
        let node = Endpoint::new("asked", 1);
        let answer = Value::Array(vec![
            range(0, 8191, "", 7001, "a"),
            range(8192, 16000, "two", 7002, "b"),
            range(16001, 16383, "asked", 7001, "a"),
        ]);
        let map = parse_slots(&answer, &node, 5).unwrap();
        let masters: Vec<_> = map
            .masters
            .iter()
            .map(|one| one.endpoint.to_string())
            .collect();
        assert_eq!(masters, ["asked:7001", "two:7002"]);
        assert_eq!((map.owner(0), map.owner(PARTITIONS / 2)), (0, 1));
        assert_eq!(map.owner(PARTITIONS - 1), 0);
        assert_eq!((map.partition_of(0), map.epoch), (0, 5));

        let other = Value::Array(vec![
            range(0, 8191, "", 7001, "a"),
            range(8192, 16383, "two", 7002, "b"),
        ]);
        let other = parse_slots(&other, &node, 6).unwrap();
        assert!(!other.has_owners_of(&map));
        assert!(map.has_owners_of(&map.clone()));
    }

    #[test]
    fn a_cluster_that_does_not_cover_all_is_not_used() {
        let node = Endpoint::new("asked", 1);
        let holey = Value::Array(vec![range(0, 16000, "one", 7001, "a")]);
        assert!(
            parse_slots(&holey, &node, 1)
                .unwrap_err()
                .contains("nobody owns")
        );
        let twins = Value::Array(vec![
            range(0, 8191, "one", 7001, "a"),
            range(8192, 16383, "one", 7001, "b"),
        ]);
        assert!(parse_slots(&twins, &node, 1).is_err());
        assert!(parse_slots(&Value::Nil, &node, 1).is_err());
    }

    #[test]
    fn the_state_is_read_from_the_information() {
        let state = State::parse("cluster_state:fail\r\ncluster_current_epoch:12\r\n");
        assert_eq!((state.is_ok(), state.epoch), (false, 12));
        assert!(State::parse("cluster_state:ok\r\n").is_ok());
        assert!(!State::parse("").is_ok());
    }
}
