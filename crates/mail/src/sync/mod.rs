//! The sync: from "something has changed" to rows and events that commit together.
//!
//! | file | subject |
//! | --- | --- |
//! | `handler` | what Google tells, and what this server asks itself for; how a failure ends |
//! | `walk` | Gmail's history from the place that is kept, page by page, part by part |
//! | `resync` | the whole mailbox, the first time and when the history does not reach back far enough |
//! | `plan` | what records come to: rows and events, without input and output |
//! | `part` | what commits together, within the bounds of a transaction |
//! | `bounds` | how much of a message is kept |
//! | `turns` | which walks may take long, so that others need not wait |
//! | `keeper` | watches that are renewed, and looks after silence |
//! | `metrics` | what is counted |

pub mod bounds;
mod handler;
mod keeper;
mod metrics;
mod part;
mod plan;
mod resync;
mod turns;
mod walk;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_engine::{Engine, port::tables::Step};
use fanfare_gateway::metrics::Family;
use fanfare_ingress::{Handler, Ingress, SourceName, Submitter, Terms};
use serde_json::json;
use thiserror::Error;
use tokio::sync::Notify;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    account::Account,
    google::{Google, Grant},
    message::{HistoryId, Message},
    schema,
    store::{Linked, List, Place, Store, StoreError, new_stamp},
    user::User,
};

use self::{metrics::Metrics, turns::Turns};

/// Messages of a mailbox that are kept if the configuration says nothing else.
pub const KEEP_MESSAGES_DEFAULT: usize = 1000;
/// Fewest and most messages of a mailbox that a configuration may ask for.
pub const KEEP_MESSAGES: std::ops::RangeInclusive<usize> = 10..=5000;
/// How long nothing may have been heard of a mailbox before it is looked at, if the configuration says nothing else.
pub const POLL_AFTER_DEFAULT: Duration = Duration::from_secs(600);
/// Most messages of a page.
pub const PAGE_MAX: usize = 100;
/// Longest address of a mailbox, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 320;

/// How mailboxes are kept in sync.
#[derive(Debug, Clone)]
pub struct SyncConfig {
    /// The source of the ingress to which Google delivers, and whose handler is [`Sync::handler`].
    pub source: SourceName,
    /// So many of the newest messages of a mailbox are kept, and as many of those that changed last.
    pub keep_messages: usize,
    /// How long nothing may have been heard of a mailbox before it is looked at.
    pub poll_after: Duration,
}

/// Keeps mailboxes in sync with Gmail. Cheap to clone.
#[derive(Clone)]
pub struct Sync(Arc<Inner>);

/// What the handler and the keeper share.
pub(crate) struct Inner {
    store: Store,
    google: Google,
    config: SyncConfig,
    metrics: Metrics,
    turns: Turns,
    submitter: OnceLock<Submitter>,
    /// The tables are there.
    opened: AtomicBool,
    /// Something has become due.
    due: Notify,
}

/// Why something could not be done for a mailbox. The words are for its owner and for operators; they hold no secrets.
#[derive(Debug, Error)]
pub enum SyncError {
    /// The node has just begun, and the tables are not there yet.
    #[error("the server is starting; try again in a moment")]
    Starting,
    /// The address is none that can be kept.
    #[error("an address is 3 to {ADDRESS_BYTES_MAX} bytes with an @")]
    Address,
    /// The place in the list is none that was given out.
    #[error("write as `before` what the page before gave as `next`")]
    Before,
    /// The database does not answer; try again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which messages of a mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagesQuery<'a> {
    /// Only those with this label, by its id.
    pub label: Option<&'a str>,
    /// Without those in the bin or in spam.
    pub visible: bool,
    /// Only those behind the page that gave this as [`MessagesPage::next`].
    pub before: Option<&'a str>,
    /// How many; at least one and at most [`PAGE_MAX`].
    pub limit: usize,
}

/// Messages of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesPage {
    /// The newest first.
    pub messages: Vec<Message>,
    /// For the next page, if there is one.
    pub next: Option<String>,
    /// How many messages that are kept have the label.
    pub total: u64,
    /// How many of them have not been read.
    pub unread: u64,
}

impl Sync {
    /// A sync on an engine's tables. Nothing happens before [`start`](Self::start).
    #[must_use]
    pub fn new(engine: Arc<Engine>, google: Google, config: SyncConfig) -> Self {
        let (least, most) = KEEP_MESSAGES.into_inner();
        let config = SyncConfig {
            keep_messages: config.keep_messages.clamp(least, most),
            ..config
        };
        Self(Arc::new(Inner {
            store: Store::new(engine),
            google,
            config,
            metrics: Metrics::default(),
            turns: Turns::default(),
            submitter: OnceLock::new(),
            opened: AtomicBool::new(false),
            due: Notify::new(),
        }))
    }

    /// Who works on what Google delivers.
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(handler::Notifications(Arc::clone(&self.0)))
    }

    /// The bounds of the source that [`handler`](Self::handler) is made for.
    #[must_use]
    pub fn terms() -> Terms {
        handler::terms()
    }

    /// Makes the tables in the background, then keeps watches and looks after silence, until the ingress has ended. Once on each
    /// node, within a tokio runtime.
    pub fn start(&self, ingress: &Ingress) {
        if self.0.submitter.set(ingress.submitter()).is_ok() {
            keeper::start(&self.0);
        }
    }

    /// Connects a mailbox, or connects it again: what is kept of it stays, and the sync goes on where it was. If another user
    /// had the address, it is theirs no longer, and their grant is taken back at Google.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn connect(&self, grant: &Grant, address: &str) -> Result<(), SyncError> {
        self.0.check_opened()?;
        let address = address.to_lowercase();
        let fits = (3..=ADDRESS_BYTES_MAX).contains(&address.len());
        if !fits || !address.contains('@') || address.contains('\0') {
            return Err(SyncError::Address);
        }
        let user = grant.user.as_str();
        let now = self.0.store.clock.now();
        let before = self.0.store.account_of(&address).await?;
        let evict = || vec![address.as_str().into(), user.into()];
        let params = vec![
            user.into(),
            address.as_str().into(),
            bytes::Bytes::copy_from_slice(&grant.sealed).into(),
            new_stamp().into(),
            now.into(),
            (-now).into(),
        ];
        let steps = vec![
            Step::new(schema::EVICT_MESSAGES, evict()),
            Step::new(schema::EVICT, evict()),
            Step::some(schema::CONNECT, params),
        ];
        self.0.store.change(steps).await?;
        info!(user = %grant.user, "a mailbox is connected");
        if let Some(evicted) = before.filter(|it| it.account.user != grant.user) {
            // Whoever signs in need not wait for it.
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move { inner.revoke(&evicted.grant).await });
        }
        self.0.submit(&address, HistoryId(0), &asked()).await;
        // Its watch.
        self.0.due.notify_one();
        Ok(())
    }

    /// Ends the connection of a mailbox: Google is told to forget it as far as it can be reached, and all that is kept of
    /// it is deleted. What was published stays in the channel until its retention ends. False if it was not connected.
    ///
    /// # Errors
    /// [`SyncError`]: it is still connected.
    pub async fn disconnect(&self, user: &User) -> Result<bool, SyncError> {
        self.0.check_opened()?;
        let Some(linked) = self.0.store.account(user).await? else {
            return Ok(false);
        };
        // Its owner wants it ended, whether or not Google can be told.
        if let Err(error) = self.0.google.stop(&linked.grant).await {
            warn!(%user, %error, "Google is not told to stop; it does within a week");
        }
        self.0.revoke(&linked.grant).await;
        let account = || vec![user.as_str().into()];
        let steps = vec![
            Step::some(schema::DISCONNECT, account()),
            Step::new(schema::FORGET_MESSAGES, account()),
        ];
        let was_there = self.0.store.change(steps).await?;
        info!(%user, "a mailbox is disconnected");
        Ok(was_there)
    }

    /// A mailbox, if it is connected.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn account(&self, user: &User) -> Result<Option<Account>, SyncError> {
        let linked = self.linked(user).await?;
        Ok(linked.map(|linked| linked.account))
    }

    /// What lets us into a mailbox, if it is connected.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn grant(&self, user: &User) -> Result<Option<Grant>, SyncError> {
        let linked = self.linked(user).await?;
        Ok(linked.map(|linked| linked.grant))
    }

    /// Messages of a mailbox, as they are kept, the newest first.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn messages(
        &self,
        user: &User,
        query: MessagesQuery<'_>,
    ) -> Result<MessagesPage, SyncError> {
        self.0.check_opened()?;
        let before = query
            .before
            .map(|text| Place::parse(text).ok_or(SyncError::Before));
        let before = before.transpose()?;
        let limit = query.limit.clamp(1, PAGE_MAX);
        let store = &self.0.store;
        let list = List {
            label: query.label,
            visible: query.visible,
        };
        let page = store.page(user, list, before.as_ref(), limit + 1);
        let (page, counts) = tokio::join!(page, store.counts(user, list));
        let (mut messages, (total, unread)) = (page?, counts?);
        let more = messages.len() > limit;
        messages.truncate(limit);
        let last = messages.last().filter(|_| more);
        Ok(MessagesPage {
            next: last.map(|last| Place::of(last).to_string()),
            messages,
            total,
            unread,
        })
    }

    /// Asks for a look at Gmail now. False if the mailbox is not connected, or must be connected again.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn sync_now(&self, user: &User) -> Result<bool, SyncError> {
        let Some(linked) = self.linked(user).await? else {
            return Ok(false);
        };
        let now = self.0.store.clock.now();
        let step = Step::some(schema::ASK, vec![user.as_str().into(), (-now).into()]);
        let is_open = self.0.store.change(vec![step]).await?;
        if is_open {
            let address = &linked.account.address;
            self.0.submit(address, HistoryId(0), &asked()).await;
        }
        Ok(is_open)
    }

    /// What is counted, for `/metrics`, whenever it is asked.
    pub fn families(&self) -> impl Fn() -> Vec<Family> + Send + std::marker::Sync + use<> {
        let inner = Arc::clone(&self.0);
        move || inner.metrics.families()
    }

    async fn linked(&self, user: &User) -> Result<Option<Linked>, SyncError> {
        self.0.check_opened()?;
        Ok(self.0.store.account(user).await?)
    }
}

impl Inner {
    fn check_opened(&self) -> Result<(), SyncError> {
        match self.opened.load(Relaxed) {
            true => Ok(()),
            false => Err(SyncError::Starting),
        }
    }

    /// Takes a grant back at Google, as far as it can be reached.
    async fn revoke(&self, grant: &Grant) {
        if let Err(error) = self.google.revoke(grant).await {
            warn!(user = %grant.user, %error, "the grant of a mailbox that is no longer connected is not revoked at Google");
        }
    }

    /// Keeps what Google gave in place of a grant, or what is sealed anew.
    async fn keep_grant(&self, grant: &Grant) {
        let Some(replacement) = self.google.replacement(grant) else {
            return;
        };
        let bytes = |sealed: &[u8]| bytes::Bytes::copy_from_slice(sealed).into();
        let params = vec![
            grant.user.as_str().into(),
            bytes(&grant.sealed),
            bytes(&replacement),
        ];
        let step = Step::new(schema::KEEP_GRANT, params);
        if let Err(error) = self.store.change(vec![step]).await {
            // Until it is kept the one before holds.
            warn!(user = %grant.user, %error, "a new refresh token is not kept yet");
        }
    }

    /// Puts a look at a mailbox behind what Google has told of it. False if that fails; the keeper does it again then, because what is
    /// due stands in the account.
    async fn submit(&self, address: &str, history_id: HistoryId, dedup: &str) -> bool {
        let Some(submitter) = self.submitter.get() else {
            return false;
        };
        let body = json!({"emailAddress": address, "historyId": history_id}).to_string();
        let source = self.config.source.as_str();
        match submitter.submit(source, body.into(), dedup).await {
            Ok(is_new) => {
                if is_new {
                    self.metrics.submitted();
                }
                true
            }
            Err(error) => {
                warn!(%error, "a look at a mailbox has to wait");
                false
            }
        }
    }
}

/// What a look that somebody asks for is known by.
fn asked() -> String {
    format!("asked:{}", Uuid::now_v7())
}
