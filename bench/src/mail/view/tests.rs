//! The judge of views judged: what is right passes, and each wrong is seen for what it is.

use fanfare_stand_in::mailbox::{Draft, Mailbox};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::mail::truth::rows;

const LOG: &str = "log-0.";

/// A mailbox, what happened in it, and a server that tells of it as it should.
struct Scene {
    mailbox: Mailbox,
    truth: Truth,
    /// What the server's rows have, by message: version and labels.
    server: BTreeMap<String, (u64, BTreeSet<String>)>,
    cursor: u64,
    seq: u64,
}

struct Told {
    name: &'static str,
    id: String,
    data: Value,
}

impl Scene {
    fn new() -> Self {
        let mailbox = Mailbox::new("a@example.com");
        Self {
            cursor: mailbox.history_id(),
            mailbox,
            truth: Truth::default(),
            server: BTreeMap::new(),
            seq: 0,
        }
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Mailbox) -> T) -> T {
        let before = self.mailbox.history_id();
        let answer = change(&mut self.mailbox);
        let records: Vec<_> = self.mailbox.history(before).unwrap().cloned().collect();
        self.truth.note(records, 0);
        answer
    }

    fn add(&mut self) -> String {
        let draft = Draft {
            from: "Ann <ann@example.com>".to_owned(),
            subject: "Hello".to_owned(),
            ..Draft::default()
        };
        self.change(|mailbox| mailbox.add(draft))
    }

    fn star(&mut self, id: &str, on: bool) {
        let star = ["STARRED".to_owned()];
        let (add, remove) = if on {
            (&star[..], &[][..])
        } else {
            (&[][..], &star[..])
        };
        self.change(|mailbox| mailbox.modify(id, add, remove));
    }

    /// Into the bin: two changes at once.
    fn bin(&mut self, id: &str) {
        let [bin, inbox] = ["TRASH", "INBOX"].map(str::to_owned);
        self.change(|mailbox| mailbox.modify(id, &[bin], &[inbox]));
    }

    fn delete(&mut self, id: &str) {
        self.change(|mailbox| mailbox.delete(id));
    }

    fn envelope(&mut self, name: &'static str, data: Value) -> Told {
        self.seq += 1;
        Told {
            name,
            id: format!("{LOG}{}", self.seq),
            data: json!({"type": name, "data": data, "timestamp": "2026-11-21T16:45:54.123Z"}),
        }
    }

    fn shown(&self, id: &str, version: u64, labels: &BTreeSet<String>) -> Value {
        let row = rows(&self.mailbox).remove(id);
        let date = row.map_or(0, |row| row.date);
        json!({"id": id, "threadId": id, "from": "Ann <ann@example.com>", "subject": "Hello", "snippet": "",
            "labels": labels, "date": date, "version": version.to_string()})
    }

    fn update(
        &mut self,
        id: String,
        version: u64,
        labels: BTreeSet<String>,
        changes: Value,
    ) -> Told {
        let mut shown = self.shown(&id, version, &labels);
        shown["changes"] = changes;
        self.server.insert(id, (version, labels));
        self.envelope("email_update", shown)
    }

    /// Walks the history from where the server is, as a correct server does.
    fn walk(&mut self) -> Vec<Told> {
        let records: Vec<_> = self
            .mailbox
            .history(self.cursor)
            .unwrap()
            .cloned()
            .collect();
        self.cursor = self.mailbox.history_id();
        let mut told = Vec::new();
        for record in records {
            let id = record.message_id.clone();
            let known = self.server.get(&id).cloned();
            use fanfare_stand_in::mailbox::Change;
            match (record.change, known) {
                (_, Some((version, _))) if record.id <= version => {}
                (Change::Added, _) => {
                    let Some(message) = self.mailbox.message(&id) else {
                        continue;
                    };
                    let (version, labels) = (message.history_id, message.labels.clone());
                    let shown = self.shown(&id, version, &labels);
                    self.server.insert(id, (version, labels));
                    told.push(self.envelope("new_email", shown));
                }
                (Change::Deleted, Some(_)) => {
                    self.server.remove(&id);
                    let data = json!({"id": id, "version": record.id.to_string()});
                    told.push(self.envelope("email_delete", data));
                }
                (Change::LabelsAdded(changed), Some((_, mut labels))) => {
                    labels.extend(changed.iter().cloned());
                    let changes = json!({"added": changed, "removed": []});
                    told.push(self.update(id, record.id, labels, changes));
                }
                (Change::LabelsRemoved(changed), Some((_, mut labels))) => {
                    labels.retain(|label| !changed.contains(label));
                    let changes = json!({"added": [], "removed": changed});
                    told.push(self.update(id, record.id, labels, changes));
                }
                (_, None) => {}
            }
        }
        let complete = json!({"historyId": self.cursor.to_string()});
        told.push(self.envelope("sync_complete", complete));
        told
    }

    /// Folds what was told into a view that begins with the mailbox as it is when it is empty.
    fn fold(&self, told: &[Told]) -> Result<View, Violation> {
        let mut view = View::new(Vec::new(), &format!("{LOG}0")).unwrap();
        for event in told {
            view.apply(
                event.name,
                Some(&event.id),
                &event.data.to_string(),
                &self.truth,
            )
            .map_err(|wrong| wrong.violation)?;
        }
        Ok(view)
    }
}

/// Two messages, one starred and then deleted, told in three walks.
fn story() -> (Scene, Vec<Told>) {
    let mut scene = Scene::new();
    let first = scene.add();
    let mut told = scene.walk();
    let second = scene.add();
    scene.star(&second, true);
    scene.star(&first, true);
    told.extend(scene.walk());
    scene.delete(&first);
    scene.star(&second, false);
    told.extend(scene.walk());
    (scene, told)
}

#[test]
fn what_is_told_rightly_gives_the_mailbox() {
    let (scene, told) = story();
    let names: Vec<&str> = told.iter().map(|event| event.name).collect();
    let expected = [
        "new_email",
        "sync_complete",
        "new_email",
        "email_update",
        "sync_complete",
        "email_delete",
        "email_update",
        "sync_complete",
    ];
    assert_eq!(names, expected);
    assert_eq!(scene.fold(&told).unwrap().rows(), &rows(&scene.mailbox));
}

#[test]
fn each_wrong_is_seen_for_what_it_is() {
    let judged = |spoil: &dyn Fn(&mut Vec<Told>)| {
        let (scene, mut told) = story();
        spoil(&mut told);
        scene.fold(&told).map(|_| ())
    };
    let renumber = |told: &mut Vec<Told>| {
        for (event, seq) in told.iter_mut().zip(1..) {
            event.id = format!("{LOG}{seq}");
        }
    };
    let again = |at: usize| {
        move |told: &mut Vec<Told>| {
            let Told { name, data, .. } = &told[at];
            let (name, data) = (*name, data.clone());
            let id = String::new();
            told.insert(at + 1, Told { name, id, data });
            renumber(told);
        }
    };
    assert_eq!(judged(&|_| ()), Ok(()));
    assert_eq!(judged(&|told| told.swap(2, 3)), Err(Violation::Hole));
    assert_eq!(
        judged(&|told| told[3].id = told[2].id.clone()),
        Err(Violation::Order)
    );
    assert_eq!(
        judged(&|told| told[3].id = "other-0.4".to_owned()),
        Err(Violation::Order)
    );
    assert_eq!(
        judged(&|told| told[3].id = "x".to_owned()),
        Err(Violation::WithoutId)
    );
    assert_eq!(judged(&|told| drop(told.remove(3))), Err(Violation::Hole));
    assert_eq!(
        judged(&again(0)),
        Err(Violation::Misfit),
        "a new message that it has"
    );
    assert_eq!(judged(&again(3)), Err(Violation::Repeated), "an update");
    assert_eq!(judged(&again(5)), Err(Violation::Repeated), "a deletion");
    let skip = |told: &mut Vec<Told>| {
        told.remove(3);
        renumber(told);
    };
    assert_eq!(
        judged(&skip),
        Err(Violation::Skipped),
        "the star before the deletion"
    );
    let unknown = |told: &mut Vec<Told>| {
        told.remove(0);
        renumber(told);
    };
    assert_eq!(judged(&unknown), Err(Violation::Misfit));
    let phantom = |told: &mut Vec<Told>| told[3].data["data"]["version"] = json!("999999999");
    assert_eq!(judged(&phantom), Err(Violation::Phantom));
    let beyond = |told: &mut Vec<Told>| told[4].data["data"]["historyId"] = json!("999999999");
    assert_eq!(judged(&beyond), Err(Violation::Phantom), "of a forged push");
    let labels = |told: &mut Vec<Told>| told[3].data["data"]["labels"] = json!(["INBOX"]);
    assert_eq!(judged(&labels), Err(Violation::Content));
    let changes = |told: &mut Vec<Told>| told[3].data["data"]["changes"]["added"] = json!([]);
    assert_eq!(judged(&changes), Err(Violation::Content));
    for spoil in ["type", "data", "timestamp"] {
        let unreadable = |told: &mut Vec<Told>| told[3].data[spoil] = json!("x");
        assert_eq!(judged(&unreadable), Err(Violation::Unreadable), "{spoil}");
    }
}

#[test]
fn a_change_that_is_never_told_shows_in_the_rows() {
    let (scene, mut told) = story();
    told.truncate(told.len() - 2);
    assert_ne!(scene.fold(&told).unwrap().rows(), &rows(&scene.mailbox));
}

#[test]
fn a_stream_that_comes_back_must_be_where_it_was() {
    let (scene, told) = story();
    let view = scene.fold(&told).unwrap();
    let last = told.last().unwrap().id.as_str();
    assert_eq!(view.resumed(last), Ok(()));
    for id in ["log-0.7", "log-0.9", "other-0.8", ""] {
        let wrong = view.resumed(id).map_err(|wrong| wrong.violation);
        assert_eq!(wrong, Err(Violation::Order), "{id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens and whenever it is looked at: a correct server passes, and one that leaves out any event of a
    /// change, or tells it twice, does not.
    #[test]
    fn a_correct_server_passes_and_no_loss_or_repeat_does(
        steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>()), 1..40),
        victim in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let mut scene = Scene::new();
        let (mut ids, mut told) = (Vec::new(), Vec::new());
        for (step, which) in steps {
            match (step, ids.is_empty()) {
                (0, _) | (_, true) => ids.push(scene.add()),
                (1, _) => { let id = which.get(&ids).clone(); scene.star(&id, true); }
                (2, _) => { let id = which.get(&ids).clone(); scene.star(&id, false); }
                (3, _) => {
                    let id = which.get(&ids).clone();
                    scene.bin(&id);
                }
                (4, _) => { let id: String = ids.remove(which.index(ids.len())); scene.delete(&id); }
                _ => told.extend(scene.walk()),
            }
        }
        told.extend(scene.walk());
        let whole = scene.fold(&told).unwrap();
        prop_assert_eq!(whole.rows(), &rows(&scene.mailbox));

        let changes: Vec<usize> = (0..told.len()).filter(|&at| told[at].name != "sync_complete").collect();
        if changes.is_empty() {
            return Ok(());
        }
        let at = *victim.get(&changes);
        let Told { name, data, .. } = told.remove(at);
        if twice {
            for _ in 0..2 {
                told.insert(at, Told { name, id: String::new(), data: data.clone() });
            }
        }
        for (event, seq) in told.iter_mut().zip(1..) {
            event.id = format!("{LOG}{seq}");
        }
        let held = scene.fold(&told).is_ok_and(|view| view.rows() == &rows(&scene.mailbox));
        prop_assert!(!held, "{name} {data}");
    }
}
