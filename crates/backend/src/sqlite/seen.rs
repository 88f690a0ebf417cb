//! What the database in a folder has reached, noted beside it.
//!
//! A file that is put back from a backup looks like the log that it was, and would give numbers out again that clients
//! have seen on other publications. So the lock file says how far the file beside it has come; one that is behind that was
//! put back, and begins a new epoch. The note is written after the commit and never synced: it may be behind, never ahead.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use rusqlite::{Connection, OptionalExtension, params};

/// Longest note that is read.
const BYTES_MAX: u64 = 256;

/// The last batch of the last run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    epoch: String,
    lane: i64,
    n: i64,
}

impl Seen {
    /// Reads the note. `None` if there is none that makes sense: it was never written, or lost with the power.
    pub(super) fn read(mut file: &File) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        file.by_ref().take(BYTES_MAX).read_to_end(&mut text)?;
        Ok(std::str::from_utf8(&text).ok().and_then(Self::parse))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let seen = Self {
            epoch: words.next()?.to_owned(),
            lane: words.next()?.parse().ok()?,
            n: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(seen)
    }

    /// Whether a database of this epoch has not come as far.
    pub(super) fn is_ahead_of(
        &self,
        connection: &Connection,
        epoch: &str,
    ) -> rusqlite::Result<bool> {
        if self.epoch != epoch {
            return Ok(false);
        }
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'lanes'";
        let lanes: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
        // The last entry of the last lane is kept.
        let sql = "SELECT coalesce(max(n), 0) FROM lane_log WHERE lane = ?1";
        let reached: i64 = connection.query_row(sql, params![self.lane], |row| row.get(0))?;
        Ok(lanes.unwrap_or(0) < self.lane || reached < self.n)
    }
}

/// Notes what was committed. All notes have one length, so that none leaves anything of another.
pub(super) fn note(file: &File, epoch: &str, lane: i64, n: i64) -> io::Result<()> {
    let text = format!("{epoch} {lane:020} {n:020}\n");
    file.write_all_at(text.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fanfare_bench::local::TempDir;

    use super::*;

    #[test]
    fn the_last_note_is_read_and_nonsense_is_not() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("lock");
        let file = File::create(&path).unwrap();
        let read = || Seen::read(&File::open(&path).unwrap()).unwrap();
        assert_eq!(read(), None);
        note(&file, "e1", 12, 345).unwrap();
        note(&file, "e1", 2, 6).unwrap();
        let seen = Seen {
            epoch: "e1".to_owned(),
            lane: 2,
            n: 6,
        };
        assert_eq!(read(), Some(seen));
        for nonsense in ["e1 1 2", "e1 1\n", "e1 1 2 3\n", "e1 x 2\n"] {
            fs::write(&path, nonsense).unwrap();
            assert_eq!(read(), None, "{nonsense}");
        }
    }
}
