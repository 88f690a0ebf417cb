//! From times to figures: what of the way of a change was Pub/Sub's, what Gmail's, and what was ours.

use std::collections::BTreeMap;

use fanfare_stand_in::journal::{Call, Entries, Post};
use serde_json::Value;

use crate::latency::Latency;
use crate::mail::judge::Arrival;
use crate::mail::mailboxes::nanos;

/// Distributions of one phase.
#[derive(Debug)]
pub(crate) struct Times {
    /// From the opening of the connection of a push to its answer with 2xx, as its sender sees it.
    pub(crate) acknowledge: Latency,
    /// From a change in the mailbox until a client sees it.
    pub(crate) visible: Latency,
    /// From the post of the notification that tells of it, until a client sees it.
    pub(crate) after_notification: Latency,
    /// What of that was spent waiting for Gmail's API.
    pub(crate) google: Latency,
    /// From the acknowledgement of the notification until a client sees it, without the wait for Gmail's API.
    pub(crate) ours: Latency,
}

/// What is known of the posts and calls about one mailbox.
#[derive(Debug, Default)]
struct Known {
    /// Acknowledged posts: the place of the history, begin and end.
    posts: Vec<(u64, u64, u64)>,
    /// When the API was at work, as intervals.
    calls: Vec<(u64, u64)>,
}

/// Counts beside the distributions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Asked {
    /// Posts of notifications that were answered with 2xx, repeated ones included.
    pub(crate) acknowledged: u64,
    /// Posts of those that had been acknowledged before.
    pub(crate) duplicates: u64,
    /// Posts that failed, and were tried again.
    pub(crate) failed: u64,
    /// Questions to the history.
    pub(crate) history_calls: u64,
    /// Other calls of the Gmail API, and for tokens.
    pub(crate) other_calls: u64,
}

/// Works out the figures of a phase. `addresses` names the mailboxes in the order of their numbers.
pub(crate) fn measure(
    arrivals: &[Arrival],
    entries: &Entries,
    addresses: &BTreeMap<String, usize>,
) -> (Times, Asked) {
    let mut times = Times {
        acknowledge: Latency::new(),
        visible: Latency::new(),
        after_notification: Latency::new(),
        google: Latency::new(),
        ours: Latency::new(),
    };
    let mut asked = Asked::default();
    let mut known: Vec<Known> = (0..addresses.len()).map(|_| Known::default()).collect();
    for post in &entries.posts {
        let (begun, ended) = (nanos(post.begun), nanos(post.ended));
        if post.status / 100 != 2 {
            asked.failed += 1;
            continue;
        }
        asked.acknowledged += 1;
        asked.duplicates += u64::from(post.again);
        times.acknowledge.record(begun, ended);
        if let Some((mailbox, id)) = notification(post, addresses) {
            known[mailbox].posts.push((id, begun, ended));
        }
    }
    for call in &entries.calls {
        match call.place {
            "history" => asked.history_calls += 1,
            _ => asked.other_calls += 1,
        }
        if let Some(mailbox) = addresses.get(&call.address) {
            known[*mailbox].calls.push(interval(call));
        }
    }
    for known in &mut known {
        known.prepare();
    }
    for arrival in arrivals {
        times.visible.record(arrival.made, arrival.seen);
        let Some((begun, acknowledged)) = known[arrival.mailbox].told(arrival) else {
            // Seen before any notification that tells of it was acknowledged: an earlier one brought it along.
            continue;
        };
        times.after_notification.record(begun, arrival.seen);
        let google = known[arrival.mailbox].at_work(acknowledged, arrival.seen);
        times.google.record(0, google);
        let since = arrival.seen.saturating_sub(acknowledged);
        times.ours.record(0, since.saturating_sub(google));
    }
    (times, asked)
}

impl Known {
    /// Sorts, so that it can be looked up: posts by their place, each with the times of the one that ended first among it and
    /// those after it; intervals merged.
    fn prepare(&mut self) {
        self.posts.sort_unstable();
        let mut first: Option<(u64, u64)> = None;
        for (_, begun, ended) in self.posts.iter_mut().rev() {
            match first {
                Some(earlier) if earlier.1 < *ended => (*begun, *ended) = earlier,
                _ => first = Some((*begun, *ended)),
            }
        }
        self.calls.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.calls.len());
        for &(begun, ended) in &self.calls {
            match merged.last_mut() {
                Some(last) if begun <= last.1 => last.1 = last.1.max(ended),
                _ => merged.push((begun, ended)),
            }
        }
        self.calls = merged;
    }

    /// Begin and end of the first acknowledged post that tells of a change, if it was acknowledged before the change was seen.
    fn told(&self, arrival: &Arrival) -> Option<(u64, u64)> {
        let at = self.posts.partition_point(|(id, _, _)| *id < arrival.id);
        let (_, begun, ended) = *self.posts.get(at)?;
        (ended <= arrival.seen).then_some((begun, ended))
    }

    /// For how long the API was at work between two times.
    fn at_work(&self, from: u64, to: u64) -> u64 {
        let first = self.calls.partition_point(|(_, ended)| *ended <= from);
        let within = self.calls[first..]
            .iter()
            .take_while(|(begun, _)| *begun < to);
        within
            .map(|(begun, ended)| (*ended).min(to).saturating_sub((*begun).max(from)))
            .sum()
    }
}

fn interval(call: &Call) -> (u64, u64) {
    (nanos(call.begun), nanos(call.ended))
}

/// The mailbox and the place of the history that a post tells of.
fn notification(post: &Post, addresses: &BTreeMap<String, usize>) -> Option<(usize, u64)> {
    let told: Value = serde_json::from_slice(&post.data).ok()?;
    let mailbox = addresses.get(told["emailAddress"].as_str()?)?;
    let id = &told["historyId"];
    let id = id.as_u64().or_else(|| id.as_str()?.parse().ok())?;
    Some((*mailbox, id))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_way_of_a_change_is_taken_apart() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let post = |id: u64, begun: u64, ended: u64, status: u16| Post {
            data: format!(r#"{{"emailAddress":"a@example.com","historyId":"{id}"}}"#).into_bytes(),
            begun: at(begun),
            ended: at(ended),
            status,
            again: false,
        };
        let call = |place: &'static str, begun: u64, ended: u64| Call {
            address: "a@example.com".to_owned(),
            place,
            begun: at(begun),
            ended: at(ended),
        };
        // Everything lies in the past when it is looked at.
        while begin.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let entries = Entries {
            // The one before it comes late; the first attempt fails; the one after it comes first.
            posts: vec![
                post(10, 1, 2, 0),
                post(12, 20, 30, 200),
                post(10, 25, 60, 200),
                post(9, 1, 2, 200),
            ],
            calls: vec![
                call("history", 40, 90),
                call("messages", 80, 120),
                call("messages", 150, 190),
            ],
        };
        let zero = nanos(begin);
        let ms = |ms: u64| zero + ms * 1_000_000;
        let arrival = |id: u64, seen: u64| Arrival {
            mailbox: 0,
            id,
            made: zero,
            seen: ms(seen),
        };
        let addresses = BTreeMap::from([("a@example.com".to_owned(), 0)]);
        let (times, asked) = measure(&[arrival(10, 170)], &entries, &addresses);
        let expected = Asked {
            acknowledged: 3,
            duplicates: 0,
            failed: 1,
            history_calls: 1,
            other_calls: 2,
        };
        assert_eq!(asked, expected);
        let shown = |latency: &Latency| latency.percentile_ms(50.0).round() as u64;
        assert_eq!(shown(&times.visible), 170);
        assert_eq!(shown(&times.after_notification), 150);
        assert_eq!(shown(&times.google), 100, "40 to 120, and 150 to 170");
        assert_eq!(shown(&times.ours), 40, "140 since 30, without those 100");
        let (times, _) = measure(&[arrival(10, 25), arrival(13, 25)], &entries, &addresses);
        assert_eq!(times.visible.summary().count, 2);
        assert_eq!(
            times.ours.summary().count,
            0,
            "seen before it was acknowledged"
        );
    }
}
