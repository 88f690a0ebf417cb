//! Small histories written by hand, and what they are written with.

mod random;
mod rules;
mod whole;

use std::fs;
use std::path::PathBuf;

use crate::clock::SECOND;
use crate::history::check::findings::Rule;
use crate::history::check::{CheckReport, check};
use crate::history::{Event, HISTORY_VERSION, HistoryError};
use crate::local::TempDir;

type Events = Vec<Event<'static>>;

/// One millisecond.
const MS: u64 = SECOND / 1_000;

fn header() -> Event<'static> {
    Event::Header {
        version: HISTORY_VERSION,
        run: "r".to_owned(),
        unix_ms: 0,
        t: 0,
        channels: vec!["a".to_owned(), "b".to_owned()],
    }
}

fn invoke(t: u64, op: u64, k: u32) -> Event<'static> {
    Event::Invoke {
        t,
        op,
        at: t,
        k,
        h: op * 7,
        p: 0,
        pipe: None,
        key: None,
    }
}

fn ok(t: u64, op: u64, s: u64) -> Event<'static> {
    Event::Ok {
        t,
        op,
        g: Some("e".into()),
        s: Some(s),
        duplicate: false,
    }
}

fn fail(t: u64, op: u64) -> Event<'static> {
    let why = "refused".into();
    Event::Fail { t, op, why }
}

fn subscribe(t: u64, c: u32, k: u32, s: u64) -> Event<'static> {
    Event::Subscribe {
        t,
        c,
        k,
        g: "e".into(),
        s,
        resumed: false,
    }
}

fn receive(t: u64, c: u32, k: u32, s: u64, op: u64) -> Event<'static> {
    Event::Receive {
        t,
        c,
        k,
        s,
        n: Some(op),
        h: op * 7,
    }
}

fn dump(k: u32, head: u64, oldest: Option<u64>) -> Event<'static> {
    let g = "e".into();
    let t = 900 * SECOND;
    Event::Dump {
        t,
        k,
        g,
        head,
        oldest,
    }
}

fn row(k: u32, s: u64, op: u64) -> Event<'static> {
    Event::Row {
        k,
        s,
        n: Some(op),
        h: op * 7,
    }
}

/// Three messages in channel a, 1 to 3, each acknowledged before the next one is sent; one subscriber.
fn clean() -> Events {
    let mut events = vec![subscribe(1, 0, 0, 0)];
    for op in 1..=3 {
        events.push(invoke(op * 10 * MS, op, 0));
        events.push(ok(op * 10 * MS + 4 * MS, op, op));
        events.push(receive(op * 10 * MS + 5 * MS, 0, 0, op, op));
    }
    events.push(dump(0, 3, None));
    events.extend((1..=3).map(|op| row(0, op, op)));
    events.push(dump(1, 0, None));
    events
}

/// Where `event` stands in `events`.
fn place(events: &Events, event: &Event<'_>) -> usize {
    events.iter().position(|known| known == event).unwrap()
}

fn replace(events: &mut Events, old: &Event<'_>, new: Event<'static>) {
    let at = place(events, old);
    events[at] = new;
}

fn text(events: &Events) -> String {
    let end = Event::End {
        t: 1_000 * SECOND,
        lines: events.len() as u64 + 2,
        stalled: 0,
    };
    let header = header();
    let all = [&header].into_iter().chain(events).chain([&end]);
    all.map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect()
}

fn check_texts(texts: &[String]) -> Result<CheckReport, HistoryError> {
    let dir = TempDir::new().unwrap();
    let write = |(number, text): (usize, &String)| -> PathBuf {
        let path = dir.path().join(format!("history-{number}"));
        fs::write(&path, text).unwrap();
        path
    };
    let files: Vec<PathBuf> = texts.iter().enumerate().map(write).collect();
    check(&files)
}

fn judge(events: &Events) -> CheckReport {
    check_texts(&[text(events)]).unwrap()
}

/// The rules that are broken, and how often.
fn broken(events: &Events) -> Vec<(&'static str, u64)> {
    let report = judge(events);
    assert_eq!(report.passed, report.reasons().is_empty());
    let broken = report.rules.iter().filter(|rule| rule.violations > 0);
    broken.map(|rule| (rule.name, rule.violations)).collect()
}

/// The clean history with `change` breaks exactly these rules so often.
fn assert_breaks(expected: &[(Rule, u64)], change: impl FnOnce(&mut Events)) {
    let mut events = clean();
    change(&mut events);
    let mut expected: Vec<_> = expected.to_vec();
    expected.sort_unstable();
    let expected: Vec<_> = expected
        .iter()
        .map(|(rule, count)| (rule.name(), *count))
        .collect();
    assert_eq!(broken(&events), expected);
}
