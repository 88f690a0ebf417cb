//! When to strike at those who write: however slow the disk is, some of what they write must come through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_postgres::Client;

use super::{TestDatabase, count};

/// Lets nobody strike twice without a commit in between.
pub(super) struct Pace {
    pub(super) client: Client,
    /// A query for a number that changes with each commit.
    progress: &'static str,
    seen: i64,
    done: Arc<AtomicBool>,
}

impl Pace {
    /// A pace, and what is set when the writers are done.
    pub(super) async fn of(
        database: &TestDatabase,
        progress: &'static str,
    ) -> (Self, Arc<AtomicBool>) {
        let done = Arc::new(AtomicBool::new(false));
        let pace = Self {
            client: database.client().await,
            progress,
            seen: 0,
            done: done.clone(),
        };
        (pace, done)
    }

    /// Waits until something was committed since the last time. False when the writers are done.
    pub(super) async fn next(&mut self) -> bool {
        while !self.done.load(Ordering::Acquire) {
            let now = count(&self.client, self.progress).await;
            if std::mem::replace(&mut self.seen, now) != now {
                return true;
            }
            // All of them are still at making sessions.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }
}
