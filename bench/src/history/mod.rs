//! Histories: everything that clients did and saw in a run, in a file, and the judgement of it.
//!
//! A [`Recorder`] takes [`Event`]s from any thread and writes them as JSON lines; `docs/history.md` has the format. At
//! the end of a run the whole log is read through the public API and written beside what the clients saw. [`check`] reads
//! such files afterwards and says which promises were kept. Recording and judging are apart, so that a run
//! can be judged again, by a better judge, without repeating it.

mod check;
mod dump;
mod error;
mod event;
mod log_client;
mod reader;
mod recorder;

pub(crate) use self::check::{CheckReport, check};
pub(crate) use self::dump::dump;
pub use self::error::HistoryError;
pub(crate) use self::event::{Event, HISTORY_VERSION, content_hash};
pub(crate) use self::log_client::{Page as LogPage, read as read_log};
pub(crate) use self::reader::Reader;
pub(crate) use self::recorder::Recorder;
