//! The files of a history, line by line. What is not whole is refused with its place.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::history::{Event, HISTORY_VERSION, HistoryError};

/// The longest line that is taken, in bytes: a header with a million channels fits.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// A line of one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index of the file.
    pub(super) file: u16,
    /// The line, from 1.
    pub(super) line: u64,
}

/// Which lines are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All but deliveries, which are most.
    AllButDeliveries,
    /// What one client or reader after the other went through, deliveries among it.
    Observations,
}

impl Which {
    fn has(self, line: &[u8]) -> bool {
        let is = |name: &str| {
            let rest = line.strip_prefix(b"{\"").unwrap_or_default();
            rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&b'"')
        };
        match self {
            Self::AllButDeliveries => !is("receive"),
            // Lines that this program did not write may have spaces; they are read, and passed over.
            Self::Observations => !["invoke", "ok", "retry", "fail", "info", "row", "dump"]
                .into_iter()
                .any(is),
        }
    }
}

/// Calls `take` for every line of interest of the file at `path`, which is number `file` of several. The header and the
/// end are checked here, and given to `take` like all others.
///
/// # Errors
/// [`HistoryError`] with the line that cannot be read, is out of place, or is refused by `take`; and when the file
/// ends too early.
pub(super) fn for_each(
    path: &Path,
    file: u16,
    which: Which,
    mut take: impl FnMut(Place, &Event<'_>) -> Result<(), String>,
) -> Result<(), HistoryError> {
    let failed = |source| HistoryError::Read {
        path: path.to_owned(),
        source,
    };
    let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let mut text = Vec::new();
    let mut place = Place { file, line: 0 };
    let mut has_ended = false;
    loop {
        text.clear();
        let mut limited = (&mut input).take(LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut text).map_err(failed)? == 0 {
            break;
        }
        place.line += 1;
        let refuse = |reason: String| malformed(path, place.line, reason);
        if has_ended {
            return Err(refuse("a line after the end line".to_owned()));
        }
        if text.pop() != Some(b'\n') {
            if text.len() as u64 + 1 >= LINE_BYTES_MAX {
                return Err(refuse(format!("a line longer than {LINE_BYTES_MAX} bytes")));
            }
            return Err(truncated(path, place.line));
        }
        if place.line > 1 && !which.has(&text) {
            continue;
        }
        let event: Event<'_> =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        has_ended = check_frame(&event, place.line).map_err(refuse)?;
        take(place, &event).map_err(refuse)?;
    }
    if has_ended {
        Ok(())
    } else {
        Err(truncated(path, place.line))
    }
}

/// Checks that the header is the first line and the end counts all; `true` for the end.
fn check_frame(event: &Event<'_>, line: u64) -> Result<bool, String> {
    match event {
        Event::Header { version, .. } if line == 1 => {
            if *version == HISTORY_VERSION {
                return Ok(false);
            }
            Err(format!(
                "version {version} of the format, and this program knows {HISTORY_VERSION}"
            ))
        }
        Event::Header { .. } => Err("a second header".to_owned()),
        _ if line == 1 => Err("not a history: the first line is no header".to_owned()),
        Event::End { lines, .. } if *lines != line => Err(format!(
            "the end line counts {lines} lines, but it is line {line}: some are missing or were added"
        )),
        Event::End { .. } => Ok(true),
        _ => Ok(false),
    }
}

fn truncated(path: &Path, line: u64) -> HistoryError {
    HistoryError::Truncated {
        path: path.to_owned(),
        line,
    }
}

/// Something is wrong with a line.
pub(super) fn malformed(path: &Path, line: u64, reason: String) -> HistoryError {
    HistoryError::Malformed {
        path: path.to_owned(),
        line,
        reason,
    }
}

/// `file:line`, for people.
pub(super) fn describe(files: &[PathBuf], place: Place) -> String {
    let name = files
        .get(usize::from(place.file))
        .map_or_else(String::new, |path| path.display().to_string());
    format!("{name}:{}", place.line)
}
