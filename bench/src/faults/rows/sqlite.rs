//! The embedded database: full disk, and files that were damaged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::faults::row::{Load, Row, RowError, scaled};
use crate::faults::rows::full_disk;
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
    let rest = stage.pick(3.0, 1.0);
    let refused = full_disk::fill_and_relieve(stage, rest)?;
    if stage.scene.nodes[0].ended().is_some() {
        stage.note("the node stopped by itself and was started again");
        stage.scene.nodes[0].restart()?;
    }
    full_disk::finish(stage, refused, 5.0)
}

const DAMAGED: Row = Row {
    layout: Layout {
        client_proxies: true,
        ..ALONE
    },
    // Enough for SQLite to have moved much of it from its log into its database file.
    load: Load {
        rate: scaled(500.0, 200.0),
        ..Load::seconds(8.0, 5.0)
    },
    after: damaged,
    ..Row::new(
        "22",
        "SQLite's files were damaged",
        "8 bits of the database file, or of its write-ahead log, are flipped while the node is stopped; then all is read through the API",
        "refused, or cut off after the last whole commit with a new epoch; never served altered",
    )
};

/// Bits that are flipped at once.
const BITS: usize = 8;

/// What became of publications whose files were damaged.
#[derive(Debug, Default)]
struct Tally {
    starts_refused: u64,
    channels_refused: u64,
    right: u64,
    altered: u64,
    missing: u64,
    /// Of the missing ones, those without a new epoch, by which clients would be told.
    silent: u64,
}

fn damaged(stage: &mut Stage<'_>) -> Result<(), RowError> {
    let target = Target::parse("--url", &stage.scene.nodes[0].url())?;
    let channels = stage.probe_channel;
    let before = read_all(stage, &target, channels);
    // Clients stay away: what they would be told by a damaged log is not part of their history.
    stage.scene.client_proxies[0].set(Faults::refused());
    stage.scene.client_proxies[0].reset_all();
    stage.scene.nodes[0].stop()?;
    let whole = Copy::of(&stage.scene.disk()?.path())?;
    let mut random = Random::new(22);
    for ending in [".db", "-wal"] {
        let mut tally = Tally::default();
        let Some((path, bytes)) = whole.find(ending) else {
            stage.note(format!("nothing is kept in a file that ends in {ending}"));
            continue;
        };
        for _ in 0..stage.pick(10, 3) {
            fs::write(path, flipped(bytes, &mut random))?;
            if stage.scene.nodes[0].restart().is_err() {
                tally.starts_refused += 1;
            } else {
                let after = read_all(stage, &target, channels);
                tally.add(&before, &after);
            }
            stage.scene.nodes[0].kill();
            whole.restore()?;
        }
        tally.tell(stage, ending);
    }
    stage.scene.nodes[0].restart()?;
    stage.scene.client_proxies[0].heal();
    stage.wait_back()?;
    Ok(())
}

fn flipped(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..BITS {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

impl Tally {
    fn add(&mut self, before: &[Option<Channel>], after: &[Option<Channel>]) {
        for (old, new) in before.iter().zip(after) {
            let (Some(old), Some(new)) = (old, new) else {
                self.channels_refused += 1;
                continue;
            };
            for row in &new.rows {
                match old.rows.contains(row) {
                    true => self.right += 1,
                    false => self.altered += 1,
                }
            }
            let missing = (old.rows.len() as u64).saturating_sub(new.rows.len() as u64);
            self.missing += missing;
            if old.epoch == new.epoch {
                self.silent += missing;
            }
        }
    }

    fn tell(&self, stage: &mut Stage<'_>, ending: &str) {
        let parts = [
            ("starts refused", self.starts_refused),
            ("channels refused", self.channels_refused),
            ("served as they were", self.right),
            ("cut off", self.missing),
            ("served altered", self.altered),
        ];
        for (what, count) in parts {
            stage.tell(&format!("{ending}: {what}"), count as f64, "");
        }
        if self.silent > 0 {
            let count = self.silent;
            stage.violated(format!(
                "{count} publications of a damaged {ending} were gone without a word"
            ));
        }
        if self.altered > 0 {
            let count = self.altered;
            stage.violated(format!(
                "{count} publications of a damaged {ending} were served altered"
            ));
        }
    }
}

/// The files of a folder as they were.
struct Copy {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Copy {
    fn of(folder: &Path) -> Result<Self, RowError> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let bytes = fs::read(&path)?;
            files.push((path, bytes));
        }
        Ok(Self {
            folder: folder.to_owned(),
            files,
        })
    }

    fn find(&self, ending: &str) -> Option<(&Path, &[u8])> {
        let name = |path: &Path| path.to_string_lossy().ends_with(ending);
        let found = self
            .files
            .iter()
            .find(|(path, bytes)| name(path) && !bytes.is_empty());
        found.map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
    }

    /// Puts them back, without what has come beside them.
    fn restore(&self) -> Result<(), RowError> {
        for entry in fs::read_dir(&self.folder)? {
            fs::remove_file(entry?.path())?;
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

/// A channel as it was read.
struct Channel {
    epoch: String,
    /// Number, message and hash of each publication.
    rows: Vec<(u64, Option<u64>, u64)>,
}

/// All publications of each channel; `None` where the node refuses.
fn read_all(stage: &Stage<'_>, target: &Target, channels: usize) -> Vec<Option<Channel>> {
    let names = stage.channels[..channels].iter();
    names.map(|name| read_channel(target, name)).collect()
}

fn read_channel(target: &Target, channel: &str) -> Option<Channel> {
    let mut rows: Vec<(u64, Option<u64>, u64)> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |row| row.0);
        let LogPage {
            rows: page, epoch, ..
        } = read_log(target, None, channel, after, 1_000).ok()?;
        match page.last() {
            // A damaged number could keep this going for ever.
            Some(last) if last.0 > after => rows.extend(page),
            _ => return Some(Channel { epoch, rows }),
        }
    }
}
