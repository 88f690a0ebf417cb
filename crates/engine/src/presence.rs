//! Presence: who is in a channel, on all nodes.
//!
//! A subscription in a channel with presence holds an [`Attendance`]. As long as it lives, this node holds a lease for it in
//! the shared state, and the state tells the channel when it begins and ends: of each connection, or of each user once, with its
//! first lease and its last, as the channel wants it ([`Announced`]). One task brings the leases in line with the attendances, many
//! in one call, so that a herd of clients is not a herd of calls.
//!
//! A connection that drops leaves [`PRESENCE_LINGER`] later: a user who is back by then, on whatever node, was never away. One
//! that is nobody's leaves at once, as nobody could come back as the same member; and so does one that its client has closed,
//! where each connection is told.
//! While the state cannot be reached the answers are what this node knows itself, and say so.

mod book;
mod reads;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fanfare_wire::{ChannelName, Json};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::warn;
use uuid::Uuid;

use self::{
    book::{Batch, Book},
    reads::Reads,
};
use crate::{
    metrics::Metrics,
    port::{
        State,
        state::{Count, Holder, NODE_LEASE, Per, StateError, StateHealth},
    },
    task,
};

/// Most members that one answer lists.
pub const PRESENCE_LIST_MAX: usize = 1000;

/// How long a user's connection that dropped still counts as there.
pub const PRESENCE_LINGER: Duration = Duration::from_secs(3);

/// Leases that are taken or given back by one call.
pub const PRESENCE_BATCH_MAX: usize = 512;

/// How long after a failed call the next one is tried.
const RETRY: Duration = Duration::from_millis(500);

/// How long the state may take to answer a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a question waits for the leases of those who came before it.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How long [`Presence::settle`] waits at most.
const SETTLE: Duration = PRESENCE_LINGER.saturating_add(Duration::from_secs(1));

/// How often it looks.
const SETTLE_INTERVAL: Duration = Duration::from_millis(20);

/// One connection, as others see it in a channel.
#[derive(Debug, Clone)]
pub struct Attendee {
    /// The connection.
    pub client: Uuid,
    /// Whose it is; empty if that is not known. Several connections of one user are one member.
    pub user: Box<str>,
    /// What others may know: a JSON object with `user`, `client` and more.
    pub info: Json,
}

/// What a channel is told of those who are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Nothing.
    Never,
    /// That a connection joins, and that it leaves: of each.
    PerClient,
    /// That a user joins with its first connection, and leaves with its last.
    PerUser,
}

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Connections, at most [`PRESENCE_LIST_MAX`], in no order.
    pub holders: Vec<Holder>,
    /// How many there are, if not all are listed.
    pub total: Option<u64>,
    /// This is only what this node knows, because the shared state does not answer, or there is none.
    pub degraded: bool,
}

/// How many are in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub count: Count,
    /// This is only what this node knows, because the shared state does not answer, or there is none.
    pub degraded: bool,
}

/// The presence of a node's clients, and the questions about that of all.
pub struct Presence {
    state: Arc<dyn State>,
    book: Mutex<Book>,
    /// Rung when something changes; only the task waits for it.
    bell: Notify,
    /// How far the task has brought the state in line.
    done: watch::Sender<u64>,
    /// Since when the state is away.
    down_since: Mutex<Option<Instant>>,
    reads: Reads,
    /// There may be other nodes, and the state is not shared with them.
    is_partial: bool,
    metrics: Arc<Metrics>,
}

/// Keeps a connection present in a channel. Dropped, a user's leaves a moment later, and one that is nobody's at once.
pub struct Attendance {
    presence: Arc<Presence>,
    channel: ChannelName,
    client: Uuid,
    announced: Announced,
    lingers: bool,
}

impl Presence {
    /// Starts the task. Reports of the state come by [`up`](Self::up) and [`down`](Self::down). `is_alone`: there are no
    /// other nodes.
    pub(crate) fn start(state: Arc<dyn State>, is_alone: bool, metrics: Arc<Metrics>) -> Arc<Self> {
        let presence = Arc::new(Self {
            is_partial: !is_alone && state.health() == StateHealth::Local,
            reads: Reads::new(Arc::clone(&state)),
            state,
            book: Mutex::default(),
            bell: Notify::new(),
            done: watch::Sender::new(0),
            down_since: Mutex::new(None),
            metrics,
        });
        task::spawn(Arc::clone(&presence).run());
        presence
    }

    /// A connection is in a channel from now on, which is told of it what `announced` says.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        channel: &ChannelName,
        who: &Arc<Attendee>,
        announced: Announced,
    ) -> Attendance {
        self.book().enter(channel, who, announced);
        self.metrics.attendances.add(1);
        self.bell.notify_one();
        Attendance {
            presence: Arc::clone(self),
            channel: channel.clone(),
            client: who.client,
            announced,
            lingers: !who.user.is_empty(),
        }
    }

    /// Who is in a channel, all those who came to this node before the call included.
    pub async fn members(&self, channel: &ChannelName) -> Members {
        self.catch_up().await;
        let was_down = self.is_down();
        let answer = self.reads.members(channel).await;
        let answer = answer.map(|members| Members {
            degraded: self.is_partial || was_down || self.is_down(),
            ..members
        });
        answer.unwrap_or_else(|_| {
            let book = self.book();
            let holders = book.holders(channel, PRESENCE_LIST_MAX);
            let total = book.count(channel).holders;
            Members {
                total: (total > holders.len() as u64).then_some(total),
                holders,
                degraded: true,
            }
        })
    }

    /// How many are in a channel, all those who came to this node before the call included.
    pub async fn count(&self, channel: &ChannelName) -> Counted {
        self.catch_up().await;
        let was_down = self.is_down();
        match self.reads.count(channel).await {
            Ok(count) => Counted {
                count,
                degraded: self.is_partial || was_down || self.is_down(),
            },
            Err(_) => Counted {
                count: self.book().count(channel),
                degraded: true,
            },
        }
    }

    /// Waits, at the end of the node, until those who were sent away are back elsewhere or have left. Returns at once if
    /// there are no other nodes, or the state is away.
    pub async fn settle(&self) {
        let end = Instant::now() + SETTLE;
        while self.state.health() == StateHealth::Up
            && !self.book().is_settled()
            && Instant::now() < end
        {
            sleep(SETTLE_INTERVAL).await;
        }
    }

    /// The state is there, and may have lost everything.
    pub(crate) fn up(&self) {
        let down_since = self.lock_down().take();
        // In a shorter time nobody took this node for dead, so what it holds was not said to have left.
        let missed = down_since.is_some_and(|since| since.elapsed() >= NODE_LEASE);
        self.book().assert_all(missed);
        self.bell.notify_one();
    }

    /// The state is away.
    pub(crate) fn down(&self) {
        self.lock_down().get_or_insert_with(Instant::now);
    }

    async fn run(self: Arc<Self>) {
        loop {
            let (batch, next) = {
                let mut book = self.book();
                let batch = book.take(Instant::now(), PRESENCE_BATCH_MAX);
                (batch, book.next_departure())
            };
            if batch.is_empty() {
                self.done.send_replace(batch.ticket);
                match next {
                    Some(next) => tokio::select! {
                        () = self.bell.notified() => {}
                        () = sleep_until(next) => {}
                    },
                    None => self.bell.notified().await,
                }
                continue;
            }
            let ticket = batch.ticket;
            match self.carry_out(batch).await {
                Ok(()) => _ = self.done.send_replace(ticket),
                Err(error) => {
                    warn!(%error, "presence is behind");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Comers first: a member that changes its connection does not leave in between.
    async fn carry_out(&self, batch: Batch) -> Result<(), StateError> {
        let Batch {
            enters,
            leaves,
            assertion,
            ..
        } = batch;
        let mut result = Ok(());
        if !enters.is_empty() {
            let leases: Vec<_> = enters.iter().map(book::Entering::lease).collect();
            match in_time(self.state.enter(&leases)).await {
                Ok(_) => self.book().entered(&enters, assertion),
                Err(error) => {
                    self.book().not_entered(&enters);
                    result = Err(error);
                }
            }
        }
        if !leaves.is_empty() {
            let held: Vec<_> = leaves.iter().map(book::Key::held).collect();
            let left = match result {
                Ok(()) => in_time(self.state.leave(&held)).await.map(drop),
                Err(error) => Err(error),
            };
            match left {
                Ok(()) => self.book().left(&leaves),
                Err(_) => self.book().not_left(&leaves),
            }
            result = left;
        }
        result
    }

    /// Waits until the state knows of everybody who came before.
    async fn catch_up(&self) {
        let asked = self.book().ticket();
        let mut done = self.done.subscribe();
        let _ = timeout(CATCH_UP, done.wait_for(|done| *done >= asked)).await;
    }

    /// Whether what the state answers is only what this node knows itself. It is asked all the same: the book would count one
    /// by one, with the shards waiting for it.
    fn is_down(&self) -> bool {
        self.state.health() == StateHealth::Down
    }

    fn end(&self, channel: &ChannelName, client: Uuid, until: Option<Instant>) {
        self.book().end(channel, client, until);
        self.metrics.attendances.add(-1);
        self.bell.notify_one();
    }

    /// Nothing panics while these locks are held, so poisoned ones hold whole data.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_down(&self) -> MutexGuard<'_, Option<Instant>> {
        self.down_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attendance {
    /// Where it is.
    #[must_use]
    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// Leaves at once.
    pub fn leave(mut self) {
        self.lingers = false;
    }

    /// Its client has closed the connection. It leaves at once, unless what is told is told of users: a page that is loaded
    /// again closes its connection too.
    pub fn close(mut self) {
        self.lingers &= self.announced == Announced::PerUser;
    }
}

impl Announced {
    fn per(self) -> Option<Per> {
        match self {
            Self::Never => None,
            Self::PerClient => Some(Per::Lease),
            Self::PerUser => Some(Per::Member),
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let until = self.lingers.then(|| Instant::now() + PRESENCE_LINGER);
        self.presence.end(&self.channel, self.client, until);
    }
}

impl Attendee {
    /// The member: the user, or the connection itself if it is nobody's.
    fn member(&self) -> String {
        match &*self.user {
            "" => self.client.to_string(),
            user => user.to_owned(),
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
    timeout(CALL_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(away()))
}

fn away() -> StateError {
    StateError::Unavailable("it does not answer".to_owned())
}
