//! The sending half: takes the hints and news of one master's lane from the queue and gives them to it, many in one write, one
//! write at a time.
//!
//! Never more than one batch is under way, so they reach the master in the order of the queue. A batch that was not
//! answered as a whole is sent again over the next connection, without its news: others may then hear a hint twice, which
//! is harmless.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{
    Pipeline, RedisError, ServerError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    backoff::Backoff,
    counters::BusCounters,
    heartbeat::HEARTBEAT_INTERVAL,
    session::{Broken, Path, Session},
    topology::{CHECK_INTERVAL, CHECKS_PER_DEEP_ONE, Commands, Unfit, into_error},
};

/// How long Redis may take to answer a batch.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Why a connection was given up.
enum Trouble {
    /// Another connection to the same master may do better.
    Connection(String),
    /// The master is not what it was thought to be.
    Session(Broken),
}

/// Publishes until the master turns out to be the wrong one.
pub(super) async fn run(session: Arc<Session>, place: usize) -> Broken {
    let Some(path) = session.paths.get(place) else {
        return Broken::Failed("there is no such master".to_owned());
    };
    let mut backoff = Backoff::default();
    loop {
        match into_error(serve(&session, path, &mut backoff).await) {
            Trouble::Session(broken) => return broken,
            Trouble::Connection(reason) => {
                let reason = format!("{}: {reason}", path.endpoint());
                session.shared.note_publisher(Some(reason));
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One connection, from the first byte to the moment it is given up.
async fn serve(
    session: &Session,
    path: &Path,
    backoff: &mut Backoff,
) -> Result<Infallible, Trouble> {
    let shared = &session.shared;
    let failed = |error: RedisError| Trouble::Connection(shared.access.describe(&error));
    let mut connection = shared
        .access
        .connect(path.endpoint(), ANSWER_TIMEOUT)
        .await
        .map_err(failed)?;
    session.note_connection();
    let mut beats = ticker(HEARTBEAT_INTERVAL);
    let mut checks = ticker(CHECK_INTERVAL);
    let mut checked: u64 = 0;
    loop {
        let mut beat = false;
        tokio::select! {
            // The first check is due at once, and comes before everything else.
            biased;
            _ = checks.tick() => {
                let deep = checked % CHECKS_PER_DEEP_ONE == CHECKS_PER_DEEP_ONE - 1;
                check(session, path, &mut connection, deep).await?;
                shared.note_publisher(None);
                checked += 1;
            }
            () = path.heartbeat.requested() => beat = true,
            _ = beats.tick() => beat = true,
            () = shared.queue.ready(path.place) => {}
        }
        round(session, path, &mut connection, beat).await?;
        backoff.reset();
    }
}

async fn check(
    session: &Session,
    path: &Path,
    connection: &mut MultiplexedConnection,
    deep: bool,
) -> Result<(), Trouble> {
    let (topology, access) = (&session.shared.topology, &session.shared.access);
    let checked = topology
        .check(connection, access, &path.master, &session.map, deep)
        .await;
    checked.map_err(|unfit| match unfit {
        Unfit::Mute(_, why) => Trouble::Connection(why),
        unfit => Trouble::Session(unfit.into()),
    })
}

/// Sends what is due and waits for all of its answers.
async fn round(
    session: &Session,
    path: &Path,
    connection: &mut MultiplexedConnection,
    beat: bool,
) -> Result<(), Trouble> {
    let shared = &session.shared;
    let publish = match shared.topology.commands() {
        Commands::Classic => "PUBLISH",
        Commands::Sharded => "SPUBLISH",
    };
    let (batch, dropped) = shared.queue.batch(path.place, Instant::now());
    BusCounters::add(&shared.counters.dropped, dropped);
    let mut commands = Pipeline::with_capacity(batch.parcels.len() + 1);
    if beat {
        let payload = path.heartbeat.payload();
        commands.cmd(publish).arg(&path.topic).arg(&payload[..]);
    }
    for parcel in &batch.parcels {
        let topic = shared.topics.of(parcel.channel());
        let payload = parcel.encode(shared.topics.node());
        commands.cmd(publish).arg(topic).arg(&payload[..]);
    }
    let count = commands.len();
    if count == 0 {
        // Nothing but news that were given before, or came too late.
        shared.queue.confirm(&batch);
        return Ok(());
    }
    let answers = connection
        .send_packed_commands(&commands, 0, count)
        .await
        .map_err(|error| Trouble::Connection(shared.access.describe(&error)))?;
    if let Some(error) = answers.into_iter().find_map(refusal) {
        return Err(judge(path, &error));
    }
    BusCounters::add(&shared.counters.published, batch.parcels.len());
    shared.queue.confirm(&batch);
    Ok(())
}

fn refusal(answer: Value) -> Option<ServerError> {
    match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

fn judge(path: &Path, error: &ServerError) -> Trouble {
    let endpoint = path.endpoint().clone();
    match error.kind() {
        Some(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
            Trouble::Session(Broken::Moved(endpoint))
        }
        Some(ServerErrorKind::ClusterDown) => {
            Trouble::Session(Unfit::Sick(endpoint, error.to_string()).into())
        }
        _ => Trouble::Connection(format!("it refused to publish: {error}")),
    }
}

fn ticker(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
