//! SQL that runs beside the caller, in a session of its own: to hold a lock, or to keep the server busy.

use std::process::{Command, ExitStatus, Stdio};

use crate::local::process::Process;
use crate::local::{LocalError, Postgres};

/// A session that runs one piece of SQL; it is ended with its handle.
#[derive(Debug)]
pub struct Session {
    process: Process,
}

impl Postgres {
    /// Runs SQL in a database without waiting for its end. Several statements are one transaction.
    ///
    /// # Errors
    /// [`LocalError::Io`] when no process can be started for it.
    pub fn begin(&self, database: &str, sql: &str) -> Result<Session, LocalError> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"])
            .args(["--dbname", &self.url(database)])
            .args(["--command", sql])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::spawn("psql", command, libc::SIGKILL)?;
        Ok(Session { process })
    }
}

impl Session {
    /// How it ended, if it has: with success when the server did all that it was told.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_its_lock_until_its_handle_goes() {
        let postgres = Postgres::start().unwrap();
        postgres.create_database("one").unwrap();
        postgres.execute("one", "CREATE TABLE t (n int)").unwrap();
        let mut session = postgres
            .begin("one", "LOCK TABLE t; SELECT pg_sleep(600)")
            .unwrap();
        let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
        while postgres.execute("one", held).unwrap().trim() == "0" {
            assert!(session.ended().is_none());
        }
        let blocked = "SET lock_timeout = 50; SELECT * FROM t";
        assert!(postgres.execute("one", blocked).is_err());
        drop(session);
        // The server notices the end of a sleeping session when it next speaks to it.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LOCK%'";
        postgres.execute("one", end).unwrap();
        postgres.execute("one", "SELECT * FROM t").unwrap();
        let mut done = postgres.begin("one", "SELECT 1").unwrap();
        while done.ended().is_none() {}
        assert!(done.ended().unwrap().success());
    }
}
