//! The pass: one walk over the cursors of a channel that has news, and the going on of those that fell behind.
//!
//! A pass encodes nothing twice: the frames of the news are gathered once and every socket is given the same bytes in
//! one write. At low load that is one message per write and no delay; under load the news that gather during one pass
//! leave together in the next. A socket that takes only part keeps the rest of one frame and its number; the cursor
//! goes on from there when the socket has room.

use std::sync::Arc;

use fanfare_wire::{ChannelName, Form, FormId, Run, Seq};

use super::{
    Common,
    conn::Conn,
    cursors::{Cursor, List},
    frames::Frames,
    inbox::ConnKey,
    shard::Shard,
    sink::Written,
    stall,
};
use crate::{
    pages::{PageResult, page_after},
    ring::Recent,
};

/// What writing frames to a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// All of it is written.
    Written,
    /// The socket is full; the cursor stands where it ended.
    Blocked,
    /// The peer is gone.
    Gone,
}

/// How far a lagging cursor came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advance {
    /// It has seen everything.
    Live,
    /// It has had its turn, there is more.
    More,
    /// A page of the log is on its way.
    Waiting,
    /// The socket is full or gone.
    Stopped,
}

/// Counts of a pass, added to the metrics once.
#[derive(Default)]
struct Tally {
    deliveries: u64,
    writes: u64,
    bytes: u64,
    lagging: u64,
}

impl Shard {
    /// The node let publications pass.
    pub(super) fn fresh(&mut self, run: Arc<Run>) {
        let Some(channel) = self.by_name.get(run.channel()).copied() else {
            return;
        };
        let found = &mut self.channels[channel as usize];
        if found.attachment.is_none() || *run.epoch() != self.epoch {
            return;
        }
        found.fresh.push(run);
        if !std::mem::replace(&mut found.dirty, true) {
            self.dirty.push(channel);
        }
    }

    /// One pass over each channel with news.
    pub(super) fn pass_all(&mut self) {
        for channel in std::mem::take(&mut self.dirty) {
            self.pass(channel);
        }
    }

    fn pass(&mut self, channel: u32) {
        let Some(found) = self.channels.get_mut(channel as usize) else {
            return;
        };
        found.dirty = false;
        let base = found.head;
        let runs: Vec<Arc<Run>> = std::mem::take(&mut found.fresh)
            .iter()
            .filter_map(|run| run.after(base))
            .collect();
        let Some(head) = runs.last().map(|run| run.last()) else {
            return;
        };
        found.head = head;
        // After a jump over a hole the frames do not follow the cursors: they go on through the ring and the log.
        let mut next = base.next();
        let follows = runs.iter().all(|run| {
            let expected = std::mem::replace(&mut next, run.last().next());
            run.first() == expected
        });
        let mut tally = Tally::default();
        let mut stragglers = Vec::new();
        for List { diet, cursors } in found.cursors.lists_mut() {
            let id = diet.form;
            let form = &*self.common.forms[usize::from(id.0)];
            if (!follows && !diet.newest) || form.is_personal() || diet.whole {
                let behind = cursors.iter().filter(|cursor| cursor.seq < head);
                stragglers.extend(behind.map(|cursor| cursor.conn));
                continue;
            }
            let newest = diet.newest;
            let (runs, after) = match newest {
                true => (&runs[runs.len() - 1..], diet.after(base, head)),
                false => (&runs[..], base),
            };
            let scratch = &mut self.scratch;
            let mut frames = match &diet.filter {
                None => Frames::gather(runs, after, id, form, scratch),
                Some(it) => Frames::select(runs, after, id, form, it, scratch, usize::MAX),
            };
            if frames.is_empty() {
                pass_over(cursors, base, head, &mut stragglers);
                continue;
            }
            for cursor in cursors.iter_mut() {
                let conn = &mut self.conns[cursor.conn as usize];
                let takes = conn.is_clear() && conn.sink.takes(frames.bytes().len());
                let is_next = match newest {
                    true => cursor.seq < head,
                    false => cursor.seq == base,
                };
                if is_next && takes {
                    match give(conn, cursor, &mut frames, self.tick, &mut tally) {
                        Step::Written => {}
                        Step::Blocked => {
                            let stall_seconds = self.common.stall_seconds;
                            stall::watch(conn, &mut self.wheel, self.tick, stall_seconds);
                        }
                        Step::Gone => stragglers.push(cursor.conn),
                    }
                } else if cursor.seq < head && conn.is_clear() {
                    stragglers.push(cursor.conn);
                }
            }
        }
        self.common.metrics.passes.add(1);
        count(&self.common, &tally);
        for index in stragglers {
            if self.conns.get(index as usize).is_some_and(|conn| conn.dead) {
                self.doom(index);
            } else {
                self.queue_resume(index);
            }
        }
    }

    /// Lets connections go on that may be able to.
    pub(super) fn resume_some(&mut self) {
        for index in std::mem::take(&mut self.resume) {
            self.resume_one(index);
        }
    }

    fn resume_one(&mut self, index: u32) {
        let tick = self.tick;
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        conn.queued_resume = false;
        let clear = conn.flush(tick);
        if conn.finish() {
            self.doom(index);
            return;
        }
        self.queue_read_if_paused(index);
        if !clear {
            self.watch(index);
            return;
        }
        let mut tally = Tally::default();
        let mut more = false;
        let subs = self.conns[index as usize].subs.len();
        for at in 0..subs {
            match self.advance(index, at, &mut tally) {
                Advance::Live | Advance::Waiting => {}
                Advance::More => more = true,
                Advance::Stopped => break,
            }
        }
        count(&self.common, &tally);
        if self.conns[index as usize].dead {
            self.doom(index);
        } else if more {
            self.queue_resume(index);
        }
        self.watch(index);
    }

    /// Moves one cursor of a connection forward over ring and log.
    fn advance(&mut self, index: u32, at: usize, tally: &mut Tally) -> Advance {
        let Some(sub) = self.conns[index as usize].subs.get(at).copied() else {
            return Advance::Live;
        };
        if sub.waiting {
            return Advance::Waiting;
        }
        let Some(channel) = self.attachment(sub.channel) else {
            return Advance::Live;
        };
        let cursors = &mut self.channels[sub.channel as usize].cursors;
        let Some((diet, cursor)) = cursors.entry(sub.slot) else {
            return Advance::Live;
        };
        if let Some(head) = channel.head().filter(|_| diet.newest) {
            cursor.seq = diet.after(cursor.seq, head.seq).max(head.trimmed);
        }
        let cursor = *cursor;
        let bytes_max = self.conns[index as usize].sink.bytes_max();
        let runs = match channel.recent(cursor.seq, bytes_max) {
            Recent::Nothing => return Advance::Live,
            Recent::Runs(runs) => runs,
            Recent::Gone => match self.common.upstream.cached_page(channel.name(), cursor.seq) {
                Some(page) if *page.epoch() == self.epoch => vec![page],
                _ => {
                    self.wait_for_page(index, at, channel.name(), cursor.seq);
                    return Advance::Waiting;
                }
            },
        };
        match self.give_runs(index, at, &runs, tally) {
            Step::Written => Advance::More,
            Step::Blocked | Step::Gone => Advance::Stopped,
        }
    }

    /// Writes what follows the cursor from `runs`.
    fn give_runs(&mut self, index: u32, at: usize, runs: &[Arc<Run>], tally: &mut Tally) -> Step {
        let conn = &mut self.conns[index as usize];
        let Some(sub) = conn.subs.get(at).copied() else {
            return Step::Written;
        };
        let found = &mut self.channels[sub.channel as usize];
        let Some((diet, cursor)) = found.cursors.entry(sub.slot) else {
            return Step::Written;
        };
        let id = diet.form;
        let form = &*self.common.forms[usize::from(id.0)];
        let runs = match runs.last().filter(|_| diet.newest) {
            Some(newest) => {
                cursor.seq = diet.after(cursor.seq, newest.last());
                std::slice::from_ref(newest)
            }
            None => runs,
        };
        if form.is_personal() {
            return give_personal(conn, cursor, runs, id, form, &found.name, self.tick, tally);
        }
        let (before, scratch) = (cursor.seq, &mut self.scratch);
        let bytes_max = conn.sink.bytes_max();
        let mut frames = match &diet.filter {
            _ if diet.whole => Frames::first_whole(runs, before, id, form, scratch),
            Some(it) => Frames::select(runs, before, id, form, it, scratch, bytes_max),
            None => {
                let mut frames = Frames::gather(runs, before, id, form, scratch);
                frames.limit(bytes_max);
                frames
            }
        };
        if frames.is_empty() {
            cursor.seq = frames.last();
            return Step::Written;
        }
        let step = give(conn, cursor, &mut frames, self.tick, tally);
        if diet.whole && cursor.seq > before {
            self.put_on(index, at, |diet| diet.whole = false);
        }
        step
    }

    fn wait_for_page(&mut self, index: u32, at: usize, name: &ChannelName, seq: Seq) {
        let conn = &mut self.conns[index as usize];
        let key = conn.key;
        let Some(sub) = conn.subs.get_mut(at) else {
            return;
        };
        sub.waiting = true;
        let page = page_after(seq);
        let waiters = self.channels[sub.channel as usize]
            .page_waiters
            .entry(page)
            .or_default();
        waiters.push(key);
        if waiters.len() == 1 {
            self.common.upstream.page(name.clone(), seq, &self.inbox);
        }
    }

    /// A page of the log arrived: those who waited for it go on.
    pub(super) fn page_arrived(&mut self, name: &ChannelName, page: u64, result: &PageResult) {
        let Some(channel) = self.by_name.get(name).copied() else {
            return;
        };
        let waiters = self.channels[channel as usize]
            .page_waiters
            .remove(&page)
            .unwrap_or_default();
        for waiter in waiters {
            self.go_on_with(waiter, channel, page, result);
        }
    }

    fn go_on_with(&mut self, waiter: ConnKey, channel: u32, page: u64, result: &PageResult) {
        let Some(conn) = self.conn(waiter) else {
            return;
        };
        let Some(at) = conn
            .subs
            .iter()
            .position(|sub| sub.channel == channel && sub.waiting)
        else {
            return;
        };
        let slot = conn.subs[at].slot;
        let index = waiter.index;
        let found = &mut self.channels[channel as usize];
        let Some((diet, cursor)) = found.cursors.entry(slot) else {
            return;
        };
        let newest = diet.newest;
        if page_after(cursor.seq) != page {
            if newest {
                // It was given what has come meanwhile, and waits no longer.
                self.conns[index as usize].subs[at].waiting = false;
                self.queue_resume(index);
            }
            // It left and came back elsewhere, and waits for another page.
            return;
        }
        match result {
            // A read that was under way when the epoch changed.
            Ok(Some(run)) if *run.epoch() != self.epoch => {
                self.conns[index as usize].subs[at].waiting = false;
                self.retries.push(waiter);
            }
            Ok(Some(run)) if run.last() > cursor.seq => {
                let overtaken = run.first() > cursor.seq.next();
                if overtaken {
                    cursor.seq = Seq(run.first().0 - 1);
                }
                self.conns[index as usize].subs[at].waiting = false;
                if overtaken && !newest {
                    let name = run.channel().clone();
                    self.tell_truncated(index, &name, run.first());
                } else if self.conns[index as usize].is_clear() {
                    let mut tally = Tally::default();
                    self.give_runs(index, at, std::slice::from_ref(run), &mut tally);
                    count(&self.common, &tally);
                }
                self.queue_resume(index);
            }
            // Read before there was more: the next read brings it.
            Ok(Some(_)) => {
                self.conns[index as usize].subs[at].waiting = false;
                self.queue_resume(index);
            }
            // Nothing there though more exists: retention was faster. The head says how far.
            Ok(None) => {
                self.refresh(channel);
                // Should the head not explain it, the cursor must not wait for ever.
                self.retries.push(waiter);
            }
            Err(_) => {
                self.conns[index as usize].subs[at].waiting = false;
                self.retries.push(waiter);
            }
        }
    }
}

/// Nothing of the news is wanted: those who have seen what was before them have seen these. The others go on as they would.
fn pass_over(cursors: &mut [Cursor], base: Seq, head: Seq, stragglers: &mut Vec<u32>) {
    for cursor in cursors {
        if cursor.seq == base {
            cursor.seq = head;
        } else if cursor.seq < head {
            stragglers.push(cursor.conn);
        }
    }
}

/// Writes frames that follow the cursor.
fn give(
    conn: &mut Conn,
    cursor: &mut Cursor,
    frames: &mut Frames<'_>,
    tick: u32,
    tally: &mut Tally,
) -> Step {
    let bytes = frames.bytes();
    tally.writes += 1;
    match conn.sink.write(bytes, || frames.shared()) {
        Written::All => {
            tally.deliveries += frames.count();
            tally.bytes += bytes.len() as u64;
            cursor.seq = frames.last();
            Step::Written
        }
        Written::Partly(written) => {
            let (reached, rest) = frames.cut(written);
            tally.deliveries += frames.count_up_to(reached);
            tally.bytes += written as u64;
            tally.lagging += 1;
            cursor.seq = reached;
            conn.block_with(rest, tick);
            Step::Blocked
        }
        Written::Gone => {
            conn.dead = true;
            Step::Gone
        }
    }
}

/// Completes frames for one connection and writes them.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of a shard that a borrow of the whole would lock"
)]
fn give_personal(
    conn: &mut Conn,
    cursor: &mut Cursor,
    runs: &[Arc<Run>],
    id: FormId,
    form: &dyn Form,
    name: &ChannelName,
    tick: u32,
    tally: &mut Tally,
) -> Step {
    let mut out = Vec::new();
    let bytes_max = conn.sink.bytes_max();
    for run in runs {
        let encoded = run.encoded(id, form);
        for at in run.index_after(cursor.seq)..run.publications().len() {
            if out.len() > bytes_max {
                break;
            }
            let start = if at == 0 {
                0
            } else {
                encoded.ends[at - 1] as usize
            };
            let frame = &encoded.bytes[start..encoded.ends[at] as usize];
            let seq = run.publications()[at].seq;
            conn.session.personalise(name, seq, frame, &mut out);
            cursor.seq = seq;
            tally.deliveries += 1;
        }
    }
    tally.writes += 1;
    tally.bytes += out.len() as u64;
    conn.push(&out);
    conn.flush(tick);
    match (conn.dead, conn.is_clear()) {
        (true, _) => Step::Gone,
        (_, true) => Step::Written,
        (_, false) => Step::Blocked,
    }
}

fn count(common: &Common, tally: &Tally) {
    if tally.writes > 0 {
        common.metrics.deliveries.add(tally.deliveries);
        common.metrics.writes.add(tally.writes);
        common.metrics.written_bytes.add(tally.bytes);
        common.metrics.lagging.add(tally.lagging);
    }
}
