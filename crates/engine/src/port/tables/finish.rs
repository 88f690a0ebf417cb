//! Finish: drafts that are completed with what the steps of their transaction returned.

use std::{
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fanfare_wire::Draft;

use super::{DRAFTS_MAX, Row, TransactError, Transaction};

type Complete = dyn Fn(&[Vec<Row>], &mut Vec<Draft>) -> Result<(), String> + Send + Sync;

/// Completes the drafts with what the steps returned, after the last step and before they are numbered: a number that a row was given
/// stands in the message that tells of it. May run more than once (a transaction that is tried again, or one whose key was there before), each
/// time with the drafts as they were given.
///
/// It runs while the rows that the steps changed are locked: it is quick, and does neither IO nor wait.
///
/// It is given what each step returned, `rows[i]` of step i, and the drafts. It may change their data, info and tags, and add drafts
/// without idempotency keys behind them. Their channels, ids and keys stay as they are, and all of it stays within the limits of a
/// transaction. What does not, or an error of its own, refuses the transaction with [`TransactError::Finish`], and nothing is committed.
#[derive(Clone)]
pub struct Finish(Arc<Complete>);

impl Finish {
    /// From a function.
    #[must_use]
    pub fn new(
        complete: impl Fn(&[Vec<Row>], &mut Vec<Draft>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(complete))
    }

    /// The same in a transaction in which its steps have others around them: it is told what these returned, and nothing of the others.
    #[must_use]
    pub fn among(self, steps: Range<usize>) -> Self {
        Self::new(move |rows, drafts| {
            let own = rows.get(steps.clone());
            let own = own.ok_or_else(|| format!("there are no steps {steps:?}"))?;
            (self.0)(own, drafts)
        })
    }
}

impl fmt::Debug for Finish {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Finish")
    }
}

impl Transaction {
    /// The drafts, completed with what the steps returned; `None` if there is nothing to complete, and they are what they were.
    /// Implementations call it after the last step, and number what it gives.
    ///
    /// # Errors
    /// [`TransactError::Finish`] says why nothing may be committed. A panic is one, so that it ends nothing but the transaction.
    pub fn completed(&self, rows: &[Vec<Row>]) -> Result<Option<Vec<Draft>>, TransactError> {
        let Some(finish) = &self.finish else {
            return Ok(None);
        };
        let mut drafts = self.drafts.clone();
        // What it may leave half done is dropped here.
        let complete = AssertUnwindSafe(|| (finish.0)(rows, &mut drafts));
        let done = catch_unwind(complete).unwrap_or_else(|_| Err("it panicked".to_owned()));
        done.and_then(|()| self.check_completed(&drafts))
            .map_err(TransactError::Finish)?;
        Ok(Some(drafts))
    }

    fn check_completed(&self, drafts: &[Draft]) -> Result<(), String> {
        if drafts.len() > DRAFTS_MAX {
            return Err(format!("they are more than {DRAFTS_MAX}"));
        }
        self.check_weight(drafts)?;
        let added = drafts.get(self.drafts.len()..);
        let added = added.ok_or("one of them is missing")?;
        let is_same = |(given, now): (&Draft, &Draft)| {
            (&given.channel, given.id, &given.idempotency_key)
                == (&now.channel, now.id, &now.idempotency_key)
        };
        if let Some(at) = self.drafts.iter().zip(drafts).position(|it| !is_same(it)) {
            return Err(format!("draft {at} has another channel, id or key"));
        }
        match added.iter().any(|draft| draft.idempotency_key.is_some()) {
            // Whether a key was there before is asked when nothing is known of it.
            true => Err("one that was added has a key".to_owned()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_wire::{ChannelName, Json};
    use uuid::Uuid;

    use super::{super::BYTES_MAX, *};

    fn draft(data: &str) -> Draft {
        let channel = ChannelName::parse("c").unwrap();
        Draft::new(
            channel,
            Uuid::now_v7(),
            Json::parse(data.as_bytes()).unwrap(),
        )
    }

    fn completed(
        finish: impl Fn(&[Vec<Row>], &mut Vec<Draft>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<Vec<Draft>, String> {
        let mut keyed = draft("2");
        keyed.idempotency_key = Some("k".to_owned());
        let transaction = Transaction {
            drafts: vec![draft("1"), keyed],
            finish: Some(Finish::new(finish)),
            ..Transaction::default()
        };
        let rows = [vec![Row(vec![7.into()])], Vec::new()];
        match transaction.completed(&rows) {
            Ok(drafts) => Ok(drafts.unwrap()),
            Err(TransactError::Finish(words)) => Err(words),
            Err(other) => panic!("{other}"),
        }
    }

    fn refusal(bad: impl Fn(&mut Vec<Draft>) + Send + Sync + 'static) -> String {
        let done = completed(move |_, drafts| {
            bad(drafts);
            Ok(())
        });
        done.unwrap_err()
    }

    #[test]
    fn drafts_are_completed_with_what_the_steps_returned() {
        let drafts = completed(|rows, drafts| {
            let number = rows[0][0].int(0).unwrap().to_string();
            drafts[0].data = Json::parse(number.as_bytes()).unwrap();
            drafts[1].tags = Some(Json::parse(b"{}").unwrap());
            drafts.push(draft("3"));
            Ok(())
        });
        let drafts = drafts.unwrap();
        let data: Vec<_> = drafts.iter().map(|it| it.data.as_bytes()).collect();
        assert_eq!(data, [b"7", b"2", b"3"]);
        assert!(drafts[1].tags.is_some());
        assert!(Transaction::default().completed(&[]).unwrap().is_none());
    }

    #[test]
    fn what_it_may_not_do_is_refused() {
        type Bad = fn(&mut Vec<Draft>);
        let cases: [(Bad, &str); 9] = [
            (|_| panic!("on purpose"), "panicked"),
            (|drafts| drafts.truncate(1), "missing"),
            (|drafts| drafts.swap(0, 1), "draft 0"),
            (|drafts| drafts.insert(1, draft("3")), "draft 1"),
            (|drafts| drafts[1].id = Uuid::now_v7(), "draft 1"),
            (|drafts| drafts[1].idempotency_key = None, "draft 1"),
            (
                |drafts| drafts[0].channel = ChannelName::parse("d").unwrap(),
                "draft 0",
            ),
            (
                |drafts| {
                    let mut keyed = draft("3");
                    keyed.idempotency_key = Some("l".to_owned());
                    drafts.push(keyed);
                },
                "has a key",
            ),
            (
                |drafts| drafts.resize(DRAFTS_MAX + 1, draft("1")),
                "more than",
            ),
        ];
        let own = completed(|_, _| Err("not today".to_owned()));
        assert_eq!(own.unwrap_err(), "not today");
        for (bad, words) in cases {
            let refusal = refusal(bad);
            assert!(refusal.contains(words), "{refusal}");
        }
        let long = draft(&"1".repeat(BYTES_MAX)).data;
        let refusal = refusal(move |drafts| drafts[0].data = long.clone());
        assert!(refusal.contains("larger"), "{refusal}");
    }

    #[test]
    fn among_others_it_is_told_of_its_own_steps() {
        let seen = |rows: &[Vec<Row>], _: &mut Vec<Draft>| match rows {
            [own] if *own == [Row(vec![1.into()])] => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let transaction = |steps| Transaction {
            drafts: vec![draft("0")],
            finish: Some(Finish::new(seen).among(steps)),
            ..Transaction::default()
        };
        let rows = [Vec::new(), vec![Row(vec![1.into()])], Vec::new()];
        assert!(transaction(1..2).completed(&rows).is_ok());
        assert!(transaction(2..3).completed(&rows).is_err());
        assert!(transaction(3..5).completed(&rows).is_err());
    }
}
