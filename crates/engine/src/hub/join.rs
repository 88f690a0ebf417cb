//! Subscribe with a position: where a cursor begins, and how it comes and goes.
//!
//! The seam between history and live needs no merging: a cursor is placed at the position, the reply is written, and
//! the cursor moves forward like any other. What has to be decided is only whether the position is one of this log.

use std::sync::Arc;

use fanfare_wire::{ChannelName, Epoch, FormId, Seq, TagsFilter};

use super::{
    channel::ShardChannel,
    conn::Sub,
    cursors::{Cursor, Diet, List, Slot},
    inbox::ConnKey,
    session::{Event, Recovery, Resume, Start},
    shard::{Shard, key},
};
use crate::{
    channels::Attachment,
    epoch::was_replaced,
    port::{Head, LogError},
};

/// A subscribe under way.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(super) conn: ConnKey,
    pub(super) tag: u32,
    pub(super) start: Start,
    pub(super) form: FormId,
    pub(super) filter: Option<Arc<TagsFilter>>,
    /// It came while the head was being read: what that read says may be older than its position.
    pub(super) late: bool,
}

/// Where a cursor is placed.
struct Place {
    position: Seq,
    recovery: Recovery,
}

impl Shard {
    /// Begins a subscribe.
    pub(super) fn join(&mut self, name: ChannelName, joining: Joining) {
        let conn = joining.conn;
        let channel = match self.by_name.get(&name) {
            Some(channel) => *channel,
            None => {
                let channel = key(self.channels.insert(ShardChannel::new(name.clone())));
                self.by_name.insert(name.clone(), channel);
                self.common.upstream.attach(name, &self.inbox);
                channel
            }
        };
        if let Some(conn) = self.conn(conn) {
            conn.joining.push(channel);
        }
        if self.channels[channel as usize].attachment.is_none() {
            self.channels[channel as usize].joining.push(joining);
        } else {
            self.hold(channel, |shard| {
                shard.place_all(channel, vec![joining], None)
            });
        }
    }

    /// Ends a subscription, or a subscribe under way.
    pub(super) fn leave(&mut self, index: u32, name: &ChannelName) {
        let Some(channel) = self.by_name.get(name).copied() else {
            return;
        };
        let Some(conn) = self.conns.get_mut(index as usize) else {
            return;
        };
        let conn_key = conn.key;
        if let Some(at) = conn.subs.iter().position(|sub| sub.channel == channel) {
            let sub = conn.subs.swap_remove(at);
            self.remove_cursor(channel, sub.slot);
        } else if let Some(at) = conn.joining.iter().position(|joining| *joining == channel) {
            conn.joining.swap_remove(at);
            self.channels[channel as usize]
                .joining
                .retain(|joining| joining.conn != conn_key);
        }
        self.drop_if_unused(channel);
    }

    /// Moves a cursor to the list of another wire form.
    pub(super) fn reform(&mut self, index: u32, name: ChannelName, form: FormId) {
        let Some(channel) = self.by_name.get(&name).copied() else {
            return;
        };
        let subs = &self.conns[index as usize].subs;
        let Some(at) = subs.iter().position(|sub| sub.channel == channel) else {
            return;
        };
        let whole = self.common.forms[usize::from(form.0)].takes_deltas();
        let position = self.put_on(index, at, |diet| {
            diet.form = form;
            diet.whole = whole;
        });
        let Some(position) = position else {
            return;
        };
        let event = Event::Reformed {
            channel: name,
            position,
        };
        self.call(index, |session, cx| session.on_event(event, cx));
        // A pass may be under way that would have found it in the list of before.
        self.queue_resume(index);
    }

    /// Gives a cursor other bytes from now on: moves it to the list of those who are given the same. Returns where it stands.
    pub(super) fn put_on(
        &mut self,
        index: u32,
        at: usize,
        change: impl FnOnce(&mut Diet),
    ) -> Option<Seq> {
        let sub = self.conns.get_mut(index as usize)?.subs.get_mut(at)?;
        let (channel, before) = (sub.channel, sub.slot);
        let cursors = &mut self.channels[channel as usize].cursors;
        let mut diet = cursors.diet(before)?.clone();
        change(&mut diet);
        let cursor = *cursors.get_mut(before)?;
        sub.slot = cursors.add(&diet, cursor);
        // It counts as one that came and one that went.
        self.common.metrics.subscriptions.add(1);
        self.remove_cursor(channel, before);
        Some(cursor.seq)
    }

    /// The client has not had the last publication before its cursor, or has had something else since: the next one is whole.
    pub(super) fn begin_whole(&mut self, index: u32, channel: u32) {
        let Some(conn) = self.conns.get(index as usize) else {
            return;
        };
        let subs = &conn.subs;
        let Some(at) = subs.iter().position(|sub| sub.channel == channel) else {
            return;
        };
        let Some(diet) = self.channels[channel as usize].cursors.diet(subs[at].slot) else {
            return;
        };
        let form = &self.common.forms[usize::from(diet.form.0)];
        if form.takes_deltas() && !diet.whole {
            self.put_on(index, at, |diet| diet.whole = true);
        }
    }

    /// The channel is live on this node; its news follow.
    pub(super) fn attached(&mut self, attachment: Attachment) {
        let wanted = self.by_name.get(attachment.name()).copied();
        // One of a later epoch is asked for again when this shard is told of the epoch.
        let wanted = wanted.filter(|_| *attachment.epoch() == self.epoch);
        let Some(channel) = wanted else {
            // Everybody who wanted it has left meanwhile.
            self.common.upstream.detach(&attachment, &self.inbox);
            return;
        };
        let found = &mut self.channels[channel as usize];
        found.head = found.head.max(attachment.head_when_attached());
        found.attachment = Some(attachment);
        self.resume_behind(channel);
        self.hold(channel, |shard| {
            let waiting = std::mem::take(&mut shard.channels[channel as usize].joining);
            shard.place_all(channel, waiting, None);
        });
    }

    /// The channel cannot be made live now.
    pub(super) fn attach_failed(&mut self, name: &ChannelName, error: &LogError) {
        let Some(channel) = self.by_name.get(name).copied() else {
            return;
        };
        if self.channels[channel as usize].attachment.is_none() {
            self.hold(channel, |shard| shard.refuse_joining(channel, error));
        }
    }

    /// The channel's head, fresh from the log.
    pub(super) fn refreshed(
        &mut self,
        name: &ChannelName,
        number: u64,
        result: &Result<(Epoch, Head), LogError>,
    ) {
        let Some(channel) = self.by_name.get(name).copied() else {
            return;
        };
        let found = &mut self.channels[channel as usize];
        if found.refreshing != Some(number) {
            // The answer to somebody who has left: it may be older than those who came since.
            return;
        }
        found.refreshing = None;
        let result = match result {
            Ok((epoch, head)) if *epoch == self.epoch => Ok(*head),
            Ok(_) => Err(was_replaced()),
            Err(error) => Err(error.clone()),
        };
        self.hold(channel, |shard| match result {
            Ok(head) => shard.refreshed_at(channel, head),
            Err(error) => {
                shard.refuse_joining(channel, &error);
                shard.retry_behind(channel);
            }
        });
    }

    /// Retention has overtaken this node.
    pub(super) fn trimmed(&mut self, name: &ChannelName, epoch: &Epoch, trimmed: Seq) {
        let channel = self.by_name.get(name).copied();
        let is_live = |channel: &u32| self.channels[*channel as usize].attachment.is_some();
        let Some(channel) = channel.filter(|it| *epoch == self.epoch && is_live(it)) else {
            return;
        };
        self.hold(channel, |shard| shard.trimmed_at(channel, trimmed));
    }

    fn trimmed_at(&mut self, channel: u32, trimmed: Seq) {
        let found = &mut self.channels[channel as usize];
        found.head = found.head.max(trimmed);
        self.truncate_behind(channel, trimmed);
        self.resume_behind(channel);
    }

    fn refreshed_at(&mut self, channel: u32, head: Head) {
        // Retention may have overtaken the node itself.
        self.trimmed_at(channel, head.trimmed);
        let waiting = std::mem::take(&mut self.channels[channel as usize].joining);
        self.place_all(channel, waiting, Some(head));
    }

    /// Works on a channel that must not go away meanwhile, though sessions may answer by leaving it.
    fn hold(&mut self, channel: u32, work: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.channels[channel as usize].held, true);
        work(self);
        self.channels[channel as usize].held = before;
        self.drop_if_unused(channel);
    }

    /// Removes a cursor from its channel; mends the slot of the one that takes its place.
    pub(super) fn remove_cursor(&mut self, channel: u32, slot: Slot) {
        let Some(found) = self.channels.get_mut(channel as usize) else {
            return;
        };
        self.common.metrics.subscriptions.add(-1);
        let Some(moved) = found.cursors.remove(slot) else {
            return;
        };
        let moved = self.conns.get_mut(moved as usize);
        if let Some(sub) =
            moved.and_then(|conn| conn.subs.iter_mut().find(|sub| sub.channel == channel))
        {
            sub.slot = slot;
        }
    }

    /// Forgets a channel that nobody subscribes to any more.
    pub(super) fn drop_if_unused(&mut self, channel: u32) {
        let Some(found) = self.channels.get(channel as usize) else {
            return;
        };
        if found.held || !found.cursors.is_empty() || !found.joining.is_empty() {
            return;
        }
        let found = self.channels.remove(channel as usize);
        self.by_name.remove(&found.name);
        if let Some(attachment) = &found.attachment {
            self.common.upstream.detach(attachment, &self.inbox);
        }
    }

    /// Places those for whom what is known suffices. For all others together the head is read once more, after they came.
    fn place_all(&mut self, channel: u32, waiting: Vec<Joining>, fresh: Option<Head>) {
        for mut joining in waiting {
            if self.conn(joining.conn).is_none() {
                continue;
            }
            let fresh = fresh.filter(|_| !joining.late);
            let found = &mut self.channels[channel as usize];
            match place(found, &joining.start, fresh, &self.epoch) {
                Some(place) => {
                    self.count_resumed(&joining.start, fresh.is_some());
                    self.place(channel, &joining, &place);
                }
                None => {
                    joining.late = found.refreshing.is_some();
                    found.joining.push(joining);
                }
            }
        }
        if !self.channels[channel as usize].joining.is_empty() {
            self.refresh(channel);
        }
    }

    /// Has the head of a channel read, unless that is under way.
    pub(super) fn refresh(&mut self, channel: u32) {
        let found = &mut self.channels[channel as usize];
        if found.refreshing.is_some() {
            return;
        }
        self.refreshes += 1;
        found.refreshing = Some(self.refreshes);
        let name = found.name.clone();
        let upstream = &self.common.upstream;
        upstream.refresh(name, self.refreshes, &self.inbox);
    }

    fn count_resumed(&self, start: &Start, by_log: bool) {
        let metrics = &self.common.metrics;
        match (start, by_log) {
            (Start::Live, _) => {}
            (_, false) => metrics.resumed_from_memory.add(1),
            (_, true) => metrics.resumed_from_log.add(1),
        }
    }

    fn place(&mut self, channel: u32, joining: &Joining, place: &Place) {
        let index = joining.conn.index;
        let found = &mut self.channels[channel as usize];
        let name = found.name.clone();
        let form = &self.common.forms[usize::from(joining.form.0)];
        let diet = Diet {
            form: joining.form,
            whole: form.takes_deltas(),
            filter: joining.filter.clone(),
            newest: matches!(joining.start, Start::Newest(_)),
        };
        let slot = found.cursors.add(
            &diet,
            Cursor {
                conn: index,
                seq: place.position,
            },
        );
        self.common.metrics.subscriptions.add(1);
        let conn = &mut self.conns[index as usize];
        conn.joined(Sub {
            channel,
            slot,
            waiting: false,
        });
        let event = Event::Subscribed {
            tag: joining.tag,
            channel: name,
            position: place.position,
            recovery: place.recovery,
            epoch: self.epoch.clone(),
        };
        self.call(index, |session, cx| session.on_event(event, cx));
        self.queue_resume(index);
    }

    fn refuse_joining(&mut self, channel: u32, error: &LogError) {
        let name = self.channels[channel as usize].name.clone();
        for joining in std::mem::take(&mut self.channels[channel as usize].joining) {
            self.common.metrics.subscribe_errors.add(1);
            let Some(conn) = self.conn(joining.conn) else {
                continue;
            };
            conn.joining.retain(|joining| *joining != channel);
            let event = Event::SubscribeFailed {
                tag: joining.tag,
                channel: name.clone(),
                error: error.clone(),
            };
            self.call(joining.conn.index, |session, cx| {
                session.on_event(event, cx)
            });
        }
        self.drop_if_unused(channel);
    }

    fn resume_behind(&mut self, channel: u32) {
        let found = &mut self.channels[channel as usize];
        let head = found.head;
        let behind: Vec<u32> = found
            .cursors
            .lists_mut()
            .flat_map(|list| list.cursors.iter())
            .filter(|cursor| cursor.seq < head)
            .map(|cursor| cursor.conn)
            .collect();
        for conn in behind {
            self.queue_resume(conn);
        }
    }

    /// Retention has removed everything up to `trimmed`: cursors before it go on behind it and say so.
    fn truncate_behind(&mut self, channel: u32, trimmed: Seq) {
        let found = &mut self.channels[channel as usize];
        let mut overtaken = Vec::new();
        for List { diet, cursors } in found.cursors.lists_mut() {
            for cursor in cursors.iter_mut().filter(|cursor| cursor.seq < trimmed) {
                // Those that read the ring are not affected; only those that wait for the log are.
                let conn = &mut self.conns[cursor.conn as usize];
                let sub = conn
                    .subs
                    .iter_mut()
                    .find(|sub| sub.channel == channel && sub.waiting);
                if let Some(sub) = sub {
                    sub.waiting = false;
                    cursor.seq = trimmed;
                    overtaken.push((cursor.conn, diet.newest));
                }
            }
        }
        let name = found.name.clone();
        for (index, newest) in overtaken {
            // Who wants the newest alone has not lost what is older.
            if !newest {
                self.tell_truncated(index, &name, trimmed.next());
            }
            self.queue_resume(index);
        }
    }

    pub(super) fn tell_truncated(&mut self, index: u32, name: &ChannelName, oldest: Seq) {
        let event = Event::Truncated {
            channel: name.clone(),
            oldest,
        };
        self.call(index, |session, cx| session.on_event(event, cx));
        // Most sessions have left by now.
        if let Some(channel) = self.by_name.get(name).copied() {
            self.begin_whole(index, channel);
        }
    }

    /// Those that wait for the log try again in the next second.
    fn retry_behind(&mut self, channel: u32) {
        let Some(found) = self.channels.get_mut(channel as usize) else {
            return;
        };
        for List { cursors, .. } in found.cursors.lists_mut() {
            for cursor in cursors.iter() {
                let conn = &mut self.conns[cursor.conn as usize];
                let sub = conn
                    .subs
                    .iter_mut()
                    .find(|sub| sub.channel == channel && sub.waiting);
                if let Some(sub) = sub {
                    sub.waiting = false;
                    self.retries.push(conn.key);
                }
            }
        }
    }
}

/// Decides where a cursor begins. `None`: what is known here does not suffice, ask the log.
fn place(found: &ShardChannel, start: &Start, fresh: Option<Head>, epoch: &Epoch) -> Option<Place> {
    let live = |recovery| {
        Some(Place {
            position: found.head,
            recovery,
        })
    };
    let (resume, missed_max) = match start {
        Start::Live => return live(Recovery::NotAsked),
        Start::Resume(resume) => (resume, u64::MAX),
        Start::ResumeWithin(resume, missed_max) => (resume, *missed_max),
        Start::Newest(seen) => return place_before_newest(found, seen.as_ref(), fresh, epoch),
    };
    let Resume {
        epoch: asked,
        seq,
        oldest_if_truncated,
    } = resume;
    if asked.as_ref().is_some_and(|asked| asked != epoch) {
        return live(Recovery::Reset);
    }
    let recovered = Some(Place {
        position: *seq,
        recovery: Recovery::Recovered,
    });
    let attachment = found.attachment.as_ref()?;
    let too_old = |head: Seq| Seq(head.0.saturating_sub(missed_max));
    let reaches = *seq >= too_old(found.head) && attachment.reaches(*seq);
    if *seq == found.head || reaches {
        return recovered;
    }
    let head = fresh?;
    if *seq > head.seq {
        return live(Recovery::Reset);
    }
    let gone = head.trimmed.max(too_old(head.seq));
    if *seq >= gone {
        return recovered;
    }
    let recovery = Recovery::Truncated {
        oldest: gone.next(),
    };
    if *oldest_if_truncated {
        return Some(Place {
            position: gone,
            recovery,
        });
    }
    live(recovery)
}

/// Decides where a cursor begins that is given the newest publication: before it, if there is one that its client has not seen.
fn place_before_newest(
    found: &ShardChannel,
    seen: Option<&Resume>,
    fresh: Option<Head>,
    epoch: &Epoch,
) -> Option<Place> {
    let attachment = found.attachment.as_ref()?;
    let head = fresh.map_or(found.head, |fresh| fresh.seq.max(found.head));
    let is_of_log = |resume: &&Resume| resume.epoch.as_ref().is_none_or(|asked| asked == epoch);
    let at = seen.filter(is_of_log).map(|resume| resume.seq);
    let before = Seq(head.0.saturating_sub(1));
    let position = match fresh {
        _ if at == Some(head) => head,
        Some(fresh) => before.max(fresh.trimmed),
        // It may come from a node that has heard more.
        None if at > Some(head) || !attachment.reaches(before) => return None,
        None => before,
    };
    let recovery = match at {
        _ if position < head || seen.is_none() => Recovery::Recovered,
        Some(at) if at == head => Recovery::Recovered,
        Some(at) if at < head => Recovery::Truncated {
            oldest: head.next(),
        },
        Some(_) | None => Recovery::Reset,
    };
    Some(Place { position, recovery })
}

impl Shard {
    /// The attachment of a channel, for a cursor to read on from.
    pub(super) fn attachment(&self, channel: u32) -> Option<Arc<crate::channels::Channel>> {
        self.channels
            .get(channel as usize)?
            .attachment
            .as_ref()
            .map(Attachment::channel)
    }
}
