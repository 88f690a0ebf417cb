//! Objects and buckets: calls of their scripts.

use std::time::Duration;

use fanfare_engine::port::state::{
    Bucket, Change, Changed, Expected, Object, StateError, StateKey, Taken,
};
use fanfare_wire::{Json, Millis, News};
use redis::{Value, cmd};

use super::{
    TTL_MAX, VERSION_MAX, keys, millis,
    script::{Call, Script},
    store::{Shared, strange},
};

/// Reads an object.
pub(super) async fn read(shared: &Shared, key: &StateKey) -> Result<Option<Object>, StateError> {
    let live = shared.live()?;
    let mut read = cmd("HMGET");
    read.arg(keys::object(&shared.topics, key))
        .arg(&["value", "version", "at"]);
    let partition = keys::partition(&shared.topics, key);
    match shared.command(&live, partition, read).await? {
        Value::Array(fields) => match fields.as_slice() {
            [Value::Nil, ..] => Ok(None),
            fields => Ok(Some(object(fields)?)),
        },
        _ => Err(strange()),
    }
}

/// Changes an object.
pub(super) async fn change(
    shared: &Shared,
    key: &StateKey,
    change: Change,
) -> Result<Changed, StateError> {
    let expected = match change.expected {
        Expected::Anything => "any".to_owned(),
        Expected::Nothing => "none".to_owned(),
        Expected::Version(version) => version.to_string(),
    };
    let call = of_object(shared, Script::Change, key).arg(expected);
    let call = match &change.value {
        Some(value) => call.arg("set").arg(value.as_bytes()),
        None => call.arg("remove").arg(""),
    };
    let call = call.number(millis(change.ttl));
    let call = match (&change.tell, key.channel()) {
        (Some(tell), Some(channel)) => call
            .arg(shared.topics.of(&channel))
            .arg(News::message_head(&channel, None, tell.tags.as_ref())),
        _ => call.arg("").arg(""),
    };
    let Value::Array(fields) = shared.call(call).await? else {
        return Err(strange());
    };
    match fields.as_slice() {
        [Value::Int(1), version, at] => Ok(Changed::Done {
            version: number(version)?,
            at: moment(at)?,
        }),
        [Value::Int(0)] => Ok(Changed::Conflict { current: None }),
        [Value::Int(0), fields @ ..] => {
            let current = Some(object(fields)?);
            Ok(Changed::Conflict { current })
        }
        _ => Err(strange()),
    }
}

/// Puts an object back.
pub(super) async fn assert(
    shared: &Shared,
    key: &StateKey,
    object: &Object,
    ttl: Duration,
) -> Result<u64, StateError> {
    if object.version > VERSION_MAX {
        return Err(StateError::Unavailable(format!(
            "an object of version {} is none of this state: versions are microseconds, at most {VERSION_MAX}",
            object.version
        )));
    }
    let call = of_object(shared, Script::Assert, key)
        .arg(object.value.as_bytes())
        .number(object.version)
        .number(object.changed_at)
        .number(millis(ttl));
    number(&shared.call(call).await?)
}

/// Takes tokens out of a bucket.
pub(super) async fn take(
    shared: &Shared,
    key: &StateKey,
    bucket: Bucket,
    tokens: u32,
) -> Result<Taken, StateError> {
    if tokens > bucket.capacity {
        let retry_after = Duration::MAX;
        return Ok(Taken::Refused { retry_after });
    }
    let period = bucket.period.min(TTL_MAX).as_micros().max(1);
    let call = Call::new(Script::Take, keys::partition(&shared.topics, key))
        .key(&keys::bucket(&shared.topics, key))
        .number(bucket.capacity)
        .number(bucket.refill.max(1))
        .number(u64::try_from(period).unwrap_or(u64::MAX))
        .number(tokens)
        .number(millis(TTL_MAX));
    let Value::Array(fields) = shared.call(call).await? else {
        return Err(strange());
    };
    match fields.as_slice() {
        [Value::Int(1), left] => {
            let left = u32::try_from(number(left)?).unwrap_or(u32::MAX);
            Ok(Taken::Granted { left })
        }
        [Value::Int(0), wait] => {
            let retry_after = Duration::from_micros(number(wait)?);
            Ok(Taken::Refused { retry_after })
        }
        _ => Err(strange()),
    }
}

fn of_object(shared: &Shared, script: Script, key: &StateKey) -> Call {
    let topics = &shared.topics;
    Call::new(script, keys::partition(topics, key))
        .key(&keys::object(topics, key))
        .key(&keys::floor(topics, key))
}

/// Value, version and moment.
fn object(fields: &[Value]) -> Result<Object, StateError> {
    match fields {
        [Value::BulkString(value), version, at] => Ok(Object {
            value: Json::trusted(value.clone().into()),
            version: number(version)?,
            changed_at: moment(at)?,
        }),
        _ => Err(strange()),
    }
}

fn moment(value: &Value) -> Result<Millis, StateError> {
    number(value).map(|millis| Millis::try_from(millis).unwrap_or_default())
}

/// A whole number written as text.
fn number(value: &Value) -> Result<u64, StateError> {
    let Value::BulkString(text) = value else {
        return Err(strange());
    };
    let text = std::str::from_utf8(text).map_err(|_| strange())?;
    text.parse().map_err(|_| strange())
}
