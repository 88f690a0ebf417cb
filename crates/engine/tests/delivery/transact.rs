//! Transactions of apps: what they publish reaches everybody as any publish does.

use std::sync::Arc;

use fanfare_engine::{
    Done,
    load::{BUSY_RETRY_MAX, BUSY_RETRY_MIN},
    memory::log::MemoryLog,
    port::{
        AppendError, BoxFuture, Log, Outcome, Tables, TablesError, TransactError, Transacted,
        Transaction,
        tables::{Dialect, Finish, Migration, Row, Step, Value},
    },
    transact::TRANSACTIONS_MAX,
};
use fanfare_wire::{ChannelName, Draft, Json, Seq};
use uuid::Uuid;

use crate::{gate::Gates, line::From, nodes::Cluster};

/// A step that is refused.
const REFUSED: &str = "UPDATE nothing SET a = 1";

/// Tables without rows: of a transaction only the publications count, in a lane of its own.
pub(crate) struct NoRows {
    pub(crate) log: MemoryLog,
    pub(crate) gates: Arc<Gates>,
}

impl Tables for NoRows {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn migrate(
        &self,
        _: &'static str,
        _: &'static [Migration],
    ) -> BoxFuture<'_, Result<(), TablesError>> {
        Box::pin(async { Ok(()) })
    }

    fn query(
        &self,
        _: &'static str,
        _: Vec<Value>,
    ) -> BoxFuture<'_, Result<Vec<Row>, TablesError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn transact<'a>(
        &'a self,
        transaction: &'a Transaction,
    ) -> BoxFuture<'a, Result<Transacted, TransactError>> {
        Box::pin(async move {
            self.gates.transactions.pass().await;
            if transaction.steps.iter().any(|step| step.sql == REFUSED) {
                return Err(TransactError::Refused { step: 0 });
            }
            let rows = vec![vec![Row(vec![1.into()])]; transaction.steps.len()];
            let completed = transaction.completed(&rows)?;
            let drafts = completed.as_ref().unwrap_or(&transaction.drafts);
            let appended = self.log.append(drafts).await;
            let committed = appended.map_err(|error| match error {
                AppendError::Unavailable(words) => TransactError::Unavailable(words),
                AppendError::Unknown(words) => TransactError::Unknown(words),
            })?;
            if committed.outcomes.iter().any(|outcome| outcome.duplicate) {
                let first = |outcome: Outcome| outcome.duplicate.then_some(outcome);
                let firsts = committed.outcomes.into_iter().map(first).collect();
                let epoch = committed.epoch;
                return Ok(Transacted::Before { epoch, firsts });
            }
            Ok(Transacted::Now {
                rows,
                completed,
                committed,
                time: 7,
            })
        })
    }
}

fn draft(channel: &str, key: Option<&str>) -> Draft {
    let channel = ChannelName::parse(channel).unwrap();
    let mut draft = Draft::new(channel, Uuid::now_v7(), Json::parse(b"\"app\"").unwrap());
    draft.idempotency_key = key.map(str::to_owned);
    draft
}

fn of(drafts: Vec<Draft>) -> Transaction {
    Transaction {
        steps: vec![Step::new("SELECT 1", Vec::new())],
        drafts,
        ..Transaction::default()
    }
}

fn transact(cluster: &Cluster, node: usize, drafts: Vec<Draft>) -> Done {
    let transacting = cluster.engine(node).transact(of(drafts));
    cluster.block_on(transacting).unwrap()
}

#[test]
fn what_transactions_publish_reaches_all_nodes_among_the_publishes() {
    let cluster = Cluster::start(3);
    let mut clients: Vec<_> = (0..3).map(|node| cluster.client(node)).collect();
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    for number in 0..60 {
        let node = number % 3;
        let seq = match number % 2 {
            0 => cluster.publish(node, "room", 10).0,
            _ => {
                transact(&cluster, node, vec![draft("room", None)]).published[0]
                    .seq
                    .0
            }
        };
        assert_eq!(seq, number as u64 + 1);
    }
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(60));
    }
    cluster.lose_hints(true);
    let done = transact(&cluster, 0, vec![draft("room", None), draft("room", None)]);
    assert_eq!((done.rows.len(), done.time, done.duplicate), (1, 7, false));
    assert_eq!(done.published[1].epoch, cluster.engine(1).epoch());
    for client in &mut clients {
        client.expect("room", Seq(61), Seq(62));
    }
}

#[test]
fn what_is_shown_and_hinted_is_what_was_completed() {
    let cluster = Cluster::start(2);
    let mut clients: Vec<_> = (0..2).map(|node| cluster.client(node)).collect();
    for client in &mut clients {
        client.subscribe("room", From::Live);
    }
    let transaction = Transaction {
        finish: Some(Finish::new(|rows, drafts| {
            let number = rows[0][0].int(0).ok_or("no number")?;
            drafts[0].data = Json::parse((number + 20).to_string().as_bytes()).unwrap();
            drafts.push(draft("room", None));
            Ok(())
        })),
        ..of(vec![draft("room", None)])
    };
    let done = cluster.block_on(cluster.engine(0).transact(transaction));
    assert_eq!(done.unwrap().published.len(), 2);
    for client in &mut clients {
        client.expect("room", Seq(1), Seq(2));
        assert_eq!(client.take_letters(), "2\"");
    }
    let refused = Transaction {
        finish: Some(Finish::new(|_, _| Err("no".to_owned()))),
        ..of(vec![draft("room", None)])
    };
    let refused = cluster.block_on(cluster.engine(0).transact(refused));
    assert!(matches!(refused, Err(TransactError::Finish(_))));
    let metrics = cluster.engine(0).metrics();
    assert_eq!(metrics.transactions_refused.value(), 1);
    assert_eq!(metrics.publications.value(), 2);
}

#[test]
fn outcomes_are_told_and_counted() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(0);
    client.subscribe("room", From::Live);
    let metrics = cluster.engine(0).metrics();
    transact(&cluster, 0, vec![draft("room", Some("k"))]);
    let again = transact(&cluster, 0, vec![draft("room", Some("k"))]);
    assert!(again.duplicate && again.rows.is_empty());
    assert_eq!((again.published.len(), again.published[0].seq), (1, Seq(1)));
    assert!(again.published[0].duplicate);
    let refuse = Transaction {
        steps: vec![Step::some(REFUSED, Vec::new())],
        drafts: vec![draft("room", None)],
        ..Transaction::default()
    };
    let refused = cluster.block_on(cluster.engine(0).transact(refuse));
    assert!(matches!(refused, Err(TransactError::Refused { step: 0 })));
    let mistaken = Transaction {
        steps: vec![Step::new("COMMIT", Vec::new())],
        ..Transaction::default()
    };
    let mistaken = cluster.block_on(cluster.engine(0).transact(mistaken));
    assert!(matches!(mistaken, Err(TransactError::Statement(_))));
    assert_eq!(metrics.transactions.value(), 1);
    assert_eq!(metrics.transactions_duplicate.value(), 1);
    assert_eq!(metrics.transactions_refused.value(), 1);
    assert_eq!(metrics.publications.value(), 1);
    assert_eq!(metrics.transaction_seconds.counts().iter().sum::<u64>(), 3);
    cluster.publish(0, "room", 10);
    client.expect("room", Seq(1), Seq(2));
}

#[test]
fn what_nobody_waits_for_any_more_is_shown_nevertheless() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(0);
    client.subscribe("room", From::Live);
    let gate = &cluster.gates.transactions;
    gate.close();
    let transacting = cluster.engine(0).transact(of(vec![draft("room", None)]));
    cluster.block_on(give_up(transacting));
    gate.open();
    client.expect("room", Seq(1), Seq(1));
}

#[test]
fn those_that_wait_are_bounded_and_flushed() {
    let cluster = Cluster::start(1);
    let engine = cluster.engine(0);
    let gate = &cluster.gates.transactions;
    gate.close();
    cluster.block_on(async {
        let one = || engine.transact(of(vec![draft("room", None)]));
        for _ in 0..TRANSACTIONS_MAX {
            give_up(one()).await;
        }
        let retry_ms = match one().await {
            Err(TransactError::Busy { retry_ms }) => retry_ms,
            other => panic!("{other:?}"),
        };
        let (least, most) = (BUSY_RETRY_MIN.as_millis(), BUSY_RETRY_MAX.as_millis());
        assert!((least..=most).contains(&u128::from(retry_ms)), "{retry_ms}");
        give_up(engine.flushed()).await;
        gate.open();
        engine.flushed().await;
        let done = engine.metrics().transactions.value();
        assert_eq!(done, TRANSACTIONS_MAX as u64, "all that was taken");
        one().await.unwrap();
    });
    assert_eq!(engine.metrics().transactions_busy.value(), 1);
}

/// Begins something that cannot end now, and waits for it no longer.
async fn give_up<T: std::fmt::Debug>(beginning: impl Future<Output = T>) {
    tokio::select! {
        biased;
        answer = beginning => panic!("the gate is closed: {answer:?}"),
        () = tokio::task::yield_now() => {}
    }
}
