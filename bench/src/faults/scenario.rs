//! `fanfare bench scenario b`: 1,000 messages, Redis away from the 500th on, and all of them everywhere in the end.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::BenchError;
use crate::faults::args::ScenarioBArgs;
use crate::faults::row::{Load, RowError, scaled};
use crate::faults::runner::{Play, perform};
use crate::faults::scene::{DATABASE, Layout, PUBLICATIONS};
use crate::faults::stage::Stage;
use crate::history::{CheckReport, check};
use crate::local::TempDir;
use crate::mode::positive;
use crate::output::Circumstances;
use crate::report::LatencySummary;
use crate::scenario::write_b;

/// Messages in all.
const MESSAGES: u64 = 1_000;

/// The one at which Redis goes away.
const AT: u64 = 500;

/// The most seconds that Redis may be away.
const AWAY_MAX: f64 = 600.0;

/// What was counted while it ran.
#[derive(Debug, Default)]
struct Counted {
    sent_at_kill: Cell<u64>,
    sent_at_return: Cell<u64>,
    away: Cell<f64>,
    rows: Cell<u64>,
}

/// What it came to, as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioBFigures<'a> {
    /// When and where.
    pub(crate) circumstances: Circumstances,
    /// Every option.
    pub(crate) parameters: &'a ScenarioBArgs,
    /// Messages sent when Redis went away.
    pub(crate) sent_at_kill: u64,
    /// Messages sent when it came back.
    pub(crate) sent_at_return: u64,
    /// How long it was away, in seconds.
    pub(crate) away_seconds: f64,
    /// Messages in the database.
    pub(crate) rows: u64,
    /// Deliveries at all clients together.
    pub(crate) deliveries: u64,
    /// Deliveries that there should be.
    pub(crate) due: u64,
    /// Connections that were lost.
    pub(crate) lost_connections: u64,
    /// From sending to delivery, with Redis and without.
    pub(crate) windows: Vec<(&'static str, LatencySummary)>,
    /// What did not hold.
    pub(crate) reasons: &'a [String],
}

/// Runs it.
///
/// # Errors
/// [`BenchError::Violated`] when anything was lost, repeated or out of order; the others when it could not be run.
pub(crate) fn run(args: &ScenarioBArgs) -> Result<(), BenchError> {
    let circumstances = Circumstances::now();
    let rate = positive("--rate", args.rate)?;
    let away = positive("--away", args.away)?;
    if away > AWAY_MAX {
        return Err(BenchError::option(
            "--away",
            format!("must be at most {AWAY_MAX}"),
        ));
    }
    let folder = TempDir::new()?;
    let history = match &args.history {
        Some(path) => path.clone(),
        None => folder.path().join("history.jsonl"),
    };
    let seconds = MESSAGES as f64 / rate;
    let load = Load {
        clients: scaled(args.clients, args.clients),
        channels: 1,
        probe_channels: 0,
        rate: scaled(rate, rate),
        seconds: scaled(seconds, seconds),
        warmup: 0.0,
        ..Load::DEFAULT
    };
    // People see that something is going on; nobody has to.
    let _ = writeln!(
        std::io::stderr(),
        "starting 3 nodes, PostgreSQL and Redis; then {seconds:.0} s of messages"
    );
    let counted = Counted::default();
    let play = Play {
        layout: &Layout::DEFAULT,
        load: &load,
        during: &|stage| take_redis_away(stage, args, &counted),
        after: &|stage| count_rows(stage, &counted),
    };
    let played = perform(&play, false, &history).map_err(|error| match error {
        RowError::Bench(error) => error,
        RowError::Local(error) => error.into(),
        other => BenchError::system("run the scenario", std::io::Error::other(other.to_string())),
    })?;
    let report = check(&[PathBuf::from(&history)])?;
    let reasons = reasons(args, &counted, &report, played.incomplete);
    let text = describe(args, &counted, &report, &reasons, args.history.as_deref());
    if let Some(out) = &args.out {
        write_b(
            out,
            &ScenarioBFigures {
                circumstances,
                parameters: args,
                sent_at_kill: counted.sent_at_kill.get(),
                sent_at_return: counted.sent_at_return.get(),
                away_seconds: counted.away.get(),
                rows: counted.rows.get(),
                deliveries: report.counts.deliveries,
                due: MESSAGES * args.clients as u64,
                lost_connections: report.counts.lost,
                windows: windows(&report),
                reasons: &reasons,
            },
        )?;
    }
    // Whoever read the output may have gone; the verdict is told all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(BenchError::Violated { reasons })
    }
}

fn take_redis_away(
    stage: &mut Stage<'_>,
    args: &ScenarioBArgs,
    counted: &Counted,
) -> Result<(), RowError> {
    stage.wait("the 500th message", |stage| {
        stage.publisher.progress().0 >= AT
    })?;
    counted.sent_at_kill.set(stage.publisher.progress().0);
    let name = if args.pause {
        "Redis hangs"
    } else {
        "Redis is away"
    };
    stage.fault(name, |stage| {
        let begun = Instant::now();
        match args.pause {
            true => stage.scene.redis()?.pause(),
            false => stage.scene.redis()?.kill(),
        }
        stage.rest(args.away);
        counted.sent_at_return.set(stage.publisher.progress().0);
        match args.pause {
            true => stage.scene.redis()?.resume(),
            false => stage.scene.redis()?.restart()?,
        }
        counted.away.set(begun.elapsed().as_secs_f64());
        Ok(())
    })
}

fn count_rows(stage: &mut Stage<'_>, counted: &Counted) -> Result<(), RowError> {
    let sql = format!("SELECT count(*) FROM {PUBLICATIONS}");
    let text = stage.scene.postgres()?.execute(DATABASE, &sql)?;
    counted.rows.set(text.trim().parse().unwrap_or_default());
    Ok(())
}

/// What did not hold.
fn reasons(
    args: &ScenarioBArgs,
    counted: &Counted,
    report: &CheckReport,
    incomplete: usize,
) -> Vec<String> {
    let mut reasons = report.reasons();
    let rows = counted.rows.get();
    if rows != MESSAGES {
        reasons.push(format!("{rows} messages in the database, not {MESSAGES}"));
    }
    let deliveries = report.counts.deliveries;
    let due = MESSAGES * args.clients as u64;
    if deliveries != due || incomplete > 0 {
        reasons.push(format!(
            "{deliveries} deliveries, not {due}; {incomplete} clients lack something"
        ));
    }
    if report.counts.lost > 0 {
        reasons.push(format!("{} connections were lost", report.counts.lost));
    }
    reasons
}

/// What the windows of a history are to this scenario.
fn window_name(window: &str) -> &'static str {
    match window {
        "fault" => "without Redis",
        "healing" => "until as before",
        _ => "with Redis",
    }
}

fn windows(report: &CheckReport) -> Vec<(&'static str, LatencySummary)> {
    let windows = report.latencies.iter();
    windows
        .map(|window| (window_name(window.window), window.whole.clone()))
        .collect()
}

fn describe(
    args: &ScenarioBArgs,
    counted: &Counted,
    report: &CheckReport,
    reasons: &[String],
    history: Option<&Path>,
) -> String {
    // Writing to a string does not fail, so results are dropped throughout.
    let mut out = String::new();
    let what = if args.pause { "made to hang" } else { "killed" };
    let _ = writeln!(
        out,
        "{MESSAGES} messages to {} clients on 3 nodes",
        args.clients
    );
    let (kill, back) = (counted.sent_at_kill.get(), counted.sent_at_return.get());
    let _ = writeln!(
        out,
        "  Redis             {what} at message {kill}, back {:.1} s later; {} messages were sent without it",
        counted.away.get(),
        back - kill
    );
    let _ = writeln!(
        out,
        "  in the database   {} (counted by SQL)",
        counted.rows.get()
    );
    let counts = &report.counts;
    let _ = writeln!(
        out,
        "  at the clients    {} deliveries: {} for each of {}",
        counts.deliveries,
        counts.deliveries / (args.clients as u64).max(1),
        args.clients
    );
    let _ = writeln!(
        out,
        "  by hand           nothing: {} connections lost, {} positions asked for again",
        counts.lost, counts.resumed
    );
    for window in &report.latencies {
        let name = window_name(window.window);
        let ms = |us: u64| us as f64 / 1_000.0;
        let whole = &window.whole;
        let _ = writeln!(
            out,
            "  {name:<17} sent to delivered: p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms",
            ms(whole.p50_us),
            ms(whole.p99_us),
            ms(whole.max_us)
        );
    }
    let broken = report
        .rules
        .iter()
        .filter(|rule| rule.violations > 0)
        .count();
    let _ = writeln!(
        out,
        "  rules             {} checked, {broken} broken",
        report.rules.len()
    );
    if let Some(path) = history {
        let _ = writeln!(out, "  history           {}", path.display());
    }
    for reason in reasons {
        let _ = writeln!(out, "  BROKEN            {reason}");
    }
    let _ = writeln!(
        out,
        "  verdict           {}",
        if reasons.is_empty() {
            "PASSED"
        } else {
            "FAILED"
        }
    );
    out
}
