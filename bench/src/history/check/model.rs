//! What is kept of a history while it is judged: every publish and the log. Deliveries are read past, not kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use crate::history::check::source::{self, Place, Which};
use crate::history::{Event, HistoryError};

/// The most files of one history.
const FILES_MAX: usize = 1_000;

/// A history without its deliveries.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The files.
    pub(super) files: Vec<PathBuf>,
    /// Name of the run, of the first file.
    pub(super) run: String,
    /// Channels of all files.
    pub(super) channels: Vec<Channel>,
    /// Every publish.
    pub(super) ops: Vec<Op>,
    /// Every fault, in the order of their beginnings.
    pub(super) faults: Vec<Fault>,
    /// Lines of all files.
    pub(super) lines: u64,
    /// How long recording threads waited for the file, in nanoseconds.
    pub(super) stalled: u64,
    /// First and last time of the history.
    pub(super) span: (u64, u64),
    op_by_id: HashMap<u64, u32>,
    names: HashMap<String, u32>,
    epochs: HashMap<String, u32>,
    epoch_names: Vec<String>,
    /// For each file, the channels of its header.
    channel_maps: Vec<Vec<u32>>,
}

/// A channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Its name.
    pub(super) name: String,
    /// The log of it in the end.
    pub(super) log: Log,
    /// Logs of it that other files wrote earlier.
    pub(super) earlier: Vec<Log>,
}

/// The log of a channel, as it was read.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// When.
    pub(super) t: u64,
    /// Where it begins in its file.
    pub(super) place: Option<Place>,
    /// Its epoch.
    pub(super) epoch: u32,
    /// Its head.
    pub(super) head: u64,
    /// The oldest number that is left, when some were removed.
    pub(super) oldest: Option<u64>,
    /// Its publications, by number.
    pub(super) rows: Vec<Row>,
}

/// A publication of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Its number.
    pub(super) seq: u64,
    /// Its message, if it says so.
    pub(super) n: Option<u64>,
    /// Hash of its data.
    pub(super) hash: u64,
    /// Where it stands.
    pub(super) place: Place,
    /// The publish that it came from.
    pub(super) op: Option<u32>,
    /// When it was first delivered to anybody.
    pub(super) received: Option<u64>,
}

/// A publish.
#[derive(Debug)]
pub(super) struct Op {
    /// The number of its message.
    pub(super) id: u64,
    /// Its channel.
    pub(super) channel: u32,
    /// Hash of its data.
    pub(super) hash: u64,
    /// When it was meant to be sent.
    pub(super) at: u64,
    /// When it was sent.
    pub(super) invoked: u64,
    /// The line that says so.
    pub(super) place: Place,
    /// File and number of the ordered connection that it was sent on.
    pub(super) pipe: Option<(u16, u32)>,
    /// What became of it.
    pub(super) outcome: Outcome,
    /// Index of its row in its channel's log.
    pub(super) row: Option<u32>,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// Nobody knows: never answered, or given up at this time.
    Unknown(Option<u64>),
    /// Acknowledged.
    Ok(Ack),
    /// Refused.
    Fail(Place),
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ack {
    /// When.
    pub(super) t: u64,
    /// Where it stands.
    pub(super) place: Place,
    /// The epoch, if it was told.
    pub(super) epoch: Option<u32>,
    /// The number, if it was told.
    pub(super) seq: Option<u64>,
}

/// A fault.
#[derive(Debug)]
pub(super) struct Fault {
    /// Its name.
    pub(super) name: String,
    /// When it began.
    pub(super) begin: u64,
    /// When it ended, if it did.
    pub(super) end: Option<u64>,
    /// The log became another one by it.
    pub(super) new_epoch: bool,
}

impl Op {
    /// The acknowledgement, if there was one.
    pub(super) fn ack(&self) -> Option<Ack> {
        match self.outcome {
            Outcome::Ok(ack) => Some(ack),
            Outcome::Unknown(_) | Outcome::Fail(_) => None,
        }
    }
}

impl Log {
    /// The index of the row with a number.
    pub(super) fn find(&self, seq: u64) -> Option<usize> {
        let first = self.rows.first()?.seq;
        let guess = usize::try_from(seq.checked_sub(first)?).ok()?;
        if self.rows.get(guess).is_some_and(|row| row.seq == seq) {
            return Some(guess);
        }
        self.rows.binary_search_by_key(&seq, |row| row.seq).ok()
    }

    /// Whether retention removed a number.
    pub(super) fn has_removed(&self, seq: u64) -> bool {
        self.oldest.is_some_and(|oldest| seq < oldest)
    }
}

impl Model {
    /// Reads `files`.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, HistoryError> {
        let mut model = Self {
            files: files.to_vec(),
            span: (u64::MAX, 0),
            ..Self::default()
        };
        for (path, file) in files.iter().take(FILES_MAX).zip(0..) {
            let mut last_line = 0;
            source::for_each(path, file, Which::AllButDeliveries, |place, event| {
                last_line = place.line;
                model.take(place, event)
            })?;
            model.lines += last_line;
            model
                .has_all_logs(file)
                .map_err(|reason| source::malformed(path, last_line, reason))?;
        }
        for channel in &mut model.channels {
            channel.log.rows.sort_by_key(|row| row.seq);
        }
        Ok(model)
    }

    /// The channel that a file calls `k`.
    pub(super) fn channel(&self, file: u16, k: u32) -> Result<u32, String> {
        let map = self.channel_maps.get(usize::from(file));
        map.and_then(|map| map.get(k as usize))
            .copied()
            .ok_or_else(|| format!("channel {k} is not in the header"))
    }

    /// The number of an epoch by its name; `None` when no line that was kept has it.
    pub(super) fn epoch(&self, name: &str) -> Option<u32> {
        self.epochs.get(name).copied()
    }

    /// The name of an epoch.
    pub(super) fn epoch_name(&self, epoch: u32) -> &str {
        &self.epoch_names[epoch as usize]
    }

    /// Until when the log could become another one; `None` when nothing was done to it.
    pub(super) fn epochs_end(&self) -> Option<u64> {
        let faults = self.faults.iter().filter(|fault| fault.new_epoch);
        faults.map(|fault| fault.end.unwrap_or(u64::MAX)).max()
    }

    /// The publish of a message.
    pub(super) fn op_of(&self, n: u64) -> Option<u32> {
        self.op_by_id.get(&n).copied()
    }

    fn take(&mut self, place: Place, event: &Event<'_>) -> Result<(), String> {
        match event {
            Event::Header {
                run, t, channels, ..
            } => {
                if place.file == 0 {
                    self.run.clone_from(run);
                }
                self.spans(*t);
                self.name_channels(channels)
            }
            Event::Invoke { .. } => self.invoke(place, event),
            Event::Ok { t, op, g, s, .. } => {
                let epoch = g.as_deref().map(|name| self.epoch_number(name));
                let ack = Ack {
                    t: *t,
                    place,
                    epoch,
                    seq: *s,
                };
                self.outcome(*op, *t, Outcome::Ok(ack))
            }
            Event::Fail { t, op, .. } => self.outcome(*op, *t, Outcome::Fail(place)),
            Event::Info { t, op, .. } => self.outcome(*op, *t, Outcome::Unknown(Some(*t))),
            Event::Subscribe { t, g, .. }
            | Event::Reset { t, g, .. }
            | Event::Result { t, g, .. } => {
                self.epoch_number(g);
                self.spans(*t);
                Ok(())
            }
            Event::FaultBegin { t, name, new_epoch } => {
                self.spans(*t);
                self.faults.push(Fault {
                    name: name.clone().into_owned(),
                    begin: *t,
                    end: None,
                    new_epoch: *new_epoch,
                });
                Ok(())
            }
            Event::FaultEnd { t, name } => self.end_fault(name, *t),
            Event::Dump { .. } => self.begin_log(place, event),
            Event::Row { k, s, n, h } => self.add_row(place, *k, *s, *n, *h),
            Event::End { t, stalled, .. } => {
                self.spans(*t);
                self.stalled += stalled;
                Ok(())
            }
            Event::Retry { t, .. }
            | Event::Receive { t, .. }
            | Event::Truncated { t, .. }
            | Event::Lost { t, .. }
            | Event::Ended { t, .. }
            | Event::Read { t, .. } => {
                self.spans(*t);
                Ok(())
            }
        }
    }

    fn spans(&mut self, t: u64) {
        self.span = (self.span.0.min(t), self.span.1.max(t));
    }

    fn name_channels(&mut self, names: &[String]) -> Result<(), String> {
        let mut map = Vec::with_capacity(names.len());
        for name in names {
            let next = self.channels.len() as u32;
            let index = *self.names.entry(name.clone()).or_insert(next);
            if index == next {
                self.channels.push(Channel {
                    name: name.clone(),
                    ..Channel::default()
                });
            }
            map.push(index);
        }
        self.channel_maps.push(map);
        Ok(())
    }

    fn epoch_number(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.epochs.get(name) {
            return known;
        }
        let number = self.epoch_names.len() as u32;
        self.epochs.insert(name.to_owned(), number);
        self.epoch_names.push(name.to_owned());
        number
    }

    fn invoke(&mut self, place: Place, event: &Event<'_>) -> Result<(), String> {
        let Event::Invoke {
            t,
            op,
            at,
            k,
            h,
            pipe,
            ..
        } = event
        else {
            return Ok(());
        };
        let channel = self.channel(place.file, *k)?;
        self.spans(*t);
        match self.op_by_id.entry(*op) {
            Entry::Occupied(known) => {
                let earlier = self.ops[*known.get() as usize].place;
                let earlier = source::describe(&self.files, earlier);
                return Err(format!("publish {op} was invoked before, at {earlier}"));
            }
            Entry::Vacant(entry) => entry.insert(self.ops.len() as u32),
        };
        self.ops.push(Op {
            id: *op,
            channel,
            hash: *h,
            at: *at,
            invoked: *t,
            place,
            pipe: pipe.map(|pipe| (place.file, pipe)),
            outcome: Outcome::Unknown(None),
            row: None,
        });
        Ok(())
    }

    fn outcome(&mut self, id: u64, t: u64, outcome: Outcome) -> Result<(), String> {
        self.spans(t);
        let index = self
            .op_of(id)
            .ok_or_else(|| format!("an outcome of publish {id}, which was not invoked"))?;
        let op = &mut self.ops[index as usize];
        if t < op.invoked {
            return Err(format!("publish {id} has an outcome before it was invoked"));
        }
        if !matches!(op.outcome, Outcome::Unknown(None)) {
            return Err(format!("publish {id} has an outcome already"));
        }
        op.outcome = outcome;
        Ok(())
    }

    fn end_fault(&mut self, name: &str, t: u64) -> Result<(), String> {
        self.spans(t);
        let open = self
            .faults
            .iter_mut()
            .rev()
            .find(|fault| fault.name == name && fault.end.is_none());
        let fault = open.ok_or_else(|| format!("fault {name} ends and did not begin"))?;
        fault.end = Some(t);
        Ok(())
    }

    fn begin_log(&mut self, place: Place, event: &Event<'_>) -> Result<(), String> {
        let Event::Dump {
            t,
            k,
            g,
            head,
            oldest,
        } = event
        else {
            return Ok(());
        };
        let index = self.channel(place.file, *k)?;
        self.spans(*t);
        let epoch = self.epoch_number(g);
        let channel = &mut self.channels[index as usize];
        if channel
            .log
            .place
            .is_some_and(|before| before.file == place.file)
        {
            return Err(format!("a second log of {}", channel.name));
        }
        let log = Log {
            t: *t,
            place: Some(place),
            epoch,
            head: *head,
            oldest: *oldest,
            rows: Vec::new(),
        };
        let earlier = std::mem::replace(&mut channel.log, log);
        if earlier.place.is_some() {
            channel.earlier.push(earlier);
        }
        Ok(())
    }

    fn add_row(
        &mut self,
        place: Place,
        k: u32,
        seq: u64,
        n: Option<u64>,
        hash: u64,
    ) -> Result<(), String> {
        let index = self.channel(place.file, k)?;
        let log = &mut self.channels[index as usize].log;
        if log.place.is_none_or(|begin| begin.file != place.file) {
            return Err("a row before the dump line of its channel".to_owned());
        }
        log.rows.push(Row {
            seq,
            n,
            hash,
            place,
            op: None,
            received: None,
        });
        Ok(())
    }

    /// Every channel of a file must have its log in that file.
    fn has_all_logs(&mut self, file: u16) -> Result<(), String> {
        for &index in &self.channel_maps[usize::from(file)] {
            let channel = &mut self.channels[index as usize];
            if channel.log.place.is_none_or(|place| place.file != file) {
                return Err(format!("the log of {} is missing", channel.name));
            }
            // Whichever was read last is the one that counts.
            if let Some(latest) = channel.earlier.iter_mut().max_by_key(|log| log.t)
                && latest.t > channel.log.t
            {
                std::mem::swap(latest, &mut channel.log);
            }
        }
        Ok(())
    }
}
