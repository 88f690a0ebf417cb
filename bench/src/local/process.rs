//! One child process: started so that it dies with this process, signalled by its own id, reaped on drop.
//!
//! Linux ends a child with the *thread* that started it, so every child is started by one thread that lives as long
//! as the process; test threads come and go.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::local::{LocalError, PATIENCE};
use crate::system::children;

/// How often a condition is looked at while waiting for it.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of a log shown in an error.
const LOG_TAIL_BYTES: usize = 8_000;

/// A running (or ended) child process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Sent by the system to the child when this process ends, and by drop.
    last_signal: i32,
}

impl Process {
    /// Starts `command`. `last_signal` is what ends the child at once and lets it clean up what outlives it.
    pub(crate) fn spawn(
        name: &str,
        mut command: Command,
        last_signal: i32,
    ) -> Result<Self, LocalError> {
        let parent = i32::try_from(std::process::id()).unwrap_or(0);
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid and _exit.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, last_signal) != 0 {
                    return Err(io::Error::last_os_error());
                }
                if libc::getppid() != parent {
                    // The parent ended before the line above; nobody would ever send the signal.
                    libc::_exit(1);
                }
                Ok(())
            });
        }
        let child = spawn_from_lasting_thread(command)
            .map_err(|source| LocalError::io(format!("start `{name}`"), source))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            last_signal,
        })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal; does nothing once the process has ended, as its id may then belong to another.
    pub(crate) fn signal(&mut self, signal: i32) {
        if self.ended().is_some() {
            return;
        }
        if let Ok(id) = i32::try_from(self.child.id()) {
            // SAFETY: plain system call; the id is of a child not yet reaped, so it cannot be of anything else.
            unsafe { libc::kill(id, signal) };
        }
    }

    /// Sends a signal to the process and then to its children; does nothing once the process has ended.
    pub(crate) fn signal_family(&mut self, signal: i32) {
        if self.ended().is_some() {
            return;
        }
        // Stopped first, it has no time to replace a child whose turn is still to come.
        self.signal(signal);
        for child in children().remove(&self.id()).unwrap_or_default() {
            if let Ok(id) = i32::try_from(child) {
                // SAFETY: plain system call; the id was that of a child a moment ago, and ids are not reused so soon.
                unsafe { libc::kill(id, signal) };
            }
        }
    }

    /// SIGKILL, then reaps it.
    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }

    /// Sends `signal` and waits for the end; after [`PATIENCE`] it is killed and that is an error.
    pub(crate) fn end_with(&mut self, signal: i32) -> Result<ExitStatus, LocalError> {
        self.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                let source = io::Error::new(io::ErrorKind::TimedOut, "it did not end when asked");
                return Err(LocalError::io(format!("stop `{}`", self.name), source));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until `ready` says so; an end of the process or the end of patience is an error with the log's tail.
    pub(crate) fn wait_ready(
        &mut self,
        log: impl Fn() -> String,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), LocalError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return Err(LocalError::Ended {
                    program: self.name.clone(),
                    status: status.to_string(),
                    output: tail(&log()),
                });
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LocalError::NotReady {
                    program: self.name.clone(),
                    output: tail(&log()),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        // A stopped process does not take any signal but SIGKILL and SIGCONT.
        self.signal(libc::SIGCONT);
        if self.last_signal != libc::SIGKILL {
            let _ = self.end_with(self.last_signal);
        }
        self.kill();
    }
}

/// The program `name` on the PATH, or in the newest of `folders`.
pub(crate) fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs a short tool to its end and gives its standard output.
pub(crate) fn run_tool(name: &str, mut command: Command) -> Result<String, LocalError> {
    let output = command
        .output()
        .map_err(|source| LocalError::io(format!("start `{name}`"), source))?;
    if !output.status.success() {
        return Err(LocalError::Ended {
            program: name.to_owned(),
            status: output.status.to_string(),
            output: tail(&String::from_utf8_lossy(&output.stderr)),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Text of a log file; empty when it is not there.
pub(crate) fn read_log(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn tail(text: &str) -> String {
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}

struct Request {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Request>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (requests, inbox) = channel::<Request>();
        thread::spawn(move || {
            for mut request in inbox {
                // A caller that has gone no longer waits for the child, which is then dropped and ends with us.
                let _ = request.reply.send(request.command.spawn());
            }
        });
        requests
    });
    let (reply, answer) = channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    starter
        .send(Request { command, reply })
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut process = thread::spawn(|| Process::spawn("sleep", sleeper(), libc::SIGKILL))
            .join()
            .unwrap()
            .unwrap();
        // Signals to a child are sent while its parent thread ends, before join returns.
        assert!(process.ended().is_none());
        process.kill();
        assert!(process.ended().is_some());
    }

    #[test]
    fn drop_ends_even_a_stopped_child() {
        let mut process = Process::spawn("sleep", sleeper(), libc::SIGTERM).unwrap();
        let id = process.id();
        process.signal(libc::SIGSTOP);
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}/stat")).exists());
    }

    #[test]
    fn a_missing_program_is_not_found() {
        assert!(find_program("no-such-program-anywhere", &[PathBuf::from("/usr/bin")]).is_none());
        assert!(find_program("sleep", &[]).is_some());
    }

    #[test]
    fn a_failed_tool_says_how_it_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken >&2; exit 3"]);
        let error = run_tool("sh", command).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        assert!(error.to_string().contains('3'), "{error}");
    }
}
