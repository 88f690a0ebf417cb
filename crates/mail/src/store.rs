//! What is kept: accounts and messages. Reads here, and the statements of which transactions are made.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use fanfare_engine::{
    Done, Engine,
    port::{
        TablesError, TransactError, Transaction,
        tables::{Row, Step, Value},
    },
};
use fanfare_ingress::clock::Clock;
use fanfare_wire::Millis;
use thiserror::Error;
use uuid::Uuid;

use crate::{
    account::{Account, AccountState},
    event::EventError,
    google::Grant,
    message::{HistoryId, Message},
    schema,
    sync::bounds::is_id,
    user::User,
};

/// The label of what has not been read.
const UNREAD: &str = "UNREAD";
/// The labels of what is in the bin and in spam.
const HIDDEN: [&str; 2] = ["TRASH", "SPAM"];

/// The database does not do what it is asked. For logs; says nothing of what is in mailboxes.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A change was not committed, or nobody knows.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// A read was not answered.
    #[error(transparent)]
    Query(#[from] TablesError),
    /// A row is not what was written.
    #[error("a row of the mail app cannot be read: {0}")]
    Row(&'static str),
    /// An event cannot be written down.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// What the node keeps in the database.
pub(crate) struct Store {
    engine: Arc<Engine>,
    pub(crate) clock: Clock,
}

/// An account with what a walk needs of it.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    pub(crate) account: Account,
    pub(crate) grant: Grant,
    /// The account's, until its next change.
    pub(crate) stamp: String,
    /// The place from which history is read after the full sync that runs; 0: none runs.
    pub(crate) resync_from: HistoryId,
    /// When to look without having been told to; negative: when somebody asked for it.
    pub(crate) poll_at: Millis,
}

/// A message, and the full sync that has compared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    pub(crate) checked: HistoryId,
}

/// Which messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a> {
    /// Those with this label; all without.
    pub(crate) label: Option<&'a str>,
    /// Without those in the bin or in spam.
    pub(crate) visible: bool,
}

/// A place in a list of messages: after this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) date: Millis,
    pub(crate) id: String,
}

/// An account whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) user: User,
    pub(crate) address: String,
    pub(crate) at: Millis,
}

/// How many accounts there are in a state, and how many of them have a watch that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) accounts: [u64; AccountState::ALL.len()],
    pub(crate) unwatched: u64,
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

    /// Commits, and hears what time it is.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Done, StoreError> {
        let done = self.engine.transact(transaction).await?;
        self.clock.set(done.time);
        Ok(done)
    }

    /// Commits statements. False if a guard of them does not hold.
    pub(crate) async fn change(&self, steps: Vec<Step>) -> Result<bool, StoreError> {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        match self.commit(transaction).await {
            Ok(_) => Ok(true),
            Err(StoreError::Transact(TransactError::Refused { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn account(&self, user: &User) -> Result<Option<Linked>, StoreError> {
        self.linked(schema::ACCOUNT, user.as_str()).await
    }

    pub(crate) async fn account_of(&self, address: &str) -> Result<Option<Linked>, StoreError> {
        self.linked(schema::ACCOUNT_OF, address).await
    }

    async fn linked(&self, sql: &'static str, key: &str) -> Result<Option<Linked>, StoreError> {
        let rows = self.engine.query(sql, vec![key.into()]).await?;
        let parse = |row| linked_of(row).ok_or(StoreError::Row("account"));
        rows.first().map(parse).transpose()
    }

    /// Messages by id; at most [`schema::ROWS_ASKED`] ids.
    pub(crate) async fn rows<'a>(
        &self,
        user: &User,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Kept>, StoreError> {
        let mut params: Vec<Value> = vec![user.as_str().into()];
        params.extend(ids.map(Value::from));
        // There is no message without an id.
        params.resize(1 + schema::ROWS_ASKED, "".into());
        let kept = self.kept(schema::ROWS, params).await?;
        let by_id = |kept: Kept| (kept.message.id.clone(), kept);
        Ok(kept.into_iter().map(by_id).collect())
    }

    /// Some of the messages that a full sync has not compared.
    pub(crate) async fn unchecked(
        &self,
        user: &User,
        resync_from: HistoryId,
    ) -> Result<Vec<Kept>, StoreError> {
        let params = vec![user.as_str().into(), resync_from.to_i64().into()];
        self.kept(schema::UNCHECKED, params).await
    }

    /// Messages of a list, the newest first.
    pub(crate) async fn page(
        &self,
        user: &User,
        list: List<'_>,
        before: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let (date, id) = before.map_or((i64::MAX, ""), |it| (it.date, it.id.as_str()));
        let mut params = vec![
            user.as_str().into(),
            list.label().into(),
            date.into(),
            id.into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        params.extend(list.left_out());
        let kept = self.kept(schema::PAGE, params).await?;
        Ok(kept.into_iter().map(|kept| kept.message).collect())
    }

    /// How many messages are in a list, and how many of them have not been read.
    pub(crate) async fn counts(
        &self,
        user: &User,
        list: List<'_>,
    ) -> Result<(u64, u64), StoreError> {
        let mut params = vec![
            user.as_str().into(),
            list.label().into(),
            written(UNREAD).into(),
        ];
        params.extend(list.left_out());
        let rows = self.engine.query(schema::COUNTS, params).await?;
        let count = |column| u64::try_from(rows.first()?.int(column)?).ok();
        let counts = || Some((count(0)?, count(1)?));
        counts().ok_or(StoreError::Row("counts"))
    }

    /// Accounts whose watch is to be set up or renewed.
    pub(crate) async fn due_watches(&self) -> Result<Vec<(User, Millis)>, StoreError> {
        let params = vec![self.clock.now().into()];
        let rows = self.engine.query(schema::DUE_WATCHES, params).await?;
        let parse = |row: &Row| Some((User::parse(row.text(0)?).ok()?, row.int(1)?));
        rows.iter()
            .map(|row| parse(row).ok_or(StoreError::Row("watch")))
            .collect()
    }

    /// Accounts of which nothing was heard for long, or that somebody asked for; those after a given one.
    pub(crate) async fn due_polls(&self, after: Option<&Due>) -> Result<Vec<Due>, StoreError> {
        let (at, account) = after.map_or((i64::MIN, ""), |due| (due.at, due.user.as_str()));
        let params = vec![self.clock.now().into(), at.into(), account.into()];
        let rows = self.engine.query(schema::DUE_POLLS, params).await?;
        let parse = |row: &Row| {
            Some(Due {
                user: User::parse(row.text(0)?).ok()?,
                address: row.text(1)?.to_owned(),
                at: row.int(2)?,
            })
        };
        rows.iter()
            .map(|row| parse(row).ok_or(StoreError::Row("poll")))
            .collect()
    }

    pub(crate) async fn census(&self) -> Result<Census, StoreError> {
        let params = vec![self.clock.now().into()];
        let rows = self.engine.query(schema::STATES, params).await?;
        let mut census = Census::default();
        for row in &rows {
            let state = row.text(0).and_then(AccountState::of);
            let count = |column| row.int(column).and_then(|it| u64::try_from(it).ok());
            let (Some(state), Some(count), Some(unwatched)) = (state, count(1), count(2)) else {
                return Err(StoreError::Row("states"));
            };
            census.accounts[state as usize] = count;
            if state != AccountState::Reconnect {
                census.unwatched += unwatched;
            }
        }
        Ok(census)
    }

    async fn kept(&self, sql: &'static str, params: Vec<Value>) -> Result<Vec<Kept>, StoreError> {
        let rows = self.engine.query(sql, params).await?;
        rows.iter()
            .map(|row| kept_of(row).ok_or(StoreError::Row("message")))
            .collect()
    }
}

/// Another stamp.
pub(crate) fn new_stamp() -> String {
    Uuid::now_v7().simple().to_string()
}

/// Keeps a message.
pub(crate) fn put(user: &User, message: &Message, checked: HistoryId) -> Step {
    // Texts can always be written.
    let labels = serde_json::to_string(&message.labels).unwrap_or_else(|_| "[]".to_owned());
    let params = vec![
        user.as_str().into(),
        message.id.as_str().into(),
        message.thread_id.as_str().into(),
        message.from.as_str().into(),
        message.subject.as_str().into(),
        message.snippet.as_str().into(),
        labels.into(),
        message.date.into(),
        message.version.to_i64().into(),
        checked.to_i64().into(),
    ];
    Step::new(schema::PUT, params)
}

/// Removes a message.
pub(crate) fn remove(user: &User, id: &str) -> Step {
    Step::new(schema::REMOVE, vec![user.as_str().into(), id.into()])
}

/// Forgets all messages but so many of the newest ones and of those that changed last.
pub(crate) fn prune(user: &User, keep: usize) -> Step {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    Step::new(schema::PRUNE, vec![user.as_str().into(), keep.into()])
}

/// Looks again at a time.
pub(crate) fn postpone(user: &User, poll_at: Millis) -> Step {
    let params = vec![user.as_str().into(), poll_at.into()];
    Step::new(schema::POSTPONE, params)
}

impl Linked {
    /// A change of this account, if nobody was faster: account, stamp, new stamp, and what the statement takes besides.
    pub(crate) fn guarded(&self, sql: &'static str, stamp: &str, more: &[i64]) -> Step {
        let mut params: Vec<Value> = vec![
            self.account.user.as_str().into(),
            self.stamp.as_str().into(),
            stamp.into(),
        ];
        params.extend(more.iter().map(|&number| Value::from(number)));
        Step::some(sql, params)
    }
}

impl Place {
    pub(crate) fn of(message: &Message) -> Self {
        Self {
            date: message.date,
            id: message.id.clone(),
        }
    }

    /// Reads what [`Display`](fmt::Display) has written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (date, id) = text.split_once('.')?;
        Some(Self {
            date: date.parse().ok()?,
            id: is_id(id).then(|| id.to_owned())?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.date, self.id)
    }
}

/// A label as it stands in the array of a message's labels.
impl List<'_> {
    fn label(self) -> String {
        self.label.map_or(String::new(), written)
    }

    fn left_out(self) -> [Value; 2] {
        HIDDEN.map(|label| match self.visible {
            true => written(label).into(),
            false => "".into(),
        })
    }
}

fn written(label: &str) -> String {
    serde_json::to_string(label).unwrap_or_default()
}

fn linked_of(row: &Row) -> Option<Linked> {
    let user = User::parse(row.text(0)?).ok()?;
    let known = |time: Millis| (time > 0).then_some(time);
    let history = |column| Some(HistoryId::from_i64(row.int(column)?));
    Some(Linked {
        grant: Grant {
            user: user.clone(),
            sealed: bytes_of(row, 2)?.to_vec(),
        },
        account: Account {
            user,
            address: row.text(1)?.to_owned(),
            state: AccountState::of(row.text(3)?)?,
            history_id: history(5)?,
            watch_expires: known(row.int(7)?),
            last_sync: known(row.int(9)?),
        },
        stamp: row.text(4)?.to_owned(),
        resync_from: history(6)?,
        poll_at: row.int(8)?,
    })
}

fn kept_of(row: &Row) -> Option<Kept> {
    let text = |column| row.text(column).map(str::to_owned);
    Some(Kept {
        message: Message {
            id: text(0)?,
            thread_id: text(1)?,
            from: text(2)?,
            subject: text(3)?,
            snippet: text(4)?,
            labels: serde_json::from_str(row.text(5)?).ok()?,
            date: row.int(6)?,
            version: HistoryId::from_i64(row.int(7)?),
        },
        checked: HistoryId::from_i64(row.int(8)?),
    })
}

fn bytes_of(row: &Row, column: usize) -> Option<Bytes> {
    match row.0.get(column)? {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}
