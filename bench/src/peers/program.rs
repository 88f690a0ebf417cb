//! A server of somebody else, started for the comparison: on this machine only, in a folder of its own, gone with its handle.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::local::{
    LocalError, PORT_ATTEMPTS_MAX, Process, TempDir, find_program, free_address, read_log,
};

/// Where it writes what it has to say, in its folder.
const LOG_FILE: &str = "log";

/// Lines of its log that are told when it ended by itself.
const LAST_WORDS: usize = 3;

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    process: Process,
    dir: TempDir,
}

impl Program {
    /// Starts one that listens on a free address, and waits until it does. `make` is told its address and folder.
    ///
    /// # Errors
    /// When it does not start, with its last words.
    pub(super) fn start(
        name: &str,
        make: impl Fn(SocketAddr, &Path) -> Result<Command, LocalError>,
    ) -> Result<(Self, SocketAddr), LocalError> {
        let mut attempt = 1;
        loop {
            let address = free_address()?;
            match Self::launch(name, address, &make) {
                Ok(program) => return Ok((program, address)),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn launch(
        name: &str,
        address: SocketAddr,
        make: &impl Fn(SocketAddr, &Path) -> Result<Command, LocalError>,
    ) -> Result<Self, LocalError> {
        let dir = TempDir::new()?;
        let mut command = make(address, dir.path())?;
        let failed = |source| LocalError::io(format!("write the log of {name}"), source);
        let log = File::create(dir.path().join(LOG_FILE)).map_err(failed)?;
        command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        let process = Process::spawn(name, command, libc::SIGTERM)?;
        let mut program = Self {
            name: name.to_owned(),
            process,
            dir,
        };
        let log = program.dir.path().join(LOG_FILE);
        let listens = || TcpStream::connect(address).is_ok();
        program.process.wait_ready(|| read_log(&log), listens)?;
        Ok(program)
    }

    /// Its process, for reading its processor time.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has, with its last words.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let status = self.process.ended()?;
        let log = read_log(&self.dir.path().join(LOG_FILE));
        let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        Some(format!(
            "{} ended with {status}: {}",
            self.name,
            last.join(" / ")
        ))
    }

    /// Ends it in good order, or otherwise.
    pub(super) fn stop(&mut self) {
        // One that had to be killed has nothing to lose here.
        let _ = self.process.end_with(libc::SIGTERM);
    }
}

/// A program that has to be installed, on the PATH or in one of `folders`.
///
/// # Errors
/// [`LocalError::Missing`] with the package that has it.
pub(super) fn find(
    program: &'static str,
    package: &'static str,
    folders: &[&str],
) -> Result<PathBuf, LocalError> {
    let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    find_program(program, &folders).ok_or(LocalError::Missing { program, package })
}

/// The first line of what a program says of its version, on either stream.
pub(super) fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_ends_at_once_is_told_with_its_last_words() {
        let result = Program::start("it", |_, _| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no such setting >&2; exit 3"]);
            Ok(command)
        });
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("no such setting") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_installed_is_named_with_its_package() {
        let error = find("no-such-program", "some-package", &[]).unwrap_err();
        assert!(error.to_string().contains("some-package"), "{error}");
        assert!(find("sh", "dash", &[]).is_ok());
        assert_eq!(version(Path::new("/no/such/program"), "-v"), "");
        assert!(!version(Path::new("/bin/bash"), "--version").is_empty());
    }
}
