//! The sending half: takes hints from the queue and gives them to Redis, many in one write, one write at a time.
//!
//! Never more than one batch is under way, so hints reach Redis in the order of the queue. A batch that was not answered
//! as a whole is sent again over the next connection: others may then hear a hint twice, which is harmless.

use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use redis::{Pipeline, RedisError, Value, aio::MultiplexedConnection};
use thiserror::Error;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Shared, backoff::Backoff, counters::BusCounters, delivery::HEARTBEAT_INTERVAL};

/// How long Redis may take to answer a batch.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// How often the publisher asks whether it still speaks to the master; a replica would take hints and tell few.
const ROLE_INTERVAL: Duration = Duration::from_secs(5);

/// Why a connection was given up.
#[derive(Debug, Error)]
enum Broken {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("Redis refused to publish: {0}")]
    Refused(String),
    #[error("this Redis is a {0}, not the master")]
    NotMaster(String),
}

/// Publishes until the task is ended.
pub(super) async fn run(shared: &Shared) {
    let mut backoff = Backoff::default();
    let mut worked = false;
    loop {
        let broken = match shared.address.connect(ANSWER_TIMEOUT).await {
            Ok(connection) => {
                shared
                    .counters
                    .reconnects
                    .fetch_add(u64::from(worked), Relaxed);
                publish(shared, connection, &mut backoff, &mut worked).await
            }
            Err(error) => error.into(),
        };
        let reason = match &broken {
            Broken::Redis(error) => shared.address.describe(error),
            other => other.to_string(),
        };
        shared.note_publisher(Some(reason));
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn publish(
    shared: &Shared,
    mut connection: MultiplexedConnection,
    backoff: &mut Backoff,
    worked: &mut bool,
) -> Broken {
    let mut beats = ticker(HEARTBEAT_INTERVAL);
    let mut roles = ticker(ROLE_INTERVAL);
    loop {
        let (mut beat, mut role) = (false, false);
        tokio::select! {
            () = shared.queue.ready() => {}
            _ = beats.tick() => beat = true,
            () = shared.heartbeat.requested() => beat = true,
            _ = roles.tick() => role = true,
        }
        if let Err(broken) = round(shared, &mut connection, beat, role).await {
            return broken;
        }
        shared.note_publisher(None);
        backoff.reset();
        *worked = true;
    }
}

/// Sends what is due and waits for all of its answers.
async fn round(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    beat: bool,
    role: bool,
) -> Result<(), Broken> {
    let (batch, dropped) = shared.queue.batch(Instant::now());
    BusCounters::add(&shared.counters.dropped, dropped);
    let mut commands = Pipeline::with_capacity(batch.hints.len() + 2);
    if beat {
        let payload = shared.heartbeat.payload();
        commands
            .cmd("PUBLISH")
            .arg(shared.topics.heartbeat())
            .arg(&payload[..]);
    }
    for hint in &batch.hints {
        let topic = shared.topics.of(hint.run.channel());
        commands.cmd("PUBLISH").arg(topic).arg(&hint.encode()[..]);
    }
    if role {
        commands.cmd("ROLE");
    }
    let count = commands.len();
    if count == 0 {
        return Ok(());
    }
    let mut answers = connection.send_packed_commands(&commands, 0, count).await?;
    if role {
        check_role(answers.pop())?;
    }
    if let Some(error) = answers.into_iter().find_map(refusal) {
        return Err(Broken::Refused(error));
    }
    shared.queue.confirm(&batch);
    BusCounters::add(&shared.counters.published, batch.hints.len());
    Ok(())
}

fn refusal(answer: Value) -> Option<String> {
    match answer {
        Value::ServerError(error) => Some(error.to_string()),
        _ => None,
    }
}

/// A user that may not ask for the role is believed to know where it connects to.
fn check_role(answer: Option<Value>) -> Result<(), Broken> {
    let Some(Value::Array(fields)) = answer else {
        return Ok(());
    };
    match fields.into_iter().next() {
        Some(Value::BulkString(role)) if role != b"master" => Err(Broken::NotMaster(
            String::from_utf8_lossy(&role).into_owned(),
        )),
        _ => Ok(()),
    }
}

fn ticker(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_master_is_spoken_to() {
        let role = |name: &str| {
            Some(Value::Array(vec![Value::BulkString(
                name.as_bytes().to_vec(),
            )]))
        };
        assert!(check_role(role("master")).is_ok());
        assert!(check_role(None).is_ok());
        let error = check_role(role("slave")).unwrap_err();
        assert!(error.to_string().contains("slave"), "{error}");
    }
}
