//! `fanfare bench mail`: a thousand browsers look at their mail while Redis dies, a node dies, and somebody forges pushes.
//!
//! It starts PostgreSQL, Redis, nodes and a stand-in for Google, signs users in through the real login, opens their event
//! streams and changes their mailboxes. Each client folds its events into a view of its own; in the end every view must
//! be the mailbox, with every change told once. What is lost, repeated, out of order or made up fails a run on any machine;
//! times fail the full form only.
//!
//! | file | subject |
//! | --- | --- |
//! | `site` | what is started |
//! | `session` | the login, the first page |
//! | `fleet`, `stream` | event streams that come back by themselves |
//! | `mailboxes`, `truth` | what is done in the mailboxes, and what was done |
//! | `view`, `judge` | what clients see, held against that |
//! | `forge` | pushes that must not be taken |
//! | `measure` | from times to figures |
//! | `phase`, `report` | one phase, and the table |

mod args;
mod fleet;
mod forge;
pub(crate) mod http;
mod judge;
mod mailboxes;
mod measure;
mod phase;
mod report;
mod session;
mod site;
mod stream;
mod truth;
mod view;

pub use self::args::MailArgs;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::clock;
use crate::error::BenchError;
use crate::local::Node;
use crate::mail::fleet::{Fleet, Seat};
use crate::mail::forge::Forger;
use crate::mail::judge::Judge;
use crate::mail::mailboxes::Mailboxes;
use crate::mail::phase::{Fault, Phase, Stage, Victims};
use crate::mail::report::{PhaseReport, Report};
use crate::mail::session::Session;
use crate::mail::site::{Outside, Site};
use crate::mail::view::View;
use crate::mode::{not_negative, positive};
use crate::progress::Progress;
use crate::report::{Verdict, write_json};
use crate::system::{self, Sample};

/// The most nodes.
const NODES_MAX: usize = 32;

/// The most mailboxes, and changes of the burst: everything is kept in memory to the end.
const USERS_MAX: usize = 10_000;
const CHANGES_MAX: usize = 1_000_000;

/// The most messages of a mailbox at the beginning: fewer than a server keeps.
const MESSAGES_MAX: usize = 500;

/// Who sign in at once.
const SIGN_IN_THREADS: usize = 8;

/// Between two questions whether a mailbox is in sync.
const LIVE_INTERVAL: Duration = Duration::from_millis(500);

/// New streams between two short rests, so that all of them come from one look at the listener's queue.
const OPEN_AT_ONCE: usize = 50;

/// How many percent of the pushes come twice when they do.
const DUPLICATES_PERCENT: u64 = 30;

/// What is promised: a push is acknowledged within this time, p95, in microseconds.
const ACKNOWLEDGE_P95_US: u64 = 100_000;
/// What is promised: a change is visible within this time after the notification, p99, in microseconds.
const VISIBLE_P99_US: u64 = 2_000_000;
/// What is promised: so much of it is ours at most, p99, in microseconds.
const OURS_P99_US: u64 = 200_000;

/// Runs it.
///
/// # Errors
/// [`BenchError::Violated`] when something did not hold; the others when it could not be run.
pub(crate) fn run(args: &MailArgs) -> Result<(), BenchError> {
    check(args)?;
    // What is clear beforehand is said before anything is started.
    system::check_open_files(args.users * args.streams)?;
    let mut site = Site::start(args)?;
    let report = perform(args, &mut site)?;
    // Whoever read the table may have gone; the verdict is told all the same.
    let _ = io::stdout().write_all(report::render(&report).as_bytes());
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    match report.verdict.passed {
        true => Ok(()),
        false => Err(BenchError::Violated {
            reasons: report.verdict.reasons,
        }),
    }
}

fn check(args: &MailArgs) -> Result<(), BenchError> {
    let within = |option: &'static str, value: usize, max: usize| match (1..=max).contains(&value) {
        true => Ok(()),
        false => Err(BenchError::option(option, format!("must be 1 to {max}"))),
    };
    within("--nodes", args.nodes, NODES_MAX)?;
    within("--users", args.users, USERS_MAX)?;
    within("--streams", args.streams, USERS_MAX / args.users)?;
    within("--messages", args.messages, MESSAGES_MAX)?;
    within("--burst", args.burst, CHANGES_MAX)?;
    let changes = positive("--rate", args.rate)? * positive("--seconds", args.seconds)?;
    within("--rate times --seconds", changes as usize, CHANGES_MAX)?;
    not_negative("--forged", args.forged)?;
    Ok(())
}

fn perform(args: &MailArgs, site: &mut Site) -> Result<Report, BenchError> {
    let (cluster, addresses, pids) = (site.describe()?, site.addresses(), Vec::new());
    let Site {
        nodes,
        redis,
        outside,
        ..
    } = site;
    let outside = &*outside;
    let google = &outside.google;
    let mut mailboxes = Mailboxes::new(google, args.users, args.messages);
    let signing_in = clock::now();
    let patience = Duration::from_secs(args.patience);
    let sessions = sign_in(outside, &mailboxes, patience)?;
    let sign_in_seconds = clock::between(signing_in, clock::now()).as_secs_f64();
    let fleet = Fleet::start(addresses.clone())?;
    let mut judge = open_streams(args, &sessions, &fleet)?;
    let (audience, account) = outside.expected();
    let mut forger = Forger::new(google, &audience, account, mailboxes.address(0));
    let by_address: BTreeMap<String, usize> = (0..mailboxes.len())
        .map(|mailbox| (mailboxes.address(mailbox).to_owned(), mailbox))
        .collect();
    let mut stage = Stage {
        google,
        mailboxes: &mut mailboxes,
        fleet: &fleet,
        judge: &mut judge,
        forger: &mut forger,
        patience,
        addresses: &by_address,
    };
    let begun = Sample::take(&pids);
    let missing = stage.settle("open");
    if missing > 0 {
        return Err(BenchError::NotReady {
            what: "event streams",
            ready: args.users * args.streams - missing,
            wanted: args.users * args.streams,
            seconds: args.patience,
            reason: stage.first_wrong().unwrap_or_default(),
        });
    }
    let mut reports = Vec::new();
    for (phase, latency) in phases(args) {
        let millis = json!({"place": "any", "millis": latency});
        google.control("latency", &millis).map_err(|words| {
            BenchError::system("slow the stand-in down", io::Error::other(words))
        })?;
        let troubled = phase.forged > 0.0;
        outside.push(if troubled { DUPLICATES_PERCENT } else { 0 }, troubled);
        let victims = Victims {
            redis: &mut *redis,
            nodes: &mut *nodes,
        };
        reports.push(stage.play(&phase, victims)?);
    }
    let mut verdict = judge_phases(args, &reports);
    verdict
        .reasons
        .extend(compare_lists(&sessions, &mailboxes, outside));
    verdict.reasons.extend(ended(nodes));
    verdict.passed = verdict.reasons.is_empty();
    let generator = begun.generator_until(&Sample::take(&pids));
    Ok(Report {
        command: "mail",
        generator_version: env!("CARGO_PKG_VERSION"),
        parameters: serde_json::to_value(args).unwrap_or_default(),
        cluster,
        machine: system::machine(),
        generator,
        users: args.users,
        clients: judge.len(),
        sign_in_seconds,
        phases: reports,
        verdict,
        warnings: warnings(),
    })
}

/// The phases, each with how long a call of Gmail's API takes in it.
fn phases(args: &MailArgs) -> Vec<(Phase, u64)> {
    let steady = (args.rate * args.seconds) as usize;
    let phase = |name: &str, forged: f64, fault: Fault| Phase {
        name: name.to_owned(),
        rate: Some(args.rate),
        changes: steady.max(1),
        forged,
        fault,
    };
    let quiet = |latency: &u64| {
        let name = format!("quiet, {latency} ms a call of Gmail's API");
        (phase(&name, 0.0, Fault::None), *latency)
    };
    let mut phases: Vec<(Phase, u64)> = args.latency.iter().map(quiet).collect();
    let burst = Phase {
        rate: None,
        changes: args.burst,
        ..phase(
            "burst, pushes twice and in any order",
            args.forged,
            Fault::None,
        )
    };
    phases.push((burst, 0));
    phases.push((phase("Redis killed", args.forged, Fault::Redis), 0));
    phases.push((phase("a node killed -9", args.forged, Fault::Node), 0));
    phases
}

/// Signs everybody in, and waits until their mailboxes are in sync.
fn sign_in(
    outside: &Outside,
    mailboxes: &Mailboxes<'_>,
    patience: Duration,
) -> Result<Vec<Session>, BenchError> {
    let count = mailboxes.len();
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let sessions: Vec<Mutex<Option<Session>>> = (0..count).map(|_| Mutex::default()).collect();
    let done = AtomicUsize::new(0);
    let work = || {
        loop {
            let user = next.fetch_add(1, Ordering::Relaxed);
            if user >= count {
                return;
            }
            match Session::sign_in(outside.gate(), mailboxes.address(user), patience) {
                Ok(session) => {
                    *sessions[user]
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) = Some(session);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    next.store(count, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..SIGN_IN_THREADS).map(|_| scope.spawn(work)).collect();
        let mut progress = Progress::new("sign in");
        while workers.iter().any(|worker| !worker.is_finished()) {
            let done = done.load(Ordering::Relaxed);
            progress.show(done as f64 / count as f64, || format!("{done} of {count}"));
            thread::sleep(Duration::from_millis(20));
        }
        progress.clear();
    });
    if let Some(source) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(BenchError::system("sign a user in", source));
    }
    let sessions = sessions
        .into_iter()
        .filter_map(|session| session.into_inner().unwrap_or_else(PoisonError::into_inner));
    let sessions: Vec<Session> = sessions.collect();
    wait_live(&sessions, patience)
        .map_err(|source| BenchError::system("wait for the first sync", source))?;
    Ok(sessions)
}

/// Waits until all mailboxes are in sync; each is asked for now and then only, as a server bounds how often.
fn wait_live(sessions: &[Session], patience: Duration) -> io::Result<()> {
    let mut waiting: Vec<&Session> = sessions.iter().collect();
    let mut progress = Progress::new("first sync");
    let begun = clock::now();
    loop {
        let round = clock::now();
        let mut still = Vec::with_capacity(waiting.len());
        for session in waiting {
            if !session.is_live()? {
                still.push(session);
            }
        }
        waiting = still;
        if waiting.is_empty() {
            progress.clear();
            return Ok(());
        }
        if clock::between(begun, clock::now()) > patience {
            let words = format!("{} mailboxes are not in sync", waiting.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
        let done = sessions.len() - waiting.len();
        progress.show(done as f64 / sessions.len() as f64, || format!("{done}"));
        thread::sleep(LIVE_INTERVAL.saturating_sub(clock::between(round, clock::now())));
    }
}

/// Opens the streams of everybody, each from where the first page of its mailbox says.
fn open_streams(args: &MailArgs, sessions: &[Session], fleet: &Fleet) -> Result<Judge, BenchError> {
    let fail = |source| BenchError::system("read a mailbox", source);
    let mut judge = Judge::new();
    for (user, session) in sessions.iter().enumerate() {
        let snapshot = session.snapshot().map_err(fail)?;
        let view = View::new(snapshot.messages, &snapshot.event_id)
            .map_err(|wrong| fail(io::Error::other(wrong.about)))?;
        for _ in 0..args.streams {
            let client = judge.add(user, view.clone());
            fleet.open(Seat {
                client,
                node: client,
                cookie: session.cookie.clone(),
                event_id: snapshot.event_id.clone(),
            });
            if client % OPEN_AT_ONCE == OPEN_AT_ONCE - 1 {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(judge)
}

fn judge_phases(args: &MailArgs, phases: &[PhaseReport]) -> Verdict {
    let mut verdict = Verdict::default();
    for phase in phases {
        let mut broken = |what: String| verdict.reasons.push(format!("{}: {what}", phase.name));
        if phase.incomplete > 0 {
            broken(format!("{} clients were not complete", phase.incomplete));
        }
        if phase.unacknowledged > 0 {
            broken(format!(
                "{} pushes were not acknowledged",
                phase.unacknowledged
            ));
        }
        for (wrong, count) in &phase.wrong {
            broken(format!("{count} x {wrong}"));
        }
        for wrong in phase.forged_wrong.iter().take(1) {
            let count = phase.forged_wrong.len();
            broken(format!(
                "{count} forged or stray pushes, the first: {wrong}"
            ));
        }
        if verdict.first_violation.is_none() {
            verdict.first_violation.clone_from(&phase.first_wrong);
        }
    }
    let quiet = phases.iter().take(args.latency.len());
    for phase in quiet.filter(|_| !args.short) {
        let bounds = [
            (
                "acknowledged, p95",
                phase.acknowledge.p95_us,
                ACKNOWLEDGE_P95_US,
            ),
            (
                "visible after the notification, p99",
                phase.after_notification.p99_us,
                VISIBLE_P99_US,
            ),
            ("of it ours, p99", phase.ours.p99_us, OURS_P99_US),
        ];
        for (what, us, bound) in bounds {
            if us > bound {
                let (took, bound) = (report::ms(us), report::ms(bound));
                let reason = format!("{}: {what}: {took} ms, not {bound}", phase.name);
                verdict.reasons.push(reason);
            }
        }
    }
    verdict
}

/// What the server lists must be the mailbox too.
fn compare_lists(
    sessions: &[Session],
    mailboxes: &Mailboxes<'_>,
    outside: &Outside,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for (user, session) in sessions.iter().enumerate() {
        let address = mailboxes.address(user);
        let truth = outside
            .google
            .mailbox(address, |inside| truth::rows(inside));
        match session.snapshot() {
            Ok(snapshot) => {
                let rows: BTreeMap<_, _> = snapshot
                    .messages
                    .into_iter()
                    .map(view::Message::into_row)
                    .collect();
                if rows != truth {
                    reasons.push(format!("the list of {address} is not its mailbox"));
                }
            }
            Err(error) => reasons.push(format!("the list of {address}: {error}")),
        }
    }
    let more = reasons.len().saturating_sub(1);
    reasons.truncate(1);
    if more > 0 {
        reasons.push(format!("{more} more lists"));
    }
    reasons
}

/// Nodes that ended by themselves.
fn ended(nodes: &mut [Node]) -> Vec<String> {
    let mut reasons = Vec::new();
    for (node, number) in nodes.iter_mut().zip(1..) {
        if let Some(status) = node.ended() {
            reasons.push(format!("node {number} ended with {status}"));
        }
    }
    reasons
}

fn warnings() -> Vec<String> {
    let folder = std::env::temp_dir();
    let in_memory = system::is_in_memory(&folder).then(|| {
        format!(
            "{} is kept in memory: commits cost less than on a disk; set TMPDIR to a folder on one",
            folder.display()
        )
    });
    let debug =
        cfg!(debug_assertions).then(|| "this is a debug build: its times say little".to_owned());
    in_memory.into_iter().chain(debug).collect()
}
