//! The hearing half: one connection that listens to the topics of all wanted channels, watched over and made anew.
//!
//! What arrives is parsed and handed on by the task that reads the socket; there is no queue in between that could grow.
//! A reader that is too slow makes Redis close the connection, which is reported as a break like any other.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use fanfare_wire::{ChannelName, hint::Hint};
use redis::{PushInfo, PushKind, RedisError, Value, aio::MultiplexedConnection};
use thiserror::Error;
use tokio::sync::Notify;

use super::{
    Shared,
    backoff::Backoff,
    delivery::{HEARTBEAT_AGE_MAX, SessionId},
    registry::Changes,
};

/// Channels in one SUBSCRIBE: 100,000 channels take 60 ms this way, and more than twice that one by one.
const SUBSCRIBE_CHANNELS_MAX: usize = 512;

/// How long Redis may take to confirm one batch; generous, as the confirmation queues behind hints.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection was given up.
#[derive(Debug, Error)]
enum Broken {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("Redis closed the connection")]
    Closed,
    #[error("no own heartbeat came back within {HEARTBEAT_AGE_MAX:?}")]
    Silent,
}

/// Listens until the task is ended.
pub(super) async fn run(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut worked = false;
    loop {
        let broken = session(shared, &mut worked, &mut backoff).await;
        let reason = match &broken {
            Broken::Redis(error) => shared.address.describe(error),
            other => other.to_string(),
        };
        shared.registry.close();
        if shared.delivery.down() {
            let publisher = shared.publisher_trouble().unwrap_or_default();
            tracing::warn!(
                redis = %shared.address, reason, publisher,
                "the bus is down; messages go on over the database, up to a few hundred milliseconds later"
            );
        } else {
            tracing::debug!(redis = %shared.address, reason, "the bus is still down");
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One connection, from the first byte to the moment it is given up.
async fn session(shared: &Arc<Shared>, worked: &mut bool, backoff: &mut Backoff) -> Broken {
    let lost = Arc::new(Notify::new());
    let session = shared.delivery.begin();
    let pushes = {
        let (shared, lost) = (Arc::clone(shared), Arc::clone(&lost));
        move |push: PushInfo| {
            handle_push(&shared, session, &lost, push);
            Ok::<(), ()>(())
        }
    };
    let connected = shared
        .address
        .connect_for_pushes(CONFIRM_TIMEOUT, pushes)
        .await;
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => return error.into(),
    };
    shared
        .counters
        .reconnects
        .fetch_add(u64::from(*worked), Relaxed);
    let listening = async {
        match listen(shared, connection, worked, backoff).await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    };
    tokio::select! {
        broken = listening => broken,
        () = lost.notified() => Broken::Closed,
    }
}

enum Never {}

async fn listen(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    worked: &mut bool,
    backoff: &mut Backoff,
) -> Result<Never, Broken> {
    connection.subscribe(shared.topics.heartbeat()).await?;
    let wanted = shared.registry.begin();
    let channels = wanted.len();
    subscribe(shared, &mut connection, &wanted).await?;
    if !shared.heartbeat.prove().await {
        return Err(Broken::Silent);
    }
    while let Some(changes) = shared.registry.open() {
        apply(shared, &mut connection, changes).await?;
    }
    *worked = true;
    backoff.reset();
    tracing::info!(redis = %shared.address, channels, "the bus is up");
    shared.delivery.up();
    let following = async {
        loop {
            let changes = shared.registry.changes().await;
            apply(shared, &mut connection, changes).await?;
        }
    };
    tokio::select! {
        result = following => result,
        () = shared.heartbeat.silence() => Err(Broken::Silent),
    }
}

async fn apply(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    changes: Changes,
) -> Result<(), RedisError> {
    for channels in changes.unsubscribe.chunks(SUBSCRIBE_CHANNELS_MAX) {
        connection.unsubscribe(topics(shared, channels)).await?;
    }
    subscribe(shared, connection, &changes.subscribe).await?;
    for waiter in changes.waiters {
        // A caller that no longer waits is told nothing.
        let _ = waiter.send(());
    }
    Ok(())
}

async fn subscribe(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    channels: &[ChannelName],
) -> Result<(), RedisError> {
    for channels in channels.chunks(SUBSCRIBE_CHANNELS_MAX) {
        connection.subscribe(topics(shared, channels)).await?;
    }
    Ok(())
}

fn topics(shared: &Shared, channels: &[ChannelName]) -> Vec<String> {
    channels
        .iter()
        .map(|channel| shared.topics.of(channel))
        .collect()
}

fn handle_push(shared: &Shared, session: SessionId, lost: &Notify, push: PushInfo) {
    match push.kind {
        PushKind::Message => handle_message(shared, session, push.data),
        PushKind::Disconnection => lost.notify_one(),
        _ => {}
    }
}

fn handle_message(shared: &Shared, session: SessionId, data: Vec<Value>) {
    let mut data = data.into_iter();
    let (Some(Value::BulkString(topic)), Some(Value::BulkString(payload))) =
        (data.next(), data.next())
    else {
        shared.counters.decode_errors.fetch_add(1, Relaxed);
        return;
    };
    if topic == shared.topics.heartbeat().as_bytes() {
        if let Some(travelled) = shared.heartbeat.handle_arrival(&payload) {
            let millis = travelled.as_micros().div_ceil(1000);
            shared
                .counters
                .heartbeat_ms
                .store(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
        }
        return;
    }
    match Hint::decode(Bytes::from(payload)) {
        Ok(hint) if is_expected(shared, &topic, &hint) => {
            if shared.delivery.hint(session, hint) {
                shared.counters.received.fetch_add(1, Relaxed);
            }
        }
        _ => {
            shared.counters.decode_errors.fetch_add(1, Relaxed);
        }
    }
}

fn is_expected(shared: &Shared, topic: &[u8], hint: &Hint) -> bool {
    shared.topics.is_of(topic, hint.run.channel())
}
