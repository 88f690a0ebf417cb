//! A private PostgreSQL: a fresh cluster with durable commits, one loopback port, gone with its handle.

mod replica;
mod session;

pub use self::session::Session;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use crate::local::process::{POLL_INTERVAL, Process, find_program, read_log, run_tool};
use crate::local::{LocalError, PATIENCE, PORT_ATTEMPTS_MAX, TempDir, free_address};

/// The account inside the database server; a superuser without a password.
const USER: &str = "fanfare";

/// Connections the server takes. Several tests or nodes share it, each with a handful.
const CONNECTIONS_MAX: usize = 300;

/// Where it keeps its data, in its folder.
const DATA_FOLDER: &str = "data";

/// Where it writes its log, in its folder.
const LOG_FILE: &str = "postgres.log";

/// Where Debian keeps the programs of each version.
const DEBIAN_VERSIONS: &str = "/usr/lib/postgresql";

/// A running PostgreSQL server that can hold many databases.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    account: Option<Account>,
    address: SocketAddr,
    process: Process,
    data: PathBuf,
    dir: TempDir,
}

impl Postgres {
    /// Makes a cluster, starts it on a free port and waits until it takes connections: one to three seconds.
    ///
    /// PostgreSQL refuses to run as root; then it runs under the system's `postgres` account.
    ///
    /// # Errors
    /// [`LocalError::Missing`] and [`LocalError::NoAccount`] when it is not installed; the others as their names say.
    pub fn start() -> Result<Self, LocalError> {
        Self::start_with(None)
    }

    /// As [`start`](Self::start), with its data in `folder`, which must be there and empty: a file system that is small,
    /// for example. The folder is not removed at the end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(folder: &Path) -> Result<Self, LocalError> {
        Self::start_with(Some(folder))
    }

    fn start_with(folder: Option<&Path>) -> Result<Self, LocalError> {
        let programs = find_programs()?;
        let account = Account::needed()?;
        let dir = TempDir::new()?;
        let data = folder.map_or_else(|| dir.path().join(DATA_FOLDER), Path::to_owned);
        for path in [dir.path()].into_iter().chain(folder) {
            Account::give(account.as_ref(), path)?;
        }
        make_cluster(&programs, account.as_ref(), dir.path(), &data)?;
        Self::launch_anywhere(programs, account, dir, data)
    }

    /// Starts a server on data that is there already, on a free port.
    fn launch_anywhere(
        programs: PathBuf,
        account: Option<Account>,
        dir: TempDir,
        data: PathBuf,
    ) -> Result<Self, LocalError> {
        let mut attempt = 1;
        loop {
            let address = free_address()?;
            match launch(&programs, account.as_ref(), address, dir.path(), &data) {
                Ok(process) => {
                    return Ok(Self {
                        programs,
                        account,
                        address,
                        process,
                        data,
                        dir,
                    });
                }
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes an empty database and gives its URL, as a node takes it for `--postgres`.
    ///
    /// `name` is one plain lower case identifier; it is not quoted.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the server's words when there is one of that name already.
    pub fn create_database(&self, name: &str) -> Result<String, LocalError> {
        self.execute("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{database}", self.address)
    }

    /// Runs SQL in a database through `psql` and gives the rows as text, columns separated by `|`.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the server's words.
    pub fn execute(&self, database: &str, sql: &str) -> Result<String, LocalError> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1"])
            .args(["--dbname", &self.url(database)])
            .args(["--command", sql])
            .stdin(Stdio::null());
        run_tool("psql", command)
    }

    /// Where it listens, or did.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id of the first process, for reading CPU time and memory.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The version that the server tells, like `15.2 (Debian 15.2-1)`.
    ///
    /// # Errors
    /// [`LocalError::Ended`] with the server's words when it does not answer.
    pub fn version(&self) -> Result<String, LocalError> {
        let version = self.execute("postgres", "SHOW server_version")?;
        Ok(version.trim().to_owned())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// All that it wrote to its log since its last start.
    pub fn log(&self) -> String {
        read_log(&self.dir.path().join(LOG_FILE))
    }

    /// Ends it in good order, cutting the connections that are open.
    ///
    /// # Errors
    /// [`LocalError::Io`] when it had to be killed.
    pub fn stop(&mut self) -> Result<(), LocalError> {
        self.process.end_with(libc::SIGINT).map(drop)
    }

    /// Ends it at once without a checkpoint, as a crash would; the next start recovers from its log.
    pub fn kill(&mut self) {
        // SIGQUIT is PostgreSQL's own "immediate" shutdown: SIGKILL would leave shared memory behind.
        if self.process.end_with(libc::SIGQUIT).is_err() {
            self.process.kill();
        }
    }

    /// Kills the first process as the kernel's memory killer would; the others end when they notice. The next start
    /// recovers, once they have.
    pub fn kill_first_process(&mut self) {
        self.process.kill();
    }

    /// Makes the first process hang: new connections are not answered. Open sessions go on.
    pub fn pause(&mut self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Makes all of it hang, open sessions too.
    pub fn pause_all(&mut self) {
        self.process.signal_family(libc::SIGSTOP);
    }

    /// Ends a [`pause_all`](Self::pause_all).
    pub fn resume_all(&mut self) {
        self.process.signal_family(libc::SIGCONT);
    }

    /// Starts it again on the same port with the same data; ends it as a crash first when it still runs.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the port has been taken by another in the meantime.
    pub fn restart(&mut self) -> Result<(), LocalError> {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let launched = launch(
                &self.programs,
                self.account.as_ref(),
                self.address,
                self.dir.path(),
                &self.data,
            );
            match launched {
                Ok(process) => {
                    self.process = process;
                    return Ok(());
                }
                // Sessions of a first process that was killed have not all noticed yet.
                Err(error) if error.is_data_in_use() && Instant::now() < deadline => {
                    thread::sleep(POLL_INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The system account that the server runs under.
#[derive(Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// None for an ordinary user, who runs the server as himself.
    fn needed() -> Result<Option<Self>, LocalError> {
        // SAFETY: reads this process's own user id; cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd")
            .map_err(|source| LocalError::io("read /etc/passwd", source))?;
        find_account(&accounts, "postgres")
            .map(Some)
            .ok_or(LocalError::NoAccount)
    }

    /// Makes the account the owner of a folder.
    fn give(account: Option<&Self>, folder: &Path) -> Result<(), LocalError> {
        let Some(account) = account else {
            return Ok(());
        };
        chown(folder, Some(account.uid), Some(account.gid))
            .map_err(|source| LocalError::io("hand a folder to `postgres`", source))
    }

    fn apply(account: Option<&Self>, command: &mut Command) {
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
    }
}

fn find_account(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid })
    })
}

/// The folder that has both `initdb` and `postgres`: of the PATH, or the newest of Debian's versions.
fn find_programs() -> Result<PathBuf, LocalError> {
    let missing = LocalError::Missing {
        program: "initdb",
        package: "postgresql",
    };
    let initdb = find_program("initdb", &debian_folders()).ok_or(missing)?;
    // A link on the PATH may stand alone; its target lies beside the rest.
    let initdb = initdb.canonicalize().unwrap_or(initdb);
    initdb
        .parent()
        .filter(|folder| folder.join("postgres").is_file() && folder.join("psql").is_file())
        .map(Path::to_owned)
        .ok_or(LocalError::Missing {
            program: "postgres",
            package: "postgresql",
        })
}

fn debian_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN_VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

fn make_cluster(
    programs: &Path,
    account: Option<&Account>,
    dir: &Path,
    data: &Path,
) -> Result<(), LocalError> {
    let mut command = Command::new(programs.join("initdb"));
    Account::apply(account, &mut command);
    command
        .arg("--pgdata")
        .arg(data)
        .args(["--username", USER, "--auth", "trust"])
        .args([
            "--encoding",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        ])
        .current_dir(dir)
        .stdin(Stdio::null());
    run_tool("initdb", command).map(drop)
}

fn launch(
    programs: &Path,
    account: Option<&Account>,
    address: SocketAddr,
    dir: &Path,
    data: &Path,
) -> Result<Process, LocalError> {
    let log_path = dir.join(LOG_FILE);
    // Appended to: sessions of a server that was killed may write to it still.
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .and_then(|log| log.set_len(0).map(|()| log))
        .map_err(|source| LocalError::io("write the log of postgres", source))?;
    let mut command = Command::new(programs.join("postgres"));
    Account::apply(account, &mut command);
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &address.port().to_string()]);
    let settings = [
        format!("listen_addresses={}", address.ip()),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={CONNECTIONS_MAX}"),
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "logging_collector=off".to_owned(),
        // Keeps shared memory in the data folder, so that not even a kill leaves any behind.
        "dynamic_shared_memory_type=mmap".to_owned(),
    ];
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let mut process = Process::spawn("postgres", command, libc::SIGQUIT)?;
    let probe = programs.join("pg_isready");
    process.wait_ready(|| read_log(&log_path), || answers(&probe, address))?;
    Ok(process)
}

fn answers(probe: &Path, address: SocketAddr) -> bool {
    let mut command = Command::new(probe);
    command
        .args(["--quiet", "--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--username", USER, "--dbname", "postgres"])
        .stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_was_committed_before_a_crash() {
        let mut postgres = Postgres::start().unwrap();
        let version = postgres.version().unwrap();
        assert!(
            version.starts_with(|first: char| first.is_ascii_digit()),
            "{version}"
        );
        let url = postgres.create_database("first").unwrap();
        assert_eq!(
            url,
            format!("postgres://fanfare@{}/first", postgres.address())
        );
        postgres
            .execute("first", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
            .unwrap();
        assert_eq!(
            postgres.execute("first", "SHOW fsync").unwrap().trim(),
            "on"
        );
        postgres.restart().unwrap();
        assert_eq!(
            postgres.execute("first", "SELECT n FROM t").unwrap().trim(),
            "7"
        );
        assert!(postgres.create_database("first").is_err());
        assert!(postgres.ended().is_none());
        postgres.pause_all();
        postgres.resume_all();
        postgres.kill_first_process();
        postgres.restart().unwrap();
        assert_eq!(
            postgres.execute("first", "SELECT n FROM t").unwrap().trim(),
            "7"
        );
        postgres.stop().unwrap();
        assert!(postgres.ended().is_some() && postgres.log().contains("shut down"));
        assert!(postgres.execute("first", "SELECT 1").is_err());
        postgres.restart().unwrap();
        assert_eq!(
            postgres.execute("first", "SELECT n FROM t").unwrap().trim(),
            "7"
        );
    }

    #[test]
    fn an_account_is_read_from_its_line() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        let account = find_account(accounts, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(find_account(accounts, "post").is_none());
    }
}
