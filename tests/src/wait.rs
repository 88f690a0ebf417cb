//! Waiting on conditions. No test sleeps for a fixed time and then looks, and none asserts how long a thing took.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long any one condition may take before the test fails, unless `FANFARE_TEST_PATIENCE_MS` says otherwise.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a condition is waited for. Generous: a healthy run never comes near it.
pub fn patience() -> Duration {
    std::env::var("FANFARE_TEST_PATIENCE_MS")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(PATIENCE, Duration::from_millis)
}

/// The instant at which patience that begins now is at its end.
pub fn deadline() -> Instant {
    Instant::now() + patience()
}

/// Looks again and again until `condition` gives a value.
///
/// # Panics
/// When patience is at its end, with `what` as the sentence.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = deadline();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Sets a flag when it is dropped, in good order or in a panic: whoever goes on until the flag is set ends in either case, and the
/// scope of threads in which they are as well.
#[derive(Debug)]
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
