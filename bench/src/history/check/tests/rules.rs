//! Each rule on a small history that breaks it, and on one beside it that does not.

use super::*;

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
    // Cut short, and it says so by its head. What follows is read on its own.
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
fn a_stream_begins_where_the_log_was() {
    // The second was sent at 20 ms, the third at 30.
    let begins = |t: u64, s: u64| {
        move |events: &mut Vec<Event<'static>>| {
            let dump_at = place(events, &dump(0, 3, None));
            events.insert(dump_at, subscribe(t * MS, 7, 0, s));
            let rest = (s + 1..=3).map(|s| receive(39 * MS, 7, 0, s, s));
            let at = dump_at + 1;
            events.splice(at..at, rest);
        }
    };
    assert_breaks(&[], begins(38, 0));
    assert_breaks(&[], begins(38, 3));
    assert_breaks(&[(Rule::Stream, 1)], begins(15, 3));
    assert_breaks(&[(Rule::Stream, 1)], begins(38, 9));
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
