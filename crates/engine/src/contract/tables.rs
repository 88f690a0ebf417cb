//! The contract of the tables: what [`Tables`] promises, as cases that every implementation passes.
//!
//! [`all`] takes two nodes on one database and runs the cases one after the other, each in rows and channels of its own.
//! What needs a particular database (its death, a connection that is cut) is tested beside the implementation.

mod finish;
mod lanes;
mod once;
mod order;
mod together;
mod values;

use std::{future::Future, sync::Arc};

use fanfare_wire::{ChannelName, Draft, Json, Seq};
use uuid::Uuid;

use crate::port::{
    Committed, Direction, Log, ReadRange, Tables, TransactError, Transacted, Transaction,
    tables::{Migration, Row, Step, Value},
};

/// The app of the suite.
const APP: &str = "contract";

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sqlite: "
            CREATE TABLE contract_rooms (
                id TEXT PRIMARY KEY,
                version BIGINT NOT NULL,
                members BIGINT NOT NULL DEFAULT 0
            );",
        postgres: "
            CREATE TABLE contract_rooms (
                id TEXT PRIMARY KEY,
                version BIGINT NOT NULL,
                members BIGINT NOT NULL DEFAULT 0
            );",
    },
    Migration {
        version: 2,
        sqlite: "
            CREATE TABLE contract_members (
                room TEXT NOT NULL REFERENCES contract_rooms,
                name TEXT NOT NULL,
                number BIGINT CHECK (number <> 13),
                data BLOB,
                PRIMARY KEY (room, name)
            );",
        postgres: "
            CREATE TABLE contract_members (
                room TEXT NOT NULL REFERENCES contract_rooms,
                name TEXT NOT NULL,
                number BIGINT CHECK (number <> 13),
                data BYTEA,
                PRIMARY KEY (room, name)
            );",
    },
];

const ADD_ROOM: &str = "INSERT INTO contract_rooms (id, version) VALUES ($1, $2)";
const MOVE_ROOM: &str =
    "UPDATE contract_rooms SET version = version + 1 WHERE id = $1 AND version = $2";
const ADD_MEMBER: &str =
    "INSERT INTO contract_members (room, name, number, data) VALUES ($1, $2, $3, $4)";
const VERSION: &str = "SELECT version FROM contract_rooms WHERE id = $1";
const MEMBERS: &str = "SELECT count(*) FROM contract_members WHERE room = $1";

/// Runs every case. `open` gives a node's handle on one and the same database each time; a database for one process
/// only gives the same handle again.
///
/// # Panics
/// When a promise is broken; the message names the case and the promise.
pub async fn all<T, O, F>(open: O)
where
    T: Log + Tables,
    O: Fn() -> F,
    F: Future<Output = Arc<T>>,
{
    let nodes = Nodes::open(open).await;
    macro_rules! run {
        ($($part:ident :: $case:ident),* $(,)?) => {
            $(
                eprintln!("tables contract: {}", stringify!($part::$case));
                $part::$case(&nodes).await;
            )*
        };
    }
    run![
        together::rows_and_publications_are_there_on_all_nodes,
        together::a_guard_that_fails_leaves_nothing,
        together::guards_count_what_was_changed_or_returned,
        together::a_key_that_is_there_leaves_nothing,
        together::a_mistake_leaves_nothing,
        together::rows_alone_and_publications_alone,
        together::migrations_run_once,
        together::migrations_that_do_not_fit_are_refused,
        values::they_come_back_as_they_were,
        values::parameters_stand_where_they_are_named,
        values::what_cannot_be_served_is_refused,
        values::limits_are_kept,
        values::the_dialect_is_the_one_that_is_spoken,
        order::steps_see_what_those_before_did,
        order::one_winner_for_each_version,
        order::a_capacity_is_never_exceeded,
        order::a_count_is_exact_behind_the_row_of_the_whole,
        order::opposite_orders_do_not_refuse_anybody,
        order::publishes_beside_transactions_share_the_numbers,
        once::a_command_that_is_sent_again_has_no_second_effect,
        once::a_command_raced_by_all_nodes_is_done_once,
        once::keys_are_those_of_the_log,
        once::a_refused_command_is_not_remembered,
        once::a_key_twice_in_one_transaction,
        finish::numbers_of_rows_are_in_the_order_of_the_channel,
        finish::what_is_added_is_committed_with_the_rest,
        finish::what_may_not_be_leaves_nothing,
        finish::nothing_is_completed_that_was_refused_or_before,
        lanes::entries_say_what_was_committed,
    ];
}

/// Runs the case of a log whose epoch can change while it is open. `change` makes it change without losing anything.
///
/// # Panics
/// When a promise is broken.
pub async fn epoch_change<T, O, F, C>(open: O, change: impl FnOnce() -> C)
where
    T: Log + Tables,
    O: Fn() -> F,
    F: Future<Output = Arc<T>>,
    C: Future<Output = ()>,
{
    let nodes = Nodes::open(open).await;
    lanes::epoch_changes(&nodes, change).await;
}

/// One node's ends of the database.
#[derive(Clone)]
struct Node {
    log: Arc<dyn Log>,
    tables: Arc<dyn Tables>,
}

/// Two nodes on one database.
struct Nodes {
    a: Node,
    b: Node,
}

impl Nodes {
    async fn open<T, O, F>(open: O) -> Self
    where
        T: Log + Tables,
        O: Fn() -> F,
        F: Future<Output = Arc<T>>,
    {
        let node = async || {
            let both = open().await;
            both.migrate(APP, MIGRATIONS).await.unwrap();
            Node {
                log: both.clone(),
                tables: both,
            }
        };
        Self {
            a: node().await,
            b: node().await,
        }
    }

    fn both(&self) -> [&Node; 2] {
        [&self.a, &self.b]
    }
}

impl Node {
    async fn transact(
        &self,
        steps: Vec<Step>,
        drafts: Vec<Draft>,
    ) -> Result<Transacted, TransactError> {
        let transaction = Transaction {
            steps,
            drafts,
            ..Transaction::default()
        };
        self.tables.transact(&transaction).await
    }

    /// A transaction that must be committed: what its steps returned, and what its drafts became.
    async fn commit(&self, steps: Vec<Step>, drafts: Vec<Draft>) -> (Vec<Vec<Row>>, Committed) {
        let count = drafts.len();
        match self.transact(steps, drafts).await.unwrap() {
            Transacted::Now {
                rows, committed, ..
            } => {
                assert_eq!(committed.outcomes.len(), count, "one outcome per draft");
                (rows, committed)
            }
            before => panic!("a duplicate: {before:?}"),
        }
    }

    /// A transaction that must not be committed.
    async fn refusal(&self, steps: Vec<Step>, drafts: Vec<Draft>) -> TransactError {
        match self.transact(steps, drafts).await {
            Err(error) => error,
            Ok(done) => panic!("not refused: {done:?}"),
        }
    }

    /// The only number that a query gives.
    async fn number(&self, sql: &'static str, id: &str) -> i64 {
        let rows = self.tables.query(sql, vec![id.into()]).await.unwrap();
        assert_eq!(rows.len(), 1, "{sql} of {id}: {rows:?}");
        rows[0].int(0).unwrap()
    }

    /// The payloads of a channel.
    async fn read(&self, channel: &ChannelName) -> Vec<String> {
        let range = ReadRange {
            from: Seq::ZERO,
            limit: 10_000,
            direction: Direction::Forward,
        };
        let read = self.log.read(channel, range).await.unwrap();
        let dense = read.iter().map(|one| one.seq.0).eq(1..=read.len() as u64);
        assert!(dense, "{channel} has holes");
        let text = |json: &Json| String::from_utf8(json.as_bytes().to_vec()).unwrap();
        read.iter().map(|one| text(&one.data)).collect()
    }
}

/// A room and a channel that no other case and no earlier run has used.
struct Room {
    id: String,
    channel: ChannelName,
}

impl Room {
    fn new() -> Self {
        let id = Uuid::now_v7().simple().to_string();
        let channel = ChannelName::parse(&format!("contract:{id}")).unwrap();
        Self { id, channel }
    }

    /// A room that is in the tables, with version 0.
    async fn made(node: &Node) -> Self {
        let room = Self::new();
        node.commit(vec![room.add()], Vec::new()).await;
        room
    }

    fn add(&self) -> Step {
        Step::some(ADD_ROOM, vec![self.id().into(), 0.into()])
    }

    fn step_from(&self, version: i64) -> Step {
        Step::some(MOVE_ROOM, vec![self.id().into(), version.into()])
    }

    fn member(&self, name: &str) -> Step {
        let params = vec![self.id().into(), name.into(), Value::Null, Value::Null];
        Step::some(ADD_MEMBER, params)
    }

    fn draft(&self, data: impl std::fmt::Display) -> Draft {
        let data = Json::parse(data.to_string().as_bytes()).unwrap();
        Draft::new(self.channel.clone(), Uuid::now_v7(), data)
    }

    fn keyed(&self, data: impl std::fmt::Display, key: &str) -> Draft {
        let mut draft = self.draft(data);
        draft.idempotency_key = Some(key.to_owned());
        draft
    }

    fn id(&self) -> &str {
        &self.id
    }
}

fn numbers(committed: &Committed) -> Vec<u64> {
    committed.outcomes.iter().map(|it| it.seq.0).collect()
}
