//! Whether the database behind a session is still the log that this node knows.
//!
//! The epoch stands in the database, beside the identity of the database that it was given to. Each new session compares
//! both before any other use, and with what this node remembers: a database that misses something of it was put back to
//! an earlier state, though its identity be the same. Then one new epoch is agreed on in the database itself.

use std::collections::BTreeMap;

use fanfare_engine::port::log::LANE_LOG_KEPT;
use fanfare_wire::{Epoch, Millis};
use tokio_postgres::Client;

use super::bigint;
use crate::epoch;

/// Lanes whose last entry is remembered; beyond it those that were silent for longest are forgotten.
const LANES_REMEMBERED_MAX: usize = 256;

/// Where the session is, what stands there, and which of the entries that were seen lately is missing. Entries that are
/// old enough to be removed by retention soon prove nothing.
const MEET: &str = "
    SELECT here.database, here.timeline, here.lsn, fanfare.identity_text(),
        (SELECT value FROM fanfare.meta WHERE key = 'epoch'),
        (SELECT value FROM fanfare.meta WHERE key = 'database'),
        (SELECT value FROM fanfare.meta WHERE key = 'origin'),
        EXISTS (
            SELECT FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS seen (lane, n, time)
            WHERE seen.time > fanfare.now_ms() - $4::bigint AND NOT EXISTS (
                SELECT FROM fanfare.lane_log
                WHERE lane_log.lane = seen.lane AND lane_log.n = seen.n AND lane_log.time = seen.time
            )
        )
    FROM fanfare.identity() AS here";

const CLAIM: &str = "SELECT fanfare.claim_epoch($1, $2)";

/// What a node remembers of the log.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) epoch: Epoch,
    identity: Identity,
    /// Reached and flushed when this node last wrote; 0 before it did.
    lsn: i64,
    /// The last entry that was seen of each lane, and its time.
    lanes: BTreeMap<i64, (i64, Millis)>,
}

/// Which database, and which of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    database: String,
    /// `None` where the server does not tell.
    timeline: Option<i64>,
}

/// What a new session found.
#[derive(Debug)]
struct Found {
    identity: Identity,
    lsn: i64,
    /// The epoch, if it was given to this database.
    epoch: Option<Epoch>,
    /// Something of what was remembered is not there.
    misses: bool,
}

/// What to make of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The log, in this epoch.
    Is(Epoch),
    /// A log that needs a new epoch, in place of this one if it is still there.
    NeedsEpoch { lost: Option<Epoch> },
    /// A server that was the primary once.
    Former { here: i64, before: i64 },
}

/// What a session learned when it met its database.
#[derive(Debug)]
pub(super) struct Met {
    pub(super) memory: Memory,
    /// The first epoch of the log.
    pub(super) origin: String,
}

/// Finds out of which epoch a new session is; replaces the epoch in the database if need be.
pub(super) async fn meet(client: &Client, memory: Option<&Memory>) -> Result<Met, MeetError> {
    let (found, origin) = look(client, memory).await?;
    let epoch = match judge(memory, &found) {
        Verdict::Is(epoch) => epoch,
        Verdict::NeedsEpoch { lost } => {
            let lost = lost.as_ref().map(Epoch::as_str);
            let row = client.query_one(CLAIM, &[&epoch::random(), &lost]).await?;
            epoch::parse(row.try_get(0)?).map_err(MeetError::Refused)?
        }
        Verdict::Former { here, before } => {
            return Err(MeetError::Refused(format!(
                "the server is on timeline {here} of a database that has gone on to timeline {before}: it was the \
                 primary before a failover; rebuild it as a standby (pg_rewind or pg_basebackup) or take it out of \
                 the URL. If it was restored on purpose, restart the nodes"
            )));
        }
    };
    let origin = match origin {
        Some(origin) => origin,
        None => epoch.as_str().to_owned(),
    };
    let known = memory.filter(|memory| memory.epoch == epoch);
    let same_database = known.filter(|memory| memory.identity == found.identity);
    let memory = Memory {
        lanes: known.map_or_else(BTreeMap::new, |memory| memory.lanes.clone()),
        // Where the session is says nothing about what is flushed: a crash takes the rest back, and loses nothing by it.
        lsn: same_database.map_or(0, |memory| memory.lsn),
        epoch,
        identity: found.identity,
    };
    Ok(Met { memory, origin })
}

async fn look(
    client: &Client,
    memory: Option<&Memory>,
) -> Result<(Found, Option<String>), MeetError> {
    let lanes = memory.map(|memory| &memory.lanes);
    let seen = || lanes.into_iter().flatten();
    let ids: Vec<i64> = seen().map(|(lane, _)| *lane).collect();
    let numbers: Vec<i64> = seen().map(|(_, (n, _))| *n).collect();
    let times: Vec<Millis> = seen().map(|(_, (_, time))| *time).collect();
    let kept = bigint(LANE_LOG_KEPT.as_millis() as u64 / 2);
    let row = client
        .query_one(MEET, &[&ids, &numbers, &times, &kept])
        .await?;
    let identity = Identity {
        database: row.try_get(0)?,
        timeline: row.try_get(1)?,
    };
    let (here, given_to): (String, Option<String>) = (row.try_get(3)?, row.try_get(5)?);
    let epoch: Option<&str> = row.try_get(4)?;
    let epoch = epoch.filter(|_| given_to.as_deref() == Some(&*here));
    let found = Found {
        identity,
        lsn: row.try_get::<_, Option<i64>>(2)?.unwrap_or(0),
        epoch: epoch
            .map(epoch::parse)
            .transpose()
            .map_err(MeetError::Refused)?,
        misses: row.try_get(7)?,
    };
    Ok((found, row.try_get(6)?))
}

fn judge(memory: Option<&Memory>, found: &Found) -> Verdict {
    let same_database = memory.filter(|it| it.identity.database == found.identity.database);
    if let Some(memory) = same_database
        && let (Some(here), Some(before)) = (found.identity.timeline, memory.identity.timeline)
        && here < before
    {
        return Verdict::Former { here, before };
    }
    let Some(epoch) = &found.epoch else {
        return Verdict::NeedsEpoch { lost: None };
    };
    let Some(memory) = memory.filter(|memory| memory.epoch == *epoch) else {
        return Verdict::Is(epoch.clone());
    };
    let went_back = memory.identity == found.identity && found.lsn < memory.lsn;
    if went_back || found.misses {
        return Verdict::NeedsEpoch {
            lost: Some(epoch.clone()),
        };
    }
    Verdict::Is(epoch.clone())
}

impl Memory {
    /// Takes over what a new session has found; what was seen since it looked stays.
    pub(super) fn learn(&mut self, found: Self) {
        let same = self.epoch == found.epoch && self.identity == found.identity;
        match same {
            true => self.reached(found.lsn),
            false => *self = found,
        }
    }

    /// The log is in another epoch, though in the same database.
    pub(super) fn follow(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.lanes.clear();
    }

    /// A commit of this node that was answered: everything before this place is flushed.
    pub(super) fn reached(&mut self, lsn: i64) {
        self.lsn = self.lsn.max(lsn);
    }

    /// An entry of the lane log, committed a moment ago.
    pub(super) fn saw(&mut self, lane: i64, n: i64, time: Millis) {
        let known = self.lanes.entry(lane).or_insert((n, time));
        *known = (*known).max((n, time));
        while self.lanes.len() > LANES_REMEMBERED_MAX {
            let oldest = self.lanes.iter().min_by_key(|(_, (_, time))| *time);
            let Some(oldest) = oldest.map(|(lane, _)| *lane) else {
                return;
            };
            self.lanes.remove(&oldest);
        }
    }
}

/// Why a session is of no use.
#[derive(Debug)]
pub(super) enum MeetError {
    Failed(tokio_postgres::Error),
    /// Words for the operator.
    Refused(String),
}

impl From<tokio_postgres::Error> for MeetError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(name: &str) -> Epoch {
        Epoch::parse(name).unwrap()
    }

    fn identity(database: &str, timeline: i64) -> Identity {
        Identity {
            database: database.to_owned(),
            timeline: Some(timeline),
        }
    }

    fn memory() -> Memory {
        Memory {
            epoch: epoch("e1"),
            identity: identity("db", 2),
            lsn: 500,
            lanes: BTreeMap::new(),
        }
    }

    fn found(database: &str, timeline: i64, lsn: i64, stands: Option<&str>) -> Found {
        Found {
            identity: identity(database, timeline),
            lsn,
            epoch: stands.map(epoch),
            misses: false,
        }
    }

    #[test]
    fn the_same_database_further_on_is_the_log() {
        let same = found("db", 2, 500, Some("e1"));
        assert_eq!(judge(Some(&memory()), &same), Verdict::Is(epoch("e1")));
        assert_eq!(judge(None, &same), Verdict::Is(epoch("e1")));
        // Other nodes have agreed on another epoch.
        let agreed = found("db", 3, 100, Some("e2"));
        assert_eq!(judge(Some(&memory()), &agreed), Verdict::Is(epoch("e2")));
    }

    #[test]
    fn what_was_put_back_needs_an_epoch() {
        let lost = Verdict::NeedsEpoch {
            lost: Some(epoch("e1")),
        };
        let back = found("db", 2, 499, Some("e1"));
        assert_eq!(judge(Some(&memory()), &back), lost);
        let gaps = Found {
            misses: true,
            ..found("db", 2, 900, Some("e1"))
        };
        assert_eq!(judge(Some(&memory()), &gaps), lost);
        let promoted = found("db", 3, 900, None);
        let fresh = Verdict::NeedsEpoch { lost: None };
        assert_eq!(judge(Some(&memory()), &promoted), fresh);
        assert_eq!(judge(None, &promoted), fresh);
    }

    #[test]
    fn a_former_primary_is_not_the_log() {
        let former = found("db", 1, 900, Some("e0"));
        let verdict = Verdict::Former { here: 1, before: 2 };
        assert_eq!(judge(Some(&memory()), &former), verdict);
        let another = found("other", 1, 900, Some("e0"));
        assert_eq!(judge(Some(&memory()), &another), Verdict::Is(epoch("e0")));
    }

    #[test]
    fn lanes_that_were_silent_for_longest_are_forgotten() {
        let mut memory = memory();
        for lane in 0..=LANES_REMEMBERED_MAX as i64 {
            memory.saw(lane, 1, 1000 - lane);
        }
        memory.saw(3, 9, 2000);
        memory.saw(3, 8, 1500);
        assert_eq!(memory.lanes.len(), LANES_REMEMBERED_MAX);
        assert!(!memory.lanes.contains_key(&(LANES_REMEMBERED_MAX as i64)));
        assert_eq!(memory.lanes[&3], (9, 2000));
    }
}
