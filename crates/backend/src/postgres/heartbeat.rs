//! The heartbeat: says that this node and its lanes are alive, and hears of the others.

use std::sync::PoisonError;

use bytes::Bytes;
use fanfare_engine::port::{LaneId, LogError, NodeRecord, log::NODE_SILENCE_MAX};
use tokio_postgres::{Row, types::ToSql};

use super::{
    bigint, collect,
    database::Session,
    error::malformed,
    lane::Lanes,
    pool::{Call, Pool},
};

impl Lanes {
    /// Tells that this node is alive, and lists those that are.
    pub(super) async fn heartbeat(
        &self,
        pool: &Pool,
        about: Bytes,
    ) -> Result<Vec<NodeRecord>, LogError> {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about.clone());
        // A lane in the middle of an append takes care of itself.
        if let Ok(mut slot) = self.slot.try_lock() {
            self.ensure_open(&mut slot).await?;
        }
        let (records, own) = self.beat(pool, &about).await?;
        if records.iter().any(|record| record.lane == own) {
            return Ok(records);
        }
        // Somebody retired the lane, or it was just replaced.
        let mut slot = self.slot.lock().await;
        if slot.open.as_ref().is_some_and(|lane| lane.id == own) {
            slot.open = None;
        }
        self.ensure_open(&mut slot).await?;
        drop(slot);
        Ok(self.beat(pool, &about).await?.0)
    }

    async fn beat(
        &self,
        pool: &Pool,
        about: &Bytes,
    ) -> Result<(Vec<NodeRecord>, LaneId), LogError> {
        let own = self.current();
        let silence = bigint(NODE_SILENCE_MAX.as_millis() as u64);
        let record = |row: &Row| {
            let about = Bytes::copy_from_slice(row.try_get(1)?);
            Ok(NodeRecord {
                lane: LaneId(row.try_get(0)?),
                about,
            })
        };
        let params: &[&(dyn ToSql + Sync)] = &[&own.0, &about.as_ref(), &silence];
        let asking = pool.query(Call::Heartbeat, params, |session, rows| {
            let records: Vec<NodeRecord> = collect(&rows, record)?;
            if let Some(row) = rows.first() {
                self.learn(session, row, records.iter().any(|it| it.lane == own))?;
            }
            Ok(records)
        });
        Ok((asking.await?, own))
    }

    /// What a heartbeat says about the log. It was a commit if our lane is alive.
    fn learn(&self, session: &Session, row: &Row, committed: bool) -> Result<(), LogError> {
        let epoch: Option<&str> = row.try_get(2).map_err(malformed)?;
        if let Some(epoch) = epoch {
            self.database.told(session, epoch)?;
        }
        let lsn: Option<i64> = row.try_get(3).map_err(malformed)?;
        if let (true, Some(lsn)) = (committed, lsn) {
            self.database
                .remember(session, |memory| memory.reached(lsn));
        }
        Ok(())
    }
}
