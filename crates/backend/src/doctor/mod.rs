//! Looks at live databases as an experienced operator would, before a server relies on them.
//!
//! Each examination gives its findings in the order in which it made them, and stops where going on makes no sense. None
//! changes anything that it does not take back, and no finding holds a password.

mod folder;
mod postgres;
mod redis;
mod redis_server;
mod redis_state;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub use self::{folder::examine_folder, postgres::examine_postgres, redis::examine_redis};

/// Times that something short is measured; the middle one counts.
const SAMPLES: usize = 21;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub grade: Grade,
    /// What was found, and what to do about it if it is not well. One line.
    pub text: String,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, but slower or less safely than it could.
    Warn,
    /// A server could not keep its promises.
    Fail,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Self {
        Self {
            grade: Grade::Ok,
            text: text.into(),
        }
    }

    fn warn(text: impl Into<String>) -> Self {
        Self {
            grade: Grade::Warn,
            text: text.into(),
        }
    }

    fn fail(text: impl Into<String>) -> Self {
        Self {
            grade: Grade::Fail,
            text: text.into(),
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// A flush slower than this bounds what a server can take; group commit makes up for much of it.
const FLUSH_SLOW: Duration = Duration::from_millis(10);

/// A judgement on how long a commit takes to be safe on the disk.
fn judge_flush(what: &str, time: Duration) -> Finding {
    let millis = time.as_secs_f64() * 1e3;
    if time <= FLUSH_SLOW {
        return Finding::ok(format!("{what}: {millis:.2} ms"));
    }
    Finding::warn(format!(
        "{what}: {millis:.1} ms; every publish waits for it, so use a faster disk (an SSD with power-loss protection)"
    ))
}

/// The middle of some durations.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Runs something [`SAMPLES`] times and gives the middle of its durations, or its first error.
async fn measure<E>(mut work: impl AsyncFnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        work().await?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_not_moved_by_one_slow_sample() {
        let times = [1, 900, 3].map(Duration::from_millis).to_vec();
        assert_eq!(median(times), Duration::from_millis(3));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }

    #[test]
    fn a_slow_disk_is_a_warning() {
        assert_eq!(
            judge_flush("commit", Duration::from_millis(2)).grade,
            Grade::Ok
        );
        assert_eq!(
            judge_flush("commit", Duration::from_millis(20)).grade,
            Grade::Warn
        );
    }
}
