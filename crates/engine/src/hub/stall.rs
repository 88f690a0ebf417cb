//! Stalled connections: those whose peer takes nothing at all. Being slow is no reason to be cut off; taking no byte for
//! as long as the node is configured to wait is.
//!
//! Whether a peer takes something is asked of the kernel, because a socket that is full reports room only after a third
//! of its buffer has gone, which takes a very slow reader minutes.

use super::{
    conn::Conn,
    session::{Event, WAKE_SECONDS_MAX},
    shard::Shard,
    wheel::Wheel,
};

/// How often a full socket is looked at within the time that it may take nothing.
const LOOKS: u32 = 4;

impl Shard {
    /// Looks after a connection whose socket may be full.
    pub(super) fn watch(&mut self, index: u32) {
        if let Some(conn) = self.conns.get_mut(index as usize) {
            watch(conn, &mut self.wheel, self.tick, self.common.stall_seconds);
        }
    }

    /// A connection is looked at again, if this is the second for it.
    pub(super) fn look_for_progress(&mut self, index: u32) {
        let (tick, stall_seconds) = (self.tick, self.common.stall_seconds);
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        if conn.look_at != tick {
            return;
        }
        conn.look_at = 0;
        if conn.dead || conn.closing || !conn.is_full() {
            return;
        }
        if conn.stalled_seconds(tick) < stall_seconds {
            watch(conn, &mut self.wheel, tick, stall_seconds);
            return;
        }
        conn.stalled = true;
        self.common.metrics.stalled.add(1);
        self.call(index, |session, cx| session.on_event(Event::Stalled, cx));
    }
}

/// Makes sure that a full socket is looked at in time.
pub(super) fn watch(conn: &mut Conn, wheel: &mut Wheel, tick: u32, stall_seconds: u32) {
    if conn.is_full() && conn.look_at == 0 {
        conn.look_at = tick + (stall_seconds / LOOKS).clamp(1, WAKE_SECONDS_MAX);
        wheel.schedule(conn.key.index, conn.look_at);
    }
}
