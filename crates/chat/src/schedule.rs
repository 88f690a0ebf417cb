//! Messages that are posted later. Every node looks for those whose time has come; a message and the end of its waiting commit together, so it is
//! posted once, whichever nodes try and whenever they die.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use fanfare_engine::port::{
    Transaction,
    tables::{Row, Step},
};
use serde_json::Map;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::{
    Chat,
    failure::{Failure, Way},
    id::Id,
    methods::post::Post,
    ts::Ts,
    unix_seconds,
};

/// How often a node looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Messages that are taken at once: so many of the largest fit into what a statement may return.
const BATCH: usize = 20;
/// How long one waits that could not be posted for a reason that may be gone by then, in seconds.
const RETRY_SECONDS: i64 = 10;

const SELECT_DUE: &str = "SELECT s.id, s.conversation, s.user_id, s.text, s.more, s.thread_ts, s.broadcast, u.deleted \
    FROM chat_scheduled s JOIN chat_users u ON u.id = s.user_id WHERE s.due <= $1 ORDER BY s.due, s.id LIMIT 20";

const DELETE: &str = "DELETE FROM chat_scheduled WHERE id = $1";
const PUT_OFF: &str = "UPDATE chat_scheduled SET due = $2 WHERE id = $1";

/// It is not waiting any more: another node has posted it, or its author has taken it back.
const GONE: &str = "invalid_scheduled_message_id";

/// A message whose time has come.
struct Due {
    id: Id,
    conversation: Id,
    post: Post,
    /// Its author's account is closed.
    is_orphan: bool,
}

/// Posts what is due, for as long as the app lives. Must be called within a tokio runtime.
pub(crate) fn start(chat: &Arc<Chat>) {
    tokio::spawn(run(Arc::downgrade(chat)));
}

async fn run(chat: Weak<Chat>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(chat) = chat.upgrade() else { return };
        if chat.check_ready().is_err() {
            continue;
        }
        if let Err(failure) = chat.post_due(unix_seconds()).await {
            warn!(%failure, "scheduled messages wait");
        }
    }
}

impl Chat {
    /// Posts what is due at a time, in seconds since 1970.
    pub(crate) async fn post_due(&self, now: i64) -> Result<(), Failure> {
        loop {
            let rows = self.engine.query(SELECT_DUE, vec![now.into()]).await?;
            for row in &rows {
                match Due::read(row) {
                    Some(due) => self.post_one(due, now).await?,
                    None => {
                        error!(
                            id = row.text(0),
                            "a row of a scheduled message cannot be read"
                        );
                        self.put_off(row.text(0).unwrap_or_default(), now).await?;
                    }
                }
            }
            if rows.len() < BATCH {
                return Ok(());
            }
        }
    }

    async fn post_one(&self, due: Due, now: i64) -> Result<(), Failure> {
        let Due {
            id,
            conversation,
            post,
            is_orphan,
        } = due;
        let done = Step::some(DELETE, vec![(&id).into()]);
        let posted = match is_orphan {
            true => Err(Failure::new("account_inactive")),
            false => self.post_if(&conversation, post, (done, GONE)).await,
        };
        match posted {
            Ok(posted) if !posted.is_duplicate => Ok(()),
            Err(failure) if failure.is(GONE) => Ok(()),
            // Not committed, or perhaps: it is looked at again, and is not there if it was.
            Err(failure) if failure.way != Way::Answer || failure.is("fatal_error") => Err(failure),
            Err(failure) if failure.is("internal_error") => self.put_off(id.as_str(), now).await,
            // Its author has left, or what it was for is gone.
            Err(failure) => {
                info!(%id, %failure, "a scheduled message is not posted");
                self.note(Step::new(DELETE, vec![(&id).into()])).await
            }
            Ok(_) => self.note(Step::new(DELETE, vec![(&id).into()])).await,
        }
    }

    async fn put_off(&self, id: &str, now: i64) -> Result<(), Failure> {
        let due = now.saturating_add(RETRY_SECONDS);
        self.note(Step::new(PUT_OFF, vec![id.into(), due.into()]))
            .await
    }

    async fn note(&self, step: Step) -> Result<(), Failure> {
        let transaction = Transaction {
            steps: vec![step],
            ..Transaction::default()
        };
        self.engine.transact(transaction).await?;
        Ok(())
    }
}

impl Due {
    fn read(row: &Row) -> Option<Self> {
        let more = match row.text(4) {
            Some(more) => serde_json::from_str(more).ok()?,
            None => Map::new(),
        };
        let broadcast = row.int(6)? != 0;
        Some(Self {
            id: Id::known(row.text(0)?),
            conversation: Id::known(row.text(1)?),
            post: Post {
                user: Id::known(row.text(2)?),
                text: row.text(3)?.to_owned(),
                more,
                thread: row.int(5).map(Ts),
                broadcast,
                key: Some(row.text(0)?.to_owned()),
                subtype: broadcast.then_some("thread_broadcast"),
            },
            is_orphan: row.int(7)? != 0,
        })
    }
}
