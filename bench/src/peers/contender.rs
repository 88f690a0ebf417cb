//! A server under measurement, whichever it is.

use crate::args::TargetArgs;
use crate::dialect::Dialect;
use crate::error::BenchError;
use crate::mode::servers::{ServerOptions, Servers};
use crate::peers::args::{Peer, PeersArgs};
use crate::peers::launch::Programs;

/// What was started for one trial. It ends when it is dropped.
#[derive(Debug)]
pub(super) enum Contender {
    /// Nodes of this program, with PostgreSQL and Redis.
    Fanfare(Servers, Peer),
    /// Servers of somebody else.
    Programs(Programs),
    /// One that runs already, with its processes on this machine.
    Remote(Box<TargetArgs>, Vec<u32>),
}

/// What it consists of.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Nodes.
    pub(super) nodes: Vec<u32>,
    /// PostgreSQL, if there is one.
    pub(super) postgres: Vec<u32>,
    /// Redis, if there is one.
    pub(super) redis: Vec<u32>,
}

impl Processes {
    /// All of them, in this order.
    pub(super) fn all(&self) -> Vec<u32> {
        [&self.nodes[..], &self.postgres, &self.redis].concat()
    }
}

impl Contender {
    /// Starts it.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(super) fn start(peer: Peer, args: &PeersArgs) -> Result<Self, BenchError> {
        match peer {
            Peer::Fanfare | Peer::FanfareSocketio => {
                let servers = Servers::start(&ServerOptions {
                    nodes: args.nodes,
                    ..ServerOptions::default()
                })?;
                Ok(Self::Fanfare(servers, peer))
            }
            Peer::Centrifugo => {
                let target = TargetArgs {
                    urls: args.centrifugo.clone(),
                    publish_urls: Vec::new(),
                    api_key: args.centrifugo_key.clone(),
                    token: None,
                    token_secret: args.centrifugo_secret.clone(),
                    user: "bench".to_owned(),
                    channel_prefix: args.centrifugo_namespace.clone(),
                    run: None,
                };
                Ok(Self::Remote(Box::new(target), args.centrifugo_pid.clone()))
            }
            _ => Ok(Self::Programs(Programs::start(peer, args)?)),
        }
    }

    /// Where it is, and how to be let in.
    pub(super) fn target(&self) -> TargetArgs {
        match self {
            Self::Fanfare(servers, _) => servers.target(),
            Self::Programs(programs) => TargetArgs {
                urls: programs.urls.clone(),
                publish_urls: programs.publish_urls.clone(),
                api_key: None,
                token: None,
                token_secret: None,
                user: String::new(),
                // Names that every one of them takes: Pusher has no colon in them.
                channel_prefix: String::new(),
                run: None,
            },
            Self::Remote(target, _) => (**target).clone(),
        }
    }

    /// What its subscribers speak, and its publishers.
    pub(super) fn dialects(&self) -> (Dialect, Dialect) {
        match self {
            Self::Fanfare(_, Peer::FanfareSocketio) => (Dialect::SocketIo, Dialect::Centrifuge),
            Self::Fanfare(..) | Self::Remote(..) => (Dialect::Centrifuge, Dialect::Centrifuge),
            Self::Programs(programs) => (programs.dialect, programs.dialect),
        }
    }

    /// How many nodes it has; of one that runs already, as many as it has addresses.
    pub(super) fn nodes(&self) -> usize {
        match self {
            Self::Remote(target, _) => target.urls.len(),
            _ => self.processes().nodes.len(),
        }
    }

    /// Its processes.
    pub(super) fn processes(&self) -> Processes {
        match self {
            Self::Fanfare(servers, _) => {
                let of = |name: &str| -> Vec<u32> {
                    let all = servers.processes().into_iter();
                    all.filter(|(label, _)| label == name)
                        .map(|(_, pid)| pid)
                        .collect()
                };
                let (postgres, redis) = (of("PostgreSQL"), of("Redis"));
                let all = servers.processes().into_iter().map(|(_, pid)| pid);
                Processes {
                    nodes: all
                        .filter(|pid| !postgres.contains(pid) && !redis.contains(pid))
                        .collect(),
                    postgres,
                    redis,
                }
            }
            Self::Programs(programs) => Processes {
                nodes: programs.nodes(),
                postgres: Vec::new(),
                redis: programs
                    .redis()
                    .map(|redis| redis.pid())
                    .into_iter()
                    .collect(),
            },
            Self::Remote(_, pids) => Processes {
                nodes: pids.clone(),
                ..Processes::default()
            },
        }
    }

    /// Its version, with those of what it needs.
    ///
    /// # Errors
    /// When one does not tell.
    pub(super) fn version(&self) -> Result<String, BenchError> {
        match self {
            Self::Fanfare(servers, _) => {
                let described = servers.describe()?;
                Ok(format!(
                    "Fanfare {}, PostgreSQL {}, Redis {}",
                    env!("CARGO_PKG_VERSION"),
                    described.postgres_version.unwrap_or_default(),
                    described.redis_version.unwrap_or_default()
                ))
            }
            Self::Programs(programs) => match programs.redis() {
                Some(redis) => Ok(format!("{}, Redis {}", programs.version, redis.version()?)),
                None => Ok(programs.version.clone()),
            },
            // It tells its subscribers.
            Self::Remote(..) => Ok(String::new()),
        }
    }

    /// Each part that ended although nobody asked it to, and its last words.
    pub(super) fn ended(&mut self) -> Vec<String> {
        match self {
            Self::Fanfare(servers, _) => servers.ended(),
            Self::Programs(programs) => programs.ended(),
            Self::Remote(..) => Vec::new(),
        }
    }

    /// Ends it; what had to be killed is told.
    pub(super) fn stop(self) -> Vec<String> {
        match self {
            Self::Fanfare(servers, _) => servers.stop(),
            Self::Programs(programs) => {
                programs.stop();
                Vec::new()
            }
            Self::Remote(..) => Vec::new(),
        }
    }
}
