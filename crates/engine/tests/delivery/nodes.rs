//! Several nodes in one process: real engines on a shared log in memory and a bus that can be cut.

use std::{
    net::{TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fanfare_engine::{
    Engine, EngineConfig, Metrics, PublishError, Published,
    hub::Sink,
    memory::{
        bus::{MemoryBus, MemoryNetwork},
        log::{MemoryLog, Snapshot},
        peers::{MemoryLinks, MemoryPeers},
        state::{MemoryState, MemoryStates},
    },
    port::{Bus, Log, Retention, State, log::LANE_LOG_KEPT, peers::PeerId},
};
use fanfare_wire::{ChannelName, Draft, Epoch, Json, News, NewsBody, Seq};
use tokio::{runtime::Runtime, task::JoinHandle};
use uuid::Uuid;

use crate::{
    PATIENCE,
    gate::{GatedLog, Gates},
    line::{Client, LineForm, LineSession},
    selection::DeltaForm,
    transact::NoRows,
};

/// What a publish came to.
pub(crate) type Answer = Result<Published, PublishError>;

/// Nodes that share a log.
pub(crate) struct Cluster {
    runtime: Runtime,
    log: MemoryLog,
    /// The log's clock, in milliseconds.
    clock: Arc<AtomicI64>,
    network: MemoryNetwork,
    /// What holds back the answers of the log.
    pub(crate) gates: Arc<Gates>,
    states: MemoryStates,
    nodes: Vec<(Arc<Engine>, Arc<MemoryBus>, Arc<MemoryState>)>,
    /// The links between the nodes, once they have joined.
    pub(crate) links: MemoryLinks,
}

impl Cluster {
    pub(crate) fn start(nodes: usize) -> Self {
        Self::with_shards(nodes, 2)
    }

    pub(crate) fn with_shards(nodes: usize, shards: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let clock = Arc::new(AtomicI64::new(0));
        let time = Arc::clone(&clock);
        let log = MemoryLog::new(Epoch::parse("memory").unwrap(), move || time.load(SeqCst));
        let gates = Arc::new(Gates::default());
        let network = MemoryNetwork::new();
        let states = MemoryStates::new();
        let start = |_| {
            let lane = GatedLog {
                log: log.open_lane(),
                gates: Arc::clone(&gates),
            };
            let tables = NoRows {
                log: log.open_lane(),
                gates: Arc::clone(&gates),
            };
            let ports = (Arc::new(lane) as Arc<dyn Log>, Arc::new(tables));
            start_node(&runtime, shards, ports, &network, &states)
        };
        let nodes = (0..nodes).map(start).collect();
        Self {
            runtime,
            log,
            clock,
            network,
            states,
            nodes,
            gates,
            links: MemoryLinks::new(),
        }
    }

    /// Lets the nodes own channels for each other; returns who they are, in their order.
    pub(crate) fn join(&self) -> Vec<PeerId> {
        let _entered = self.runtime.enter();
        let ends: Vec<_> = self.nodes.iter().map(|_| self.links.join()).collect();
        let ids = ends.iter().map(MemoryPeers::id).collect();
        for ((engine, ..), end) in self.nodes.iter().zip(ends) {
            engine.join(Arc::new(end));
        }
        ids
    }

    /// Begins to publish through a node, without waiting for the acknowledgement.
    pub(crate) fn begin(&self, node: usize, draft: Draft) -> JoinHandle<Answer> {
        let engine = Arc::clone(&self.nodes[node].0);
        // The draft is taken when this returns.
        let publishing = Box::pin(async move { engine.publish(draft).await });
        let mut publishing = publishing as Pin<Box<dyn Future<Output = Answer> + Send>>;
        let polled = publishing
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        self.runtime.spawn(async move {
            match polled {
                Poll::Ready(answer) => answer,
                Poll::Pending => publishing.await,
            }
        })
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
        self.runtime
            .block_on(self.nodes[node].0.publish(draft(channel, bytes)))
            .unwrap()
            .seq
    }

    /// The same with tags.
    pub(crate) fn publish_tagged(
        &self,
        node: usize,
        channel: &str,
        bytes: usize,
        tags: &str,
    ) -> Seq {
        let mut draft = draft(channel, bytes);
        draft.tags = Some(Json::parse(tags.as_bytes()).unwrap());
        let engine = &self.nodes[node].0;
        self.runtime.block_on(engine.publish(draft)).unwrap().seq
    }

    /// Tells the subscribers of a channel something, through a node.
    pub(crate) fn tell(&self, node: usize, channel: &str, data: &str) {
        self.nodes[node].0.tell(News {
            channel: ChannelName::parse(channel).unwrap(),
            body: NewsBody::Message {
                data: Json::parse(data.as_bytes()).unwrap(),
                info: None,
                tags: None,
            },
        });
    }

    /// The shared state, as a node sees it.
    pub(crate) fn state(&self, node: usize) -> &MemoryState {
        &self.nodes[node].2
    }

    /// The shared state.
    pub(crate) fn states(&self) -> &MemoryStates {
        &self.states
    }

    /// Lets so much time pass that nothing of the lane log is kept.
    pub(crate) fn forget_lane_log(&self) {
        let kept = i64::try_from(LANE_LOG_KEPT.as_millis()).unwrap();
        self.clock.fetch_add(kept + 1, SeqCst);
        self.runtime.block_on(self.log.trim(&[])).unwrap();
    }

    /// Commits a publication in a lane that no node has heard of, and gives the lane.
    pub(crate) fn publish_in_new_lane(&self, channel: &str) -> MemoryLog {
        let lane = self.log.open_lane();
        self.publish_in(&lane, channel);
        lane
    }

    pub(crate) fn publish_in(&self, lane: &MemoryLog, channel: &str) {
        let draft = draft(channel, 10);
        self.runtime.block_on(lane.append(&[draft])).unwrap();
    }

    /// What is in the log now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.log.snapshot()
    }

    /// Puts the log back to what it was.
    pub(crate) fn restore(&self, snapshot: Snapshot, epoch: &str) {
        self.log.restore(snapshot, Epoch::parse(epoch).unwrap());
    }

    /// Takes the log away from all nodes, or brings it back.
    pub(crate) fn set_available(&self, available: bool) {
        self.log.set_available(available);
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

pub(crate) fn draft(channel: &str, bytes: usize) -> Draft {
    let data = format!("\"{}\"", "x".repeat(bytes));
    let data = Json::parse(data.as_bytes()).unwrap();
    Draft::new(ChannelName::parse(channel).unwrap(), Uuid::now_v7(), data)
}

/// Waits for something that happens in another thread.
pub(crate) fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

fn start_node(
    runtime: &Runtime,
    shards: usize,
    (lane, tables): (Arc<dyn Log>, Arc<NoRows>),
    network: &MemoryNetwork,
    states: &MemoryStates,
) -> (Arc<Engine>, Arc<MemoryBus>, Arc<MemoryState>) {
    let _entered = runtime.enter();
    let bus = Arc::new(network.join());
    let state = Arc::new(states.join());
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
        tables,
        Arc::clone(&state) as Arc<dyn State>,
        vec![Box::new(LineForm), Box::new(DeltaForm)],
    );
    (engine.unwrap(), bus, state)
}
