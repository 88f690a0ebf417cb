//! One phase: changes on a schedule or all at once, with forged pushes and a fault meanwhile, until everybody is complete.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_stand_in::Google;

use crate::clock::{self, SECOND};
use crate::error::BenchError;
use crate::local::{LocalError, Node, Redis};
use crate::mail::fleet::Fleet;
use crate::mail::forge::Forger;
use crate::mail::judge::Judge;
use crate::mail::mailboxes::{MadeCounts, Mailboxes};
use crate::mail::measure::{self, Asked};
use crate::mail::report::PhaseReport;
use crate::mail::view::{Violation, Wrong};
use crate::progress::Progress;

/// The longest between two looks at what clients have seen.
const LOOK: Duration = Duration::from_millis(20);

/// Between two looks at whether everybody is complete.
const LOOK_WHOLE: u64 = SECOND / 5;

/// Differences of incomplete clients that are told in full.
const DIFFERENCES: usize = 1;

/// What a phase is.
#[derive(Debug, Clone)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) name: String,
    /// Changes per second; all at once if there is none.
    pub(crate) rate: Option<f64>,
    /// How many changes.
    pub(crate) changes: usize,
    /// Forged pushes per second; none if 0.
    pub(crate) forged: f64,
    /// What fails in its middle.
    pub(crate) fault: Fault,
}

/// What fails, a third after the beginning, and comes back a third before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Redis is killed.
    Redis,
    /// A node is killed.
    Node,
}

/// What a phase plays on.
pub(crate) struct Stage<'a, 'g> {
    /// Google.
    pub(crate) google: &'g Google,
    /// The mailboxes.
    pub(crate) mailboxes: &'a mut Mailboxes<'g>,
    /// The streams.
    pub(crate) fleet: &'a Fleet,
    /// Who judges them.
    pub(crate) judge: &'a mut Judge,
    /// Who forges pushes.
    pub(crate) forger: &'a mut Forger<'g>,
    /// How long clients may take.
    pub(crate) patience: Duration,
    /// The mailboxes by address.
    pub(crate) addresses: &'a BTreeMap<String, usize>,
}

/// What can be broken.
pub(crate) struct Victims<'a> {
    /// Redis.
    pub(crate) redis: &'a mut Redis,
    /// The nodes.
    pub(crate) nodes: &'a mut [Node],
}

/// What became of forged pushes.
#[derive(Debug, Default)]
struct Forgeries {
    well: u64,
    unanswered: u64,
    wrong: Vec<String>,
}

impl Stage<'_, '_> {
    /// Plays a phase to its end.
    ///
    /// # Errors
    /// When what was killed cannot be started again.
    pub(crate) fn play(
        &mut self,
        phase: &Phase,
        victims: Victims<'_>,
    ) -> Result<PhaseReport, BenchError> {
        // What ended before the phase is not part of it.
        self.settle_pushes();
        drop(self.google.take_journal());
        drop(self.judge.take_tally());
        let nodes: Vec<SocketAddr> = victims.nodes.iter().map(Node::address).collect();
        let begun = clock::now();
        let (done, made_so_far) = (AtomicBool::new(false), AtomicUsize::new(0));
        let forger = &mut *self.forger;
        let (forging, breaking, made, times, incomplete) = thread::scope(|scope| {
            let forging = scope.spawn(|| forge(forger, &nodes, phase.forged, &done));
            let breaking = scope.spawn(|| strike(phase, victims, &made_so_far));
            let made = make_changes(phase, self.mailboxes, self.judge, self.fleet, &made_so_far);
            while !breaking.is_finished() {
                self.judge.look(self.fleet, self.mailboxes, LOOK);
            }
            let changed = clock::now();
            let (incomplete, complete) = settle(
                &phase.name,
                (self.google, self.fleet, self.patience),
                self.mailboxes,
                self.judge,
            );
            done.store(true, Ordering::Relaxed);
            let times = [
                clock::between(begun, changed),
                clock::between(changed, complete),
                clock::between(changed, clock::now()),
            ];
            (forging.join(), breaking.join(), made, times, incomplete)
        });
        breaking.map_err(|_| BenchError::Thread("fault"))??;
        let forgeries = forging.map_err(|_| BenchError::Thread("forger"))?;
        Ok(self.report(
            phase,
            times.map(|time| time.as_secs_f64()),
            made,
            incomplete,
            forgeries,
        ))
    }

    /// Waits until every client has a stream, and sees its mailbox as it is; gives how many do not.
    pub(crate) fn settle(&mut self, name: &str) -> usize {
        let with = (self.google, self.fleet, self.patience);
        settle(name, with, self.mailboxes, self.judge).0
    }

    /// What was wrong so far, if anything.
    pub(crate) fn first_wrong(&mut self) -> Option<String> {
        self.judge.take_tally().first_wrong
    }

    fn settle_pushes(&mut self) {
        let begun = clock::now();
        while pushes_waiting(self.google) > 0 && clock::between(begun, clock::now()) < self.patience
        {
            self.judge.look(self.fleet, self.mailboxes, LOOK);
        }
    }

    fn report(
        &mut self,
        phase: &Phase,
        [seconds, complete_seconds, acknowledged_seconds]: [f64; 3],
        made: MadeCounts,
        incomplete: usize,
        forgeries: Forgeries,
    ) -> PhaseReport {
        let tally = self.judge.take_tally();
        let entries = self.google.take_journal();
        let (times, asked) = measure::measure(&tally.arrivals, &entries, self.addresses);
        PhaseReport {
            name: phase.name.clone(),
            seconds,
            complete_seconds,
            acknowledged_seconds,
            unacknowledged: pushes_waiting(self.google),
            made,
            deliveries: tally.arrivals.len() as u64,
            events: tally.events,
            incomplete,
            asked,
            history_calls_per_notification: per_notification(asked),
            forged: forgeries.well,
            forged_unanswered: forgeries.unanswered,
            forged_wrong: forgeries.wrong,
            lost: tally.lost,
            away: tally.away.map(|away| away.summary()),
            wrong: tally
                .wrong
                .iter()
                .map(|(wrong, count)| (wrong.word(), *count))
                .collect(),
            first_wrong: tally.first_wrong,
            acknowledge: times.acknowledge.summary(),
            visible: times.visible.summary(),
            after_notification: times.after_notification.summary(),
            google: times.google.summary(),
            ours: times.ours.summary(),
        }
    }
}

/// Waits until every client has a stream and sees its mailbox as it is, and every push is acknowledged; gives how many clients
/// do not, and when all of them did. Patience is for a time without any progress.
fn settle(
    name: &str,
    (google, fleet, patience): (&Google, &Fleet, Duration),
    mailboxes: &Mailboxes<'_>,
    judge: &mut Judge,
) -> (usize, u64) {
    let mut progress = Progress::new("settle");
    let (mut next, mut complete, mut incomplete) = (0, None, Vec::new());
    let (mut least, mut progressed) = (u64::MAX, clock::now());
    loop {
        judge.look(fleet, mailboxes, LOOK);
        let now = clock::now();
        let away = judge.len() - judge.open();
        if now >= next {
            incomplete = judge.incomplete(google, mailboxes);
            next = clock::now() + LOOK_WHOLE;
            let waiting = pushes_waiting(google);
            if incomplete.is_empty() && away == 0 {
                complete.get_or_insert(now);
                if waiting == 0 {
                    break;
                }
            }
            let left = waiting + (incomplete.len() + away) as u64;
            if left < least {
                (least, progressed) = (left, now);
            }
            progress.show(0.0, || {
                let incomplete = incomplete.len();
                format!("{name}: {incomplete} incomplete, {away} without a stream, {waiting} pushes wait")
            });
        }
        if clock::between(progressed, now) > patience {
            break;
        }
    }
    progress.clear();
    for &client in incomplete.iter().take(DIFFERENCES) {
        let difference = judge.difference(client, google, mailboxes);
        judge.accuse(Wrong::new(Violation::Skipped, difference));
    }
    let away = judge.len() - judge.open();
    let complete = complete.unwrap_or_else(clock::now);
    (incomplete.len().max(away), complete)
}

fn pushes_waiting(google: &Google) -> u64 {
    let state = google.control("state", &serde_json::json!({}));
    let state = state.unwrap_or_default();
    state["waiting"].as_u64().unwrap_or_default()
}

fn per_notification(asked: Asked) -> f64 {
    match asked.acknowledged {
        0 => 0.0,
        acknowledged => asked.history_calls as f64 / acknowledged as f64,
    }
}

fn make_changes(
    phase: &Phase,
    mailboxes: &mut Mailboxes<'_>,
    judge: &mut Judge,
    fleet: &Fleet,
    so_far: &AtomicUsize,
) -> MadeCounts {
    let mut progress = Progress::new("changes");
    let mut made = MadeCounts::default();
    let begun = clock::now();
    for number in 0..phase.changes {
        if let Some(rate) = phase.rate {
            let due = begun + (number as f64 / rate * SECOND as f64) as u64;
            loop {
                let wait = clock::between(clock::now(), due);
                judge.look(fleet, mailboxes, wait.min(LOOK));
                if clock::now() >= due {
                    break;
                }
            }
        }
        made.add(mailboxes.change());
        so_far.fetch_add(1, Ordering::Relaxed);
        progress.show(number as f64 / phase.changes as f64, || phase.name.clone());
    }
    progress.clear();
    made
}

/// Breaks what is to be broken when a third of the changes is made, and mends it after two thirds.
fn strike(phase: &Phase, victims: Victims<'_>, so_far: &AtomicUsize) -> Result<(), LocalError> {
    let wait_for = |part: usize| {
        while so_far.load(Ordering::Relaxed) < phase.changes * part / 3 {
            thread::sleep(Duration::from_millis(5));
        }
    };
    match phase.fault {
        Fault::None => Ok(()),
        Fault::Redis => {
            wait_for(1);
            victims.redis.kill();
            wait_for(2);
            victims.redis.restart()
        }
        Fault::Node => {
            wait_for(1);
            victims.nodes[0].kill();
            wait_for(2);
            victims.nodes[0].restart()
        }
    }
}

fn forge(forger: &mut Forger<'_>, nodes: &[SocketAddr], rate: f64, done: &AtomicBool) -> Forgeries {
    let mut forgeries = Forgeries::default();
    if rate <= 0.0 {
        return forgeries;
    }
    let begun = clock::now();
    let mut number: u32 = 0;
    while !done.load(Ordering::Relaxed) {
        let node = nodes[number as usize % nodes.len()];
        match forger.next().post(node) {
            Ok(None) => forgeries.well += 1,
            Ok(Some(wrong)) => forgeries.wrong.push(wrong),
            Err(_) => forgeries.unanswered += 1,
        }
        number += 1;
        let due = begun + (f64::from(number) / rate * SECOND as f64) as u64;
        thread::sleep(clock::between(clock::now(), due).min(Duration::from_secs(1)));
    }
    forgeries
}
