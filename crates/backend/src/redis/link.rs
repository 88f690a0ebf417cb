//! One listening connection: to one master, for the topics of its partitions.
//!
//! What arrives is parsed and handed on by the task that reads the socket; there is no queue in between that could grow.
//! A reader that is too slow makes Redis close the connection, which ends the session like any other loss.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::port::BusEvent;
use redis::{
    Pipeline, PushInfo, PushKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection,
};

use super::{
    parcel::Arrived,
    session::{Broken, Path, Session},
    topology::{Commands, Unfit},
};

/// Topics in one write: 100,000 take 60 ms this way as one SUBSCRIBE for each write, and more than twice that one by one.
const SUBSCRIBE_TOPICS_MAX: usize = 512;

/// How long Redis may take to confirm one batch; generous, as the confirmation queues behind hints.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// A listening connection.
pub(super) struct Link {
    session: Arc<Session>,
    place: usize,
    connection: MultiplexedConnection,
    leaving: Arc<Leaving>,
}

/// Topics whose unsubscription was asked for and is not confirmed yet. A cluster says the same unasked when a slot moves.
#[derive(Default)]
struct Leaving(Mutex<HashSet<Vec<u8>>>);

impl Link {
    /// Connects to the master at a place of the map, and waits for the first own heartbeat.
    pub(super) async fn open(session: &Arc<Session>, place: usize) -> Result<Self, Broken> {
        let path = path(session, place)?;
        let shared = &session.shared;
        let leaving = Arc::new(Leaving::default());
        let pushes = {
            let (session, leaving) = (Arc::clone(session), Arc::clone(&leaving));
            move |push: PushInfo| {
                handle_push(&session, place, &leaving, push);
                Ok::<(), ()>(())
            }
        };
        let connected = shared
            .access
            .connect_for_pushes(path.endpoint(), CONFIRM_TIMEOUT, pushes)
            .await;
        let describe = |error: RedisError| {
            Broken::Redis(path.endpoint().clone(), shared.access.describe(&error))
        };
        let mut connection = connected.map_err(describe)?;
        session.note_connection();
        let access = &shared.access;
        shared
            .topology
            .check(&mut connection, access, &path.master, &session.map, false)
            .await?;
        let mut link = Self {
            session: Arc::clone(session),
            place,
            connection,
            leaving,
        };
        link.subscribe(vec![path.topic.clone()]).await?;
        if !path.heartbeat.prove().await {
            return Err(Broken::Silent(path.endpoint().clone()));
        }
        Ok(link)
    }

    /// Asks for topics and waits until the master has confirmed them.
    pub(super) async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), Broken> {
        for topics in topics.chunks(SUBSCRIBE_TOPICS_MAX) {
            let told = match self.session.shared.topology.commands() {
                Commands::Classic => self.connection.subscribe(topics).await,
                Commands::Sharded => self.tell_each("SSUBSCRIBE", topics).await,
            };
            told.map_err(|error| self.judge(&error))?;
        }
        Ok(())
    }

    /// No longer asks for topics, and waits until the master has confirmed that.
    pub(super) async fn unsubscribe(&mut self, topics: Vec<String>) -> Result<(), Broken> {
        for topics in topics.chunks(SUBSCRIBE_TOPICS_MAX) {
            let told = match self.session.shared.topology.commands() {
                Commands::Classic => self.connection.unsubscribe(topics).await,
                Commands::Sharded => {
                    self.leaving.add(topics);
                    self.tell_each("SUNSUBSCRIBE", topics).await
                }
            };
            told.map_err(|error| self.judge(&error))?;
        }
        Ok(())
    }

    /// One command for each topic, all in one write. A command with many topics answers with as many confirmations, or
    /// with a single refusal, and the client does not tell which it will be: it would wait for the rest in vain.
    async fn tell_each(&mut self, command: &str, topics: &[String]) -> Result<(), RedisError> {
        let mut commands = Pipeline::with_capacity(topics.len());
        for topic in topics {
            commands.cmd(command).arg(topic);
        }
        let answers = self
            .connection
            .send_packed_commands(&commands, 0, topics.len())
            .await?;
        let refusal = answers.into_iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(error),
            _ => None,
        });
        refusal.map_or(Ok(()), |error| Err(error.into()))
    }

    fn judge(&self, error: &RedisError) -> Broken {
        let path = match path(&self.session, self.place) {
            Ok(path) => path,
            Err(broken) => return broken,
        };
        let endpoint = path.endpoint().clone();
        let why = self.session.shared.access.describe(error);
        match error.kind() {
            redis::ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                Broken::Moved(endpoint)
            }
            redis::ErrorKind::Server(ServerErrorKind::ClusterDown) => {
                Unfit::Sick(endpoint, why).into()
            }
            _ => Broken::Redis(endpoint, why),
        }
    }
}

impl Leaving {
    fn add(&self, topics: &[String]) {
        let topics = topics.iter().map(|topic| topic.clone().into_bytes());
        self.lock().extend(topics);
    }

    fn remove(&self, topic: &[u8]) -> bool {
        self.lock().remove(topic)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(session: &Session, place: usize) -> Result<&Path, Broken> {
    let path = session.paths.get(place);
    path.ok_or_else(|| Broken::Failed("there is no such master".to_owned()))
}

fn handle_push(session: &Session, place: usize, leaving: &Leaving, push: PushInfo) {
    let Some(path) = session.paths.get(place) else {
        return;
    };
    match push.kind {
        PushKind::Message | PushKind::SMessage => handle_message(session, path, push.data),
        PushKind::Disconnection => session.end(Broken::Closed(path.endpoint().clone())),
        PushKind::SUnsubscribe => {
            let asked = match push.data.first() {
                Some(Value::BulkString(topic)) => leaving.remove(topic),
                _ => false,
            };
            if !asked {
                session.end(Broken::Moved(path.endpoint().clone()));
            }
        }
        _ => {}
    }
}

fn handle_message(session: &Session, path: &Path, data: Vec<Value>) {
    let shared = &session.shared;
    let mut data = data.into_iter();
    let (Some(Value::BulkString(topic)), Some(Value::BulkString(payload))) =
        (data.next(), data.next())
    else {
        shared.counters.decode_errors.fetch_add(1, Relaxed);
        return;
    };
    if topic == path.topic.as_bytes() {
        if let Some(travelled) = path.heartbeat.handle_arrival(&payload) {
            let millis = travelled.as_micros().div_ceil(1000);
            shared
                .counters
                .heartbeat_ms
                .store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
        }
        return;
    }
    let arrived = Arrived::decode(Bytes::from(payload), shared.topics.node());
    let is_of_topic = |arrived: &Arrived| match arrived.channel() {
        Some(channel) => shared.topics.is_of(&topic, channel),
        None => true,
    };
    let event = match arrived.filter(is_of_topic) {
        Some(Arrived::Hint(hint)) => BusEvent::Hint(hint),
        Some(Arrived::News(news)) => BusEvent::News(news),
        // Delivered when it was told.
        Some(Arrived::Own) => return,
        None => {
            shared.counters.decode_errors.fetch_add(1, Relaxed);
            return;
        }
    };
    if shared.delivery.deliver(session.id, event) {
        shared.counters.received.fetch_add(1, Relaxed);
    }
}
