//! Clocks that are wrong, and descriptors that run out.

use std::env;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::BenchError;
use crate::faults::guests::Guests;
use crate::faults::row::{Load, Row, RowError};
use crate::faults::scene::{Layout, this_program};
use crate::faults::stage::Stage;
use crate::local::{Node, TempDir};

/// What this part has.
pub(super) const ROWS: &[Row] = &[CLOCKS, DESCRIPTORS];

const CLOCKS: Row = Row {
    layout: Layout {
        environment: false_time,
        ..Layout::DEFAULT
    },
    load: Load::seconds(24.0, 12.0),
    during: clocks,
    ..Row::new(
        "27",
        "clocks are wrong, and jump",
        "libfaketime: one node an hour ahead, one an hour behind, one jumps there and back",
        "order and delivery do not depend on the time of day",
    )
};

/// Where Debian's package `faketime` keeps its library.
const FAKETIME: &str = "libfaketimeMT.so.1";

/// The environment that gives each node another time of day. The monotonic clock, which timers go by, stays right.
fn false_time(node: usize) -> Vec<(String, String)> {
    let Some(library) = faketime_library() else {
        return Vec::new();
    };
    let mut environment = vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    match node {
        0 => environment.push(("FAKETIME".to_owned(), "+3600".to_owned())),
        1 => environment.push(("FAKETIME".to_owned(), "-3600".to_owned())),
        _ => environment.extend([
            ("FAKETIME_CACHE_DURATION".to_owned(), "1".to_owned()),
            (
                "FAKETIME_TIMESTAMP_FILE".to_owned(),
                jump_file().display().to_string(),
            ),
        ]),
    }
    environment
}

/// Where the node that jumps reads its time of day.
fn jump_file() -> PathBuf {
    env::temp_dir().join(format!("fanfare-clock-{}", std::process::id()))
}

fn faketime_library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime").join(FAKETIME))
        .find(|path| path.is_file())
}

fn clocks(stage: &mut Stage<'_>) -> Result<(), RowError> {
    if faketime_library().is_none() {
        let why = "libfaketime is not installed; on Debian: apt-get install faketime";
        return Err(RowError::Skip(why.to_owned()));
    }
    let date = Command::new("date")
        .arg("+%s")
        .envs(false_time(0))
        .output()?;
    let told: u64 = String::from_utf8_lossy(&date.stdout)
        .trim()
        .parse()
        .unwrap_or(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    if told < now + 3_000 {
        return Err(RowError::NoEffect(
            "libfaketime does not change the time".to_owned(),
        ));
    }
    let file = jump_file();
    let jumped = jumps(stage, &file);
    // Left behind it would only be a few bytes.
    let _ = fs::remove_file(&file);
    jumped
}

fn jumps(stage: &mut Stage<'_>, file: &Path) -> Result<(), RowError> {
    let seconds = stage.pick(4.0, 2.0);
    for jump in ["+3600", "-3600", "+5", "+0"] {
        fs::write(file, jump)?;
        stage.fault(&format!("a clock jumps to {jump} s"), |stage| {
            for node in 0..stage.scene.nodes.len() {
                stage.publish_until_acknowledged(node, stage.probe_channel)?;
            }
            stage.rest(seconds);
            Ok(())
        })?;
    }
    Ok(())
}

const DESCRIPTORS: Row = Row {
    load: Load::seconds(14.0, 9.0),
    during: descriptors,
    ..Row::new(
        "33",
        "file descriptors run out",
        "a further node with 128 of them gets 400 idle connections",
        "those who were there before keep getting everything; when the others are gone, new ones are taken",
    )
};

/// Descriptors that the node may have.
const DESCRIPTORS_MAX: usize = 128;

/// Connections that take them away.
const IDLE: usize = 400;

fn descriptors(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let folder = TempDir::new()?;
    let mut options = stage.scene.further_node()?;
    options.name = Some("few-descriptors".to_owned());
    options.binary = limited(&folder)?;
    let mut node = Node::start(options)?;
    let address = node.address();
    let guests = Guests::join(stage, &[address], 20)?;
    stage.fault("descriptors run out", |stage| {
        let mut idle = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                Ok(stream) => idle.push(stream),
                Err(_) => break,
            }
        }
        for round in 0..stage.pick(50, 10) {
            stage.publish_until_acknowledged(round % 2, stage.probe_channel)?;
            stage.rest(0.05);
        }
        Ok(())
    })?;
    if let Some(status) = node.ended() {
        stage.violated(format!("the node ended with {status}"));
        return Ok(());
    }
    guests.leave_complete(stage)?;
    let begun = Instant::now();
    let late = Guests::join(stage, &[address], 1)?;
    stage.at_most(
        "a new client is taken after",
        begun.elapsed().as_secs_f64(),
        "s",
        5.0,
    );
    stage.publish_until_acknowledged(0, stage.probe_channel)?;
    late.leave_complete(stage)
}

/// A script in the place of the program that lowers the limit for it.
fn limited(folder: &TempDir) -> Result<PathBuf, BenchError> {
    let path = folder.path().join("limited");
    let text = format!(
        "#!/bin/sh\nulimit -n {DESCRIPTORS_MAX}\nexec '{}' \"$@\"\n",
        this_program()?.display()
    );
    let fail = |source| BenchError::system("write a script", source);
    fs::write(&path, text).map_err(fail)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(fail)?;
    Ok(path)
}
