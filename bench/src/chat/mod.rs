//! `fanfare bench chat`: a workspace with a million messages, loaded and searched, and a channel in which many talk at once.
//!
//! It starts PostgreSQL, Redis and two nodes, writes the workspace straight into the tables, and measures as a client does. What is
//! lost, repeated or out of order fails a run on any machine; times fail the full form only.
//!
//! | file | subject |
//! | --- | --- |
//! | `site`, `seed` | what is started, and the workspace |
//! | `asked` | loads and searches |
//! | `live`, `listeners` | the channel in which many talk |
//! | `report` | the page |

mod args;
mod asked;
mod listeners;
mod live;
mod report;
mod seed;
mod site;

pub use self::args::ChatArgs;

use std::io::{self, Write};

use crate::chat::asked::Asked;
use crate::chat::live::Live;
use crate::chat::report::{Report, ms};
use crate::chat::site::Site;
use crate::error::BenchError;
use crate::mode::positive;
use crate::output::{Circumstances, Folder};
use crate::report::Verdict;
use crate::system;

/// What is promised: a workspace is loaded within this time at the server, p95, in microseconds.
const LOAD_P95_US: u64 = 300_000;
/// What is promised: a search is answered within this time, p95, in microseconds.
const SEARCH_P95_US: u64 = 200_000;
/// What is promised: from the post to the event within this time, p99, in microseconds.
const EVENT_P99_US: u64 = 100_000;

/// Runs it.
///
/// # Errors
/// [`BenchError::Violated`] when something did not hold; the others when it could not be run.
pub(crate) fn run(args: &ChatArgs) -> Result<(), BenchError> {
    check(args)?;
    let folder = args.out.as_deref().map(Folder::open).transpose()?;
    system::check_open_files(args.clients)?;
    let mut circumstances = Circumstances::now();
    let mut site = Site::start(args)?;
    let (postgres, redis) = site.versions()?;
    circumstances.postgres_version = Some(postgres);
    circumstances.redis_version = Some(redis);
    let (loads, searches) = asked::run(args, site.addresses()[0])?;
    let live = live::run(args, &mut site)?;
    let mut verdict = judge(args, &loads, &searches, &live);
    verdict.reasons.extend(site.ended());
    verdict.passed = verdict.reasons.is_empty();
    let report = Report {
        circumstances,
        parameters: serde_json::to_value(args).unwrap_or_default(),
        loads,
        searches,
        live,
        verdict,
    };
    let page = report::render(&report);
    // Whoever read the page may have gone; the verdict is told all the same.
    let _ = io::stdout().write_all(page.as_bytes());
    if let Some(folder) = folder {
        folder.write("chat", &report, &page, &[])?;
    }
    match report.verdict.passed {
        true => Ok(()),
        false => Err(BenchError::Violated {
            reasons: report.verdict.reasons,
        }),
    }
}

fn check(args: &ChatArgs) -> Result<(), BenchError> {
    for (option, value, max) in [
        ("--messages", args.messages, 100_000_000),
        ("--channels", args.channels, 5_000),
        ("--users", args.users, 100_000),
        ("--asked", args.asked, 100_000),
        ("--clients", args.clients, 10_000),
    ] {
        if !(1..=max).contains(&value) {
            return Err(BenchError::option(option, format!("must be 1 to {max}")));
        }
    }
    if args.users < seed::CALLERS {
        let words = format!("must be {} at least", seed::CALLERS);
        return Err(BenchError::option("--users", words));
    }
    let messages = positive("--rate", args.rate)? * positive("--seconds", args.seconds)?;
    match messages > 1e6 {
        true => Err(BenchError::option(
            "--rate",
            "times --seconds must be 1,000,000 at most",
        )),
        false => Ok(()),
    }
}

fn judge(args: &ChatArgs, loads: &[Asked], searches: &[Asked], live: &Live) -> Verdict {
    let mut reasons = Vec::new();
    for (reason, count) in &live.refused {
        reasons.push(format!("{count} messages were not posted: {reason}"));
    }
    for (wrong, count) in &live.wrong {
        reasons.push(format!("{count} x {wrong}"));
    }
    let wanted = live.posted * live.clients;
    if live.delivered != wanted {
        reasons.push(format!(
            "{} of {wanted} messages were delivered",
            live.delivered
        ));
    }
    let mut bounded = |what: &str, us: u64, bound: u64| {
        if us > bound && !args.short {
            reasons.push(format!("{what}: {} ms, not {}", ms(us), ms(bound)));
        }
    };
    for load in loads {
        bounded(
            &format!("{}, p95", load.name),
            load.latency.p95_us,
            LOAD_P95_US,
        );
    }
    for search in searches {
        bounded(
            &format!("{}, p95", search.name),
            search.latency.p95_us,
            SEARCH_P95_US,
        );
    }
    bounded(
        "from the post to the event, p99",
        live.event.p99_us,
        EVENT_P99_US,
    );
    Verdict {
        passed: reasons.is_empty(),
        reasons,
        first_violation: None,
    }
}
