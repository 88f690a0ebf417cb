//! Random histories of a server that keeps its promises pass; with one thing changed they do not.

use proptest::prelude::*;

use super::*;

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
        let t = log[..first].last().map_or(0, |&(_, committed)| committed);
        events.push(subscribe(t, c, k, first as u64));
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
