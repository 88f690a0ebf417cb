//! Order in time: what is published after another was acknowledged or seen comes after it.

use std::collections::HashMap;

use crate::history::check::findings::{Findings, Rule};
use crate::history::check::model::{Model, Op};
use crate::history::check::source::Place;

/// Judges real-time order and the order of each connection. Deliveries must have been read: their times count.
pub(super) fn judge(model: &Model, findings: &mut Findings) {
    real_time(model, findings);
    fifo(model, findings);
}

/// Where a publish stands: the epoch and number that were acknowledged, or those of its row.
fn position(model: &Model, op: &Op) -> Option<(u32, u64)> {
    let log = &model.channels[op.channel as usize].log;
    let told = op
        .ack()
        .and_then(|ack| Some((ack.epoch.unwrap_or(log.epoch), ack.seq?)));
    told.or_else(|| Some((log.epoch, log.rows[op.row? as usize].seq)))
}

/// When it was certain that a publish stands where it stands.
fn certain(model: &Model, op: &Op) -> Option<u64> {
    let log = &model.channels[op.channel as usize].log;
    let seen = op.row.and_then(|row| log.rows[row as usize].received);
    let acknowledged = op.ack().map(|ack| ack.t);
    [seen, acknowledged].into_iter().flatten().min()
}

/// A moment of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    // At the same time an invocation counts as earlier: only what is certainly before another is compared.
    Invoked,
    Certain,
}

/// One sweep through time with the highest number that is certain in each channel.
fn real_time(model: &Model, findings: &mut Findings) {
    let mut moments = Vec::with_capacity(model.ops.len() * 2);
    for (index, op) in model.ops.iter().enumerate() {
        if position(model, op).is_none() {
            continue;
        }
        moments.push((op.invoked, Moment::Invoked, index));
        if let Some(t) = certain(model, op) {
            moments.push((t, Moment::Certain, index));
        }
    }
    moments.sort_unstable();
    let mut highest: HashMap<(u32, u32), (u64, usize)> = HashMap::new();
    for (_, moment, index) in moments {
        let op = &model.ops[index];
        let Some((epoch, seq)) = position(model, op) else {
            continue;
        };
        let key = (op.channel, epoch);
        match moment {
            Moment::Certain => {
                let known = highest.entry(key).or_insert((seq, index));
                if seq > known.0 {
                    *known = (seq, index);
                }
            }
            Moment::Invoked => {
                findings.asked(Rule::RealTime, 1);
                let Some(&(before, other)) = highest.get(&key).filter(|known| known.0 >= seq)
                else {
                    continue;
                };
                let other = &model.ops[other];
                let name = &model.channels[op.channel as usize].name;
                let certain_place = other.ack().map_or(other.place, |ack| ack.place);
                findings.broken(Rule::RealTime, &[Some(op.place), Some(certain_place)], || {
                    format!(
                        "message {} became {name} {seq}, but message {} was {before} before it was sent",
                        op.id, other.id
                    )
                });
            }
        }
    }
}

/// What one connection sends one after the other is numbered so.
fn fifo(model: &Model, findings: &mut Findings) {
    // By file, connection, channel and epoch: number and message of the latest, and where.
    let mut latest = HashMap::<(u16, u32, u32, u32), (u64, u64, Place)>::new();
    // Publishes stand in the order of their lines, so those of a connection in the order in which they were sent.
    for op in &model.ops {
        let (Some((file, pipe)), Some((epoch, seq))) = (op.pipe, position(model, op)) else {
            continue;
        };
        findings.asked(Rule::Fifo, 1);
        let key = (file, pipe, op.channel, epoch);
        let Some((before, id, place)) = latest.insert(key, (seq, op.id, op.place)) else {
            continue;
        };
        if before >= seq {
            let name = &model.channels[op.channel as usize].name;
            findings.broken(Rule::Fifo, &[Some(op.place), Some(place)], || {
                format!(
                    "message {} became {name} {seq}, but message {id}, sent before it on the same connection, {before}",
                    op.id
                )
            });
        }
    }
}
