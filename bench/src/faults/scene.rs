//! The servers of one row, and the proxies between them.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use crate::args::TargetArgs;
use crate::error::BenchError;
use crate::local::{LocalError, Node, NodeOptions, Postgres, Redis, Sentinels, SmallDisk};
use crate::proxy::{Content, Proxy};

/// The database that the nodes share.
pub(crate) const DATABASE: &str = "faults";

/// The table of publications: what is locked, and what is counted by whoever does not take the server's word.
pub(crate) const PUBLICATIONS: &str = "fanfare.publications";

/// Which servers a row needs, and what stands between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Nodes.
    pub(crate) nodes: usize,
    /// One node on its embedded log, without PostgreSQL and Redis.
    pub(crate) sqlite: bool,
    /// A Redis master with replicas and sentinels, instead of a single Redis.
    pub(crate) sentinels: bool,
    /// A proxy between each node and Redis; not with sentinels.
    pub(crate) redis_proxies: bool,
    /// A proxy between each node and PostgreSQL.
    pub(crate) postgres_proxies: bool,
    /// A proxy in front of each node, for clients and publishers.
    pub(crate) client_proxies: bool,
    /// The database's files lie on a disk of so many MiB.
    pub(crate) disk_mib: Option<u64>,
    /// Further environment of the node with this index.
    pub(crate) environment: fn(usize) -> Vec<(String, String)>,
}

impl Layout {
    /// Three nodes on one PostgreSQL and one Redis, without proxies.
    pub(crate) const DEFAULT: Self = Self {
        nodes: 3,
        sqlite: false,
        sentinels: false,
        redis_proxies: false,
        postgres_proxies: false,
        client_proxies: false,
        disk_mib: None,
        environment: |_| Vec::new(),
    };
}

/// Running servers. Nodes are dropped before what they depend on.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
    /// In front of each node; empty when the layout has none.
    pub(crate) client_proxies: Vec<Proxy>,
    /// Between each node and Redis; empty when the layout has none.
    pub(crate) redis_proxies: Vec<Proxy>,
    /// Between each node and PostgreSQL; empty when the layout has none.
    pub(crate) postgres_proxies: Vec<Proxy>,
    /// What the nodes share, unless they share nothing.
    shared: Option<Shared>,
    /// The disk of the database, when it has one of its own.
    disk: Option<SmallDisk>,
}

#[derive(Debug)]
struct Shared {
    bus: SharedBus,
    postgres: Postgres,
}

/// What carries hints between nodes.
#[derive(Debug)]
enum SharedBus {
    Single(Redis),
    Watched(Sentinels),
}

impl Scene {
    /// Starts all of it.
    ///
    /// # Errors
    /// When one does not start.
    pub(crate) fn start(layout: &Layout) -> Result<Self, BenchError> {
        let disk = layout.disk_mib.map(SmallDisk::mount).transpose()?;
        let folder = disk.as_ref().map(SmallDisk::path);
        let mut scene = Self {
            nodes: Vec::with_capacity(layout.nodes),
            client_proxies: Vec::new(),
            redis_proxies: Vec::new(),
            postgres_proxies: Vec::new(),
            shared: None,
            disk,
        };
        if !layout.sqlite {
            scene.shared = Some(Shared::start(layout, folder.as_deref())?);
        }
        let nodes = if layout.sqlite { 1 } else { layout.nodes };
        for index in 0..nodes {
            let mut options = scene.node_options(layout)?;
            options.name = Some(format!("node-{}", index + 1));
            options.environment = (layout.environment)(index);
            if layout.sqlite {
                options.data.clone_from(&folder);
            }
            let node = Node::start(options)?;
            if layout.client_proxies {
                let proxy = Proxy::start(node.address(), Content::Bytes)?;
                scene.client_proxies.push(proxy);
            }
            scene.nodes.push(node);
        }
        Ok(scene)
    }

    /// Options of the next node of this scene.
    fn node_options(&mut self, layout: &Layout) -> Result<NodeOptions, BenchError> {
        let mut options = plain_node()?;
        let Some(shared) = &self.shared else {
            return Ok(options);
        };
        let mut postgres = shared.postgres.address();
        if layout.postgres_proxies {
            let proxy = Proxy::start(postgres, Content::Bytes)?;
            postgres = proxy.address();
            self.postgres_proxies.push(proxy);
        }
        options.redis = Some(shared.bus.url());
        if let (SharedBus::Single(redis), true) = (&shared.bus, layout.redis_proxies) {
            let proxy = Proxy::start(redis.address(), Content::Redis)?;
            options.redis = Some(format!("redis://{}", proxy.address()));
            self.redis_proxies.push(proxy);
        }
        let direct = shared.postgres.address().to_string();
        let url = shared.postgres.url(DATABASE);
        options.postgres = Some(url.replace(&direct, &postgres.to_string()));
        Ok(options)
    }

    /// Options of a further node on the same database and Redis, without proxies.
    ///
    /// # Errors
    /// When the file of this program is not known.
    pub(crate) fn further_node(&self) -> Result<NodeOptions, BenchError> {
        let mut options = plain_node()?;
        if let Some(shared) = &self.shared {
            options.postgres = Some(shared.postgres.url(DATABASE));
            options.redis = Some(shared.bus.url());
        }
        Ok(options)
    }

    /// Where clients and publishers go, open to everybody as `--dev` makes it.
    pub(crate) fn target(&self) -> TargetArgs {
        TargetArgs {
            urls: (0..self.nodes.len())
                .map(|node| format!("http://{}", self.entrance(node)))
                .collect(),
            publish_urls: Vec::new(),
            api_key: None,
            token: None,
            token_secret: None,
            user: String::new(),
            channel_prefix: "faults".to_owned(),
            run: None,
        }
    }

    /// Where clients reach a node: its proxy, if it has one.
    pub(crate) fn entrance(&self, node: usize) -> SocketAddr {
        match self.client_proxies.get(node) {
            Some(proxy) => proxy.address(),
            None => self.nodes[node].address(),
        }
    }

    /// Where the server API of a node is, past any proxy.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address()
    }

    /// The Redis of this row.
    ///
    /// # Errors
    /// When the layout has none: a mistake in the row.
    pub(crate) fn redis(&mut self) -> Result<&mut Redis, BenchError> {
        match &mut self.shared {
            Some(Shared {
                bus: SharedBus::Single(redis),
                ..
            }) => Ok(redis),
            _ => Err(BenchError::option("row", "it has no single Redis")),
        }
    }

    /// The sentinels of this row, with their master.
    ///
    /// # Errors
    /// When the layout has none: a mistake in the row.
    pub(crate) fn sentinels(&mut self) -> Result<&mut Sentinels, BenchError> {
        match &mut self.shared {
            Some(Shared {
                bus: SharedBus::Watched(sentinels),
                ..
            }) => Ok(sentinels),
            _ => Err(BenchError::option("row", "it has no sentinels")),
        }
    }

    /// The PostgreSQL of this row.
    ///
    /// # Errors
    /// When the layout has none: a mistake in the row.
    pub(crate) fn postgres(&mut self) -> Result<&mut Postgres, BenchError> {
        match &mut self.shared {
            Some(shared) => Ok(&mut shared.postgres),
            None => Err(BenchError::option("row", "it has no PostgreSQL")),
        }
    }

    /// Puts another PostgreSQL in the place of the one so far, which is ended: for everybody who comes through a proxy.
    ///
    /// # Errors
    /// When the layout has none: a mistake in the row.
    pub(crate) fn replace_postgres(&mut self, postgres: Postgres) -> Result<(), BenchError> {
        for proxy in &self.postgres_proxies {
            proxy.forward_to(postgres.address());
            proxy.reset_all();
        }
        *self.postgres()? = postgres;
        Ok(())
    }

    /// The disk of the database.
    ///
    /// # Errors
    /// When the layout has none: a mistake in the row.
    pub(crate) fn disk(&self) -> Result<&SmallDisk, BenchError> {
        self.disk
            .as_ref()
            .ok_or_else(|| BenchError::option("row", "it has no disk of its own"))
    }

    /// Starts all nodes again at the same time; those that still run are killed first.
    ///
    /// # Errors
    /// When one does not start.
    pub(crate) fn restart_all(&mut self) -> Result<(), LocalError> {
        for node in &mut self.nodes {
            node.kill();
        }
        thread::scope(|scope| {
            let starts: Vec<_> = self
                .nodes
                .iter_mut()
                .map(|node| scope.spawn(|| node.restart()))
                .collect();
            starts.into_iter().try_for_each(|start| match start.join() {
                Ok(started) => started,
                Err(_) => Err(LocalError::io(
                    "start a node",
                    std::io::Error::other("its thread failed"),
                )),
            })
        })
    }

    /// Nodes that ended although nobody asked them to, with their last words.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.ended() {
                let log = node.stderr();
                let last = log.lines().rfind(|line| !line.is_empty());
                reasons.push(format!(
                    "node {} ended with {status}: {}",
                    index + 1,
                    last.unwrap_or_default()
                ));
            }
        }
        reasons
    }
}

impl Shared {
    fn start(layout: &Layout, folder: Option<&Path>) -> Result<Self, BenchError> {
        let bus = if layout.sentinels {
            SharedBus::Watched(Sentinels::start()?)
        } else {
            SharedBus::Single(Redis::start()?)
        };
        let postgres = match folder {
            Some(folder) => Postgres::start_in(folder)?,
            None => Postgres::start()?,
        };
        postgres.create_database(DATABASE)?;
        Ok(Self { bus, postgres })
    }
}

impl SharedBus {
    /// What a node takes for `--redis`.
    fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Watched(sentinels) => sentinels.url(),
        }
    }
}

fn plain_node() -> Result<NodeOptions, BenchError> {
    Ok(NodeOptions {
        binary: this_program()?,
        dev: true,
        ..NodeOptions::default()
    })
}

/// The file of this program, which is also a node.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn this_program() -> Result<PathBuf, BenchError> {
    env::current_exe().map_err(|source| BenchError::system("find the file of this program", source))
}
