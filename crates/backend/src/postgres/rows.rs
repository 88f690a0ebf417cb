//! Statements of apps: their parameters, their rows, and how a run of them is sent at once.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use bytes::{Bytes, BytesMut};
use fanfare_engine::port::tables::{Row, Rows, Value};
use futures_util::{
    TryStreamExt,
    future::{MaybeDone, maybe_done},
    pin_mut,
};
use tokio_postgres::{
    Client, Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

/// What a statement came to.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) rows: Vec<Row>,
    /// How many rows it changed or returned.
    pub(super) count: u64,
}

/// Why a statement came to nothing.
#[derive(Debug)]
pub(super) enum RunError {
    /// PostgreSQL's answer, or none.
    Failed(tokio_postgres::Error),
    /// It cannot be served.
    Malformed(String),
}

/// Checks that a statement takes these parameters and returns what can be told, before anything is sent.
pub(super) fn check(statement: &Statement, params: &[Value]) -> Result<(), String> {
    let types = statement.params();
    if types.len() != params.len() {
        return Err(format!(
            "it takes {} parameters and is given {}",
            types.len(),
            params.len()
        ));
    }
    for (at, (value, kind)) in params.iter().zip(types).enumerate() {
        if !fits(value, kind) {
            return Err(format!("parameter ${} is not of the type {kind}", at + 1));
        }
    }
    let strange = |kind: &Type| !is_int(kind) && !is_text(kind) && *kind != Type::BYTEA;
    match statement.columns().iter().find(|it| strange(it.type_())) {
        Some(column) => Err(format!(
            "column {} has the type {}: cast it to BIGINT, TEXT or BYTEA",
            column.name(),
            column.type_()
        )),
        None => Ok(()),
    }
}

/// Runs a statement that was checked, and reads what it returns.
pub(super) async fn run(
    client: &Client,
    statement: &Statement,
    params: &[Value],
) -> Result<Ran, RunError> {
    let given = params.iter().map(Param);
    let stream = client.query_raw(statement, given).await?;
    pin_mut!(stream);
    let mut rows = Rows::default();
    while let Some(row) = stream.try_next().await? {
        let values = (0..row.len()).map(|column| value(&row, column));
        rows.push(Row(values.collect::<Result<_, _>>()?))
            .map_err(RunError::Malformed)?;
    }
    let rows = rows.take();
    let count = stream.rows_affected().unwrap_or(rows.len() as u64);
    Ok(Ran { rows, count })
}

/// Sends all at once, in this order, and waits for every answer. A session answers in the order in which it was asked.
pub(super) async fn pipeline<'a, T>(
    calls: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(maybe_done).collect();
    poll_fn(|cx| {
        let mut done = true;
        // The first poll of a call is what sends it.
        for call in &mut calls {
            done &= Pin::new(call).poll(cx).is_ready();
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let take = |mut call: MaybeDone<_>| Pin::new(&mut call).take_output();
    calls.into_iter().filter_map(take).collect()
}

fn is_int(kind: &Type) -> bool {
    [Type::INT8, Type::INT4, Type::INT2, Type::BOOL].contains(kind)
}

fn is_text(kind: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(kind)
}

fn fits(value: &Value, kind: &Type) -> bool {
    match value {
        Value::Null => true,
        Value::Int(value) => match *kind {
            Type::INT8 => true,
            Type::INT4 => i32::try_from(*value).is_ok(),
            Type::INT2 => i16::try_from(*value).is_ok(),
            Type::BOOL => (0..=1).contains(value),
            _ => false,
        },
        Value::Text(_) => is_text(kind),
        Value::Bytes(_) => *kind == Type::BYTEA,
    }
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, tokio_postgres::Error> {
    let value = match *row.columns()[column].type_() {
        Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(Value::Int),
        Type::INT4 => row
            .try_get::<_, Option<i32>>(column)?
            .map(|it| Value::Int(it.into())),
        Type::INT2 => row
            .try_get::<_, Option<i16>>(column)?
            .map(|it| Value::Int(it.into())),
        Type::BOOL => row.try_get::<_, Option<bool>>(column)?.map(Value::from),
        Type::BYTEA => {
            let bytes = row.try_get::<_, Option<&[u8]>>(column)?;
            bytes.map(|it| Value::Bytes(Bytes::copy_from_slice(it)))
        }
        _ => row.try_get::<_, Option<&str>>(column)?.map(Value::from),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// A parameter that [`fits`].
#[derive(Debug)]
struct Param<'a>(&'a Value);

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) => match *kind {
                Type::INT4 => i32::try_from(*value)?.to_sql(kind, out),
                Type::INT2 => i16::try_from(*value)?.to_sql(kind, out),
                Type::BOOL => (*value != 0).to_sql(kind, out),
                _ => value.to_sql(kind, out),
            },
            Value::Text(value) => value.to_sql(kind, out),
            Value::Bytes(value) => value.as_ref().to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl From<tokio_postgres::Error> for RunError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_before_they_are_sent() {
        let int = Value::Int(i64::from(i32::MAX) + 1);
        assert!(fits(&int, &Type::INT8) && !fits(&int, &Type::INT4) && !fits(&int, &Type::TEXT));
        assert!(fits(&1.into(), &Type::BOOL) && !fits(&2.into(), &Type::BOOL));
        assert!(fits(&"a".into(), &Type::TEXT) && !fits(&"a".into(), &Type::JSONB));
        assert!(fits(&Value::Null, &Type::JSONB));
        assert!(!fits(&Value::Bytes(Bytes::new()), &Type::TEXT));
    }

    #[tokio::test]
    async fn calls_are_sent_in_order() {
        let order = std::sync::Mutex::new(Vec::new());
        let call = |number: usize| {
            let order = &order;
            let call = async move {
                order.lock().unwrap().push(number);
                tokio::task::yield_now().await;
                number
            };
            Box::pin(call) as Pin<Box<dyn Future<Output = usize> + Send + '_>>
        };
        let answers = pipeline((0..100).map(call).collect()).await;
        assert!(answers.iter().copied().eq(0..100));
        assert_eq!(answers, *order.lock().unwrap());
    }
}
