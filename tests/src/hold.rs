//! A database that does not answer for a while: a lock on what every commit writes to.

use std::thread::{self, ScopedJoinHandle};

use fanfare_bench::local::Postgres;

use crate::wait::eventually;

/// How the session that holds the lock is known.
const SLEEP: &str = "pg_sleep(86400)";

/// While it lives, no publication is committed; reads go on.
#[derive(Debug)]
pub struct Hold<'a> {
    postgres: &'a Postgres,
    database: &'a str,
}

impl Hold<'_> {
    /// Runs `held` while commits to a database are held up, and lets them go on when it drops its hold or returns.
    ///
    /// # Panics
    /// When the lock cannot be had.
    #[track_caller]
    pub fn commits<T>(postgres: &Postgres, database: &str, held: impl FnOnce(Hold<'_>) -> T) -> T {
        thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let lock = "LOCK TABLE fanfare.publications IN EXCLUSIVE MODE";
                // Ends with an error when it is told to let go.
                let _ = postgres.execute(database, &format!("BEGIN; {lock}; SELECT {SLEEP}"));
            });
            let hold = Hold { postgres, database };
            hold.wait_until_held(&holder);
            held(hold)
        })
    }

    /// Lets commits go on.
    pub fn release(self) {}

    #[track_caller]
    fn wait_until_held<T>(&self, holder: &ScopedJoinHandle<'_, T>) {
        let held = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'ExclusiveLock'
            AND relation = 'fanfare.publications'::regclass";
        eventually("the lock is held", || {
            assert!(!holder.is_finished(), "the lock was refused");
            let count = self.postgres.execute(self.database, held).ok()?;
            (count.trim() == "1").then_some(())
        });
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE query LIKE '%{SLEEP}%' AND pid <> pg_backend_pid()"
        );
        // Without a database there is nothing to let go.
        let _ = self.postgres.execute(self.database, &end);
    }
}
