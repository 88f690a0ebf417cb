//! The one clock of every measurement: `CLOCK_MONOTONIC`, which all processes of a machine share.

use std::time::Duration;

/// Nanoseconds of one second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of one millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// Nanoseconds since an origin that is the same for every process of this machine.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for one timespec; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// The time from `from` to `to`, zero when `to` is earlier.
pub(crate) fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = now();
        assert!(first > 0);
        assert!(now() >= first);
        assert_eq!(between(5, 3), Duration::ZERO);
        assert_eq!(between(3, 5), Duration::from_nanos(2));
    }
}
