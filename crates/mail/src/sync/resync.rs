//! A full sync: what Gmail has is compared with what is kept, and what differs is told.
//!
//! The place from which history is read afterwards is taken first, so that nothing that happens meanwhile is missed; and each
//! message that was compared says so, so that a sync that was cut off goes on where it was.

use std::collections::HashSet;

use fanfare_engine::port::tables::Step;
use tracing::info;

use crate::{
    account::AccountState,
    message::HistoryId,
    schema,
    store::{Kept, new_stamp, prune},
    sync::{
        bounds::is_id,
        part::Item,
        plan::{self, Effect},
        walk::{Trouble, Walk},
    },
};

/// Messages that are compared at once.
const BATCH: usize = schema::ROWS_ASKED;
/// Ids of one page of Gmail's list.
const LIST_PAGE: usize = 500;

impl Walk<'_> {
    /// Compares everything, and leaves the account where the history goes on.
    pub(crate) async fn resync(&mut self) -> Result<(), Trouble> {
        self.turn.be_long()?;
        if self.linked.resync_from == HistoryId(0)
            || self.linked.account.state != AccountState::Syncing
        {
            self.begin_resync().await?;
        }
        let since = self.linked.resync_from;
        self.is_asked = true;
        let ids = self.list().await?;
        for ids in ids.chunks(BATCH) {
            let user = &self.linked.account.user;
            let kept = self.inner.store.rows(user, ids.iter().map(String::as_str));
            let mut kept = kept.await?;
            let mut fresh = ids.to_vec();
            fresh.retain(|id| kept.get(id).is_none_or(|kept| kept.checked != since));
            let batch = fresh.into_iter().map(|id| (kept.remove(&id), id));
            self.compare(batch.collect(), since).await?;
        }
        // Those that Gmail has not listed: gone, older than the newest ones, in the bin or taken for spam.
        loop {
            let user = &self.linked.account.user;
            let kept = self.inner.store.unchecked(user, since).await?;
            if kept.is_empty() {
                break;
            }
            let batch = kept.into_iter().map(|kept| {
                let id = kept.message.id.clone();
                (Some(kept), id)
            });
            self.compare(batch.collect(), since).await?;
        }
        self.end_resync(since).await
    }

    async fn begin_resync(&mut self) -> Result<(), Trouble> {
        let since = self.inner.google.profile(&self.linked.grant).await?;
        let stamp = new_stamp();
        let user = self.linked.account.user.as_str();
        let begin = schema::RESYNC_BEGIN;
        let mut steps = vec![self.linked.guarded(begin, &stamp, &[since.to_i64()])];
        if since < self.linked.account.history_id {
            // Another mailbox under the same name: what is known of the old one's history says nothing about it.
            steps.push(Step::new(schema::FORGET_VERSIONS, vec![user.into()]));
        }
        self.change(steps).await?;
        info!(user, "a mailbox is synced in full");
        self.linked.stamp = stamp;
        self.linked.resync_from = since;
        self.linked.account.state = AccountState::Syncing;
        Ok(())
    }

    async fn end_resync(&mut self, since: HistoryId) -> Result<(), Trouble> {
        let stamp = new_stamp();
        let steps = vec![
            self.linked.guarded(schema::RESYNC_END, &stamp, &[]),
            prune(&self.linked.account.user, self.inner.config.keep_messages),
        ];
        self.change(steps).await?;
        self.inner.metrics.resynced();
        self.linked.stamp = stamp;
        self.linked.resync_from = HistoryId(0);
        self.linked.account.history_id = since;
        self.linked.account.state = AccountState::Live;
        Ok(())
    }

    async fn change(&self, steps: Vec<Step>) -> Result<(), Trouble> {
        match self.inner.store.change(steps).await? {
            true => Ok(()),
            false => Err(Trouble::Outrun),
        }
    }

    /// The ids of the newest messages.
    async fn list(&self) -> Result<Vec<String>, Trouble> {
        let keep = self.inner.config.keep_messages;
        let mut ids: Vec<String> = Vec::new();
        let mut known = HashSet::new();
        let mut page: Option<String> = None;
        loop {
            let limit = (keep - ids.len()).min(LIST_PAGE);
            let grant = &self.linked.grant;
            let answer = self
                .inner
                .google
                .list(grant, limit, page.as_deref())
                .await?;
            for id in answer.ids {
                // A message that comes meanwhile moves others to the next page.
                if is_id(&id) && known.insert(id.clone()) {
                    ids.push(id);
                }
            }
            ids.truncate(keep);
            page = answer.next;
            if page.is_none() || ids.len() == keep {
                return Ok(ids);
            }
        }
    }

    /// Compares some messages, as far as Gmail says them, and commits what differs.
    async fn compare(
        &mut self,
        batch: Vec<(Option<Kept>, String)>,
        since: HistoryId,
    ) -> Result<(), Trouble> {
        self.turn.go_on()?;
        let ids: Vec<String> = batch.iter().map(|(_, id)| id.clone()).collect();
        let mut now = self.fetch(ids).await;
        let effects: Vec<Option<Effect>> = batch
            .iter()
            .filter_map(|(kept, id)| {
                let row = kept.as_ref().map(|kept| &kept.message);
                let now = now.messages.remove(id)?;
                Some(plan::compare(row, now, since))
            })
            .collect();
        // The account stays where it is until all is compared.
        let reaches = self.linked.account.history_id;
        let effects = effects.into_iter().filter(Option::is_some);
        let items = effects.map(|effect| Item { effect, reaches });
        let parts = self.parts(since).cut(items)?;
        for part in parts {
            self.commit(part).await?;
        }
        // What was answered is compared all the same.
        now.error.map_or(Ok(()), |error| Err(error.into()))
    }
}
