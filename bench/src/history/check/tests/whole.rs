//! Histories as a whole: faults and times, several files, and what is not a history.

use super::*;

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
