//! A run against a server that keeps its promises is accepted, and refused against one that breaks any of them.

mod fake;

use clap::Parser;
use fanfare_bench::local::TempDir;
use fanfare_bench::{BenchArgs, BenchError, run};
use serde_json::Value;

use crate::fake::{Fake, Fault};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Six subscribers, two channels, forty messages; returns the outcome and the report.
fn bench(fault: Fault, more: &[&str]) -> (Result<(), BenchError>, Value) {
    let common = [
        "--clients",
        "6",
        "--channels",
        "2",
        "--rate",
        "80",
        "--reconnect",
    ];
    bench_with(fault, "run", &[&common[..], more].concat())
}

fn bench_with(fault: Fault, command: &str, more: &[&str]) -> (Result<(), BenchError>, Value) {
    let fake = Fake::start(fault);
    let url = fake.url();
    let file = std::env::temp_dir().join(format!(
        "fanfare-bench-{}-{}.json",
        std::process::id(),
        url.len() + port(&url)
    ));
    let json = file.to_str().unwrap().to_owned();
    let mut line = vec!["bench", command, "--url", &url, "--json", &json];
    line.extend("--duration 0.4 --warmup 0.1 --publishers 4".split(' '));
    line.extend(more);
    if !more.contains(&"--drain") {
        line.extend(["--drain", "20"]);
    }
    let result = run(Line::try_parse_from(line).unwrap().bench);
    let report =
        std::fs::read(&file).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    let _ = std::fs::remove_file(&file);
    (result, report)
}

fn port(url: &str) -> usize {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

fn assert_refused(fault: Fault, more: &[&str], path: &str) {
    let (result, report) = bench(fault, more);
    assert!(
        matches!(result, Err(BenchError::Violated { .. })),
        "{fault:?}: {result:?}"
    );
    assert!(
        report.pointer(path).and_then(Value::as_u64) > Some(0),
        "{fault:?}: {path} in {report:#}"
    );
    assert_eq!(report["verdict"]["passed"], false);
}

/// A short drain for servers that never become complete.
const HURRY: &[&str] = &["--drain", "1"];

fn assert_held(fault: Fault, more: &[&str]) -> Value {
    let (result, report) = bench(fault, more);
    assert!(result.is_ok(), "{fault:?}: {result:?} {report:#}");
    assert_eq!(report["verdict"]["passed"], true);
    assert_eq!(report["subscribers"]["expected"], 3 * 40);
    assert_eq!(report["subscribers"]["delivered"], 3 * 40);
    assert_eq!(report["publications"]["acknowledged"], 40);
    report
}

#[test]
fn a_correct_server_is_accepted() {
    let report = assert_held(Fault::None, &["--threads", "2", "--source-addresses", "3"]);
    assert_eq!(report["server_versions"][0], "fake");
    assert_eq!(
        report["delivery_latency"]["count"],
        3 * 32,
        "the warm-up is left out"
    );
    assert_eq!(report["ack_latency"]["count"], 32);
    assert!(report["machine"]["cores"].as_u64() > Some(0));
}

#[test]
fn a_correct_server_is_accepted_over_websocket() {
    assert_held(Fault::None, &["--via", "ws"]);
}

#[test]
fn frames_in_pieces_and_publications_in_pairs_are_the_same_to_it() {
    // Twenty messages in each channel: nothing is left over.
    assert_held(Fault::Pieces, &[]);
}

#[test]
fn secrets_are_not_in_the_report() {
    let report = assert_held(
        Fault::None,
        &["--api-key", "hush-hush", "--token-secret", "hush-hush"],
    );
    assert!(!report.to_string().contains("hush"));
}

#[test]
fn one_lost_in_the_middle_is_found() {
    assert_refused(Fault::DropOne, HURRY, "/subscribers/faults/holes");
}

#[test]
fn the_last_one_lost_is_found() {
    assert_refused(Fault::DropFrom(20), HURRY, "/subscribers/missing");
}

#[test]
fn two_swapped_are_found() {
    assert_refused(Fault::SwapTwo, &[], "/subscribers/faults/reorders");
}

#[test]
fn one_twice_is_found() {
    assert_refused(Fault::Duplicate, &[], "/subscribers/faults/duplicates");
}

#[test]
fn another_message_under_the_same_offset_is_found() {
    assert_refused(Fault::OtherContent, &[], "/subscribers/mismatched");
}

#[test]
fn an_acknowledgement_with_the_wrong_offset_is_found() {
    assert_refused(Fault::WrongAck, &[], "/subscribers/mismatched");
}

#[test]
fn publications_without_offsets_are_found() {
    assert_refused(Fault::Unnumbered, &[], "/subscribers/faults/unnumbered");
}

#[test]
fn an_acknowledgement_without_a_commit_is_found() {
    assert_refused(Fault::AckWithoutCommit, HURRY, "/subscribers/missing");
}

#[test]
fn a_refused_publication_is_found() {
    assert_refused(Fault::Refuse, &[], "/publications/refused");
    assert_refused(Fault::Refuse, &["--via", "ws"], "/publications/refused");
}

#[test]
fn a_failure_after_the_commit_is_repeated_with_the_same_key() {
    let report = assert_held(Fault::FailAfterCommit, &[]);
    assert!(report["publications"]["retries"].as_u64() >= Some(5));
    // A repetition may be the one that fails next, so they can be fewer than the retries.
    assert!(report["publications"]["duplicates"].as_u64() >= Some(1));
    assert!(report["publications"]["errors"]["http 503"].as_u64() >= Some(5));
}

#[test]
fn a_server_that_ignores_the_key_commits_twice_and_is_found() {
    assert_refused(
        Fault::FailAfterCommitWithoutKey,
        &[],
        "/subscribers/repeated",
    );
    assert_refused(Fault::FailAfterCommitWithoutKey, &[], "/subscribers/excess");
}

#[test]
fn a_lost_connection_goes_on_from_its_position() {
    let report = assert_held(Fault::CloseAndRecover, &[]);
    assert_eq!(report["subscribers"]["reconnects"], 2);
    assert_eq!(report["subscribers"]["recovered"], 2);
}

#[test]
fn a_connection_that_came_back_without_what_it_missed_is_found() {
    assert_refused(Fault::CloseAndSkip, HURRY, "/subscribers/unrecovered");
}

/// The rules that the history of a run shows to be broken.
fn broken_rules(fault: Fault, more: &[&str]) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let name = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (history, json) = (name("history"), name("report"));
    // Whether the run held by its own measure is asked elsewhere.
    let _ = bench(fault, &[&["--history", &history], more].concat());
    let line = ["bench", "check", &history, "--json", &json];
    let result = run(Line::try_parse_from(line).unwrap().bench);
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["passed"], result.is_ok(), "{result:?}");
    assert_eq!(report["counts"]["publishes"], 40);
    let rules = report["rules"].as_array().unwrap().iter();
    let broken = rules.filter(|rule| rule["violations"].as_u64() > Some(0));
    broken
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_history_of_a_correct_server_is_accepted() {
    let none: [&str; 0] = [];
    assert_eq!(broken_rules(Fault::None, &[]), none);
    assert_eq!(broken_rules(Fault::None, &["--via", "ws"]), none);
    assert_eq!(broken_rules(Fault::FailAfterCommit, &[]), none);
    assert_eq!(broken_rules(Fault::CloseAndRecover, &[]), none);
    assert_eq!(
        broken_rules(Fault::Refuse, &[]),
        none,
        "refused, and not there"
    );
}

#[test]
fn the_history_of_a_server_that_breaks_a_promise_shows_which() {
    assert_eq!(broken_rules(Fault::DropOne, HURRY), ["stream"]);
    assert_eq!(broken_rules(Fault::DropFrom(20), HURRY), ["unseen"]);
    assert_eq!(broken_rules(Fault::SwapTwo, &[]), ["stream"]);
    assert_eq!(broken_rules(Fault::Duplicate, &[]), ["repeat"]);
    assert_eq!(broken_rules(Fault::OtherContent, &[]), ["agreement"]);
    assert_eq!(broken_rules(Fault::CloseAndSkip, HURRY), ["reset"]);
    assert_eq!(broken_rules(Fault::AckWithoutCommit, HURRY), ["lost-write"]);
    let wrong = broken_rules(Fault::WrongAck, &[]);
    assert_eq!(wrong[0], "lost-write");
    let twice = broken_rules(Fault::FailAfterCommitWithoutKey, &[]);
    assert!(twice.contains(&"duplicate".to_owned()), "{twice:?}");
}

#[test]
fn a_message_that_one_server_does_not_take_goes_to_another() {
    let (busy, able) = (Fake::start(Fault::Busy), Fake::start(Fault::None));
    let both = format!("{},{}", busy.url(), able.url());
    let dir = TempDir::new().unwrap();
    let json = dir.path().join("report").to_str().unwrap().to_owned();
    let mut line = vec!["bench", "run", "--url"];
    let able = able.url();
    line.extend([&able, "--publish-url", &both, "--json", &json]);
    line.extend("--clients 6 --channels 2 --rate 80 --duration 0.4 --warmup 0.1".split(' '));
    line.extend("--publishers 20 --drain 20".split(' '));
    run(Line::try_parse_from(line).unwrap().bench).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["publications"]["acknowledged"], 40);
    // Half of them meet the busy one, and none of them twice.
    let retries = report["publications"]["retries"].as_u64().unwrap();
    assert!((1..=40).contains(&retries), "{retries}");
    assert_eq!(report["publications"]["errors"]["http 503"], retries);
}

#[test]
fn commits_counts_what_was_acknowledged() {
    let (result, report) = bench_with(
        Fault::None,
        "commits",
        &["--channels", "10", "--rate", "500"],
    );
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(report["publications"]["acknowledged"], 250);
    assert_eq!(report["ack_latency"]["count"], 200);
    for via in ["ws", "http"] {
        let options = ["--channels", "10", "--rate", "100", "--via", via];
        let (result, _) = bench_with(Fault::AckWithoutCommit, "commits", &options);
        let text = result.unwrap_err().to_string();
        assert!(text.contains("another head"), "{text}");
    }
    let (result, _) = bench_with(
        Fault::Refuse,
        "commits",
        &["--channels", "10", "--rate", "100"],
    );
    assert!(
        matches!(result, Err(BenchError::Violated { .. })),
        "{result:?}"
    );
}

#[test]
fn fanout_goes_through_its_rates_and_verifies_them() {
    let own = std::process::id().to_string();
    let alone = ["--yardstick", "false", "--pid", &own];
    let options = [&["--clients", "5", "--rates", "20,40"][..], &alone].concat();
    let (result, report) = bench_with(Fault::None, "fanout", &options);
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(report["subscribers"]["delivered"], 5 * (10 + 20));
    assert_eq!(report["rate_steps"].as_array().unwrap().len(), 2);
    assert_eq!(report["rate_steps"][1]["delivery_latency"]["count"], 5 * 16);
    let options = ["--clients", "5", "--rates", "20,40", "--drain", "1"];
    let (result, _) = bench_with(Fault::DropFrom(30), "fanout", &options);
    assert!(
        matches!(result, Err(BenchError::Violated { .. })),
        "{result:?}"
    );
}

#[test]
fn idle_fits_a_line() {
    let fake = Fake::start(Fault::None);
    let own = std::process::id().to_string();
    let url = fake.url();
    let line = [
        "bench",
        "idle",
        "--url",
        &url,
        "--clients",
        "30",
        "--steps",
        "3",
        "--settle",
        "0",
        "--pid",
        &own,
    ];
    run(Line::try_parse_from(line).unwrap().bench).unwrap();
}

#[test]
fn what_cannot_be_run_says_why() {
    let error = |line: &[&str]| {
        run(Line::try_parse_from(line).unwrap().bench)
            .unwrap_err()
            .to_string()
    };
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let nobody = format!("http://{free}");
    let text = error(&[
        "bench",
        "run",
        "--url",
        &nobody,
        "--clients",
        "2",
        "--connect-patience",
        "1",
    ]);
    assert!(
        text.contains("0 of 2 subscribers") && text.contains("refused"),
        "{text}"
    );
    assert!(error(&["bench", "run", "--clients", "100000000"]).contains("open files"));
    assert!(error(&["bench", "run", "--rate", "0"]).contains("--rate"));
    assert!(error(&["bench", "run", "--url", "https://a"]).contains("--url"));
    assert!(error(&["bench", "idle"]).contains("--pid"));
    assert!(error(&["bench", "run", "--pid", "4294967295"]).contains("--pid"));
}
