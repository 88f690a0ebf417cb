//! A client of the tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

/// Labels of messages, by id.
pub(crate) type Mailboxful = BTreeMap<String, BTreeSet<String>>;

/// A client that has read all events of a mailbox.
#[derive(Default)]
pub(crate) struct ReadAll {
    known: BTreeMap<String, (u64, BTreeSet<String>)>,
}

impl ReadAll {
    pub(crate) fn messages(&self) -> Mailboxful {
        let known = self.known.iter();
        known
            .map(|(id, (_, labels))| (id.clone(), labels.clone()))
            .collect()
    }

    /// Each event must say something that was not known.
    pub(crate) fn hear(&mut self, event: &Value) {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        let version = || text("version").parse::<u64>().unwrap();
        match event["type"].as_str().unwrap() {
            "new_email" => {
                let labels = serde_json::from_value(data["labels"].clone()).unwrap();
                let known = self.known.insert(text("id"), (version(), labels));
                assert!(known.is_none(), "told twice as new: {event}");
            }
            "email_update" => {
                let labels: BTreeSet<String> =
                    serde_json::from_value(data["labels"].clone()).unwrap();
                if let Some((known_version, known)) = self.known.get(&text("id")) {
                    assert!(*known_version < version(), "an older version: {event}");
                    assert_ne!(*known, labels, "nothing new: {event}");
                }
                self.known.insert(text("id"), (version(), labels));
            }
            "email_delete" => {
                let known = self.known.remove(&text("id"));
                assert!(known.is_some(), "deleted twice, or never told: {event}");
            }
            "sync_complete" | "error" => {}
            other => panic!("{other} is no event"),
        }
    }
}

impl fmt::Debug for ReadAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.known.fmt(f)
    }
}
