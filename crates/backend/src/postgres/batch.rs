//! One batch as the database sees it, and what its answer means for each draft.
//!
//! No IO. The numbers are worked out here from the heads that the database locked, by the rule that it applies itself:
//! drafts that are not duplicates are numbered from the head on in the batch's order. So the answer is small, and can be
//! rebuilt from the lane log when it was lost.

use std::{collections::HashMap, time::Duration};

use fanfare_engine::port::{Contention, Outcome};
use fanfare_wire::{ChannelName, Draft, Json, Millis, Seq};
use uuid::Uuid;

use super::unsigned;

/// The arrays of the server-side call. A draft that repeats the key of an earlier one in the same batch is not sent.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The channels, each once, sorted by bytes.
    pub(super) names: Vec<&'a str>,
    /// For each channel, how many drafts are sent.
    pub(super) counts: Vec<i32>,
    /// For each draft sent, its channel, from 1.
    pub(super) channels: Vec<i32>,
    pub(super) ids: Vec<Uuid>,
    pub(super) data: Vec<&'a [u8]>,
    pub(super) infos: Option<Vec<Option<&'a [u8]>>>,
    pub(super) tags: Option<Vec<Option<&'a [u8]>>>,
    pub(super) keys: Option<Vec<Option<&'a [u8]>>>,
    /// For each draft of the batch, the place of the one sent that decides its outcome.
    decided_by: Vec<usize>,
    /// For each draft of the batch, whether it repeats an earlier one.
    repeats: Vec<bool>,
}

/// What the database answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// For each channel, its head before the batch.
    pub(super) heads: Vec<i64>,
    /// The time of the batch.
    pub(super) time: Millis,
    /// For each draft sent, the publication that had its key before. Empty when no draft has a key.
    pub(super) known: Vec<Option<(i64, Millis)>>,
    /// The channels, from 1, in which others committed while the batch waited, and for how many microseconds it did.
    pub(super) contention: Option<(Vec<i32>, i64)>,
}

/// An entry of the lane log, read to find out what became of a batch.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) firsts: Vec<i64>,
    pub(super) lasts: Vec<i64>,
    pub(super) time: Millis,
}

impl<'a> Plan<'a> {
    pub(super) fn new(batch: &'a [Draft]) -> Self {
        let mut names: Vec<_> = batch.iter().map(|draft| draft.channel.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let mut plan = Self {
            counts: vec![0; names.len()],
            names,
            channels: Vec::with_capacity(batch.len()),
            ids: Vec::with_capacity(batch.len()),
            data: Vec::with_capacity(batch.len()),
            infos: None,
            tags: None,
            keys: None,
            decided_by: Vec::with_capacity(batch.len()),
            repeats: Vec::with_capacity(batch.len()),
        };
        let mut sent = Vec::with_capacity(batch.len());
        let mut first_with_key = HashMap::new();
        for draft in batch {
            let place = match draft.idempotency_key.as_deref() {
                Some(key) => *first_with_key
                    .entry((draft.channel.as_str(), key))
                    .or_insert(sent.len()),
                None => sent.len(),
            };
            plan.decided_by.push(place);
            plan.repeats.push(place < sent.len());
            if place == sent.len() {
                sent.push(draft);
                plan.send(draft);
            }
        }
        plan.infos = column(&sent, |draft| draft.info.as_ref().map(Json::as_bytes));
        plan.tags = column(&sent, |draft| draft.tags.as_ref().map(Json::as_bytes));
        plan.keys = column(&sent, |draft| {
            draft.idempotency_key.as_deref().map(str::as_bytes)
        });
        plan
    }

    fn send(&mut self, draft: &'a Draft) {
        // Every name is there: they were collected from these drafts.
        let at = self
            .names
            .partition_point(|name| *name < draft.channel.as_str());
        self.counts[at] += 1;
        self.channels.push(at as i32 + 1);
        self.ids.push(draft.id);
        self.data.push(draft.data.as_bytes());
    }

    /// The outcomes in the batch's order. `None` if the answer is not one to this batch.
    pub(super) fn outcomes(&self, answer: &Answer) -> Option<Vec<Outcome>> {
        if answer.heads.len() != self.names.len() {
            return None;
        }
        let mut heads = answer.heads.clone();
        let mut decided = Vec::with_capacity(self.channels.len());
        for (place, channel) in self.channels.iter().enumerate() {
            decided.push(match answer.known.get(place).copied().flatten() {
                Some((seq, time)) => Outcome {
                    seq: Seq(unsigned(seq)),
                    time,
                    duplicate: true,
                },
                None => {
                    let head = &mut heads[*channel as usize - 1];
                    *head += 1;
                    Outcome {
                        seq: Seq(unsigned(*head)),
                        time: answer.time,
                        duplicate: false,
                    }
                }
            });
        }
        let outcome = |(place, repeat): (&usize, &bool)| {
            let first = decided[*place];
            Outcome {
                duplicate: first.duplicate || *repeat,
                ..first
            }
        };
        Some(
            self.decided_by
                .iter()
                .zip(&self.repeats)
                .map(outcome)
                .collect(),
        )
    }

    /// Who held the batch up, in the words of the port.
    pub(super) fn contention(&self, answer: &Answer) -> Option<Contention> {
        let (channels, waited) = answer.contention.as_ref()?;
        let name = |place: &i32| {
            let at = usize::try_from(*place).ok()?.checked_sub(1)?;
            ChannelName::parse(self.names.get(at)?).ok()
        };
        Some(Contention {
            waited: Duration::from_micros(unsigned(*waited)),
            channels: channels.iter().filter_map(name).collect(),
        })
    }

    /// For each draft of the batch, the publication that had its key before, from what the keys of those sent stand for.
    pub(super) fn firsts(&self, known: &[Option<(i64, Millis)>]) -> Vec<Option<Outcome>> {
        let first = |place: &usize| {
            let (seq, time) = known.get(*place).copied().flatten()?;
            Some(Outcome {
                seq: Seq(unsigned(seq)),
                time,
                duplicate: true,
            })
        };
        self.decided_by.iter().map(first).collect()
    }

    /// Rebuilds the answer to a batch that was committed, from its entry and from what its keys stand for now. `None`
    /// if they do not fit together.
    pub(super) fn rebuild(
        &self,
        entry: &Entry<'_>,
        mut known: Vec<Option<(i64, Millis)>>,
    ) -> Option<Answer> {
        let ranges = entry.firsts.iter().zip(&entry.lasts);
        let added: HashMap<_, _> = entry.names.iter().copied().zip(ranges).collect();
        let range = |name: &&str| {
            added
                .get(name)
                .map_or((1, 0), |(first, last)| (**first, **last))
        };
        let ranges: Vec<_> = self.names.iter().map(range).collect();
        let mut fresh = vec![0; ranges.len()];
        for (place, channel) in self.channels.iter().enumerate() {
            let at = *channel as usize - 1;
            let keyed = self.keys.as_ref().is_some_and(|keys| keys[place].is_some());
            match known.get_mut(place) {
                // This batch's own publication.
                Some(own)
                    if own.is_some_and(|(seq, _)| seq >= ranges[at].0 && seq <= ranges[at].1) =>
                {
                    *own = None;
                    fresh[at] += 1;
                }
                Some(Some(_)) => {}
                _ if keyed => return None,
                _ => fresh[at] += 1,
            }
        }
        let fits = |((first, last), count): (&(i64, i64), &i64)| last - first + 1 == *count;
        let heads = ranges.iter().map(|(first, _)| first - 1).collect();
        let all_fit =
            ranges.iter().zip(&fresh).all(fits) && added.keys().all(|name| self.has(name));
        all_fit.then_some(Answer {
            heads,
            time: entry.time,
            known,
            contention: None,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.names.binary_search(&name).is_ok()
    }
}

/// A column of the batch; none if no draft has a value in it.
fn column<'a>(
    drafts: &[&'a Draft],
    value: impl Fn(&'a Draft) -> Option<&'a [u8]>,
) -> Option<Vec<Option<&'a [u8]>>> {
    let column: Vec<_> = drafts.iter().map(|draft| value(draft)).collect();
    column.iter().any(Option::is_some).then_some(column)
}

#[cfg(test)]
mod tests {
    use fanfare_wire::ChannelName;

    use super::*;

    fn batch(drafts: &[(&str, &str)]) -> Vec<Draft> {
        let draft = |(channel, key): &(&str, &str)| {
            let channel = ChannelName::parse(channel).unwrap();
            let mut draft = Draft::new(channel, Uuid::now_v7(), Json::parse(b"1").unwrap());
            draft.idempotency_key = (!key.is_empty()).then(|| (*key).to_owned());
            draft
        };
        drafts.iter().map(draft).collect()
    }

    fn numbers(plan: &Plan<'_>, answer: &Answer) -> Vec<(u64, Millis, bool)> {
        let outcomes = plan.outcomes(answer).unwrap();
        outcomes
            .iter()
            .map(|it| (it.seq.0, it.time, it.duplicate))
            .collect()
    }

    #[test]
    fn a_batch_becomes_arrays() {
        let batch = batch(&[("b", ""), ("a", "k"), ("b", "k"), ("a", "k"), ("a", "")]);
        let plan = Plan::new(&batch);
        assert_eq!(plan.names, ["a", "b"]);
        assert_eq!(plan.counts, [2, 2]);
        assert_eq!(plan.channels, [2, 1, 2, 1]);
        assert_eq!(plan.ids.len(), 4);
        let key = Some(&b"k"[..]);
        assert_eq!(plan.keys, Some(vec![None, key, key, None]));
        assert!(plan.infos.is_none() && plan.tags.is_none());
    }

    #[test]
    fn numbers_go_to_those_that_are_no_duplicates() {
        let batch = batch(&[
            ("a", "old"),
            ("a", ""),
            ("a", "new"),
            ("a", "new"),
            ("b", ""),
        ]);
        let plan = Plan::new(&batch);
        let known = vec![Some((3, 30)), None, None, None];
        let answer = Answer {
            heads: vec![7, 0],
            time: 99,
            known,
            contention: Some((vec![1], 2_500)),
        };
        let expected = [
            (3, 30, true),
            (8, 99, false),
            (9, 99, false),
            (9, 99, true),
            (1, 99, false),
        ];
        assert_eq!(numbers(&plan, &answer), expected);
        assert_eq!(
            plan.outcomes(&Answer {
                heads: vec![7],
                ..answer
            }),
            None
        );
    }

    #[test]
    fn a_lost_answer_is_rebuilt_from_the_lane_log() {
        let batch = batch(&[
            ("a", "old"),
            ("a", ""),
            ("a", "new"),
            ("a", "new"),
            ("c", "old"),
        ]);
        let plan = Plan::new(&batch);
        let entry = |lasts| Entry {
            names: vec!["a"],
            firsts: vec![8],
            lasts,
            time: 99,
        };
        let known = || vec![Some((3, 30)), None, Some((9, 99)), Some((1, 10))];
        let answer = plan.rebuild(&entry(vec![9]), known()).unwrap();
        let expected = [
            (3, 30, true),
            (8, 99, false),
            (9, 99, false),
            (9, 99, true),
            (1, 10, true),
        ];
        assert_eq!(numbers(&plan, &answer), expected);
        let firsts: Vec<_> = plan.firsts(&known());
        let seqs: Vec<_> = firsts.iter().map(|it| it.map(|it| it.seq.0)).collect();
        assert_eq!(seqs, [Some(3), None, Some(9), Some(9), Some(1)]);
        // An entry of another batch, or keys that are gone: no guess.
        assert_eq!(plan.rebuild(&entry(vec![10]), known()), None);
        let forgotten = vec![Some((3, 30)), None, None, Some((1, 10))];
        assert_eq!(plan.rebuild(&entry(vec![9]), forgotten), None);
        let other = Entry {
            names: vec!["x"],
            firsts: vec![1],
            lasts: vec![1],
            time: 1,
        };
        assert_eq!(plan.rebuild(&other, known()), None);
    }
}
