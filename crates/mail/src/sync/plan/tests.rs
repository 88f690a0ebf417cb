//! What records come to, case by case; `random` tries what nobody thought of.

mod random;

use super::*;
use crate::google::Change;

fn change(message: &str, kind: ChangeKind) -> Change {
    Change {
        message: message.to_owned(),
        thread: "t".to_owned(),
        kind,
    }
}

fn message(labels: &[&str], version: u64) -> Message {
    Message {
        id: "m".to_owned(),
        thread_id: "t".to_owned(),
        from: String::new(),
        subject: String::new(),
        snippet: String::new(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        date: 0,
        version: HistoryId(version),
    }
}

fn record(id: u64, kinds: Vec<ChangeKind>) -> Record {
    Record {
        id: HistoryId(id),
        changes: kinds.into_iter().map(|kind| change("m", kind)).collect(),
    }
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// The events of records upon a row, with what Gmail has.
fn told(row: Option<Message>, now: Option<Message>, records: Vec<Record>) -> Vec<Event> {
    let mut rows: Rows = row.into_iter().map(|row| (row.id.clone(), row)).collect();
    let units = units(records);
    let wanted = wanted(&rows, &units).into_iter();
    let fetched = wanted.map(|id| (id, now.clone())).collect();
    let effects = apply(&mut rows, &fetched, &units).into_iter().flatten();
    effects.filter_map(|effect| effect.event).collect()
}

#[test]
fn one_record_of_one_message_is_one_event() {
    let kinds = vec![
        ChangeKind::LabelsAdded(labels(&["STARRED"])),
        ChangeKind::LabelsRemoved(labels(&["UNREAD"])),
    ];
    // Gmail may give the pieces of a record apart.
    for records in [
        vec![record(7, kinds.clone())],
        kinds
            .into_iter()
            .map(|kind| record(7, vec![kind]))
            .collect(),
    ] {
        let events = told(Some(message(&["INBOX", "UNREAD"], 5)), None, records);
        let [Event::EmailUpdate(update)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(update.message, message(&["INBOX", "STARRED"], 7));
        assert_eq!(update.changes.added, ["STARRED"]);
        assert_eq!(update.changes.removed, ["UNREAD"]);
    }
}

#[test]
fn a_record_in_pieces_on_two_pages_is_one_event() {
    let added = vec![ChangeKind::LabelsAdded(labels(&["STARRED"]))];
    let removed = vec![ChangeKind::LabelsRemoved(labels(&["UNREAD"]))];
    let mut held = vec![record(6, Vec::new()), record(7, added)];
    assert_eq!(whole(&mut held), [record(6, Vec::new())]);
    held.extend([record(7, removed), record(9, Vec::new())]);
    let records = whole(&mut held);
    assert_eq!(held, [record(9, Vec::new())]);
    let events = told(Some(message(&["INBOX", "UNREAD"], 5)), None, records);
    let [Event::EmailUpdate(update)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(update.message, message(&["INBOX", "STARRED"], 7));
    assert!(whole(&mut Vec::new()).is_empty());
}

#[test]
fn a_label_that_came_and_went_in_one_record_is_asked_for() {
    let both = || {
        vec![
            ChangeKind::LabelsAdded(labels(&["STARRED"])),
            ChangeKind::LabelsRemoved(labels(&["STARRED"])),
        ]
    };
    let row = || Some(message(&["INBOX"], 5));
    let now = |labels, version| Some(message(labels, version));
    assert!(told(row(), now(&["INBOX"], 7), vec![record(7, both())]).is_empty());
    let events = told(
        row(),
        now(&["INBOX", "STARRED"], 7),
        vec![record(7, both())],
    );
    assert!(matches!(&events[..], [Event::EmailUpdate(_)]), "{events:?}");
}

#[test]
fn what_was_told_with_the_message_is_not_told_again() {
    let records = || {
        vec![
            record(5, vec![ChangeKind::Added]),
            record(6, vec![ChangeKind::LabelsAdded(labels(&["STARRED"]))]),
            record(8, vec![ChangeKind::LabelsRemoved(labels(&["UNREAD"]))]),
        ]
    };
    let now = message(&["INBOX", "STARRED"], 8);
    let events = told(None, Some(now.clone()), records());
    assert_eq!(events, [Event::NewEmail(now.clone())]);
    assert!(told(Some(now), None, records()).is_empty());
    // A message that is gone by now was never there for anybody.
    assert!(told(None, None, records()).is_empty());
}

#[test]
fn a_fetch_that_lags_behind_is_brought_forward() {
    let records = vec![
        record(5, vec![ChangeKind::Added]),
        record(6, vec![ChangeKind::LabelsAdded(labels(&["STARRED"]))]),
    ];
    let events = told(None, Some(message(&["INBOX"], 4)), records);
    let [Event::NewEmail(new), Event::EmailUpdate(update)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*new, message(&["INBOX"], 5));
    assert_eq!(update.message, message(&["INBOX", "STARRED"], 6));
}

#[test]
fn what_happens_to_a_message_that_is_not_kept_brings_it_back() {
    let records = vec![record(
        6,
        vec![ChangeKind::LabelsRemoved(labels(&["UNREAD"]))],
    )];
    let now = message(&["INBOX"], 6);
    let events = told(None, Some(now.clone()), records);
    let [Event::EmailUpdate(update)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(update.message, now);
    assert_eq!(update.changes.removed, ["UNREAD"]);
    let gone = vec![record(9, vec![ChangeKind::Deleted])];
    assert!(told(None, None, gone.clone()).is_empty());
    let events = told(Some(now), None, gone);
    assert!(matches!(&events[..], [Event::EmailDelete(it)] if it.version == HistoryId(9)));
}

#[test]
fn a_place_is_reached_when_all_of_its_record_is_told() {
    let two = |id| Record {
        id: HistoryId(id),
        changes: vec![
            change("a", ChangeKind::Added),
            change("b", ChangeKind::Added),
        ],
    };
    let units = units(vec![two(9), two(5)]);
    let places = places(&units, HistoryId(3));
    assert_eq!(
        places.iter().map(|it| it.0).collect::<Vec<_>>(),
        [3, 5, 5, 9]
    );
}
