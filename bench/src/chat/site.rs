//! What is started: PostgreSQL, Redis and two nodes with the chat.

use std::env;
use std::net::SocketAddr;

use crate::chat::args::ChatArgs;
use crate::chat::listeners::Way;
use crate::chat::seed;
use crate::error::BenchError;
use crate::local::{LocalError, Node, NodeOptions, Postgres, Redis};
use crate::progress::Progress;
use crate::target::Target;
use crate::token::Signer;

const DATABASE: &str = "chat";
const NODES: usize = 2;
/// Secret of the tokens with which clients connect; of no use outside of the run.
const TOKEN_SECRET: &str = "a-secret-of-the-chat-benchmark-32b";

/// Running servers. Nodes are dropped before what they depend on.
pub(crate) struct Site {
    nodes: Vec<Node>,
    pub(crate) redis: Redis,
    postgres: Postgres,
}

impl Site {
    /// Starts all of it, with a workspace of the size that the arguments say.
    ///
    /// # Errors
    /// When one does not start, or the workspace cannot be written.
    pub(crate) fn start(args: &ChatArgs) -> Result<Self, BenchError> {
        let binary = env::current_exe()
            .map_err(|source| BenchError::system("find the file of this program", source))?;
        let redis = Redis::start()?;
        let postgres = Postgres::start()?;
        let options = NodeOptions {
            binary,
            redis: Some(redis.url()),
            postgres: Some(postgres.create_database(DATABASE)?),
            token_secret: Some(TOKEN_SECRET.to_owned()),
            dev: true,
            arguments: vec!["--connections-per-second".to_owned(), "0".to_owned()],
            ..NodeOptions::default()
        };
        let mut site = Self {
            nodes: Vec::with_capacity(NODES),
            redis,
            postgres,
        };
        for number in 1..=NODES {
            site.nodes.push(Node::start(NodeOptions {
                name: Some(format!("node-{number}")),
                ..options.clone()
            })?);
        }
        site.wait_for_tables()?;
        let parts = seed::sql(args);
        let mut progress = Progress::new("write the workspace");
        for (done, sql) in parts.iter().enumerate() {
            progress.show(done as f64 / parts.len() as f64, || format!("part {done}"));
            site.postgres.execute(DATABASE, sql)?;
        }
        progress.clear();
        Ok(site)
    }

    /// The chat makes its tables after the node listens.
    fn wait_for_tables(&self) -> Result<(), BenchError> {
        let there = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'chat' AND tablename = 'chat_search'";
        for _ in 0..600 {
            if self.postgres.execute(DATABASE, there)?.trim() == "1" {
                return Ok(());
            }
        }
        Err(BenchError::NotReady {
            what: "tables of the chat",
            ready: 0,
            wanted: 1,
            seconds: 30,
            reason: self.nodes.iter().map(Node::stderr).collect(),
        })
    }

    /// Where each node listens.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// How a client gets in: as a user, whom the chat lets into the channels that the user is a member of.
    pub(crate) fn way(&self, client: usize, channel: &str) -> Result<Way, BenchError> {
        let user = seed::user(client % seed::CALLERS);
        let signer = Signer::new(TOKEN_SECRET, &user);
        Ok(Way {
            target: Target::parse("--target", &self.nodes[client % NODES].url())?,
            connection: signer.connection(),
            subscription: signer.subscription(&format!("chat:{channel}")),
        })
    }

    /// Versions of PostgreSQL and Redis.
    pub(crate) fn versions(&self) -> Result<(String, String), LocalError> {
        Ok((self.postgres.version()?, self.redis.version()?))
    }

    /// Nodes that ended by themselves.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (node, number) in self.nodes.iter_mut().zip(1..) {
            if let Some(status) = node.ended() {
                reasons.push(format!("node {number} ended with {status}"));
            }
        }
        reasons
    }
}
