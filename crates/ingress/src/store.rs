//! What is kept: deliveries, the keys that they were seen by, claims, dead letters. Every change is one transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare_engine::{
    Done, Engine,
    port::{
        TablesError, TransactError, Transaction,
        tables::{Row, Step, Value},
    },
};
use fanfare_wire::{Millis, shortened};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    clock::Clock,
    delivery::{Delivery, Place},
    schema,
    source::SourceName,
};

/// Steps of the transaction that ends a delivery, beside the handler's.
pub(crate) const OWN_STEPS_MAX: usize = 5;
/// How long a delivery is known again. Pub/Sub keeps trying for a week unless it is told otherwise.
pub(crate) const SEEN_KEPT: Duration = Duration::from_secs(8 * 24 * 3600);
/// How long a delivery is known again that an app has submitted to itself: it does so again and again, for as many as it
/// serves.
pub(crate) const SUBMITTED_KEPT: Duration = Duration::from_secs(36 * 3600);
const _: () = assert!(SUBMITTED_KEPT.as_secs() <= SEEN_KEPT.as_secs());
/// How long dead letters are kept.
pub(crate) const DEAD_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Dead letters of one answer.
pub(crate) const DEAD_PAGE: usize = 100;
/// Longest reason that is kept with a dead letter, in bytes.
const REASON_BYTES_MAX: usize = 1000;

/// What the node keeps in the database.
pub(crate) struct Store {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
}

/// What became of a delivery that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is committed.
    Now,
    /// It was there before.
    Before,
}

/// The database does not do what it is asked. For logs; says nothing of the payload.
#[derive(Debug, Clone, Error)]
pub(crate) enum StoreError {
    /// A change was not committed, or nobody knows.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// A read was not answered.
    #[error(transparent)]
    Query(#[from] TablesError),
    /// A row is not what was written.
    #[error("a row of the ingress cannot be read: {0}")]
    Row(&'static str),
}

/// A claim on the deliveries of one key.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) source: SourceName,
    pub(crate) key: String,
    /// Node and attempt: no two claims are equal.
    pub(crate) token: String,
    pub(crate) lease: Duration,
    pub(crate) supersedes: bool,
}

/// The delivery that is to be worked on.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) delivery: Delivery,
    pub(crate) rank: i64,
    /// Its end is the end of all up to this number.
    pub(crate) up_to: i64,
}

/// How much there is of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) waiting: u64,
    pub(crate) oldest: Option<Millis>,
    pub(crate) dead: u64,
}

/// A delivery that was given up.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) key: String,
    pub(crate) rank: i64,
    pub(crate) attributes: String,
    pub(crate) body: Bytes,
    pub(crate) received: Millis,
    pub(crate) died: Millis,
    pub(crate) attempts: i64,
    pub(crate) reason: String,
}

impl Store {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            clock: Clock::new(),
        }
    }

    pub(crate) async fn migrate(&self) -> Result<(), TablesError> {
        self.engine.migrate(schema::APP, schema::MIGRATIONS).await
    }

    /// Keeps a delivery, unless one of its deduplication keys was seen before. They are known again for `known_for`, at most
    /// [`SEEN_KEPT`].
    pub(crate) async fn keep(
        &self,
        delivery: &Delivery,
        place: &Place,
        dedups: &[String],
        known_for: Duration,
    ) -> Result<Kept, StoreError> {
        let now = self.clock.now();
        // What is to be forgotten earlier is as old as if it were seen earlier.
        let early = SEEN_KEPT.saturating_sub(known_for).as_millis();
        let seen_at = now - i64::try_from(early).unwrap_or(0);
        let source = delivery.source.as_str();
        let mut steps: Vec<Step> = dedups
            .iter()
            .map(|dedup| {
                let params = vec![source.into(), dedup.as_str().into(), seen_at.into()];
                Step::some(schema::SEE, params)
            })
            .collect();
        let seen = steps.len();
        steps.extend(enqueue(
            source,
            &place.key,
            place.rank,
            &delivery.id.to_string(),
            &attributes_text(&delivery.attributes),
            &delivery.body,
            now,
        ));
        match self.transact(steps).await {
            Ok(_) => Ok(Kept::Now),
            Err(TransactError::Refused { step }) if step < seen => Ok(Kept::Before),
            Err(error) => Err(error.into()),
        }
    }

    /// Keys of a source in the order in which they can be worked on, with the time from which each can be.
    pub(crate) async fn ready(
        &self,
        source: &SourceName,
    ) -> Result<Vec<(String, Millis)>, StoreError> {
        let params = vec![source.as_str().into()];
        let rows = self.engine.query(schema::READY, params).await?;
        let parse = |row: &Row| Some((row.text(0)?.to_owned(), row.int(1)?));
        rows.iter()
            .map(|row| parse(row).ok_or(StoreError::Row("ready")))
            .collect()
    }

    /// Takes a key; `None` if another was faster or nothing is left.
    pub(crate) async fn claim(&self, claim: &Claim) -> Result<Option<Job>, StoreError> {
        let now = self.clock.now();
        let mut params = claim.params();
        params.extend([self.lease_end(claim).into(), now.into()]);
        let steps = vec![Step::some(schema::CLAIM, params), claim.head()];
        match self.transact(steps).await {
            Ok(done) => claim.job(&done),
            Err(TransactError::Refused { step: 0 }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When a lease that begins now ends.
    pub(crate) fn lease_end(&self, claim: &Claim) -> Millis {
        self.clock.now() + i64::try_from(claim.lease.as_millis()).unwrap_or(i64::MAX / 2)
    }

    /// How much there is of a source, counted up to a bound.
    pub(crate) async fn load(&self, source: &SourceName, bound: u64) -> Result<Load, StoreError> {
        let bound = i64::try_from(bound).unwrap_or(i64::MAX);
        let params = vec![source.as_str().into(), bound.into()];
        let rows = self.engine.query(schema::WAITING, params).await?;
        let row = rows.first().ok_or(StoreError::Row("load"))?;
        let count = |column| row.int(column).and_then(|count| u64::try_from(count).ok());
        Ok(Load {
            waiting: count(0).ok_or(StoreError::Row("load"))?,
            oldest: row.int(1),
            dead: count(2).ok_or(StoreError::Row("load"))?,
        })
    }

    /// Forgets what nobody will ask for any more. Returns how many dead letters were among it.
    pub(crate) async fn tidy(&self) -> Result<usize, StoreError> {
        let before =
            |kept: Duration| self.clock.now() - i64::try_from(kept.as_millis()).unwrap_or(0);
        let seen = Value::from(before(SEEN_KEPT));
        while self.delete(schema::FORGET_SEEN, seen.clone()).await? > 0 {}
        let dead = Value::from(before(DEAD_KEPT));
        let mut count = 0;
        loop {
            match self.delete(schema::FORGET_DEAD, dead.clone()).await? {
                0 => return Ok(count),
                more => count += more,
            }
        }
    }

    /// A page of dead letters in the order of their end, after a given one.
    pub(crate) async fn dead(
        &self,
        source: Option<&str>,
        after: (Millis, &str),
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let (time, id) = after;
        let mut params: Vec<Value> = vec![time.into(), id.into()];
        let rows = match source {
            Some(source) => {
                params.push(source.into());
                self.engine.query(schema::DEAD_OF, params).await?
            }
            None => self.engine.query(schema::DEAD, params).await?,
        };
        let parse = |row| DeadLetter::of(row).ok_or(StoreError::Row("dead letter"));
        rows.iter().map(parse).collect()
    }

    /// One dead letter.
    pub(crate) async fn dead_one(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let rows = self.engine.query(schema::DEAD_ONE, vec![id.into()]).await?;
        let parse = |row| DeadLetter::of(row).ok_or(StoreError::Row("dead letter"));
        rows.first().map(parse).transpose()
    }

    /// Puts a dead letter behind what waits of its key. False if it is no longer one.
    pub(crate) async fn raise(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let mut steps = vec![Step::some(schema::RAISE, vec![letter.id.as_str().into()])];
        steps.extend(enqueue(
            &letter.source,
            &letter.key,
            letter.rank,
            &letter.id,
            &letter.attributes,
            &letter.body,
            self.clock.now(),
        ));
        match self.transact(steps).await {
            Ok(_) => Ok(true),
            Err(TransactError::Refused { step: 0 }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Commits, and hears what time it is.
    pub(crate) async fn transact(&self, steps: Vec<Step>) -> Result<Done, TransactError> {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        self.commit(transaction).await
    }

    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Done, TransactError> {
        let done = self.engine.transact(transaction).await?;
        // A duplicate tells the time of the first.
        if !done.duplicate {
            self.clock.set(done.time);
        }
        Ok(done)
    }

    async fn delete(&self, sql: &'static str, before: Value) -> Result<usize, StoreError> {
        let done = self.transact(vec![Step::new(sql, vec![before])]).await?;
        Ok(done.rows.first().map_or(0, Vec::len))
    }
}

/// Numbers a delivery and puts it at the end of its key.
fn enqueue(
    source: &str,
    key: &str,
    rank: i64,
    id: &str,
    attributes: &str,
    body: &Bytes,
    now: Millis,
) -> [Step; 2] {
    let number = vec![source.into(), key.into(), now.into()];
    let keep = vec![
        source.into(),
        key.into(),
        rank.into(),
        id.into(),
        attributes.into(),
        body.clone().into(),
        now.into(),
    ];
    [
        Step::some(schema::NUMBER, number),
        Step::some(schema::KEEP, keep),
    ]
}

pub(crate) fn attributes_text(attributes: &BTreeMap<String, String>) -> String {
    // Texts as keys and values can always be written.
    serde_json::to_string(attributes).unwrap_or_else(|_| "{}".to_owned())
}

/// A reason as the database can keep it.
pub(crate) fn reason_text(reason: &str) -> String {
    shortened(&reason.replace('\0', " "), REASON_BYTES_MAX).to_owned()
}

impl Claim {
    /// Source, key, token: what the statements on a claim begin with.
    pub(crate) fn params(&self) -> Vec<Value> {
        let mut params = self.place();
        params.push(self.token.as_str().into());
        params
    }

    /// Source and key.
    pub(crate) fn place(&self) -> Vec<Value> {
        vec![self.source.as_str().into(), self.key.as_str().into()]
    }

    /// Reads the delivery that is to be worked on.
    pub(crate) fn head(&self) -> Step {
        let sql = match self.supersedes {
            true => schema::NEWEST,
            false => schema::FIRST,
        };
        Step::new(sql, self.place())
    }

    /// What [`head`](Self::head), the last step of a transaction, has found.
    pub(crate) fn job(&self, done: &Done) -> Result<Option<Job>, StoreError> {
        let Some(row) = done.rows.last().and_then(|rows| rows.first()) else {
            return Ok(None);
        };
        let job = self.parse(row).ok_or(StoreError::Row("delivery"))?;
        Ok(Some(job))
    }

    fn parse(&self, row: &Row) -> Option<Job> {
        let body = match row.0.get(2)? {
            Value::Bytes(body) => body.clone(),
            _ => return None,
        };
        Some(Job {
            delivery: Delivery {
                id: Uuid::parse_str(row.text(0)?).ok()?,
                source: self.source.clone(),
                received: row.int(3)?,
                attributes: serde_json::from_str(row.text(1)?).ok()?,
                body,
                attempt: u32::try_from(row.int(5)?).ok()?,
            },
            rank: row.int(4)?,
            up_to: row.int(6)?,
        })
    }
}

impl DeadLetter {
    fn of(row: &Row) -> Option<Self> {
        let body = match row.0.get(5)? {
            Value::Bytes(body) => body.clone(),
            _ => return None,
        };
        let text = |column| row.text(column).map(str::to_owned);
        Some(Self {
            id: text(0)?,
            source: text(1)?,
            key: text(2)?,
            rank: row.int(3)?,
            attributes: text(4)?,
            body,
            received: row.int(6)?,
            died: row.int(7)?,
            attempts: row.int(8)?,
            reason: text(9)?,
        })
    }
}
