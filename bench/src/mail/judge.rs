//! Folds what every client sees, and writes down what is wrong and when each change became visible.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_stand_in::Google;
use serde_json::Value;

use crate::latency::Latency;
use crate::mail::fleet::{Fleet, Seen, What};
use crate::mail::mailboxes::Mailboxes;
use crate::mail::truth::rows;
use crate::mail::view::{View, Violation, Wrong};

/// A change that became visible to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Of which mailbox.
    pub(crate) mailbox: usize,
    /// Its place in the history.
    pub(crate) id: u64,
    /// When it was made.
    pub(crate) made: u64,
    /// When the client saw it.
    pub(crate) seen: u64,
}

/// What was seen in one phase.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Changes that became visible, to each client that saw them.
    pub(crate) arrivals: Vec<Arrival>,
    /// Events of all kinds.
    pub(crate) events: u64,
    /// Streams that were lost.
    pub(crate) lost: u64,
    /// For how long clients were without a stream.
    pub(crate) away: Option<Latency>,
    /// By what is wrong: how often.
    pub(crate) wrong: BTreeMap<Violation, u64>,
    /// The first wrong, in full.
    pub(crate) first_wrong: Option<String>,
}

/// Who watches over all clients.
pub(crate) struct Judge {
    clients: Vec<Client>,
    tally: Tally,
}

struct Client {
    mailbox: usize,
    view: View,
    /// Since when it has no stream.
    lost: Option<u64>,
    /// It has had its first `ready`.
    begun: bool,
    /// It will not come back.
    over: bool,
}

impl Judge {
    /// A judge of nobody.
    pub(crate) fn new() -> Self {
        Self {
            clients: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// One client more; gives its number.
    pub(crate) fn add(&mut self, mailbox: usize, view: View) -> usize {
        self.clients.push(Client {
            mailbox,
            view,
            lost: None,
            begun: false,
            over: false,
        });
        self.clients.len() - 1
    }

    /// Takes what the fleet has seen, waiting for it no longer than `wait`.
    pub(crate) fn look(&mut self, fleet: &Fleet, mailboxes: &Mailboxes<'_>, wait: Duration) {
        for seen in fleet.seen(wait) {
            self.take(seen, mailboxes);
        }
    }

    /// How many clients have a stream.
    pub(crate) fn open(&self) -> usize {
        let open = |client: &&Client| client.begun && client.lost.is_none() && !client.over;
        self.clients.iter().filter(open).count()
    }

    /// How many clients there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// The clients whose view is not their mailbox as it is now.
    pub(crate) fn incomplete(&self, google: &Google, mailboxes: &Mailboxes<'_>) -> Vec<usize> {
        let truths: Vec<_> = (0..mailboxes.len())
            .map(|mailbox| google.mailbox(mailboxes.address(mailbox), |inside| rows(inside)))
            .collect();
        let differs = |client: &&Client| *client.view.rows() != truths[client.mailbox];
        let numbered = self.clients.iter().enumerate();
        numbered
            .filter(|(_, client)| differs(client))
            .map(|(number, _)| number)
            .collect()
    }

    /// How the view of a client differs from its mailbox, for people.
    pub(crate) fn difference(
        &self,
        client: usize,
        google: &Google,
        mailboxes: &Mailboxes<'_>,
    ) -> String {
        let Client { mailbox, view, .. } = &self.clients[client];
        let address = mailboxes.address(*mailbox);
        let truth = google.mailbox(address, |inside| rows(inside));
        let wrong: Vec<&String> = truth
            .keys()
            .chain(view.rows().keys())
            .filter(|id| truth.get(*id) != view.rows().get(*id))
            .collect();
        let first = wrong.first().map_or_else(String::new, |id| {
            format!(
                "{id} is {:?} and shown {:?}",
                truth.get(*id),
                view.rows().get(*id)
            )
        });
        format!(
            "client {client} of {address}: {} rows differ; {first}",
            wrong.len()
        )
    }

    /// What was seen since the last time.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Adds a wrong that a client could not see.
    pub(crate) fn accuse(&mut self, wrong: Wrong) {
        *self.tally.wrong.entry(wrong.violation).or_default() += 1;
        self.tally
            .first_wrong
            .get_or_insert_with(|| format!("{}: {}", wrong.violation.word(), wrong.about));
    }

    fn take(&mut self, seen: Seen, mailboxes: &Mailboxes<'_>) {
        let Seen { client, at, what } = seen;
        let result = match what {
            What::Event { name, id, data } => {
                self.tally.events += 1;
                self.event(client, at, (&name, id.as_deref(), &data), mailboxes)
            }
            What::Lost => {
                self.tally.lost += 1;
                self.clients[client].lost.get_or_insert(at);
                Ok(())
            }
            What::Refused(why) => {
                self.clients[client].over = true;
                Err(Wrong::new(Violation::Refused, why))
            }
        };
        if let Err(mut wrong) = result {
            wrong.about = format!("client {client}: {}", wrong.about);
            self.accuse(wrong);
        }
    }

    fn event(
        &mut self,
        client: usize,
        at: u64,
        (name, id, data): (&str, Option<&str>, &str),
        mailboxes: &Mailboxes<'_>,
    ) -> Result<(), Wrong> {
        let seat = &mut self.clients[client];
        match name {
            "heartbeat" => Ok(()),
            "ready" => {
                seat.begun = true;
                if let Some(lost) = seat.lost.take() {
                    let away = self.tally.away.get_or_insert_with(Latency::new);
                    away.record(lost, at);
                }
                let at_begin = id.ok_or_else(|| Wrong::new(Violation::WithoutId, data))?;
                seat.view.resumed(at_begin)
            }
            "truncated" | "reset" => {
                Err(Wrong::new(Violation::Broken, format_args!("{name} {data}")))
            }
            "error" => {
                let told: Value = serde_json::from_str(data).unwrap_or_default();
                seat.over |= told["data"]["code"] == "too_many_streams";
                Err(Wrong::new(Violation::Broken, data))
            }
            _ => {
                let mailbox = seat.mailbox;
                let truth = mailboxes.truth(mailbox);
                let told = seat.view.apply(name, id, data, &truth)?;
                self.tally.arrivals.extend(told.iter().map(|made| Arrival {
                    mailbox,
                    id: made.id,
                    made: made.at,
                    seen: at,
                }));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arrivals_losses_and_wrongs_are_counted() {
        let google = Google::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let mailboxes = Mailboxes::new(&google, 1, 1);
        let mut judge = Judge::new();
        let view = || View::new(Vec::new(), "l-0.0").unwrap();
        assert_eq!((judge.add(0, view()), judge.add(0, view())), (0, 1));
        assert_eq!(judge.incomplete(&google, &mailboxes), [0, 1]);
        let mut see = |client, at, what| judge.take(Seen { client, at, what }, &mailboxes);
        let event = |name: &str, id: &str, data: &Value| What::Event {
            name: name.to_owned(),
            id: Some(id.to_owned()),
            data: data.to_string(),
        };
        let (id, row) = google
            .mailbox(mailboxes.address(0), |inside| rows(inside))
            .pop_first()
            .unwrap();
        let new = json!({"type": "new_email", "timestamp": "2026-11-21T16:45:54.123Z", "data": {
            "id": id, "threadId": row.thread, "from": row.from, "subject": row.subject, "snippet": row.snippet,
            "labels": row.labels, "date": row.date, "version": row.version.to_string()}});
        for client in 0..2 {
            see(client, 10, event("ready", "l-0.0", &json!({})));
            see(client, 15, event("heartbeat", "", &json!({})));
        }
        see(0, u64::MAX, event("new_email", "l-0.1", &new));
        see(0, 1_000, What::Lost);
        see(0, 5_000_000, event("ready", "l-0.1", &json!({})));
        see(1, 20, What::Lost);
        assert_eq!(judge.open(), 1);
        assert_eq!(judge.incomplete(&google, &mailboxes), [1]);
        let tally = judge.take_tally();
        assert_eq!((tally.arrivals.len(), tally.events, tally.lost), (1, 6, 2));
        assert_eq!(tally.away.unwrap().summary().count, 1);
        assert!(tally.wrong.is_empty(), "{:?}", tally.first_wrong);
        assert!(judge.difference(1, &google, &mailboxes).contains(&id));

        let mut see = |client, what| {
            judge.take(
                Seen {
                    client,
                    at: 30,
                    what,
                },
                &mailboxes,
            )
        };
        see(1, event("truncated", "l-0.5", &json!({})));
        see(1, event("new_email", "l-0.2", &new));
        see(0, event("new_email", "l-0.1", &new));
        see(1, What::Refused("status 401".to_owned()));
        let wrong = judge.take_tally().wrong;
        let expected = [
            (Violation::Order, 1),
            (Violation::Hole, 1),
            (Violation::Broken, 1),
            (Violation::Refused, 1),
        ];
        assert_eq!(wrong, expected.into());
    }
}
