//! The log against what was published: lost writes, phantoms, duplicates, holes.

use crate::history::check::findings::{Findings, Rule};
use crate::history::check::model::{Ack, Channel, Log, Model, Outcome, Row};

/// What could not be asked of the log, although nothing is wrong with it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excused {
    /// Acknowledged in an epoch that is over: the log was restored to an earlier state.
    pub(super) forgotten: u64,
    /// Acknowledged, and removed by retention since.
    pub(super) removed: u64,
}

/// Finds the publish of each row, and judges both.
pub(super) fn judge(model: &mut Model, findings: &mut Findings) -> Excused {
    for index in 0..model.channels.len() {
        match_rows(model, index as u32, findings);
        let channel = &model.channels[index];
        dense(channel, findings);
        for earlier in &channel.earlier {
            agrees_with_earlier(channel, earlier, findings);
        }
    }
    let mut excused = Excused::default();
    for op in 0..model.ops.len() {
        if let Some(ack) = model.ops[op].ack() {
            findings.asked(Rule::LostWrite, 1);
            acknowledged(model, op, ack, &mut excused, findings);
        }
    }
    excused
}

/// Every row came from a publish that was not refused, with its content, in its channel; each publish has one row.
fn match_rows(model: &mut Model, index: u32, findings: &mut Findings) {
    let mut rows = std::mem::take(&mut model.channels[index as usize].log.rows);
    let name = model.channels[index as usize].name.clone();
    findings.asked(Rule::Phantom, rows.len() as u64);
    findings.asked(Rule::Duplicate, rows.len() as u64);
    let mut origins = vec![None; rows.len()];
    for (row, (at, origin)) in rows.iter().zip((0..).zip(&mut origins)) {
        let Some(op_index) = origin_of(model, index, &name, row, findings) else {
            continue;
        };
        let op = &mut model.ops[op_index as usize];
        if let Some(first) = op.row {
            let (id, first) = (op.id, &rows[first as usize]);
            let places = [Some(row.place), Some(first.place)];
            findings.broken(Rule::Duplicate, &places, || {
                let (seq, before) = (row.seq, first.seq);
                format!("{name} {seq} is message {id}, which is {before} already")
            });
            continue;
        }
        op.row = Some(at);
        *origin = Some(op_index);
    }
    for (row, origin) in rows.iter_mut().zip(origins) {
        row.op = origin;
    }
    model.channels[index as usize].log.rows = rows;
}

/// The publish that a row came from; `None` when there is none that it can have come from.
fn origin_of(
    model: &Model,
    channel: u32,
    name: &str,
    row: &Row,
    findings: &mut Findings,
) -> Option<u32> {
    let (here, seq) = (Some(row.place), row.seq);
    let Some(index) = row.n.and_then(|n| model.op_of(n)) else {
        let message = describe_message(row.n);
        findings.broken(Rule::Phantom, &[here], || {
            format!("{name} {seq} is {message}, which nobody published")
        });
        return None;
    };
    let op = &model.ops[index as usize];
    let id = op.id;
    if op.channel != channel || op.hash != row.hash {
        findings.broken(Rule::Phantom, &[here, Some(op.place)], || {
            format!("{name} {seq} is message {id}, but not in the channel or with the content it was published with")
        });
        return None;
    }
    if let Outcome::Fail(refused) = op.outcome {
        findings.broken(Rule::Phantom, &[here, Some(refused)], || {
            format!("{name} {seq} is message {id}, which was refused")
        });
    }
    Some(index)
}

fn describe_message(n: Option<u64>) -> String {
    n.map_or_else(
        || "a foreign message".to_owned(),
        |n| format!("message {n}"),
    )
}

/// The numbers go from the oldest that is left to the head.
fn dense(channel: &Channel, findings: &mut Findings) {
    let log = &channel.log;
    let name = &channel.name;
    findings.asked(Rule::Dense, log.rows.len() as u64 + 1);
    let mut due = log.oldest.unwrap_or(1);
    for row in &log.rows {
        let seq = row.seq;
        if seq > due {
            findings.broken_by(Rule::Dense, seq - due, &[Some(row.place)], || {
                format!("{name}: {due} is missing, {seq} comes in its place")
            });
        } else if seq < due {
            findings.broken(Rule::Dense, &[Some(row.place)], || {
                format!("{name}: {seq} stands there where {due} was due")
            });
        }
        due = seq.max(due.saturating_sub(1)) + 1;
    }
    let head = log.head;
    if due <= head {
        findings.broken_by(Rule::Dense, head + 1 - due, &[log.place], || {
            format!("{name}: the head is {head}, and there is nothing from {due} on")
        });
    } else if due > head + 1 {
        findings.broken(Rule::Dense, &[log.place], || {
            format!(
                "{name}: the head is {head}, and there are rows up to {}",
                due - 1
            )
        });
    }
}

/// What was read of the log once is still there.
fn agrees_with_earlier(channel: &Channel, earlier: &Log, findings: &mut Findings) {
    if earlier.epoch != channel.log.epoch {
        return;
    }
    for row in &earlier.rows {
        seen(
            channel,
            row.seq,
            (row.n, row.hash),
            findings,
            Some(row.place),
        );
    }
}

/// Something was seen in the epoch of the log: it must be in it. Returns the row.
pub(super) fn seen<'a>(
    channel: &'a Channel,
    seq: u64,
    (n, hash): (Option<u64>, u64),
    findings: &mut Findings,
    place: Option<super::source::Place>,
) -> Option<(usize, &'a Row)> {
    let log = &channel.log;
    let name = &channel.name;
    findings.asked(Rule::Agreement, 1);
    let Some(index) = log.find(seq) else {
        if !log.has_removed(seq) {
            let message = describe_message(n);
            findings.broken(Rule::Phantom, &[place, log.place], || {
                format!("{message} was given out as {name} {seq}, which is not in the log")
            });
        }
        return None;
    };
    let row = &log.rows[index];
    if row.n != n || row.hash != hash {
        let (message, other) = (describe_message(n), describe_message(row.n));
        findings.broken(Rule::Agreement, &[place, Some(row.place)], || {
            format!("{name} {seq} was {message} for one, and is {other} in the log, or has another content")
        });
        return None;
    }
    Some((index, row))
}

fn acknowledged(
    model: &Model,
    op: usize,
    ack: Ack,
    excused: &mut Excused,
    findings: &mut Findings,
) {
    let op = &model.ops[op];
    let channel = &model.channels[op.channel as usize];
    let log = &channel.log;
    let id = op.id;
    if let Some(epoch) = ack.epoch.filter(|&epoch| epoch != log.epoch) {
        // Until the end of what made the log another one, its earlier epoch may go and take with it what it will.
        if model.epochs_end().is_some_and(|end| op.invoked <= end) {
            excused.forgotten += 1;
            return;
        }
        let (old, new) = (model.epoch_name(epoch), model.epoch_name(log.epoch));
        findings.broken(Rule::LostWrite, &[Some(ack.place), log.place], || {
            format!("message {id} was acknowledged in epoch {old}, and the log is {new} without anybody having touched it since")
        });
        return;
    }
    let Some(seq) = ack.seq else {
        if op.row.is_none() {
            if log.oldest.is_some() {
                excused.removed += 1;
                return;
            }
            findings.broken(Rule::LostWrite, &[Some(ack.place), log.place], || {
                format!(
                    "message {id} was acknowledged and is not in the log of {}",
                    channel.name
                )
            });
        }
        return;
    };
    if log.has_removed(seq) {
        excused.removed += 1;
        return;
    }
    let row = log.find(seq).map(|index| &log.rows[index]);
    let is_there = row.is_some_and(|row| row.n == Some(id) && row.hash == op.hash);
    if !is_there {
        let place = row.map(|row| row.place).or(log.place);
        let found = row.map_or_else(
            || "is not in the log".to_owned(),
            |row| format!("is {} in the log", describe_message(row.n)),
        );
        findings.broken(Rule::LostWrite, &[Some(ack.place), place], || {
            format!(
                "message {id} was acknowledged as {} {seq}, which {found}",
                channel.name
            )
        });
    }
}
