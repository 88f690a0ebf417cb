//! All that runs: Google's stand-in, PostgreSQL, Redis, nodes, and one address for all nodes.

use std::env;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanfare_stand_in::Google;
use fanfare_stand_in::pubsub::PushConfig;

use crate::error::BenchError;
use crate::local::{LocalError, Node, NodeOptions, Postgres, Redis, free_address};
use crate::mail::args::MailArgs;
use crate::mail::forge;
use crate::proxy::{Content, Proxy};
use crate::report::ClusterReport;

/// The database that the nodes share.
const DATABASE: &str = "mail";

/// Who pushes.
const SERVICE_ACCOUNT: &str = "push@stand-in.iam.gserviceaccount.com";

/// Secret of the sessions; of no use outside of the run.
const TOKEN_SECRET: &str = "a-secret-of-the-mail-benchmark-32b";

/// Key of the server API.
const API_KEY: &str = "key-of-the-mail-benchmark";

/// Running servers. Nodes are dropped before what they depend on.
pub(crate) struct Site {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// Their bus.
    pub(crate) redis: Redis,
    /// What stands outside.
    pub(crate) outside: Outside,
    postgres: Postgres,
}

/// Google, and the way in.
pub(crate) struct Outside {
    /// Google.
    pub(crate) google: Google,
    /// One address for all nodes, as a load balancer has it.
    gate: Proxy,
}

impl Site {
    /// Starts all of it.
    ///
    /// # Errors
    /// When one does not start.
    pub(crate) fn start(args: &MailArgs) -> Result<Self, BenchError> {
        let binary = env::current_exe()
            .map_err(|source| BenchError::system("find the file of this program", source))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let google = Google::start(any)
            .map_err(|source| BenchError::system("start the stand-in for Google", source))?;
        let redis = Redis::start()?;
        let postgres = Postgres::start()?;
        // Whom it leads to is known when the nodes are.
        let gate = Proxy::start(free_address()?, Content::Bytes)?;
        let mut site = Self {
            nodes: Vec::with_capacity(args.nodes),
            redis,
            outside: Outside { google, gate },
            postgres,
        };
        let mut arguments = vec!["--connections-per-second".to_owned(), "0".to_owned()];
        if let Some(threads) = args.node_threads {
            arguments.extend(["--threads".to_owned(), threads.to_string()]);
        }
        let options = NodeOptions {
            binary,
            redis: Some(site.redis.url()),
            postgres: Some(site.postgres.create_database(DATABASE)?),
            api_key: Some(API_KEY.to_owned()),
            token_secret: Some(TOKEN_SECRET.to_owned()),
            config: Some(site.outside.config()),
            arguments,
            ..NodeOptions::default()
        };
        for number in 1..=args.nodes {
            site.nodes.push(Node::start(NodeOptions {
                name: Some(format!("node-{number}")),
                ..options.clone()
            })?);
        }
        site.outside.gate.spread_over(&site.addresses());
        site.outside.push(0, false);
        Ok(site)
    }

    /// Where each node listens.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// What goes into the report.
    ///
    /// # Errors
    /// When a server does not tell its version.
    pub(crate) fn describe(&self) -> Result<ClusterReport, LocalError> {
        Ok(ClusterReport {
            nodes: self.nodes.len(),
            postgres_version: Some(self.postgres.version()?),
            redis_version: Some(self.redis.version()?),
        })
    }
}

impl Outside {
    /// The one address for all of them.
    pub(crate) fn gate(&self) -> SocketAddr {
        self.gate.address()
    }

    /// The audience of the pushes, and who pushes.
    pub(crate) fn expected(&self) -> (String, &'static str) {
        (self.url(forge::PATH), SERVICE_ACCOUNT)
    }

    /// How messages are pushed from now on.
    pub(crate) fn push(&self, duplicates_percent: u64, reorder: bool) {
        let endpoint = self.url(forge::PATH);
        self.google.set_push(PushConfig {
            audience: endpoint.clone(),
            endpoint,
            service_account: SERVICE_ACCOUNT.to_owned(),
            duplicates_percent,
            reorder,
            ..PushConfig::default()
        });
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gate())
    }

    /// The configuration of every node.
    fn config(&self) -> String {
        let google = self.google.url();
        let key = STANDARD.encode([7; 32]);
        format!(
            "[mail]\nenabled = true\npublic_url = \"{}\"\nclient_id = \"bench\"\nclient_secret = \"bench\"\n\
             topic = \"projects/stand-in/topics/mail\"\nservice_account = \"{SERVICE_ACCOUNT}\"\n\
             encryption_key = \"{key}\"\nauth_url = \"{google}/o/oauth2/v2/auth\"\ntoken_url = \"{google}/token\"\n\
             revoke_url = \"{google}/revoke\"\ngmail_url = \"{google}\"\njwks_url = \"{google}/certs\"\n",
            self.url("")
        )
    }
}
