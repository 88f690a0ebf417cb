//! A second server that follows the first, asynchronously, and can take its place.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::local::postgres::{Account, DATA_FOLDER, USER};
use crate::local::process::{POLL_INTERVAL, run_tool};
use crate::local::{LocalError, PATIENCE, Postgres, TempDir};

impl Postgres {
    /// Copies this server, starts the copy as an asynchronous replica on a port of its own, and waits until it follows.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the words of `pg_basebackup`; the others as those of [`start`](Self::start).
    pub fn start_replica(&self) -> Result<Self, LocalError> {
        let account = Account::needed()?;
        let dir = TempDir::new()?;
        Account::give(account.as_ref(), dir.path())?;
        let data = dir.path().join(DATA_FOLDER);
        let mut command = Command::new(self.programs.join("pg_basebackup"));
        Account::apply(account.as_ref(), &mut command);
        command
            .arg("--pgdata")
            .arg(&data)
            .args(["--write-recovery-conf", "--no-sync"])
            .args(["--wal-method", "stream", "--checkpoint", "fast"])
            .args(["--host", &self.address.ip().to_string()])
            .args(["--port", &self.address.port().to_string()])
            .args(["--username", USER])
            .current_dir(dir.path())
            .stdin(Stdio::null());
        run_tool("pg_basebackup", command)?;
        let replica = Self::launch_anywhere(self.programs.clone(), account, dir, data)?;
        // It takes connections a little sooner.
        let follows = "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')";
        replica.wait_until(follows)?;
        Ok(replica)
    }

    /// Waits until this replica has replayed all that `primary` has written by now.
    ///
    /// # Errors
    /// [`LocalError::NotReady`] when it does not catch up; the server's words when either does not answer.
    pub fn wait_replayed(&self, primary: &Self) -> Result<(), LocalError> {
        let written = primary.execute("postgres", "SELECT pg_current_wal_lsn()")?;
        let replayed = format!(
            "SELECT pg_last_wal_replay_lsn() >= '{}'::pg_lsn",
            written.trim()
        );
        self.wait_until(&replayed)
    }

    /// Waits until a query of one truth value says yes.
    fn wait_until(&self, query: &str) -> Result<(), LocalError> {
        let deadline = Instant::now() + PATIENCE;
        while self.execute("postgres", query)?.trim() != "t" {
            if Instant::now() >= deadline {
                return Err(LocalError::NotReady {
                    program: "replica".to_owned(),
                    output: self.log(),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Makes this replica a server of its own, which takes writes.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the server's words when it is not a replica.
    pub fn promote(&self) -> Result<(), LocalError> {
        self.execute("postgres", "SELECT pg_promote(true, 30)")
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_follows_and_takes_over() {
        let primary = Postgres::start().unwrap();
        primary.create_database("app").unwrap();
        let replica = primary.start_replica().unwrap();
        primary
            .execute("app", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
            .unwrap();
        replica.wait_replayed(&primary).unwrap();
        assert!(replica.execute("app", "INSERT INTO t VALUES (8)").is_err());
        replica.promote().unwrap();
        replica.execute("app", "INSERT INTO t VALUES (8)").unwrap();
        let rows = replica.execute("app", "SELECT n FROM t ORDER BY n");
        assert_eq!(rows.unwrap(), "7\n8\n");
        assert!(primary.execute("app", "SELECT n FROM t").unwrap().trim() == "7");
    }
}
