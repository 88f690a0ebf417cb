//! A Redis Cluster: some masters that share the slots, and replicas if they are asked for.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use crate::local::redis::server_arguments;
use crate::local::resp::command;
use crate::local::{LocalError, Redis, free_address, wait_for};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// How long a node must be silent before the others say that the cluster is not well.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a cluster may take to become well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers that together are a cluster, numbered in the order of their start: the first masters, then replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// Their names among themselves.
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts so many masters on free ports, with equal shares of the slots, and waits until all call the cluster well.
    ///
    /// # Errors
    /// As [`Redis::start`], and when the cluster does not come together in time.
    pub fn start(masters: usize) -> Result<Self, LocalError> {
        let mut nodes = Vec::new();
        let mut ids = Vec::new();
        for number in 0..masters {
            let node = Redis::start_with(|_, _| arguments())?;
            let first = number * SLOTS / masters;
            let last = (number + 1) * SLOTS / masters - 1;
            let range = [first.to_string(), last.to_string()];
            tell(&node, &["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
            tell(
                &node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()],
            )?;
            ids.push(tell(&node, &["CLUSTER", "MYID"])?);
            nodes.push(node);
        }
        for node in nodes.iter().skip(1) {
            meet(&nodes[0], node)?;
        }
        let cluster = Self { nodes, ids };
        cluster.wait_until_well()?;
        Ok(cluster)
    }

    /// Starts a replica of a master, which takes its place when it is gone, and waits until it is up to date. Returns its
    /// number.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn add_replica(&mut self, master: usize) -> Result<usize, LocalError> {
        let node = Redis::start_with(|_, _| arguments())?;
        meet(&self.nodes[master], &node)?;
        wait_for("the replica knows its master", PATIENCE, || {
            command(node.address(), &["CLUSTER", "REPLICATE", &self.ids[master]]).ok()
        })?;
        wait_for("the replica follows its master", PATIENCE, || {
            let role = command(node.address(), &["ROLE"]).ok()?;
            (role.list().get(3)?.text() == "connected").then_some(())
        })?;
        self.ids.push(tell(&node, &["CLUSTER", "MYID"])?);
        self.nodes.push(node);
        self.wait_until_well()?;
        Ok(self.nodes.len() - 1)
    }

    /// What a node takes for `--redis`.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(SocketAddr::to_string).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Where the servers listen, or did.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Redis::address).collect()
    }

    /// Waits until every server calls the cluster well and knows all others.
    ///
    /// # Errors
    /// [`LocalError::Io`] when that does not happen within a minute.
    pub fn wait_until_well(&self) -> Result<(), LocalError> {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        wait_for("the cluster is well", PATIENCE, || {
            let well = self.nodes.iter().all(|node| {
                let info = command(node.address(), &["CLUSTER", "INFO"]);
                info.is_ok_and(|info| {
                    let mut lines = info.text().lines();
                    info.text().contains("cluster_state:ok") && lines.any(|line| line == known)
                })
            });
            well.then_some(())
        })
    }

    /// The number of the server that owns a slot, as the servers see it; `None` while they do not agree.
    pub fn owner_of(&self, slot: u16) -> Option<usize> {
        let mut owners = self.nodes.iter().map(|node| {
            let ranges = command(node.address(), &["CLUSTER", "SLOTS"]).ok()?;
            let range = ranges.list().iter().find(|range| {
                let bound = |place: usize| match range.list().get(place) {
                    Some(crate::local::resp::Reply::Number(bound)) => *bound,
                    _ => -1,
                };
                (bound(0)..=bound(1)).contains(&i64::from(slot))
            })?;
            let id = range.list().get(2)?.list().get(2)?.text().to_owned();
            self.ids.iter().position(|known| *known == id)
        });
        let first = owners.next()??;
        owners.all(|owner| owner == Some(first)).then_some(first)
    }

    /// Moves a slot to a master, live, as a resharding does, and waits until all agree.
    ///
    /// # Errors
    /// [`LocalError::Io`] when a master refuses, or the masters do not come to agree.
    pub fn move_slot(&self, slot: u16, to: usize) -> Result<(), LocalError> {
        let agreed = || self.owner_of(slot);
        let from = wait_for("the masters agree on a slot", PATIENCE, agreed)?;
        if from == to {
            return Ok(());
        }
        let slot_text = slot.to_string();
        let set = |node: usize, words: [&str; 2]| {
            let words = ["CLUSTER", "SETSLOT", &slot_text, words[0], words[1]];
            tell(&self.nodes[node], &words)
        };
        set(to, ["IMPORTING", &self.ids[from]])?;
        set(from, ["MIGRATING", &self.ids[to]])?;
        set(to, ["NODE", &self.ids[to]])?;
        set(from, ["NODE", &self.ids[to]])?;
        wait_for("the slot has moved", PATIENCE, || {
            (self.owner_of(slot) == Some(to)).then_some(())
        })
    }

    /// Kills a server, as a crash would. The slots of a master without a replica are gone until it is back.
    ///
    /// # Panics
    /// When there is no such server; so do the others that name one.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a server again, on its port and with its slots.
    ///
    /// # Errors
    /// As [`Redis::restart`].
    pub fn restart(&mut self, number: usize) -> Result<(), LocalError> {
        self.nodes[number].restart()
    }

    /// Makes a server hang: connections stay open and nothing is answered.
    pub fn pause(&mut self, number: usize) {
        self.nodes[number].pause();
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self, number: usize) {
        self.nodes[number].resume();
    }
}

fn arguments() -> Result<Vec<OsString>, LocalError> {
    let mut arguments = server_arguments();
    // The port for talk among the nodes would by itself be one that the system gives to others.
    let bus_port = free_address()?.port().to_string();
    arguments.extend(
        [
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            "nodes.conf",
            "--cluster-node-timeout",
            &NODE_TIMEOUT.as_millis().to_string(),
            "--cluster-port",
            &bus_port,
        ]
        .map(OsString::from),
    );
    Ok(arguments)
}

fn meet(first: &Redis, other: &Redis) -> Result<(), LocalError> {
    let (ip, port) = (other.address().ip().to_string(), other.address().port());
    let mut bus_port = String::new();
    for pair in tell_list(other, &["CONFIG", "GET", "cluster-port"])?.chunks(2) {
        if let [name, value] = pair
            && name == "cluster-port"
        {
            bus_port.clone_from(value);
        }
    }
    tell(
        first,
        &["CLUSTER", "MEET", &ip, &port.to_string(), &bus_port],
    )
    .map(drop)
}

fn tell(node: &Redis, words: &[&str]) -> Result<String, LocalError> {
    let reply = command(node.address(), words);
    let reply = reply.map_err(|source| LocalError::io(words.join(" "), source))?;
    Ok(reply.text().to_owned())
}

fn tell_list(node: &Redis, words: &[&str]) -> Result<Vec<String>, LocalError> {
    let reply = command(node.address(), words);
    let reply = reply.map_err(|source| LocalError::io(words.join(" "), source))?;
    Ok(reply
        .list()
        .iter()
        .map(|one| one.text().to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_move_and_masters_come_back() {
        let mut cluster = RedisCluster::start(3).unwrap();
        assert_eq!(cluster.owner_of(0), Some(0));
        assert_eq!(cluster.owner_of(16_383), Some(2));
        cluster.move_slot(0, 1).unwrap();
        assert_eq!(cluster.owner_of(0), Some(1));
        cluster.kill(1);
        cluster.restart(1).unwrap();
        cluster.wait_until_well().unwrap();
        assert_eq!(cluster.owner_of(0), Some(1));
    }
}
