//! Random mailboxes, walked in random pieces, with everything that can come between: a client that folds all events has in the
//! end exactly what Gmail has, and no event told it what it knew.

use proptest::{collection::vec, prelude::*};

use super::{super::*, change};
use crate::google::Change;

/// Labels that messages of the tests have.
const LABELS: [&str; 5] = ["INBOX", "UNREAD", "STARRED", "TRASH", "Label_1"];
const TRASH: &str = "TRASH";

/// Something that happens at Gmail.
#[derive(Debug, Clone)]
enum Act {
    Add {
        labels: u8,
    },
    Label {
        which: usize,
        add: u8,
        remove: u8,
    },
    Delete {
        which: usize,
    },
    /// One record of many messages.
    Batch {
        every: usize,
        add: u8,
        remove: u8,
    },
}

/// Something that happens to the sync.
#[derive(Debug, Clone)]
enum Step {
    Act(Act),
    /// A walk; what happens between the reading of the history and the fetches; and after how many units it is cut off.
    Walk {
        batch: usize,
        meanwhile: Vec<Act>,
        cut: Option<usize>,
    },
    /// The history is read once more, from an older place than the stored one.
    Replay {
        back: usize,
    },
    /// A full sync, with something before each of its batches; and after how many batches it is cut off.
    Resync {
        batch: usize,
        meanwhile: Vec<Act>,
        cut: Option<usize>,
    },
    /// Gmail forgets the history.
    Expire,
}

fn acts() -> impl Strategy<Value = Act> {
    let bits = || 0..32u8;
    prop_oneof![
        3 => bits().prop_map(|labels| Act::Add { labels }),
        4 => (any::<usize>(), bits(), bits())
            .prop_map(|(which, add, remove)| Act::Label { which, add, remove }),
        1 => any::<usize>().prop_map(|which| Act::Delete { which }),
        1 => (1..4usize, bits(), bits())
            .prop_map(|(every, add, remove)| Act::Batch { every, add, remove }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let cut = || proptest::option::of(0..6usize);
    prop_oneof![
        6 => acts().prop_map(Step::Act),
        3 => (1..6usize, vec(acts(), 0..4), cut())
            .prop_map(|(batch, meanwhile, cut)| Step::Walk { batch, meanwhile, cut }),
        1 => (1..20usize).prop_map(|back| Step::Replay { back }),
        1 => (1..6usize, vec(acts(), 0..6), cut())
            .prop_map(|(batch, meanwhile, cut)| Step::Resync { batch, meanwhile, cut }),
        1 => Just(Step::Expire),
    ]
}

/// What Gmail has.
#[derive(Debug, Default)]
struct Gmail {
    head: u64,
    floor: u64,
    next: u64,
    messages: Rows,
    history: Vec<Record>,
}

impl Gmail {
    fn act(&mut self, act: &Act) {
        self.head += 3;
        let id = HistoryId(self.head);
        let changes = match act {
            Act::Add { labels } => {
                self.next += 1;
                let message = Message {
                    id: format!("m{}", self.next),
                    thread_id: "t".to_owned(),
                    from: String::new(),
                    subject: String::new(),
                    snippet: String::new(),
                    labels: set(*labels),
                    date: 0,
                    version: id,
                };
                let change = change(&message.id, ChangeKind::Added);
                self.messages.insert(message.id.clone(), message);
                vec![change]
            }
            Act::Label { which, add, remove } => match self.nth(*which) {
                Some(message) => self.label(&message, *add, *remove),
                None => Vec::new(),
            },
            Act::Delete { which } => match self.nth(*which) {
                Some(message) => {
                    self.messages.remove(&message);
                    vec![change(&message, ChangeKind::Deleted)]
                }
                None => Vec::new(),
            },
            Act::Batch { every, add, remove } => {
                let ids: Vec<String> = self.messages.keys().step_by(*every).cloned().collect();
                let all = ids.iter().map(|id| self.label(id, *add, *remove));
                all.collect::<Vec<_>>().concat()
            }
        };
        if !changes.is_empty() {
            self.history.push(Record { id, changes });
        }
    }

    fn nth(&self, which: usize) -> Option<String> {
        let count = self.messages.len().max(1);
        self.messages.keys().nth(which % count).cloned()
    }

    /// Only what makes a difference is a change.
    fn label(&mut self, id: &str, add: u8, remove: u8) -> Vec<Change> {
        let version = HistoryId(self.head);
        let message = self.messages.get_mut(id).unwrap();
        let removed: Vec<String> = set(remove & !add)
            .intersection(&message.labels)
            .cloned()
            .collect();
        let added: Vec<String> = set(add).difference(&message.labels).cloned().collect();
        message.labels.retain(|label| !removed.contains(label));
        message.labels.extend(added.iter().cloned());
        let mut changes = Vec::new();
        if !added.is_empty() {
            changes.push(change(id, ChangeKind::LabelsAdded(added)));
        }
        if !removed.is_empty() {
            changes.push(change(id, ChangeKind::LabelsRemoved(removed)));
        }
        if !changes.is_empty() {
            message.version = version;
        }
        changes
    }

    fn since(&self, start: HistoryId) -> Option<Vec<Record>> {
        let records = self.history.iter().filter(|record| record.id > start);
        (start.0 >= self.floor).then(|| records.cloned().collect())
    }

    fn list(&self) -> Vec<String> {
        let shown = self
            .messages
            .values()
            .filter(|it| !it.labels.contains(TRASH));
        shown.map(|message| message.id.clone()).collect()
    }

    fn fetch(&self, ids: impl IntoIterator<Item = String>) -> Fetched {
        let fetched = ids.into_iter().map(|id| {
            let message = self.messages.get(&id).cloned();
            (id, message)
        });
        fetched.collect()
    }
}

/// A client that has read all events.
#[derive(Debug, Default)]
struct Client(Rows);

impl Client {
    /// Each event must say something that the client did not know.
    fn hear(&mut self, event: Event) {
        match event {
            Event::NewEmail(message) => {
                let id = message.id.clone();
                assert!(self.0.insert(id, message).is_none(), "told twice as new");
            }
            Event::EmailUpdate(Update { message, changes }) => {
                if let Some(known) = self.0.get(&message.id) {
                    assert!(known.version < message.version, "an older version");
                    let added = message.labels.difference(&known.labels).cloned();
                    let removed = known.labels.difference(&message.labels).cloned();
                    let expected = Changes {
                        added: added.collect(),
                        removed: removed.collect(),
                    };
                    assert_eq!(changes, expected);
                    assert_ne!(changes, Changes::default(), "nothing new");
                }
                self.0.insert(message.id.clone(), message);
            }
            Event::EmailDelete(deletion) => {
                let known = self.0.remove(&deletion.id);
                let known = known.expect("deleted what was never told, or twice");
                assert!(known.version < deletion.version);
            }
            other => panic!("{other:?} is not of a plan"),
        }
    }
}

/// What the sync has committed.
#[derive(Debug, Default)]
struct Synced {
    rows: Rows,
    place: HistoryId,
    resync_from: Option<HistoryId>,
    checked: BTreeMap<String, HistoryId>,
}

#[derive(Debug, Default)]
struct World {
    gmail: Gmail,
    synced: Synced,
    client: Client,
    /// Where the last full sync began.
    since: HistoryId,
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Act(act) => self.gmail.act(act),
            Step::Walk {
                batch,
                meanwhile,
                cut,
            } => self.walk(*batch, meanwhile, *cut),
            Step::Replay { back } => self.replay(*back),
            Step::Resync {
                batch,
                meanwhile,
                cut,
            } => {
                self.resync(*batch, meanwhile, *cut);
            }
            Step::Expire => {
                self.gmail.head += 3;
                self.gmail.floor = self.gmail.head;
                self.gmail.history.clear();
            }
        }
    }

    fn walk(&mut self, batch: usize, meanwhile: &[Act], cut: Option<usize>) {
        if self.synced.resync_from.is_some() {
            return;
        }
        let Some(records) = self.gmail.since(self.synced.place) else {
            if !self.resync(batch, meanwhile, cut) {
                return;
            }
            return self.walk(batch, &[], None);
        };
        let end = HistoryId(self.gmail.head);
        if !self.tell(records, batch, meanwhile, cut) {
            return;
        }
        self.synced.place = self.synced.place.max(end);
    }

    /// False if it was cut off.
    fn tell(
        &mut self,
        records: Vec<Record>,
        batch: usize,
        meanwhile: &[Act],
        cut: Option<usize>,
    ) -> bool {
        let units = units(records);
        let places = places(&units, self.synced.place);
        let mut left = cut.unwrap_or(usize::MAX);
        let mut meanwhile = meanwhile.iter();
        for (units, places) in units.chunks(batch).zip(places.chunks(batch)) {
            let wanted = wanted(&self.synced.rows, units);
            if let Some(act) = meanwhile.next() {
                self.gmail.act(act);
            }
            let fetched = self.gmail.fetch(wanted);
            let mut planned = self.synced.rows.clone();
            let effects = apply(&mut planned, &fetched, units);
            for (effect, place) in effects.into_iter().zip(places) {
                if left == 0 {
                    return false;
                }
                left -= 1;
                self.commit(effect);
                self.synced.place = self.synced.place.max(*place);
            }
            assert_eq!(
                self.synced.rows, planned,
                "the effects are what was planned"
            );
        }
        true
    }

    fn replay(&mut self, back: usize) {
        let place = HistoryId(
            self.synced
                .place
                .0
                .saturating_sub(3 * back as u64)
                .max(self.gmail.floor),
        );
        if self.synced.resync_from.is_some() || self.synced.place.0 < self.gmail.floor {
            return;
        }
        let mut records = self.gmail.since(place).unwrap();
        records.retain(|record| record.id <= self.synced.place);
        let before = self.synced.place;
        self.tell(records, 3, &[], None);
        assert_eq!(self.synced.place, before);
    }

    /// False if it was cut off.
    fn resync(&mut self, batch: usize, meanwhile: &[Act], cut: Option<usize>) -> bool {
        let head = HistoryId(self.gmail.head);
        let since = *self.synced.resync_from.get_or_insert(head);
        let mut meanwhile = meanwhile.iter();
        let mut left = cut.unwrap_or(usize::MAX);
        let listed = self.gmail.list();
        let is_checked = |synced: &Synced, id: &String| synced.checked.get(id) == Some(&since);
        let mut again = |world: &mut Self, ids: &[String]| {
            if left == 0 {
                return false;
            }
            left -= 1;
            if let Some(act) = meanwhile.next() {
                world.gmail.act(act);
            }
            let mut now = world.gmail.fetch(ids.iter().cloned());
            for id in ids {
                let row = world.synced.rows.get(id);
                let effect = compare(row, now.remove(id).flatten(), since);
                world.commit(effect);
                world.synced.checked.insert(id.clone(), since);
            }
            true
        };
        for ids in listed.chunks(batch) {
            let fresh: Vec<_> = ids
                .iter()
                .filter(|id| !is_checked(&self.synced, id))
                .cloned()
                .collect();
            if !fresh.is_empty() && !again(self, &fresh) {
                return false;
            }
        }
        let rest: Vec<_> = self
            .synced
            .rows
            .keys()
            .filter(|id| !is_checked(&self.synced, id))
            .cloned()
            .collect();
        for ids in rest.chunks(batch) {
            if !again(self, ids) {
                return false;
            }
        }
        self.synced.place = since;
        self.synced.resync_from = None;
        self.since = since;
        true
    }

    fn commit(&mut self, effect: Option<Effect>) {
        let Some(Effect { write, event }) = effect else {
            return;
        };
        match write {
            Write::Put(message) => self.synced.rows.insert(message.id.clone(), message),
            Write::Remove(id) => self.synced.rows.remove(&id),
        };
        if let Some(event) = event {
            self.client.hear(event);
        }
    }

    /// Everybody has what Gmail has.
    fn check(&self) {
        for (id, row) in &self.synced.rows {
            let there = self.gmail.messages.get(id).expect("a row of nothing");
            assert_eq!(row.labels, there.labels);
            assert!(row.version >= there.version);
            assert_eq!(
                self.client.0.get(id).map(|it| &it.labels),
                Some(&row.labels)
            );
        }
        assert_eq!(self.client.0.len(), self.synced.rows.len());
        for (id, message) in &self.gmail.messages {
            // What was in the bin before the full sync was never listed.
            let is_hidden = message.labels.contains(TRASH) && message.version <= self.since;
            assert!(
                is_hidden || self.synced.rows.contains_key(id),
                "{id} is missing"
            );
        }
    }
}

fn set(bits: u8) -> BTreeSet<String> {
    let labels = LABELS.iter().enumerate();
    let chosen = labels.filter(|(bit, _)| bits & (1 << bit) != 0);
    chosen.map(|(_, label)| (*label).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_change_is_told_once_whatever_comes_between(
        before in vec(acts(), 0..8),
        steps in vec(steps(), 1..40),
    ) {
        let mut world = World::default();
        for act in &before {
            world.gmail.act(act);
        }
        world.synced.resync_from = Some(HistoryId(world.gmail.head));
        for step in &steps {
            world.step(step);
        }
        if world.synced.resync_from.is_some() {
            assert!(world.resync(3, &[], None));
        }
        world.walk(4, &[], None);
        world.check();
        // And once more there is nothing to tell.
        let told = world.client.0.clone();
        world.walk(4, &[], None);
        assert_eq!(world.client.0, told);
        world.replay(50);
        world.check();
    }
}
