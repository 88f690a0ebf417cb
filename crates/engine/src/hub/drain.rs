//! Sending the connections of a shard away, a slice at a time, so that they do not all come back elsewhere at once.

use super::{inbox::ConnKey, session::Event, shard::Shard};

impl Shard {
    /// Sends away its share of those who are still here when `slices` slices are left, this one included: all of them
    /// with the last one.
    ///
    /// Who waits for the answer to a publish or another call leaves as soon as it has been given, and says no more until
    /// then. With 0 slices left everybody leaves now, answered or not.
    pub(super) fn drain_slice(&mut self, slices: u32) {
        if slices == 0 {
            return self.drain_rest();
        }
        let staying = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.closing && !conn.dead && !conn.drained);
        let staying: Vec<ConnKey> = staying.map(|(_, conn)| conn.key).collect();
        let share = staying.len().div_ceil(slices as usize);
        for key in &staying[..share] {
            let Some(conn) = self.conn(*key) else {
                continue;
            };
            conn.drained = true;
            self.leave_if_answered(key.index);
        }
    }

    fn drain_rest(&mut self) {
        let rest: Vec<u32> = self.conns.iter().map(|(_, conn)| conn.key.index).collect();
        for index in rest {
            self.call(index, |session, cx| session.on_event(Event::Drain, cx));
        }
    }

    /// A connection that is to leave does so once nothing that it asked for is under way.
    pub(super) fn leave_if_answered(&mut self, index: u32) {
        let leaves = |conn: &&mut super::conn::Conn| conn.drained && conn.calls == 0;
        if self
            .conns
            .get_mut(index as usize)
            .as_ref()
            .is_some_and(leaves)
        {
            self.call(index, |session, cx| session.on_event(Event::Drain, cx));
        }
    }
}
