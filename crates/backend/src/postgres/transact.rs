//! One attempt at an app's transaction in a lane: two round trips.
//!
//! The first one begins the transaction and runs all steps, without waiting for what each comes to: if a guard does not
//! hold, whatever the steps behind it did is taken back with the rest. The second one numbers the publications and
//! commits, so the rows of channels are locked for no longer than by a batch of the log. Between them the drafts are completed, if the app
//! wants that.

use fanfare_engine::port::{LogError, TransactError, Transaction, tables::Step};
use tokio_postgres::{Row, Statement, types::ToSql};

use super::{
    batch::Plan,
    bigint,
    database::{Database, Session},
    error::{Fault, describe, malformed, unavailable},
    lane::{
        APPEND_ALL, APPEND_PATIENCE, FIND_KEYS, Lane, Made, Rows, Sent, no_answer, not_committed,
        params,
    },
    outcome::{answer, known_keys},
    rows::{self, Ran, RunError, pipeline},
};

/// Why the steps did not come to what they must. Nothing was committed.
enum Stopped {
    /// The transaction is open and must be taken back.
    Refused(TransactError),
    /// The same, but another attempt may do better.
    Again(LogError),
    /// The lane is fenced.
    Fenced(LogError),
    /// The session is of no use any more.
    Broken(LogError),
}

/// Sends the steps and, if all come to what they must, commits them with the publications of the plan, or what they were completed to.
pub(super) async fn send(
    lane: &Lane,
    database: &Database,
    plan: &Plan<'_>,
    transaction: &Transaction,
) -> Sent {
    let steps = &transaction.steps;
    let preparing = prepare(database, &lane.session, steps);
    let prepared = match tokio::time::timeout(APPEND_PATIENCE, preparing).await {
        Ok(Ok(prepared)) => prepared,
        // No transaction is open.
        Ok(Err(Stopped::Refused(error))) => return Sent::Refused(error),
        Ok(Err(Stopped::Again(error))) => return Sent::Again(error),
        Ok(Err(Stopped::Fenced(error))) => return Sent::Fenced(error),
        Ok(Err(Stopped::Broken(error))) => return Sent::Broken(error),
        Err(_) => return Sent::Broken(no_answer()),
    };
    let running = run(&lane.session, &prepared, steps);
    match tokio::time::timeout(APPEND_PATIENCE, running).await {
        Ok(Ok(rows)) => match transaction.completed(&rows) {
            Ok(completed) => commit(lane, plan, Made { rows, completed }).await,
            Err(error) => refuse(lane, plan, error).await,
        },
        Ok(Err(Stopped::Fenced(error))) => Sent::Fenced(error),
        Ok(Err(Stopped::Broken(error))) => Sent::Broken(error),
        Ok(Err(Stopped::Again(error))) => match roll_back(lane, plan).await {
            Ok(_) => Sent::Again(error),
            Err(error) => Sent::Broken(error),
        },
        Ok(Err(Stopped::Refused(error))) => refuse(lane, plan, error).await,
        Err(_) => Sent::Broken(no_answer()),
    }
}

/// Takes back what must not be committed, unless it was before.
async fn refuse(lane: &Lane, plan: &Plan<'_>, error: TransactError) -> Sent {
    match roll_back(lane, plan).await {
        Ok(known) if known.iter().any(Option::is_some) => Sent::Before(plan.firsts(&known)),
        Ok(_) => Sent::Refused(error),
        Err(error) => Sent::Broken(error),
    }
}

async fn prepare(
    database: &Database,
    session: &Session,
    steps: &[Step],
) -> Result<Vec<Statement>, Stopped> {
    let failed = |at| move |error| stopped(session, at, RunError::Failed(error));
    database.find_apps(session).await.map_err(failed(0))?;
    let mut prepared = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let statement = session.prepared(step.sql).await.map_err(failed(at))?;
        rows::check(&statement, &step.params)
            .map_err(|words| stopped(session, at, RunError::Malformed(words)))?;
        prepared.push(statement);
    }
    Ok(prepared)
}

/// Begins, and runs the steps.
async fn run(session: &Session, prepared: &[Statement], steps: &[Step]) -> Result<Rows, Stopped> {
    let mut calls: Vec<Call<'_, Result<Ran, RunError>>> = Vec::with_capacity(steps.len() + 1);
    calls.push(Box::pin(async {
        session.client.batch_execute("BEGIN").await?;
        Ok(Ran {
            rows: Vec::new(),
            count: 0,
        })
    }));
    for (statement, step) in prepared.iter().zip(steps) {
        calls.push(Box::pin(rows::run(
            &session.client,
            statement,
            &step.params,
        )));
    }
    let mut answers = pipeline(calls).await.into_iter();
    if let Some(Err(error)) = answers.next() {
        return Err(stopped(session, 0, error));
    }
    let mut returned = Vec::with_capacity(steps.len());
    for (at, (answer, step)) in answers.zip(steps).enumerate() {
        let ran = answer.map_err(|error| stopped(session, at, error))?;
        if !step.guard.holds(ran.count) {
            return Err(Stopped::Refused(TransactError::Refused { step: at }));
        }
        returned.push(ran.rows);
    }
    Ok(returned)
}

/// Numbers and commits. The call that numbers holds the fence of the lane to the end of the transaction.
async fn commit(lane: &Lane, given: &Plan<'_>, made: Made) -> Sent {
    let session = &lane.session;
    let answers = {
        let plan = made.plan();
        let n = bigint(lane.next);
        let params = params(&lane.id.0, &n, plan.as_ref().unwrap_or(given));
        session.forget_warnings();
        let calls: Vec<Call<'_, Result<Option<Row>, tokio_postgres::Error>>> = vec![
            Box::pin(async {
                let statement = &session.statements[APPEND_ALL];
                Ok(Some(session.client.query_one(statement, &params).await?))
            }),
            Box::pin(async {
                session.client.batch_execute("COMMIT").await?;
                Ok(None)
            }),
        ];
        tokio::time::timeout(APPEND_PATIENCE, pipeline(calls)).await
    };
    let Ok(answers) = answers else {
        return Sent::Lost(no_answer(), made);
    };
    match <[_; 2]>::try_from(answers) {
        Ok([Ok(Some(row)), Ok(None)]) => match answer(&row) {
            Ok(answer) => Sent::Committed(answer, made),
            Err(error) => Sent::Lost(malformed(error), made),
        },
        // The transaction had failed before its COMMIT was heard, which took it back.
        Ok([Err(error), Ok(_)]) => uncommitted(lane, given, &error).await,
        // The COMMIT itself was refused.
        Ok([Ok(_), Err(error)]) => match Fault::of(&error) {
            Fault::Broken => Sent::Lost(unavailable(&error), made),
            Fault::Fenced => Sent::Fenced(unavailable(&error)),
            Fault::Statement | Fault::Exists => {
                Sent::Refused(TransactError::Statement(describe(&error)))
            }
            _ => Sent::Refused(not_committed(unavailable(&error))),
        },
        Ok([Err(error), Err(_)]) => Sent::Lost(unavailable(&error), made),
        _ => Sent::Lost(LogError("half an answer".to_owned()), made),
    }
}

/// What it means that the numbering failed.
async fn uncommitted(lane: &Lane, plan: &Plan<'_>, error: &tokio_postgres::Error) -> Sent {
    let words = unavailable(error);
    match Fault::of(error) {
        Fault::KnownKey => match find_keys(lane, plan).await {
            Ok(known) if known.iter().any(Option::is_some) => Sent::Before(plan.firsts(&known)),
            // They were removed in this very moment.
            Ok(_) => Sent::Again(words),
            Err(error) => Sent::Broken(error),
        },
        Fault::Again | Fault::Stale => Sent::Again(words),
        Fault::Fenced => Sent::Fenced(words),
        Fault::Broken => Sent::Broken(words),
        Fault::Statement | Fault::Exists | Fault::Unavailable => {
            Sent::Refused(not_committed(words))
        }
    }
}

/// What the keys of the plan stand for; nothing if it has none.
type Known = Vec<Option<(i64, i64)>>;

/// Takes the transaction back. A command that is sent again meets what it did the first time: what stood in its way may
/// have been itself, so its keys are looked up.
async fn roll_back(lane: &Lane, plan: &Plan<'_>) -> Result<Known, LogError> {
    let calls: Vec<Call<'_, Result<Known, LogError>>> = vec![
        Box::pin(async {
            let rolling_back = lane.session.client.batch_execute("ROLLBACK").await;
            rolling_back.map_err(|error| unavailable(&error))?;
            Ok(Known::new())
        }),
        Box::pin(find_keys(lane, plan)),
    ];
    let answers = tokio::time::timeout(APPEND_PATIENCE, pipeline(calls)).await;
    let mut known = Known::new();
    for answer in answers.map_err(|_| no_answer())? {
        known = answer?;
    }
    Ok(known)
}

async fn find_keys(lane: &Lane, plan: &Plan<'_>) -> Result<Known, LogError> {
    let Some(keys) = &plan.keys else {
        return Ok(Known::new());
    };
    let session = &lane.session;
    let statement = &session.statements[FIND_KEYS];
    let params: [&(dyn ToSql + Sync); 3] = [&plan.channels, keys, &plan.names];
    let asking = session.client.query(statement, &params);
    match tokio::time::timeout(APPEND_PATIENCE, asking).await {
        Ok(rows) => known_keys(&rows.map_err(|error| unavailable(&error))?).map_err(malformed),
        Err(_) => Err(no_answer()),
    }
}

/// A call that is sent by its first poll.
type Call<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the failure of a step means.
fn stopped(session: &Session, step: usize, error: RunError) -> Stopped {
    let error = match error {
        RunError::Failed(error) => error,
        RunError::Malformed(words) => {
            let words = format!("step {step}: {words}");
            return Stopped::Refused(TransactError::Statement(words));
        }
    };
    let words = unavailable(&error);
    match Fault::of(&error) {
        Fault::Statement | Fault::KnownKey => {
            let words = format!("step {step}: {}", describe(&error));
            Stopped::Refused(TransactError::Statement(words))
        }
        Fault::Exists => Stopped::Refused(TransactError::Exists { step }),
        Fault::Again => Stopped::Again(words),
        Fault::Stale => {
            session.forget_statements();
            Stopped::Again(words)
        }
        Fault::Unavailable => Stopped::Refused(not_committed(words)),
        Fault::Fenced => Stopped::Fenced(words),
        Fault::Broken => Stopped::Broken(words),
    }
}
