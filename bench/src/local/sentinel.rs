//! A Redis master with replicas, and sentinels that make one of these the master when it is gone.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use crate::local::redis::server_arguments;
use crate::local::resp::{Reply, command};
use crate::local::{LocalError, Redis, wait_for};

/// The name by which the sentinels know the master.
const NAME: &str = "main";

/// Replicas of the first master.
const REPLICAS: usize = 2;

/// Sentinels; a failover takes the consent of most of them.
const SENTINELS: usize = 3;

/// How long a master must be silent before the sentinels replace it.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// When the sentinels try a failover that did not work again, at the earliest.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a set may take to find itself, or a new master: sentinels that were starved of processor time first wait for
/// half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The sentinels' configuration, in their folder; they write to it.
const CONFIG_FILE: &str = "sentinel.conf";

/// One master, its replicas, and their sentinels.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts a set on free ports and waits until it could stand the loss of its master.
    ///
    /// # Errors
    /// As [`Redis::start`], and when the set does not come together in time.
    pub fn start() -> Result<Self, LocalError> {
        let master = Redis::start_with(|_, _| Ok(arguments()))?;
        let master_address = master.address();
        let mut servers = vec![master];
        for _ in 0..REPLICAS {
            servers.push(Redis::start_with(|_, _| {
                let mut arguments = arguments();
                arguments.push("--replicaof".into());
                arguments.push(master_address.ip().to_string().into());
                arguments.push(master_address.port().to_string().into());
                Ok(arguments)
            })?);
        }
        wait_for("the replicas follow", PATIENCE, || {
            servers.iter().skip(1).all(follows).then_some(())
        })?;
        let sentinels = (0..SENTINELS)
            .map(|_| start_sentinel(master_address))
            .collect::<Result<_, _>>()?;
        let set = Self { servers, sentinels };
        set.wait_until_safe()?;
        Ok(set)
    }

    /// What a node takes for `--redis`.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.address().to_string())
            .collect();
        format!("redis+sentinel://{}/{NAME}", sentinels.join(","))
    }

    /// Where the master and its replicas listen, or did, in no order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Redis::address).collect()
    }

    /// Where the sentinels say that the master is: of those that answer, the one that knows of the latest failover.
    ///
    /// # Errors
    /// [`LocalError::Io`] when no sentinel answers.
    pub fn master_address(&self) -> Result<SocketAddr, LocalError> {
        wait_for("a sentinel names the master", PATIENCE, || {
            self.newest_master()
        })
    }

    /// Waits until the sentinels name another master than `old`, and it is one.
    ///
    /// # Errors
    /// [`LocalError::Io`] when that does not happen within 90 seconds.
    pub fn wait_for_new_master(&self, old: SocketAddr) -> Result<SocketAddr, LocalError> {
        wait_for("there is a new master", PATIENCE, || {
            let master = self.newest_master().filter(|master| *master != old)?;
            let role = command(master, &["ROLE"]).ok()?;
            (role.list().first()?.text() == "master").then_some(master)
        })
    }

    /// Waits until the set could stand the loss of its master: the other servers follow it, and every sentinel
    /// knows them and the other sentinels.
    ///
    /// # Errors
    /// [`LocalError::Io`] when that does not happen within 90 seconds.
    pub fn wait_until_safe(&self) -> Result<(), LocalError> {
        wait_for("the sentinels know everyone", PATIENCE, || {
            let following = self.servers.iter().filter(|server| follows(server));
            let known = || {
                self.sentinels
                    .iter()
                    .all(|sentinel| knows_everyone(sentinel.address()))
            };
            (following.count() == REPLICAS && known()).then_some(())
        })
    }

    /// Kills the master, as a crash would. Returns where it was.
    ///
    /// # Errors
    /// As [`master_address`](Self::master_address).
    pub fn kill_master(&mut self) -> Result<SocketAddr, LocalError> {
        let address = self.master_address()?;
        self.with_server(address, Redis::kill);
        Ok(address)
    }

    /// Makes the master hang: connections stay open and nothing is answered. Returns where it is.
    ///
    /// # Errors
    /// As [`master_address`](Self::master_address).
    pub fn pause_master(&mut self) -> Result<SocketAddr, LocalError> {
        let address = self.master_address()?;
        self.with_server(address, Redis::pause);
        Ok(address)
    }

    /// Ends every pause. A master that was replaced meanwhile believes that it still is one, until the sentinels tell it.
    pub fn resume(&mut self) {
        self.servers.iter_mut().for_each(Redis::resume);
    }

    /// Starts again what was killed, servers and sentinels, each on its port.
    ///
    /// # Errors
    /// As [`Redis::restart`].
    pub fn restart(&mut self) -> Result<(), LocalError> {
        restart_killed(&mut self.servers)?;
        restart_killed(&mut self.sentinels)
    }

    /// Kills the sentinels and then the master: nobody replaces it until the sentinels are
    /// [back](Self::restart_sentinels).
    ///
    /// # Errors
    /// As [`master_address`](Self::master_address).
    pub fn kill_master_and_sentinels(&mut self) -> Result<SocketAddr, LocalError> {
        let address = self.master_address()?;
        self.sentinels.iter_mut().for_each(Redis::kill);
        self.with_server(address, Redis::kill);
        Ok(address)
    }

    /// Starts again the sentinels that were killed; they still know what they knew.
    ///
    /// # Errors
    /// As [`Redis::restart`].
    pub fn restart_sentinels(&mut self) -> Result<(), LocalError> {
        restart_killed(&mut self.sentinels)
    }

    /// Has the sentinels replace a master that is well, which then becomes a replica.
    ///
    /// # Errors
    /// [`LocalError::Io`] when they refuse.
    pub fn order_failover(&self) -> Result<(), LocalError> {
        let ordered = wait_for("a sentinel takes the order", PATIENCE, || {
            let mut sentinels = self.sentinels.iter();
            let order = ["SENTINEL", "FAILOVER", NAME];
            sentinels.find_map(|sentinel| command(sentinel.address(), &order).ok())
        });
        ordered.map(drop)
    }

    /// Makes one sentinel hang and so miss what the others decide; [`resume_sentinel`](Self::resume_sentinel) ends it.
    pub fn pause_sentinel(&mut self, number: usize) {
        if let Some(sentinel) = self.sentinels.get_mut(number) {
            sentinel.pause();
        }
    }

    /// Ends a [`pause_sentinel`](Self::pause_sentinel).
    pub fn resume_sentinel(&mut self, number: usize) {
        if let Some(sentinel) = self.sentinels.get_mut(number) {
            sentinel.resume();
        }
    }

    fn newest_master(&self) -> Option<SocketAddr> {
        let views = self.sentinels.iter().filter_map(|sentinel| {
            // The epoch first: while a sentinel leads a failover, its view has the new epoch and the old address.
            let view = view(sentinel.address())?;
            let epoch: u64 = field(&view, "config-epoch").parse().ok()?;
            let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let address = command(sentinel.address(), &words).ok()?;
            let [ip, port] = address.list() else {
                return None;
            };
            let address = format!("{}:{}", ip.text(), port.text());
            Some((epoch, address.parse().ok()?))
        });
        views.max().map(|(_, address)| address)
    }

    fn with_server(&mut self, address: SocketAddr, act: impl Fn(&mut Redis)) {
        let server = self
            .servers
            .iter_mut()
            .find(|server| server.address() == address);
        if let Some(server) = server {
            act(server);
        }
    }
}

fn arguments() -> Vec<OsString> {
    let mut arguments = server_arguments();
    // Replicas are served at once, and without a disk.
    arguments.extend(["--repl-diskless-sync-delay", "0"].map(OsString::from));
    arguments
}

fn start_sentinel(master: SocketAddr) -> Result<Redis, LocalError> {
    let quorum = SENTINELS / 2 + 1;
    let config = format!(
        "sentinel monitor {NAME} {} {} {quorum}\n\
         sentinel down-after-milliseconds {NAME} {}\n\
         sentinel failover-timeout {NAME} {}\n\
         sentinel parallel-syncs {NAME} {REPLICAS}\n",
        master.ip(),
        master.port(),
        DOWN_AFTER.as_millis(),
        FAILOVER_TIMEOUT.as_millis(),
    );
    Redis::start_with(|dir, _| {
        let path = dir.join(CONFIG_FILE);
        fs::write(&path, &config)
            .map_err(|source| LocalError::io("write the configuration of a sentinel", source))?;
        Ok(vec![path.into(), "--sentinel".into()])
    })
}

fn restart_killed(servers: &mut [Redis]) -> Result<(), LocalError> {
    for server in servers {
        if server.ended().is_some() {
            server.restart()?;
        }
    }
    Ok(())
}

fn view(sentinel: SocketAddr) -> Option<Reply> {
    command(sentinel, &["SENTINEL", "MASTER", NAME]).ok()
}

/// Whether a server is a replica that is up to date with its master.
fn follows(server: &Redis) -> bool {
    let role = command(server.address(), &["ROLE"]);
    role.is_ok_and(|role| {
        let word = |place: usize| role.list().get(place).map_or("", Reply::text);
        word(0) == "slave" && word(3) == "connected"
    })
}

fn knows_everyone(sentinel: SocketAddr) -> bool {
    let Some(view) = view(sentinel) else {
        return false;
    };
    let Ok(replicas) = command(sentinel, &["SENTINEL", "REPLICAS", NAME]) else {
        return false;
    };
    let well = |replica: &&Reply| field(replica, "flags") == "slave";
    field(&view, "flags") == "master"
        && field(&view, "num-other-sentinels") == (SENTINELS - 1).to_string()
        && replicas.list().iter().filter(well).count() == REPLICAS
}

/// A field of an answer that is a list of names and values.
fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let mut pairs = reply.list().chunks_exact(2);
    pairs
        .find(|pair| pair[0].text() == name)
        .map_or("", |pair| pair[1].text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_master_is_replaced() {
        let mut set = Sentinels::start().unwrap();
        let first = set.master_address().unwrap();
        assert_eq!(set.kill_master().unwrap(), first);
        assert_ne!(set.wait_for_new_master(first).unwrap(), first);
        set.restart().unwrap();
        set.wait_until_safe().unwrap();
        assert!(set.url().ends_with("/main"));
    }
}
