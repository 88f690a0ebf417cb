//! The embedded database: full disk, and files that were damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::faults::probe::Told;
use crate::faults::row::{Load, Row, RowError};
use crate::faults::scene::Layout;
use crate::faults::stage::Stage;
use crate::history::{LogPage, read_log};
use crate::proxy::Faults;
use crate::random::Random;
use crate::target::Target;

/// What this part has.
pub(super) const ROWS: &[Row] = &[DISK_FULL, DAMAGED];

/// One node on a small disk.
const ALONE: Layout = Layout {
    nodes: 1,
    sqlite: true,
    disk_mib: Some(48),
    ..Layout::DEFAULT
};

const DISK_FULL: Row = Row {
    layout: ALONE,
    load: Load::seconds(20.0, 9.0),
    during: disk_full,
    ..Row::new(
        "21",
        "SQLite's disk is full",
        "its data lies on a file system of 48 MiB in memory that is filled, and emptied again",
        "no acknowledgement without a commit; publishes go on when there is room",
    )
};

fn disk_full(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let (message, told) = stage.fault("the disk is full", |stage| {
        stage.scene.disk()?.fill()?;
        let begun = Instant::now();
        loop {
            let (message, told) = stage.publish(0);
            if !matches!(told, Told::Acknowledged { .. }) {
                stage.tell("first refusal after", begun.elapsed().as_secs_f64(), "s");
                stage.rest(stage.pick(3.0, 1.0));
                stage.scene.disk()?.relieve()?;
                return Ok((message, told));
            }
            if begun.elapsed() > Duration::from_secs(60) {
                stage.scene.disk()?.relieve()?;
                return Err(RowError::NoEffect("it still commits".to_owned()));
            }
        }
    })?;
    if stage.scene.nodes[0].ended().is_some() {
        stage.note("the node stopped by itself and was started again");
        stage.scene.nodes[0].restart()?;
    }
    let begun = Instant::now();
    let address = stage.scene.address(0);
    stage.finish_publish(&message, told, address)?;
    let took = begun.elapsed().as_secs_f64();
    stage.at_most("acknowledged again", took, "s", 5.0);
    Ok(())
}

const DAMAGED: Row = Row {
    layout: Layout {
        client_proxies: true,
        ..ALONE
    },
    load: Load::seconds(5.0, 4.0),
    after: damaged,
    ..Row::new(
        "22",
        "SQLite's file was damaged",
        "single bits of the database file are flipped while the node is stopped; then all is read through the API",
        "refused or reported, never served altered",
    )
};

/// Bits that are flipped at once.
const BITS: usize = 8;

fn damaged(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let target = Target::parse("--url", &stage.scene.nodes[0].url())?;
    let channels = stage.probe_channel;
    let before = read_all(stage, &target, channels);
    let file = database_file(&stage.scene.disk()?.path())?;
    // Clients stay away: what they would be told by a damaged log is not part of their history.
    stage.scene.client_proxies[0].set(Faults::refused());
    stage.scene.client_proxies[0].reset_all();
    stage.scene.nodes[0].stop()?;
    let whole = fs::read(&file)?;
    let mut random = Random::new(22);
    let (mut refused, mut unread, mut altered, mut right) = (0_u32, 0_u64, 0_u64, 0_u64);
    for _ in 0..stage.pick(12, 3) {
        let mut bytes = whole.clone();
        for _ in 0..BITS {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(&file, &bytes)?;
        if stage.scene.nodes[0].restart().is_err() {
            refused += 1;
        } else {
            let after = read_all(stage, &target, channels);
            for (old, new) in before.iter().zip(&after) {
                unread += u64::from(new.is_none());
                let (Some(old), Some(new)) = (old, new) else {
                    continue;
                };
                for row in new {
                    match old.contains(row) {
                        true => right += 1,
                        false => altered += 1,
                    }
                }
            }
        }
        stage.scene.nodes[0].kill();
        restore(&file, &whole)?;
    }
    stage.scene.nodes[0].restart()?;
    stage.scene.client_proxies[0].heal();
    stage.tell("starts refused", f64::from(refused), "");
    stage.tell("channels refused", unread as f64, "");
    stage.tell("publications served as they were", right as f64, "");
    stage.tell("publications served altered", altered as f64, "");
    if altered > 0 {
        stage.violated(format!("{altered} publications were served altered"));
    }
    stage.wait_back()?;
    Ok(())
}

/// Number, message and hash of each publication of a channel.
type Rows = Vec<(u64, Option<u64>, u64)>;

/// All publications of each channel; `None` where the node refuses.
fn read_all(stage: &Stage<'_>, target: &Target, channels: usize) -> Vec<Option<Rows>> {
    let names = stage.channels[..channels].iter();
    names.map(|name| read_channel(target, name)).collect()
}

fn read_channel(target: &Target, channel: &str) -> Option<Rows> {
    let mut rows = Rows::new();
    loop {
        let after = rows.last().map_or(0, |row| row.0);
        let LogPage { rows: page, .. } = read_log(target, None, channel, after, 1_000).ok()?;
        match page.last() {
            // A damaged number could keep this going for ever.
            Some(last) if last.0 > after => rows.extend(page),
            _ => return Some(rows),
        }
    }
}

/// The largest file in the folder: the database after an ordinary stop.
fn database_file(folder: &Path) -> Result<PathBuf, RowError> {
    let mut largest = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size = entry.metadata()?.len();
        if largest.as_ref().is_none_or(|(most, _)| size > *most) {
            largest = Some((size, entry.path()));
        }
    }
    match largest {
        Some((_, path)) => Ok(path),
        None => Err(RowError::NoEffect("the node keeps no file".to_owned())),
    }
}

/// Puts the database back as it was, without what the damaged one left beside it.
fn restore(file: &Path, whole: &[u8]) -> Result<(), RowError> {
    fs::write(file, whole)?;
    for end in ["-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(end);
        // Not there after an ordinary stop.
        let _ = fs::remove_file(path);
    }
    Ok(())
}
