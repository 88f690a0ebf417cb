//! Each rule on small histories, and random ones with one thing changed.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

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

#[test]
fn a_clean_history_passes_and_every_rule_was_asked() {
    let report = judge(&clean());
    assert!(report.passed, "{}", report.table());
    let asked = |rule: Rule| report.rules[rule as usize].checked;
    assert_eq!(asked(Rule::LostWrite), 3);
    assert_eq!((asked(Rule::Stream), asked(Rule::Unseen)), (3, 1));
    assert_eq!(report.latencies.len(), 1);
    assert_eq!(report.latencies[0].publish.count, 3);
    let window = &report.latencies[0];
    // Three digits are kept.
    assert_eq!((window.whole.min_us, window.deliver.min_us), (5_000, 1_000));
}

#[test]
fn an_acknowledged_message_that_is_not_in_the_log_is_a_lost_write() {
    // The tail of the log is gone; the subscriber saw what is not in it.
    assert_breaks(&[(Rule::LostWrite, 1), (Rule::Phantom, 1)], |events| {
        events.retain(|event| *event != row(0, 3, 3));
        replace(events, &dump(0, 3, None), dump(0, 2, None));
    });
    // The log knows it under another number than was told.
    assert_breaks(&[(Rule::LostWrite, 1), (Rule::RealTime, 1)], |events| {
        replace(events, &ok(24 * MS, 2, 2), ok(24 * MS, 2, 9));
    });
    // An acknowledgement without a number is looked up by its message.
    assert_breaks(&[(Rule::LostWrite, 1)], |events| {
        events.push(invoke(40 * MS, 4, 1));
        events.push(Event::Ok {
            t: 41 * MS,
            op: 4,
            g: None,
            s: None,
            duplicate: false,
        });
    });
    // Retention may have removed it.
    assert_breaks(&[], |events| {
        events.retain(|event| *event != row(0, 1, 1));
        replace(events, &dump(0, 3, None), dump(0, 3, Some(2)));
    });
}

#[test]
fn what_nobody_published_is_a_phantom() {
    assert_breaks(&[(Rule::Phantom, 1)], |events| {
        replace(events, &dump(1, 0, None), dump(1, 1, None));
        events.push(row(1, 1, 99));
    });
    // Refused, and committed all the same.
    assert_breaks(&[(Rule::Phantom, 1)], |events| {
        replace(events, &ok(34 * MS, 3, 3), fail(34 * MS, 3));
    });
    // Of an unknown outcome anything may have become.
    assert_breaks(&[], |events| {
        events.retain(|event| *event != ok(34 * MS, 3, 3));
        events.push(invoke(40 * MS, 4, 0));
        let why = "timeout".into();
        events.push(Event::Info {
            t: 41 * MS,
            op: 4,
            why,
        });
    });
}

#[test]
fn a_message_in_the_log_twice_is_a_duplicate() {
    assert_breaks(&[(Rule::Duplicate, 1), (Rule::Unseen, 1)], |events| {
        replace(events, &dump(0, 3, None), dump(0, 4, None));
        events.push(row(0, 4, 2));
    });
}

#[test]
fn holes_are_found_in_the_log_and_in_reads() {
    assert_breaks(
        &[(Rule::Dense, 1), (Rule::LostWrite, 1), (Rule::Phantom, 1)],
        |events| events.retain(|event| *event != row(0, 2, 2)),
    );
    let read = |s: u64, rows: &[u64]| {
        let rows = rows.iter().map(|&s| (s, Some(s), s * 7)).collect();
        let begin = Event::Read {
            t: 100 * MS,
            r: 1,
            k: 0,
            s,
            limit: 9,
        };
        let end = Event::Result {
            t: 101 * MS,
            r: 1,
            g: "e".into(),
            head: 3,
            oldest: None,
            rows,
        };
        [begin, end]
    };
    assert_breaks(&[], |events| events.extend(read(1, &[2, 3])));
    assert_breaks(&[], |events| events.extend(read(0, &[1, 2])));
    assert_breaks(&[(Rule::Dense, 1)], |events| {
        events.extend(read(0, &[1, 3]))
    });
    // An empty answer says that there is nothing after that.
    assert_breaks(&[(Rule::StableRead, 1)], |events| {
        events.extend(read(2, &[]))
    });
    assert_breaks(&[], |events| events.extend(read(3, &[])));
}

#[test]
fn a_read_must_see_what_was_acknowledged_before_it() {
    let read = |t: u64, head: u64| {
        [
            Event::Read {
                t,
                r: 1,
                k: 0,
                s: 1,
                limit: 9,
            },
            Event::Result {
                t: 100 * MS,
                r: 1,
                g: "e".into(),
                head,
                oldest: None,
                rows: vec![(2, Some(2), 14)],
            },
        ]
    };
    assert_breaks(&[(Rule::StableRead, 1)], |events| {
        events.extend(read(35 * MS, 2))
    });
    // Begun before the acknowledgement of the third: either is right.
    assert_breaks(&[], |events| events.extend(read(33 * MS, 2)));
    // Cut at its limit, not at the head.
    assert_breaks(&[], |events| events.extend(read(35 * MS, 3)));
}

#[test]
fn everybody_must_see_the_same_under_a_number() {
    assert_breaks(&[(Rule::Agreement, 1)], |events| {
        replace(
            events,
            &receive(25 * MS, 0, 0, 2, 2),
            receive(25 * MS, 0, 0, 2, 3),
        );
    });
    // The same message with another content.
    assert_breaks(&[(Rule::Agreement, 1)], |events| {
        let changed = Event::Receive {
            t: 25 * MS,
            c: 0,
            k: 0,
            s: 2,
            n: Some(2),
            h: 1,
        };
        replace(events, &receive(25 * MS, 0, 0, 2, 2), changed);
    });
}

#[test]
fn a_stream_goes_up_by_one() {
    let second = receive(25 * MS, 0, 0, 2, 2);
    let third = receive(35 * MS, 0, 0, 3, 3);
    assert_breaks(&[(Rule::Stream, 1)], |events| {
        events.retain(|event| *event != second)
    });
    // Swapped: one is missing, then one is late.
    assert_breaks(&[(Rule::Stream, 2)], |events| {
        let (left, right) = (place(events, &second), place(events, &third));
        events.swap(left, right);
    });
    assert_breaks(&[(Rule::Repeat, 1)], |events| {
        let at = place(events, &second);
        events.insert(at, second.clone());
    });
    assert_breaks(&[(Rule::Unseen, 1)], |events| {
        events.retain(|event| *event != third)
    });
    // Ended on purpose: nothing more is owed.
    assert_breaks(&[], |events| {
        events.retain(|event| *event != third);
        let why = "done".into();
        events.push(Event::Ended {
            t: SECOND,
            c: 0,
            why,
        });
    });
    // Lost, not ended: it is owed.
    assert_breaks(&[(Rule::Unseen, 1)], |events| {
        events.retain(|event| *event != third);
        let why = "eof".into();
        events.push(Event::Lost {
            t: SECOND,
            c: 0,
            why,
        });
    });
}

#[test]
fn a_reset_must_be_true() {
    let reset = |g: &'static str| Event::Reset {
        t: 26 * MS,
        c: 0,
        k: 0,
        g: g.into(),
        s: 2,
    };
    // The log is still the one that the client knew.
    let mut events = clean();
    let third = place(&events, &receive(35 * MS, 0, 0, 3, 3));
    events.insert(third, reset("other"));
    let rules: Vec<_> = broken(&events).into_iter().map(|(name, _)| name).collect();
    assert_eq!(rules, ["reset", "unseen"], "and it never came back");
    // The log is another one: what was acknowledged in the first is excused, and the subscriber goes on.
    let mut events = clean();
    events.truncate(place(&events, &dump(0, 3, None)));
    events.insert(third, reset("other"));
    replace(
        &mut events,
        &ok(34 * MS, 3, 3),
        Event::Ok {
            t: 34 * MS,
            op: 3,
            g: Some("other".into()),
            s: Some(3),
            duplicate: false,
        },
    );
    for k in 0..2 {
        events.push(Event::Dump {
            t: SECOND,
            k,
            g: "other".into(),
            head: if k == 0 { 3 } else { 0 },
            oldest: None,
        });
    }
    events.extend((1..=3).map(|op| row(0, op, op)));
    let at = place(
        &events,
        &Event::Dump {
            t: SECOND,
            k: 1,
            g: "other".into(),
            head: 0,
            oldest: None,
        },
    );
    let empty = events.remove(at);
    events.push(empty);
    // Epochs do not change by themselves.
    assert_eq!(broken(&events), [("lost-write", 2), ("reset", 1)]);
    let name = || "restore".into();
    events.push(Event::FaultBegin {
        t: 25 * MS,
        name: name(),
        new_epoch: true,
    });
    let t = 28 * MS;
    events.push(Event::FaultEnd { t, name: name() });
    let report = judge(&events);
    assert!(report.passed, "{}", report.table());
    assert_eq!(report.counts.forgotten, 2);
    // An old epoch that is acknowledged after the log was replaced is not excused.
    events.push(invoke(50 * MS, 4, 0));
    events.push(ok(51 * MS, 4, 4));
    assert_eq!(broken(&events), [("lost-write", 1)]);
}

#[test]
fn truncation_must_be_true() {
    let truncated = |s: u64| Event::Truncated {
        t: 16 * MS,
        c: 0,
        k: 0,
        s,
    };
    let second = receive(25 * MS, 0, 0, 2, 2);
    assert_breaks(&[(Rule::Reset, 1)], |events| {
        replace(events, &second, truncated(2));
    });
    // Removed up to 2: the subscriber may be sent on.
    assert_breaks(&[], |events| {
        replace(events, &second, truncated(2));
        replace(events, &dump(0, 3, None), dump(0, 3, Some(3)));
        events.retain(|event| *event != row(0, 1, 1) && *event != row(0, 2, 2));
    });
}

#[test]
fn later_means_a_higher_number() {
    // The first two change numbers; everything else agrees with that.
    let swapped = |events: &mut Events| {
        for event in events {
            let (Event::Ok { op, s: Some(s), .. }
            | Event::Receive { n: Some(op), s, .. }
            | Event::Row { n: Some(op), s, .. }) = event
            else {
                continue;
            };
            if *op <= 2 {
                *s = 3 - *op;
            }
        }
    };
    let mut events = clean();
    swapped(&mut events);
    // Deliveries must be in order of numbers, so that only one rule is broken.
    let (left, right) = (
        place(&events, &receive(15 * MS, 0, 0, 2, 1)),
        place(&events, &receive(25 * MS, 0, 0, 1, 2)),
    );
    events.swap(left, right);
    assert_eq!(broken(&events), [("real-time", 1)]);
    // Sent before the other was acknowledged: any order is right.
    replace(&mut events, &invoke(20 * MS, 2, 0), invoke(13 * MS, 2, 0));
    assert_eq!(broken(&events), []);
    // But not when somebody had seen the other.
    let at = place(&events, &receive(15 * MS, 0, 0, 2, 1));
    events[at] = receive(12 * MS, 0, 0, 2, 1);
    assert_eq!(broken(&events), [("real-time", 1)]);
}

#[test]
fn one_connection_keeps_its_order() {
    let piped = |op: u64, pipe: u32| Event::Invoke {
        t: 10 * MS,
        op,
        at: 10 * MS,
        k: 1,
        h: op * 7,
        p: 0,
        pipe: Some(pipe),
        key: None,
    };
    let with = |first: u32, second: u32| {
        move |events: &mut Events| {
            events.extend([piped(10, first), piped(11, second)]);
            replace(events, &dump(1, 0, None), dump(1, 2, None));
            events.extend([row(1, 1, 11), row(1, 2, 10)]);
        }
    };
    assert_breaks(&[(Rule::Fifo, 1)], with(1, 1));
    assert_breaks(&[], with(1, 2));
}

#[test]
fn faults_split_latencies_and_tell_when_all_was_well_again() {
    let mut events = vec![subscribe(1, 0, 0, 0)];
    for op in 1..=100 {
        let t = op * 100 * MS;
        events.push(invoke(t, op, 0));
        events.push(ok(t + MS, op, op));
    }
    // From 4 s to 6 s nothing is delivered; the fault itself is over at 5 s. Then all comes at once.
    for op in 1..=100 {
        let t = op * 100 * MS + 2 * MS;
        let held = (4 * SECOND..6 * SECOND).contains(&t);
        events.push(receive(if held { 6 * SECOND } else { t }, 0, 0, op, op));
    }
    let name = "redis-hang";
    let (begin, end) = (4 * SECOND, 5 * SECOND);
    events.push(Event::FaultBegin {
        t: begin,
        name: name.into(),
        new_epoch: false,
    });
    events.push(Event::FaultEnd {
        t: end,
        name: name.into(),
    });
    events.push(dump(0, 100, None));
    events.extend((1..=100).map(|op| row(0, op, op)));
    events.push(dump(1, 0, None));
    let report = judge(&events);
    assert!(report.passed, "{}", report.table());
    let fault = &report.faults[0];
    assert_eq!((fault.begin_ms, fault.lasted_ms), (4_000.0, Some(1_000.0)));
    assert_eq!(fault.deliveries_well_after_begin_ms, Some(2_000.0));
    assert_eq!(fault.deliveries_well_after_end_ms, Some(1_000.0));
    assert_eq!(fault.publishes_well_after_end_ms, Some(0.0));
    let window = |name: &str| {
        let found = report.latencies.iter().find(|window| window.window == name);
        let whole = &found.unwrap().whole;
        (whole.count, whole.max_us)
    };
    assert_eq!(window("steady"), (79, 2_000));
    assert_eq!(window("fault").0, 11);
    assert_eq!(window("healing").0, 10);
}

#[test]
fn several_files_are_one_history() {
    // Another process saw the same, and its log is an earlier one.
    let mut other = vec![subscribe(2, 0, 0, 0)];
    other.extend((1..=3).map(|op| receive(op * 10 * MS + 6 * MS, 0, 0, op, op)));
    let mut earlier = dump(0, 2, None);
    if let Event::Dump { t, .. } = &mut earlier {
        *t -= SECOND;
    }
    other.push(earlier);
    other.extend([row(0, 1, 1), row(0, 2, 2), dump(1, 0, None)]);
    let report = check_texts(&[text(&clean()), text(&other)]).unwrap();
    assert!(report.passed, "{}", report.table());
    assert_eq!(report.counts.subscriptions, 2);
    assert_eq!(report.counts.rows, 3, "the later log counts");
    let at = place(&other, &receive(26 * MS, 0, 0, 2, 2));
    other.remove(at);
    let report = check_texts(&[text(&clean()), text(&other)]).unwrap();
    let stream = &report.rules[Rule::Stream as usize];
    assert_eq!(stream.violations, 1);
    assert!(
        stream.evidence[0].lines[0].ends_with("history-1:4"),
        "{stream:?}"
    );
}

#[test]
fn what_is_not_whole_is_refused_with_its_place() {
    let refuse = |text: String| check_texts(&[text]).unwrap_err();
    let whole = text(&clean());
    for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
        let error = refuse(whole[..cut].to_owned());
        assert!(
            matches!(error, HistoryError::Truncated { .. }),
            "cut at {cut}: {error}"
        );
    }
    let lines: Vec<&str> = whole.lines().collect();
    let with = |number: usize, line: &str| {
        let mut changed = lines.clone();
        changed[number - 1] = line;
        changed.join("\n") + "\n"
    };
    // A line less: the end line counts.
    let mut fewer = lines.clone();
    fewer.remove(4);
    for (text, line) in [
        (with(5, "nonsense"), 5),
        (with(4, r#"{"receive":{"t":1}}"#), 4),
        (with(1, lines[1]), 1),
        (with(3, lines[0]), 3),
        (
            with(1, &lines[0].replace("\"version\":1", "\"version\":2")),
            1,
        ),
        (fewer.join("\n") + "\n", lines.len() as u64 - 1),
        (whole.clone() + lines[1] + "\n", lines.len() as u64 + 1),
    ] {
        match refuse(text) {
            HistoryError::Malformed { line: found, .. } => assert_eq!(found, line),
            other => panic!("line {line}: {other}"),
        }
    }
}

#[test]
fn what_cannot_have_been_is_refused() {
    let refuse = |change: &dyn Fn(&mut Events)| {
        let mut events = clean();
        change(&mut events);
        check_texts(&[text(&events)]).unwrap_err().to_string()
    };
    let missing = refuse(&|events| events.retain(|event| *event != dump(1, 0, None)));
    assert!(missing.contains("the log of b is missing"), "{missing}");
    let twice = refuse(&|events| events.push(invoke(50 * MS, 2, 0)));
    assert!(twice.contains("invoked before"), "{twice}");
    let unasked = refuse(&|events| events.push(ok(50 * MS, 9, 9)));
    assert!(unasked.contains("was not invoked"), "{unasked}");
    let stranger = refuse(&|events| events.push(receive(50 * MS, 9, 0, 1, 1)));
    assert!(stranger.contains("client 9"), "{stranger}");
    let unknown = refuse(&|events| events.push(receive(50 * MS, 0, 7, 1, 1)));
    assert!(unknown.contains("channel 7"), "{unknown}");
}

/// What a random run is made of.
#[derive(Debug, Clone)]
struct Shape {
    /// For each publish: its channel, its outcome (0 to 7 acknowledged, 8 unknown and committed, 9 not), how long it took.
    publishes: Vec<(u32, u8, u64)>,
    /// Subscribers: channel, after how many publications of it they came, when they reconnected.
    subscribers: Vec<(u32, u8, u8)>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let publish = (0..2_u32, 0..10_u8, 1..40_u64);
    let subscriber = (0..2_u32, 0..5_u8, 0..20_u8);
    let publishes = prop::collection::vec(publish, 12..40);
    let subscribers = prop::collection::vec(subscriber, 2..5);
    (publishes, subscribers).prop_map(|(publishes, subscribers)| Shape {
        publishes,
        subscribers,
    })
}

/// A history of `shape` on a server that keeps its promises.
fn history(shape: &Shape) -> Events {
    let mut events = Vec::new();
    // By channel: message and time of the commit of each publication, in order.
    let mut logs: [Vec<(u64, u64)>; 2] = [Vec::new(), Vec::new()];
    let mut busy_until = [0_u64; 2];
    for (op, &(k, outcome, took)) in (0..).zip(&shape.publishes) {
        let sent = (op + 1) * 10 * MS;
        // Committed one after the other, in the order in which they were sent.
        let committed = busy_until[k as usize].max(sent) + took * MS / 4;
        busy_until[k as usize] = committed;
        events.push(invoke(sent, op, k));
        if outcome == 9 {
            let t = sent + 100 * MS;
            let why = "timeout".into();
            events.push(Event::Info { t, op, why });
            continue;
        }
        logs[k as usize].push((op, committed));
        let s = logs[k as usize].len() as u64;
        if outcome < 8 {
            events.push(ok(committed + took * MS / 2, op, s));
        }
    }
    for (c, &(k, after, again)) in (0..).zip(&shape.subscribers) {
        let log = &logs[k as usize];
        let first = usize::from(after).min(log.len());
        events.push(subscribe(0, c, k, first as u64));
        for (index, &(op, committed)) in log.iter().enumerate().skip(first) {
            let s = index as u64 + 1;
            if again as usize == index {
                let t = committed;
                let why = "eof".into();
                events.push(Event::Lost { t, c, why });
                events.push(Event::Subscribe {
                    t,
                    c,
                    k,
                    g: "e".into(),
                    s: s - 1,
                    resumed: true,
                });
            }
            events.push(receive(committed + MS, c, k, s, op));
        }
    }
    for (k, log) in (0..).zip(&logs) {
        events.push(dump(k, log.len() as u64, None));
        events.extend((1..).zip(log).map(|(s, &(op, _))| row(k, s, op)));
    }
    events
}

/// Indexes of the events that `is` picks.
fn which(events: &Events, is: impl Fn(&Event<'_>) -> bool) -> Vec<usize> {
    let all = events.iter().enumerate();
    all.filter(|(_, event)| is(event))
        .map(|(index, _)| index)
        .collect()
}

/// Changes one thing; `false` when there is nothing of the kind.
fn mutate(events: &mut Events, kind: u8, choice: prop::sample::Index) -> bool {
    let receives = which(events, |event| matches!(event, Event::Receive { .. }));
    let rows = which(events, |event| matches!(event, Event::Row { .. }));
    let acks = which(events, |event| matches!(event, Event::Ok { .. }));
    let of = match kind {
        0..=3 => &receives,
        4 | 5 => &acks,
        _ => &rows,
    };
    if of.is_empty() {
        return false;
    }
    let at = of[choice.index(of.len())];
    match (kind, &mut events[at]) {
        // One delivery is dropped.
        (0, _) => drop(events.remove(at)),
        // Two deliveries of a client are swapped.
        (1, Event::Receive { c, .. }) => {
            let client = *c;
            let is_next = |&&other: &&usize| {
                other > at && matches!(&events[other], Event::Receive { c, .. } if *c == client)
            };
            let Some(&other) = receives.iter().find(is_next) else {
                return false;
            };
            events.swap(at, other);
        }
        // One delivery is repeated.
        (2, event) => {
            let again = event.clone();
            events.insert(at, again);
        }
        // One delivery, acknowledgement or row has another number, content or message.
        (3, Event::Receive { h, .. }) | (7, Event::Row { h, .. }) => *h += 1,
        (4, Event::Ok { s: Some(s), .. }) => *s += 1,
        (5, Event::Ok { g, .. }) => *g = Some("another".into()),
        (6, Event::Row { s, .. }) => *s += 1,
        // One row is not in the log.
        _ => drop(events.remove(at)),
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_pass(shape in shapes()) {
        let report = judge(&history(&shape));
        prop_assert!(report.passed, "{}", report.table());
    }

    #[test]
    fn one_change_is_caught(shape in shapes(), kind in 0..9_u8, choice in any::<prop::sample::Index>()) {
        let mut events = history(&shape);
        prop_assume!(mutate(&mut events, kind, choice));
        let verdict = check_texts(&[text(&events)]);
        let caught = verdict.as_ref().map_or(true, |report| !report.passed);
        prop_assert!(caught, "change {kind} was not seen in {}", text(&events));
    }
}
