//! What subscribers and readers saw, line by line: streams, resets, reads. Keeps a few words per subscription.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::history::check::findings::{Findings, Rule};
use crate::history::check::log_rules::seen;
use crate::history::check::model::{Model, Op};
use crate::history::check::source::{self, Place, Which};
use crate::history::check::timing::Lateness;
use crate::history::{Event, HistoryError};
use crate::verify::{Step, Stream};

/// What the observers saw in all.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Subscriptions.
    pub(super) subscriptions: u64,
    /// Connections that were lost.
    pub(super) lost: u64,
    /// Subscriptions that went on from their position.
    pub(super) resumed: u64,
    /// Deliveries.
    pub(super) deliveries: u64,
    /// Reads that were answered.
    pub(super) reads: u64,
    /// What came later than it should.
    pub(super) lateness: Lateness,
}

/// Reads the observations of all files, judges them, and notes in the log when each row was first seen.
pub(super) fn judge(
    model: &mut Model,
    findings: &mut Findings,
    mut delivery: impl FnMut(&Op, u64),
) -> Result<Observed, HistoryError> {
    let files: Vec<PathBuf> = model.files.clone();
    let mut observers = Observers {
        acknowledged: acknowledged(model),
        model,
        findings,
        subscriptions: HashMap::new(),
        ended: HashSet::new(),
        elsewhere: HashMap::new(),
        reads: HashMap::new(),
        observed: Observed::default(),
    };
    for (path, file) in files.iter().zip(0..) {
        source::for_each(path, file, Which::Observations, |place, event| {
            observers.take(place, event, &mut delivery)
        })?;
    }
    observers.finish();
    Ok(observers.observed)
}

/// By channel: the times of acknowledgements in the epoch of the log, and the highest number acknowledged until then.
fn acknowledged(model: &Model) -> Vec<Vec<(u64, u64)>> {
    let mut channels = vec![Vec::new(); model.channels.len()];
    for op in &model.ops {
        let log = &model.channels[op.channel as usize].log;
        let Some(ack) = op
            .ack()
            .filter(|ack| ack.epoch.is_none_or(|e| e == log.epoch))
        else {
            continue;
        };
        let seq = ack.seq.or_else(|| Some(log.rows[op.row? as usize].seq));
        if let Some(seq) = seq {
            channels[op.channel as usize].push((ack.t, seq));
        }
    }
    for acks in &mut channels {
        acks.sort_unstable();
        let mut highest = 0;
        for (_, seq) in acks {
            highest = highest.max(*seq);
            *seq = highest;
        }
    }
    channels
}

struct Observers<'a> {
    model: &'a mut Model,
    findings: &'a mut Findings,
    acknowledged: Vec<Vec<(u64, u64)>>,
    subscriptions: HashMap<(u16, u32, u32), Subscription>,
    /// Clients that were ended on purpose.
    ended: HashSet<(u16, u32)>,
    /// What was seen in epochs that the log is no longer in: epoch, channel, number.
    elsewhere: HashMap<(u32, u32, u64), Sighting>,
    reads: HashMap<(u16, u64), (u64, u32, u64)>,
    observed: Observed,
}

/// What was seen under a number: message, hash, where.
type Sighting = (Option<u64>, u64, Place);

#[derive(Debug)]
struct Subscription {
    epoch: u32,
    stream: Stream,
    place: Place,
}

impl Observers<'_> {
    fn take(
        &mut self,
        place: Place,
        event: &Event<'_>,
        delivery: &mut impl FnMut(&Op, u64),
    ) -> Result<(), String> {
        match event {
            Event::Receive { t, c, k, s, n, h } => {
                let channel = self.model.channel(place.file, *k)?;
                self.receive(place, (*c, channel), *t, (*s, *n, *h), delivery)
            }
            Event::Subscribe {
                t,
                c,
                k,
                g,
                s,
                resumed,
            } => {
                let channel = self.model.channel(place.file, *k)?;
                self.begins_where_the_log_was(place, (*c, channel), (*t, g, *s))?;
                self.subscribe(place, (*c, channel), g, *s, *resumed)
            }
            Event::Reset { t, c, k, g, s } => {
                let channel = self.model.channel(place.file, *k)?;
                self.begins_where_the_log_was(place, (*c, channel), (*t, g, *s))?;
                self.reset(place, (*c, channel), g, *s)
            }
            Event::Truncated { c, k, s, .. } => {
                let channel = self.model.channel(place.file, *k)?;
                self.truncated(place, (*c, channel), *s)
            }
            Event::Lost { .. } => {
                self.observed.lost += 1;
                Ok(())
            }
            Event::Ended { c, .. } => {
                self.ended.insert((place.file, *c));
                Ok(())
            }
            Event::Read { t, r, k, s, .. } => {
                let channel = self.model.channel(place.file, *k)?;
                match self.reads.insert((place.file, *r), (*t, channel, *s)) {
                    Some(_) => Err(format!("read {r} was begun before")),
                    None => Ok(()),
                }
            }
            Event::Result {
                r,
                g,
                head,
                oldest,
                rows,
                ..
            } => {
                let read = self.reads.remove(&(place.file, *r));
                let read =
                    read.ok_or_else(|| format!("a result of read {r}, which did not begin"))?;
                let epoch = self.epoch(g)?;
                self.result(place, read, epoch, (*head, *oldest), rows);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn epoch(&self, name: &str) -> Result<u32, String> {
        // Every line that names an epoch was read before.
        self.model
            .epoch(name)
            .ok_or_else(|| format!("epoch {name} is new: the file has changed while it was read"))
    }

    /// Where a stream begins the log must have been: what lies between would be owed to nobody.
    fn begins_where_the_log_was(
        &mut self,
        place: Place,
        (client, channel): (u32, u32),
        (t, epoch, position): (u64, &str, u64),
    ) -> Result<(), String> {
        let channel = &self.model.channels[channel as usize];
        let log = &channel.log;
        if self.epoch(epoch)? != log.epoch || position == 0 || log.has_removed(position) {
            return Ok(());
        }
        let row = log.find(position).map(|index| &log.rows[index]);
        let sent = row.and_then(|row| row.op.map(|op| self.model.ops[op as usize].invoked));
        // A row that nobody published is told by another rule.
        if row.is_some() && sent.is_none_or(|sent| sent <= t) {
            return Ok(());
        }
        let places = [Some(place), row.map(|row| row.place).or(log.place)];
        self.findings.broken(Rule::Stream, &places, || {
            let name = &channel.name;
            format!("client {client} was placed behind {name} {position}, which was not there yet")
        });
        Ok(())
    }

    fn subscribe(
        &mut self,
        place: Place,
        (client, channel): (u32, u32),
        epoch: &str,
        position: u64,
        resumed: bool,
    ) -> Result<(), String> {
        let epoch = self.epoch(epoch)?;
        let key = (place.file, client, channel);
        if !resumed {
            if self.subscriptions.contains_key(&key) {
                return Err(format!(
                    "client {client} subscribes anew although it has a position"
                ));
            }
            let mut stream = Stream::default();
            stream.begin(position);
            let subscription = Subscription {
                epoch,
                stream,
                place,
            };
            self.subscriptions.insert(key, subscription);
            self.observed.subscriptions += 1;
            return Ok(());
        }
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(format!(
                "client {client} resumes what it had not subscribed to"
            ));
        };
        if subscription.epoch != epoch || subscription.stream.position() != position {
            return Err(format!(
                "client {client} resumes from a position that is not its own"
            ));
        }
        subscription.place = place;
        self.observed.resumed += 1;
        Ok(())
    }

    /// Another log, said the server: true only if something was done to the log, and it is another one in the end.
    fn reset(
        &mut self,
        place: Place,
        (client, channel): (u32, u32),
        epoch: &str,
        position: u64,
    ) -> Result<(), String> {
        let epoch = self.epoch(epoch)?;
        let key = (place.file, client, channel);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(format!(
                "client {client} is reset in what it had not subscribed to"
            ));
        };
        let log = &self.model.channels[channel as usize];
        self.findings.asked(Rule::Reset, 1);
        let may_change = self.model.epochs_end().is_some();
        if !may_change || subscription.epoch == epoch || subscription.epoch == log.log.epoch {
            let (old, new) = (
                self.model.epoch_name(subscription.epoch),
                self.model.epoch_name(epoch),
            );
            let before = subscription.place;
            self.findings.broken(Rule::Reset, &[Some(place), Some(before), log.log.place], || {
                format!(
                    "client {client} at epoch {old} in {} was told that it is {new} now, but it is not over",
                    log.name
                )
            });
        }
        let mut stream = Stream::default();
        stream.begin(position);
        *subscription = Subscription {
            epoch,
            stream,
            place,
        };
        Ok(())
    }

    /// Removed, said the server: true only if it is.
    fn truncated(
        &mut self,
        place: Place,
        (client, channel): (u32, u32),
        position: u64,
    ) -> Result<(), String> {
        let key = (place.file, client, channel);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(format!(
                "client {client} is told of what it had not subscribed to"
            ));
        };
        let log = &self.model.channels[channel as usize];
        self.findings.asked(Rule::Reset, 1);
        let before = subscription.stream.position();
        // What is passed over must have been removed, all of it.
        if position <= before || !log.log.has_removed(position) {
            self.findings.broken(Rule::Reset, &[Some(place), log.log.place], || {
                format!(
                    "client {client} at {} {before} was sent on to {position} as if retention had removed what is between",
                    log.name
                )
            });
        }
        // It was told, so from here on nothing between is owed to it.
        if position > before {
            subscription.stream.begin(position);
        }
        subscription.place = place;
        Ok(())
    }

    fn receive(
        &mut self,
        place: Place,
        (client, channel): (u32, u32),
        t: u64,
        (seq, n, hash): (u64, Option<u64>, u64),
        delivery: &mut impl FnMut(&Op, u64),
    ) -> Result<(), String> {
        self.observed.deliveries += 1;
        let key = (place.file, client, channel);
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Err(format!(
                "client {client} receives what it had not subscribed to"
            ));
        };
        let before = subscription.stream.position();
        let step = subscription.stream.accept(seq);
        let earlier = std::mem::replace(&mut subscription.place, place);
        let epoch = subscription.epoch;
        let name = &self.model.channels[channel as usize].name;
        self.findings.asked(Rule::Stream, 1);
        self.findings.asked(Rule::Repeat, 1);
        let places = [Some(place), Some(earlier)];
        match step {
            Step::Next => {}
            Step::Hole { due } => self.findings.broken(Rule::Stream, &places, || {
                format!("client {client} was given {name} {seq} where {due} was due")
            }),
            Step::Late => self.findings.broken(Rule::Stream, &places, || {
                format!("client {client} was given {name} {seq} after {before}")
            }),
            Step::Unnumbered => self.findings.broken(Rule::Stream, &places, || {
                format!("client {client} was given a message of {name} without a number")
            }),
            Step::Duplicate => self.findings.broken(Rule::Repeat, &places, || {
                format!("client {client} was given {name} {seq} again after {before}")
            }),
        }
        if step == Step::Unnumbered {
            return Ok(());
        }
        let Some(row) = self.note(epoch, channel, (seq, n, hash), place) else {
            return Ok(());
        };
        let row = &mut self.model.channels[channel as usize].log.rows[row];
        row.received = Some(row.received.map_or(t, |earlier| earlier.min(t)));
        if let Some(op) = row.op {
            let op = &self.model.ops[op as usize];
            if let Some(ack) = op.ack() {
                self.observed.lateness.delivered(ack.t, t);
            }
            delivery(op, t);
        }
        Ok(())
    }

    /// Somebody saw a message under a number: the same as everybody else. Returns its row in the log.
    fn note(
        &mut self,
        epoch: u32,
        channel: u32,
        (seq, n, hash): (u64, Option<u64>, u64),
        place: Place,
    ) -> Option<usize> {
        let in_log = &self.model.channels[channel as usize];
        if epoch == in_log.log.epoch {
            let row = seen(in_log, seq, (n, hash), self.findings, Some(place));
            return row.map(|(index, _)| index);
        }
        self.findings.asked(Rule::Agreement, 1);
        let known = self
            .elsewhere
            .entry((epoch, channel, seq))
            .or_insert((n, hash, place));
        if (known.0, known.1) != (n, hash) {
            let other = known.2;
            let name = &in_log.name;
            self.findings
                .broken(Rule::Agreement, &[Some(place), Some(other)], || {
                    format!("{name} {seq} was one message for one, and another for another")
                });
        }
        None
    }

    fn result(
        &mut self,
        place: Place,
        (begun, channel, after): (u64, u32, u64),
        epoch: u32,
        (head, oldest): (u64, Option<u64>),
        rows: &[(u64, Option<u64>, u64)],
    ) {
        self.observed.reads += 1;
        let mut due = oldest.unwrap_or(0).max(after + 1);
        for &(seq, n, hash) in rows {
            self.findings.asked(Rule::Dense, 1);
            if seq != due {
                let name = &self.model.channels[channel as usize].name;
                self.findings.broken(Rule::Dense, &[Some(place)], || {
                    format!("a read of {name} gave {seq} where {due} was due")
                });
            }
            due = seq + 1;
            self.note(epoch, channel, (seq, n, hash), place);
        }
        if epoch != self.model.channels[channel as usize].log.epoch {
            return;
        }
        // An answer that ends before the head was cut at its limit, and says nothing about what is behind.
        let last = due - 1;
        let reach = if rows.is_empty() || last >= head {
            last.max(after)
        } else {
            u64::MAX
        };
        self.findings.asked(Rule::StableRead, 1);
        let acks = &self.acknowledged[channel as usize];
        let before = acks.partition_point(|&(t, _)| t < begun);
        let highest = before.checked_sub(1).map_or(0, |index| acks[index].1);
        if highest > reach {
            let name = &self.model.channels[channel as usize].name;
            self.findings.broken(Rule::StableRead, &[Some(place)], || {
                format!("a read of {name} after {after} ended at {reach}, but {highest} had been acknowledged before it began")
            });
        }
    }

    /// The end: who lacks something?
    fn finish(&mut self) {
        let mut keys: Vec<_> = self.subscriptions.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let subscription = &self.subscriptions[&key];
            let (file, client, channel) = key;
            if self.ended.contains(&(file, client)) {
                continue;
            }
            self.findings.asked(Rule::Unseen, 1);
            let log = &self.model.channels[channel as usize];
            let position = subscription.stream.position();
            let head = log.log.head;
            let places = [Some(subscription.place), log.log.place];
            let name = &log.name;
            if subscription.epoch != log.log.epoch {
                let epoch = self.model.epoch_name(subscription.epoch);
                self.findings.broken(Rule::Unseen, &places, || {
                    format!("client {client} in {name} was never told that epoch {epoch} is over")
                });
            } else if position < head {
                self.findings
                    .broken_by(Rule::Unseen, head - position, &places, || {
                        format!("client {client} has {name} up to {position} of {head}")
                    });
                let missing = log.log.find(position + 1);
                let op = missing.and_then(|row| log.log.rows[row].op);
                let ack = op.and_then(|op| self.model.ops[op as usize].ack());
                if let Some(ack) = ack {
                    self.observed.lateness.delivered(ack.t, u64::MAX);
                }
            }
        }
    }
}
