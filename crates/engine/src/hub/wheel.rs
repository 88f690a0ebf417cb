//! One timer per connection, in seconds: a wheel with a slot for each second of the next minute.

use super::session::WAKE_SECONDS_MAX;

const SLOTS: u32 = 64;
const _: () = assert!(WAKE_SECONDS_MAX < SLOTS);

/// Which connections want to be woken in which second.
#[derive(Debug)]
pub(crate) struct Wheel {
    slots: [Vec<u32>; SLOTS as usize],
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            slots: std::array::from_fn(|_| Vec::new()),
        }
    }
}

impl Wheel {
    /// Puts a connection into the slot of `tick`, at most [`WAKE_SECONDS_MAX`] ahead.
    pub(crate) fn schedule(&mut self, conn: u32, tick: u32) {
        self.slots[(tick % SLOTS) as usize].push(conn);
    }

    /// Takes everybody in the slot of `tick`. Who changed their mind since is still in it: the caller compares.
    pub(crate) fn take(&mut self, tick: u32) -> Vec<u32> {
        std::mem::take(&mut self.slots[(tick % SLOTS) as usize])
    }
}
