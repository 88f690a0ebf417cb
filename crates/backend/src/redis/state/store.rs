//! The way to the masters: what the calls of the state and its tasks share, and one session's connections.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use fanfare_engine::port::state::{StateError, StateEvents};
use futures_util::future::try_join_all;
use redis::{
    Cmd, Pipeline, RedisError, ServerError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    CALL_TIMEOUT,
    counters::StateCounters,
    script::{Call, Hashes, Texts},
    session::Broken,
};
use crate::redis::{
    access::{Access, Endpoint},
    address::Address,
    topics::Topics,
    topology::{Map, Topology},
};

/// What the tasks of a state, and the calls of it, share.
pub(super) struct Shared {
    pub(super) address: Address,
    pub(super) access: Access,
    pub(super) topology: Topology,
    pub(super) topics: Topics,
    pub(super) texts: Texts,
    pub(super) counters: Arc<StateCounters>,
    /// The name under which this process holds leases; another one after its lease was lost.
    pub(super) node: watch::Sender<Uuid>,
    /// That name was made known to Redis.
    pub(super) introduced: AtomicBool,
    /// The processes of the masters to which it was.
    pub(super) runs: Mutex<Vec<Option<String>>>,
    /// Rung when the lease of this node seems to be lost.
    pub(super) lost: Notify,
    /// When the keys of all scopes were last kept.
    pub(super) kept: Mutex<Instant>,
    live: RwLock<Result<Arc<Live>, StateError>>,
    outlet: Mutex<Outlet>,
}

/// Where changes of health leave.
#[derive(Default)]
struct Outlet {
    events: Option<Arc<dyn StateEvents>>,
    /// The last that was reported, if any was.
    up: Option<bool>,
}

impl Shared {
    pub(super) fn new(address: Address, topics: Topics, topology: Topology) -> Self {
        Self {
            access: address.access.clone(),
            texts: Texts::new(topology.commands()),
            topics,
            topology,
            counters: Arc::default(),
            node: watch::Sender::new(Uuid::new_v4()),
            introduced: AtomicBool::new(false),
            runs: Mutex::default(),
            lost: Notify::new(),
            kept: Mutex::new(Instant::now()),
            live: RwLock::new(Err(StateError::Unavailable(format!(
                "Redis at {address} was not reached yet"
            )))),
            outlet: Mutex::default(),
            address,
        }
    }

    /// Sets where changes of health go. `false` if that was done before.
    pub(super) fn start(&self, events: Arc<dyn StateEvents>) -> bool {
        let mut outlet = self.lock_outlet();
        let first = outlet.events.is_none();
        outlet.events.get_or_insert(events);
        first
    }

    /// The session in use.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn live(&self) -> Result<Arc<Live>, StateError> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A session works: whoever holds something asserts it. Also for one that worked before, when Redis has forgotten.
    pub(super) fn up(&self, live: &Arc<Live>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Ok(Arc::clone(live));
        let events = {
            let mut outlet = self.lock_outlet();
            outlet.up = Some(true);
            outlet.events.clone()
        };
        if let Some(events) = events {
            events.on_up();
        }
    }

    /// There is no session. Returns whether that is news.
    pub(super) fn down(&self, why: StateError) -> bool {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Err(why);
        let (events, news) = {
            let mut outlet = self.lock_outlet();
            let news = outlet.up.replace(false) != Some(false);
            (outlet.events.clone(), news)
        };
        if let Some(events) = events.filter(|_| news) {
            events.on_down();
        }
        news
    }

    /// There will be no session any more; nobody is told.
    pub(super) fn close(&self, why: StateError) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Err(why);
    }

    /// The name under which this process holds leases now.
    pub(super) fn node(&self) -> Uuid {
        *self.node.borrow()
    }

    /// Waits until this process has another name than one that turned out to be dead.
    pub(super) async fn renamed(&self, dead: Uuid) -> Result<(), StateError> {
        let mut names = self.node.subscribe();
        self.lost.notify_one();
        let renamed = timeout(CALL_TIMEOUT, names.wait_for(|name| *name != dead)).await;
        match renamed {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StateError::Unavailable(
                "this node's own lease was lost, and is not yet taken anew".to_owned(),
            )),
        }
    }

    /// Runs one call.
    pub(super) async fn call(&self, call: Call) -> Result<Value, StateError> {
        let live = self.live()?;
        let answers = self.call_all(&live, &[call]).await?;
        answers.into_iter().next().ok_or_else(strange)
    }

    /// Runs calls: those of one master in their order, in one write. One answer for each, or the first error; then others
    /// may have been carried out.
    pub(super) async fn call_all(
        &self,
        live: &Live,
        calls: &[Call],
    ) -> Result<Vec<Value>, StateError> {
        let mut parts = vec![Vec::new(); live.masters.len()];
        for (place, call) in calls.iter().enumerate() {
            if let Some(part) = parts.get_mut(live.map.owner(call.partition)) {
                part.push(place);
            }
        }
        let busy = parts.iter().zip(&live.masters);
        let busy = busy.filter(|(part, _)| !part.is_empty());
        let answered = try_join_all(busy.map(async |(part, master)| {
            let answers = self.ask_master(live, master, calls, part).await?;
            Ok::<_, StateError>(part.iter().copied().zip(answers))
        }))
        .await?;
        let mut answers = vec![Value::Nil; calls.len()];
        for (place, answer) in answered.into_iter().flatten() {
            answers[place] = answer;
        }
        Ok(answers)
    }

    /// Runs the calls at some places on their master; those whose script it has forgotten are sent again with the text.
    async fn ask_master(
        &self,
        live: &Live,
        master: &Server,
        calls: &[Call],
        part: &[usize],
    ) -> Result<Vec<Value>, StateError> {
        let commands = part
            .iter()
            .map(|&place| calls[place].by_hash(&master.hashes));
        let mut answers = self.send(live, master, commands).await?;
        let forgotten: Vec<usize> = (0..answers.len())
            .filter(|&at| is_forgotten(&answers[at]))
            .collect();
        if !forgotten.is_empty() {
            let again = forgotten
                .iter()
                .map(|&at| calls[part[at]].by_text(&self.texts));
            for (at, answer) in forgotten.iter().zip(self.send(live, master, again).await?) {
                answers[*at] = answer;
            }
        }
        let check = |answer| match answer {
            Value::ServerError(error) => Err(judge(self, live, master, error)),
            answer => Ok(answer),
        };
        answers.into_iter().map(check).collect()
    }

    /// Runs one command on the master of a partition.
    pub(super) async fn command(
        &self,
        live: &Live,
        partition: usize,
        command: Cmd,
    ) -> Result<Value, StateError> {
        let owner = live.map.owner(partition);
        let Some(master) = live.masters.get(owner) else {
            return Err(strange());
        };
        match self.send(live, master, [command]).await?.pop() {
            Some(Value::ServerError(error)) => Err(judge(self, live, master, error)),
            Some(answer) => Ok(answer),
            None => Err(strange()),
        }
    }

    async fn send(
        &self,
        live: &Live,
        master: &Server,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> Result<Vec<Value>, StateError> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        let count = pipeline.len();
        let mut connection = master.connection.clone();
        let sent = connection.send_packed_commands(&pipeline, 0, count);
        let why = match timeout(CALL_TIMEOUT, sent).await {
            Ok(Ok(answers)) if answers.len() == count => return Ok(answers),
            Ok(Ok(_)) => "the answer has another length".to_owned(),
            Ok(Err(error)) => self.access.describe(&error),
            Err(_) => format!("no answer within {CALL_TIMEOUT:?}"),
        };
        let broken = Broken::Redis(master.endpoint.clone(), why);
        let error = StateError::Unavailable(broken.to_string());
        live.end(broken);
        Err(error)
    }

    /// A session after another has begun.
    pub(super) fn note_session(&self) {
        let again = self.introduced.load(Relaxed);
        StateCounters::add(&self.counters.reconnects, u64::from(again));
    }

    fn lock_outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session: the masters as they were found, and a connection to each.
pub(super) struct Live {
    pub(super) map: Map,
    /// In the order of the map.
    pub(super) masters: Vec<Server>,
    reason: Mutex<Option<Broken>>,
    bell: Notify,
}

/// A master.
pub(super) struct Server {
    pub(super) endpoint: Endpoint,
    /// The name of its process, if it tells.
    pub(super) run: Option<String>,
    pub(super) connection: MultiplexedConnection,
    pub(super) hashes: Hashes,
}

impl Live {
    pub(super) fn new(map: Map, masters: Vec<Server>) -> Self {
        Self {
            map,
            masters,
            reason: Mutex::default(),
            bell: Notify::new(),
        }
    }

    /// Ends the session; the first reason counts.
    pub(super) fn end(&self, broken: Broken) {
        let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.get_or_insert(broken);
        self.bell.notify_one();
    }

    /// Waits for that.
    pub(super) async fn ended(&self) -> Broken {
        loop {
            self.bell.notified().await;
            let mut reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(broken) = reason.take() {
                return broken;
            }
        }
    }
}

/// An answer that no script gives.
pub(super) fn strange() -> StateError {
    StateError::Unavailable("Redis has given an answer of another form".to_owned())
}

fn is_forgotten(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// What a refusal means for the call; for the session as well, if the master is not what it was thought to be.
fn judge(shared: &Shared, live: &Live, master: &Server, error: ServerError) -> StateError {
    let endpoint = master.endpoint.clone();
    let kind = error.kind();
    let out_of_memory = error.code() == "OOM";
    let why = shared.access.describe(&RedisError::from(error));
    match kind {
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => live.end(Broken::Moved(endpoint)),
        Some(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading,
        ) => live.end(Broken::Redis(endpoint, why.clone())),
        _ => {}
    }
    let place = &master.endpoint;
    if out_of_memory {
        return StateError::Unavailable(format!(
            "Redis at {place} is full; raise its maxmemory: {why}"
        ));
    }
    StateError::Unavailable(format!("Redis at {place} has refused: {why}"))
}
