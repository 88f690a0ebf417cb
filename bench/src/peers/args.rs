//! The command line of `fanfare bench peers`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::scenario::LoadOptions;

/// A server that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// This program: every message committed to PostgreSQL before anyone sees it; subscribers speak Centrifuge.
    Fanfare,
    /// The same, and subscribers speak Socket.IO.
    FanfareSocketio,
    /// Socket.IO on Node.js with its adapter for Redis Pub/Sub.
    SocketioRedis,
    /// Socket.IO on Node.js with its adapter for Redis Streams, and connection state recovery.
    SocketioStreams,
    /// Nchan in one nginx with one worker, messages in its memory.
    Nchan,
    /// Nchan in several nginx, messages in Redis.
    NchanRedis,
    /// Sockudo with its Redis adapter; subscribers speak Pusher's protocol.
    Sockudo,
    /// NATS without JetStream; subscribers speak its protocol over WebSocket.
    Nats,
    /// A Centrifugo that runs already, named by --centrifugo.
    Centrifugo,
}

/// Fanfare and others under the same load, one after the other, on this machine. Exit code 1 means that Fanfare lost, repeated or
/// reordered something; what another server does, and who is quicker, is a figure and not an error.
#[derive(Debug, Clone, Args, Serialize)]
#[command(
    mut_arg("seconds", |arg| arg.default_value("15")),
    mut_arg("drain", |arg| arg.default_value("15")),
    mut_arg("p99_max_ms", |arg| arg.hide(true))
)]
pub struct PeersArgs {
    /// Which ones, in this order; what is not installed is listed as not made.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST",
          default_values_t = [Peer::Fanfare, Peer::FanfareSocketio, Peer::SocketioRedis, Peer::SocketioStreams, Peer::Nchan,
                              Peer::NchanRedis, Peer::Sockudo, Peer::Nats, Peer::Centrifugo])]
    pub peers: Vec<Peer>,
    /// Nodes, of those that can have several.
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub nodes: usize,
    /// Clients.
    #[arg(long, default_value_t = 2_000)]
    pub clients: usize,
    /// Messages per second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0)]
    pub rate: f64,
    /// Subscribers of a channel.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub subscribers: usize,
    /// Add to what the folder has of an earlier call, instead of beginning anew.
    #[arg(long)]
    pub add: bool,
    /// Folder with the npm packages of bench/peers/package.json.
    #[arg(long, value_name = "DIR", default_value = "bench/peers/node_modules")]
    pub node_modules: PathBuf,
    /// Addresses of a Centrifugo, separated by commas; it is used as it is, and not started or stopped.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub centrifugo: Vec<String>,
    /// Key of its server API.
    #[arg(long, env = "CENTRIFUGO_API_KEY", hide_env_values = true)]
    #[serde(skip)]
    pub centrifugo_key: Option<String>,
    /// Secret to sign tokens for it with (HS256); without one clients connect anonymously.
    #[arg(long, env = "CENTRIFUGO_TOKEN_SECRET", hide_env_values = true)]
    #[serde(skip)]
    pub centrifugo_secret: Option<String>,
    /// Namespace of its channels. Positions and recovery must be on in it, or its deliveries have no number to be checked by.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub centrifugo_namespace: String,
    /// Its processes on this machine, and those of what it keeps messages in, separated by commas: for their processor time and memory.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub centrifugo_pid: Vec<u32>,
    /// The load; --repeat is how many rounds are made, every server once in each.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadOptions,
}

impl Peer {
    /// Its name, as on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fanfare => "fanfare",
            Self::FanfareSocketio => "fanfare-socketio",
            Self::SocketioRedis => "socketio-redis",
            Self::SocketioStreams => "socketio-streams",
            Self::Nchan => "nchan",
            Self::NchanRedis => "nchan-redis",
            Self::Sockudo => "sockudo",
            Self::Nats => "nats",
            Self::Centrifugo => "centrifugo",
        }
    }

    /// Whether it commits before it shows.
    pub(super) fn is_fanfare(self) -> bool {
        matches!(self, Self::Fanfare | Self::FanfareSocketio)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: PeersArgs,
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for &peer in Peer::value_variants() {
            let value = peer.to_possible_value().unwrap();
            assert_eq!(value.get_name(), peer.name());
        }
        let all = Cli::parse_from(["x"]).args;
        assert_eq!(all.peers, Peer::value_variants());
        assert_eq!((all.clients, all.load.seconds), (2_000, 15.0));
        let some = Cli::parse_from([
            "x",
            "--peers",
            "nats,fanfare",
            "--centrifugo",
            "http://a,http://b",
        ]);
        assert_eq!(some.args.peers, [Peer::Nats, Peer::Fanfare]);
        assert_eq!(some.args.centrifugo.len(), 2);
    }
}
