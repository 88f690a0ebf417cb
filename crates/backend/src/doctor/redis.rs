//! The Redis behind a URL: a server, a master and its sentinels, or a cluster.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use fanfare_engine::port::{Bus, BusEvent, BusEvents};
use fanfare_wire::Epoch;
use redis::{RedisError, cmd};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Finding, redis_server::examine_server, redis_state::examine_state};
use crate::redis::{
    Access, Address, Endpoint, Kind, PREFIX_DEFAULT, RedisBus, Topology, connect_to_sentinel,
};

/// How long a bus may take to come up.
const BUS_TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest major version that will do: the first with RESP3.
const MAJOR_VERSION_MIN: u32 = 6;

/// The oldest major version for a cluster: the first with sharded Pub/Sub.
const CLUSTER_MAJOR_VERSION_MIN: u32 = 7;

/// Examines the Redis behind a URL: its sentinels or its cluster, every master (reachable, recent, a master, quick), and
/// whether all together carry a bus and keep state.
pub async fn examine_redis(url: &str) -> Vec<Finding> {
    let address = match Address::parse(url) {
        Ok(address) => address,
        Err(error) => return vec![Finding::fail(error.to_string())],
    };
    let access = &address.access;
    let mut findings = match &address.kind {
        Kind::Single(_) => Vec::new(),
        Kind::Sentinel(sentinels, name) => examine_sentinels(access, sentinels, name).await,
        Kind::Cluster(seeds) => examine_seeds(access, seeds).await,
    };
    let masters = match Topology::new(&address.kind).locate(access).await {
        Ok(map) => map.masters,
        Err(unfit) => {
            findings.push(Finding::fail(unfit.to_string()));
            return findings;
        }
    };
    let (least, commands) = match &address.kind {
        Kind::Cluster(_) => {
            findings.push(Finding::ok(format!(
                "cluster_state:ok; {} masters carry the topics",
                masters.len()
            )));
            (
                CLUSTER_MAJOR_VERSION_MIN,
                "SPUBLISH, SSUBSCRIBE, SUNSUBSCRIBE, ROLE and CLUSTER",
            )
        }
        Kind::Sentinel(..) => (
            MAJOR_VERSION_MIN,
            "PUBLISH, SUBSCRIBE, UNSUBSCRIBE and ROLE",
        ),
        Kind::Single(_) => (MAJOR_VERSION_MIN, "PUBLISH, SUBSCRIBE and UNSUBSCRIBE"),
    };
    for master in &masters {
        match examine_server(access, &master.endpoint, least).await {
            Ok(more) if masters.len() == 1 => findings.extend(more),
            Ok(more) => findings.extend(more.into_iter().map(|finding| Finding {
                grade: finding.grade,
                text: format!("{}: {}", master.endpoint, finding.text),
            })),
            Err(absent) => {
                findings.push(absent);
                return findings;
            }
        }
    }
    findings.push(bus(url, commands).await);
    findings.extend(examine_state(url).await);
    findings
}

/// Asks each sentinel which master it names, and whether there are enough of them for a failover.
async fn examine_sentinels(access: &Access, sentinels: &[Endpoint], name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut named: Option<String> = None;
    for sentinel in sentinels {
        match ask_sentinel(access, sentinel, name).await {
            Ok((master, quorum)) => {
                findings.push(Finding::ok(format!(
                    "sentinel {sentinel} names the master {master}"
                )));
                if named.get_or_insert_with(|| master.clone()) != &master {
                    findings.push(Finding::warn(format!(
                        "sentinel {sentinel} names another master than the others; see whether it is cut off from them"
                    )));
                }
                findings.extend(quorum);
            }
            Err(error) => findings.push(Finding::warn(format!(
                "sentinel {sentinel} does not name the master {name}: {}",
                access.describe(&error)
            ))),
        }
    }
    if sentinels.len() == 1 {
        findings.push(Finding::warn(
            "the URL has one sentinel only; name all of them, so that any may fail",
        ));
    }
    findings
}

async fn ask_sentinel(
    access: &Access,
    sentinel: &Endpoint,
    name: &str,
) -> Result<(String, Option<Finding>), RedisError> {
    let mut connection = connect_to_sentinel(access, sentinel, |_| Ok(())).await?;
    let fields: HashMap<String, String> = cmd("SENTINEL")
        .arg("MASTER")
        .arg(name)
        .query_async(&mut connection)
        .await?;
    let field = |name: &str| fields.get(name).map_or("?", String::as_str);
    let master = format!("{}:{}", field("ip"), field("port"));
    let quorum: Result<String, RedisError> = cmd("SENTINEL")
        .arg("CKQUORUM")
        .arg(name)
        .query_async(&mut connection)
        .await;
    let trouble = quorum.err().map(|error| {
        Finding::warn(format!(
            "sentinel {sentinel} could not replace a lost master: {}",
            access.describe(&error)
        ))
    });
    Ok((master, trouble))
}

/// Connects to each node of the URL; those that are gone do no harm as long as one is there.
async fn examine_seeds(access: &Access, seeds: &[Endpoint]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for seed in seeds {
        findings.push(match access.connect(seed, BUS_TIMEOUT).await {
            Ok(_) => Finding::ok(format!("node {seed} lets us in")),
            Err(error) => Finding::warn(format!(
                "node {seed} does not let us in: {}",
                access.describe(&error)
            )),
        });
    }
    findings
}

/// Starts a bus of its own and waits for its first heartbeat: what a server would do, on topics that no server uses.
async fn bus(url: &str, commands: &str) -> Finding {
    let name = Uuid::new_v4().simple().to_string();
    let bus = Epoch::parse(&name).map(|epoch| RedisBus::connect(url, &epoch, PREFIX_DEFAULT));
    let Some(Ok(bus)) = bus else {
        return Finding::fail("a bus cannot be made from this URL");
    };
    let up = Arc::new(FirstUp::default());
    let start = Instant::now();
    bus.start(Arc::clone(&up) as Arc<dyn BusEvents>);
    match tokio::time::timeout(BUS_TIMEOUT, up.0.notified()).await {
        Ok(()) => Finding::ok(format!(
            "publishing and subscribing work; a bus is up within {} ms",
            start.elapsed().as_millis()
        )),
        Err(_) => Finding::fail(format!(
            "publishing and subscribing do not work; allow the user the channels {PREFIX_DEFAULT}:* and the commands \
             {commands}"
        )),
    }
}

#[derive(Default)]
struct FirstUp(Notify);

impl BusEvents for FirstUp {
    fn on_event(&self, event: BusEvent) {
        if matches!(event, BusEvent::Up) {
            self.0.notify_one();
        }
    }
}
