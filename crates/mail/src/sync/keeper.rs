//! What happens by itself, on every node: watches are renewed each day, and a mailbox of which nothing was heard is looked at.
//! What must happen once is made so by the change of the account's row, or by what a delivery is known by.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use fanfare_engine::port::tables::Step;
use fanfare_wire::Millis;
use futures_util::{StreamExt as _, stream};
use rand::Rng as _;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use crate::{
    google::{GoogleError, Watch},
    message::HistoryId,
    schema,
    store::{Due, Linked, StoreError},
    sync::{Inner, handler::millis, metrics::Watched},
    user::User,
};

/// How often a node looks what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Between two attempts to make the tables.
const MIGRATE_RETRY: Duration = Duration::from_secs(1);
/// How often a watch is renewed. Gmail asks for once a day; it ends after seven.
const WATCH_RENEW: Duration = Duration::from_secs(24 * 3600);
/// How long a node has a watch for itself that it renews; longer than Google may take.
const WATCH_CLAIM: Duration = Duration::from_secs(120);
/// After a renewal that failed.
const WATCH_RETRY: Duration = Duration::from_secs(60);
/// Watches that a node renews at the same time.
const WATCHES_AT_ONCE: usize = 8;
/// Accounts that a statement lists.
const DUE_WATCHES_PAGE: usize = 32;
const DUE_POLLS_PAGE: usize = 256;
/// How long counting all accounts rests for the time that it takes: it reads every one of them.
const CENSUS_REST: u32 = 100;
/// After a mailbox could not be looked at for a while.
const SOON: Duration = Duration::from_secs(30);

/// Starts the task of this node.
pub(super) fn start(inner: &Arc<Inner>) {
    tokio::spawn(keep(Arc::clone(inner)));
}

/// Watches wait for Google, and polls need not wait for watches.
async fn keep(inner: Arc<Inner>) {
    open(&inner).await;
    tokio::join!(keep_watches(&inner), keep_looking(&inner));
}

async fn keep_watches(inner: &Inner) {
    loop {
        if let Err(error) = inner.watches().await {
            debug!(%error, "it is not known now which watches are due");
        }
        // Somebody may have connected a mailbox.
        let _ = timeout(scattered(LOOK_INTERVAL), inner.due.notified()).await;
    }
}

async fn keep_looking(inner: &Inner) {
    let (mut submitted, mut census_at) = (HashMap::new(), Instant::now());
    loop {
        if let Err(error) = inner.look(&mut submitted, &mut census_at).await {
            debug!(%error, "what is due is not known now");
        }
        sleep(scattered(LOOK_INTERVAL)).await;
    }
}

async fn open(inner: &Inner) {
    let mut told = false;
    while let Err(error) = inner.store.migrate().await {
        if !told {
            error!(%error, "no mailbox is kept in sync until the tables can be made");
            told = true;
        }
        sleep(MIGRATE_RETRY).await;
    }
    inner.opened.store(true, Relaxed);
    info!("mailboxes are kept in sync");
}

impl Inner {
    async fn look(
        &self,
        submitted: &mut HashMap<User, String>,
        census_at: &mut Instant,
    ) -> Result<(), StoreError> {
        // Hears what time it is.
        self.store.change(Vec::new()).await?;
        self.polls(submitted).await?;
        let begun = Instant::now();
        if *census_at <= begun {
            self.metrics.set_census(self.store.census().await?);
            *census_at = Instant::now() + begun.elapsed() * CENSUS_REST;
        }
        Ok(())
    }

    async fn watches(&self) -> Result<(), StoreError> {
        loop {
            let due = self.store.due_watches().await?;
            let count = due.len();
            let claimed = stream::iter(due)
                .map(|(user, at)| async move { self.watch(&user, at).await })
                .buffer_unordered(WATCHES_AT_ONCE)
                .filter_map(async |renewed| {
                    let renewed =
                        renewed.inspect_err(|error| debug!(%error, "a watch has to wait"));
                    renewed.unwrap_or(false).then_some(())
                })
                .count()
                .await;
            // Those that another node has, or that failed, are no longer due.
            if count < DUE_WATCHES_PAGE || claimed == 0 {
                return Ok(());
            }
        }
    }

    /// Sets up or renews a watch, if no other node does. True if it was tried.
    async fn watch(&self, user: &User, at: Millis) -> Result<bool, StoreError> {
        let until = self.store.clock.now() + millis(WATCH_CLAIM);
        let claim = vec![user.as_str().into(), at.into(), until.into()];
        let claim = Step::some(schema::CLAIM_WATCH, claim);
        if !self.store.change(vec![claim]).await? {
            return Ok(false);
        }
        let Some(linked) = self.store.account(user).await? else {
            return Ok(true);
        };
        let watch = self.google.watch(&linked.grant).await;
        self.keep_grant(&linked.grant).await;
        match watch {
            Ok(watch) => self.watched(&linked, until, watch).await?,
            Err(error) => self.not_watched(&linked, until, error).await?,
        }
        Ok(true)
    }

    async fn watched(
        &self,
        linked: &Linked,
        until: Millis,
        watch: Watch,
    ) -> Result<(), StoreError> {
        self.metrics.watched(Watched::Renewed);
        let user = &linked.account.user;
        let now = self.store.clock.now();
        // Half of what is left, if Google gives less than is usual.
        let left = (watch.expires - now).max(0) / 2;
        let renew_at = now + millis(scattered(WATCH_RENEW)).min(left.max(millis(WATCH_RETRY)));
        let params = vec![
            user.as_str().into(),
            until.into(),
            renew_at.into(),
            watch.expires.into(),
        ];
        self.store
            .change(vec![Step::some(schema::WATCHED, params)])
            .await?;
        if watch.history_id > linked.account.history_id {
            // What happened while nobody watched.
            let dedup = format!("watch:{user}:{}", watch.history_id);
            self.submit(&linked.account.address, watch.history_id, &dedup)
                .await;
        }
        Ok(())
    }

    async fn not_watched(
        &self,
        linked: &Linked,
        until: Millis,
        error: GoogleError,
    ) -> Result<(), StoreError> {
        self.metrics.watched(Watched::Failed);
        let user = &linked.account.user;
        warn!(%user, %error, "Google does not watch a mailbox; it is polled meanwhile");
        let wait = match error {
            GoogleError::Unauthorised(_) => {
                let transaction = self.locked_out(linked)?;
                // If somebody was faster, the account is not what it was.
                return self.store.commit(transaction).await.map(drop);
            }
            GoogleError::Slow { after: Some(after) } => after.max(WATCH_RETRY),
            _ => WATCH_RETRY,
        };
        let again = self.store.clock.now() + millis(scattered(wait));
        let params = vec![user.as_str().into(), until.into(), again.into()];
        let step = Step::new(schema::NOT_WATCHED, params);
        self.store.change(vec![step]).await.map(drop)
    }

    /// Lets what is due be looked at, in turn with what Google tells.
    async fn polls(&self, submitted: &mut HashMap<User, String>) -> Result<(), StoreError> {
        let mut before = std::mem::take(submitted);
        let mut last: Option<Due> = None;
        loop {
            let page = self.store.due_polls(last.as_ref()).await?;
            for due in &page {
                let dedup = self.poll_dedup(due);
                // It is on its way, or Google is away.
                let is_known = before.remove(&due.user).is_some_and(|known| known == dedup);
                if is_known || self.submit(&due.address, HistoryId(0), &dedup).await {
                    submitted.insert(due.user.clone(), dedup);
                }
            }
            if page.len() < DUE_POLLS_PAGE {
                return Ok(());
            }
            last = page.into_iter().next_back();
        }
    }

    /// The same on all nodes; another one if nothing has come of it for as long as silence may last.
    fn poll_dedup(&self, due: &Due) -> String {
        let late = self.store.clock.now() - due.at.abs();
        let slot = late / millis(self.config.poll_after).max(1);
        format!("poll:{}:{}:{slot}", due.user, due.at)
    }

    /// How long a mailbox may be silent from now on.
    pub(super) fn poll_after(&self) -> Millis {
        millis(scattered(self.config.poll_after))
    }

    /// How long until a mailbox is looked at that cannot be now.
    pub(super) fn soon(&self) -> Millis {
        millis(scattered(SOON.min(self.config.poll_after)))
    }
}

/// A little less than a time, so that not everything is due together.
fn scattered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.8..1.0))
}
