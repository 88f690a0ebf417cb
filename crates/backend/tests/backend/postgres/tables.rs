//! The tables of apps in PostgreSQL: the contract, and what only a database server can do to a transaction.

use std::sync::Arc;

use super::{NEW_EPOCH, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn they_keep_the_contract() {
    let database = TestDatabase::new();
    fanfare_engine::contract::tables::all(|| async { Arc::new(database.open().await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn their_epoch_changes_for_all_nodes() {
    let database = TestDatabase::new();
    let open = || async { Arc::new(database.open().await) };
    let change = async || {
        let client = database.client().await;
        client.batch_execute(NEW_EPOCH).await.unwrap();
    };
    fanfare_engine::contract::tables::epoch_change(open, change).await;
}
