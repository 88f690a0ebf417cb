//! Several nodes in one process: real engines on a shared log in memory and a bus that can be cut.

use std::{
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    hub::Sink,
    memory::{
        bus::{MemoryBus, MemoryNetwork},
        log::{MemoryLog, Snapshot},
    },
    port::{Bus, Log, Retention},
};
use fanfare_wire::{ChannelName, Draft, Epoch, Json, Seq};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{
    PATIENCE,
    gate::{GatedLog, Gates},
    line::{Client, LineForm, LineSession},
};

/// Nodes that share a log.
pub(crate) struct Cluster {
    runtime: Runtime,
    log: MemoryLog,
    network: MemoryNetwork,
    /// What holds back the answers of the log.
    pub(crate) gates: Arc<Gates>,
    nodes: Vec<(Arc<Engine>, Arc<MemoryBus>)>,
}

impl Cluster {
    pub(crate) fn start(nodes: usize) -> Self {
        Self::with_shards(nodes, 2)
    }

    pub(crate) fn with_shards(nodes: usize, shards: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let log = MemoryLog::new(Epoch::parse("memory").unwrap(), || 0);
        let gates = Arc::new(Gates::default());
        let network = MemoryNetwork::new();
        let start = |_| {
            let lane = GatedLog {
                log: log.open_lane(),
                gates: Arc::clone(&gates),
            };
            start_node(&runtime, shards, Arc::new(lane), &network)
        };
        let nodes = (0..nodes).map(start).collect();
        Self {
            runtime,
            log,
            network,
            nodes,
            gates,
        }
    }

    /// Connects a client to a node.
    pub(crate) fn client(&self, node: usize) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let sink = Sink::socket(socket).unwrap();
        self.nodes[node]
            .0
            .hub()
            .open(sink, Box::new(LineSession::default()), Vec::new());
        Client::new(client)
    }

    /// A node, to be asked directly.
    pub(crate) fn engine(&self, node: usize) -> &Engine {
        &self.nodes[node].0
    }

    /// Waits for an answer of a node.
    pub(crate) fn block_on<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// Publishes through a node and waits for the acknowledgement.
    pub(crate) fn publish(&self, node: usize, channel: &str, bytes: usize) -> Seq {
        let data = format!("\"{}\"", "x".repeat(bytes));
        let data = Json::parse(data.as_bytes()).unwrap();
        let draft = Draft::new(ChannelName::parse(channel).unwrap(), Uuid::now_v7(), data);
        self.runtime
            .block_on(self.nodes[node].0.publish(draft))
            .unwrap()
            .seq
    }

    /// What is in the log now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.log.snapshot()
    }

    /// Puts the log back to what it was.
    pub(crate) fn restore(&self, snapshot: Snapshot, epoch: &str) {
        self.log.restore(snapshot, Epoch::parse(epoch).unwrap());
    }

    /// How often a node has heard of a new epoch.
    pub(crate) fn epoch_changes(&self, node: usize) -> u64 {
        self.nodes[node].0.metrics().epoch_changes.value()
    }

    /// Removes all but the newest publications of the channels outside namespaces.
    pub(crate) fn trim(&self, channel: &str, count_max: u64) {
        assert!(!channel.contains(':'));
        let rule = Retention {
            namespace: String::new(),
            age_max: None,
            count_max: Some(count_max),
        };
        self.runtime.block_on(self.log.trim(&[rule])).unwrap();
    }

    pub(crate) fn lose_hints(&self, lose: bool) {
        self.network.lose_hints(lose);
    }

    pub(crate) fn cut(&self, node: usize) {
        self.nodes[node].1.cut();
    }

    pub(crate) fn mend(&self, node: usize) {
        self.nodes[node].1.mend();
    }
}

/// Waits for something that happens in another thread.
pub(crate) fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

fn start_node(
    runtime: &Runtime,
    shards: usize,
    lane: Arc<dyn Log>,
    network: &MemoryNetwork,
) -> (Arc<Engine>, Arc<MemoryBus>) {
    let _entered = runtime.enter();
    let bus = Arc::new(network.join());
    let config = EngineConfig {
        shards,
        retention: Vec::new(),
        retention_interval: Duration::from_secs(3600),
        stall_seconds: 60,
        about: Arc::new(|| Bytes::from_static(b"{}")),
        metrics: Arc::new(Metrics::default()),
    };
    let engine = Engine::start(
        config,
        lane,
        Arc::clone(&bus) as Arc<dyn Bus>,
        vec![Box::new(LineForm)],
    );
    (engine.unwrap(), bus)
}
