//! A reader inside the node: all publications of a channel, from the oldest that the log has, in order, for as long as the
//! node lives. For what every node must know and nobody may lose.
//!
//! It stands where a shard stands: the channel gives it the same news, each once and in order, healed from the log. What
//! was before the channel became live on this node it reads itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use fanfare_wire::{ChannelName, Epoch, Publication, Seq};
use tokio::{sync::Notify, time::sleep};
use tracing::debug;

use crate::{
    channels::{Attachment, Channels},
    epoch::{Epochs, in_one_epoch},
    hub::{Inbox, Message},
    port::{Direction, Log, ReadRange},
    task,
};

/// Publications of one read.
const READ_MAX: usize = 1000;
/// Between two attempts, while the log does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// What a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The next publication.
    Publication(Publication),
    /// Everything that was there when the channel became live on this node has been told.
    CaughtUp,
    /// The log is another one: what was told before may not be in it. It is told from its beginning.
    Reset,
}

/// Takes what is told, one after the other; must not block.
pub type Follower = Box<dyn FnMut(Followed) + Send>;

struct Follow {
    log: Arc<dyn Log>,
    channels: Arc<Channels>,
    name: ChannelName,
    inbox: Arc<Inbox>,
    follower: Follower,
    epoch: Epoch,
    /// The last publication that was told.
    seen: Seq,
}

/// Follows a channel in a task that ends with the node.
pub(crate) fn spawn(
    log: Arc<dyn Log>,
    channels: Arc<Channels>,
    epochs: &Epochs,
    name: ChannelName,
    follower: Follower,
) {
    let bell = Arc::new(Notify::new());
    let ring = Arc::clone(&bell);
    let inbox = Inbox::new(next_index(), Box::new(move || ring.notify_one()));
    let mut follow = Follow {
        epoch: channels.epoch(),
        log,
        channels,
        name,
        inbox,
        follower,
        seen: Seq::ZERO,
    };
    follow.attach();
    epochs.also_tell(&follow.inbox);
    task::spawn(async move {
        loop {
            for message in follow.inbox.take(Vec::new()) {
                follow.on_message(message).await;
            }
            bell.notified().await;
        }
    });
}

/// Shards count from 0 upward, followers and tails from the top downward.
pub(crate) fn next_index() -> usize {
    static FOLLOWERS: AtomicUsize = AtomicUsize::new(usize::MAX);
    FOLLOWERS.fetch_sub(1, Relaxed)
}

impl Follow {
    fn attach(&self) {
        self.channels.attach(self.name.clone(), &self.inbox);
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Attached(attachment) => self.attached(&attachment).await,
            Message::AttachFailed { error, .. } => {
                debug!(channel = %self.name, %error, "cannot be followed yet");
                sleep(RETRY).await;
                self.attach();
            }
            Message::Run(run) if *run.epoch() == self.epoch => {
                // Behind a hole that retention tore, what is left is in the log.
                let before = Seq(run.first().0.saturating_sub(1));
                if self.read_until(before).await {
                    for publication in run.publications() {
                        self.tell(publication);
                    }
                }
            }
            Message::NewEpoch { epoch, .. } if epoch != self.epoch => {
                self.epoch = epoch;
                self.seen = Seq::ZERO;
                (self.follower)(Followed::Reset);
                self.attach();
            }
            _ => {}
        }
    }

    async fn attached(&mut self, attachment: &Attachment) {
        if *attachment.epoch() != self.epoch {
            return;
        }
        if self.read_until(attachment.head_when_attached()).await {
            (self.follower)(Followed::CaughtUp);
        }
    }

    /// Tells what the log has up to `until`. Returns whether that was all of it: not if the epoch changed meanwhile.
    async fn read_until(&mut self, until: Seq) -> bool {
        while self.seen < until {
            let range = ReadRange {
                from: self.seen,
                limit: READ_MAX,
                direction: Direction::Forward,
            };
            let name = &self.name;
            let read = in_one_epoch(&*self.log, |log| log.read(name, range)).await;
            let publications = match read {
                Ok((epoch, _)) if epoch != self.epoch => return false,
                Ok((_, publications)) => publications,
                Err(error) => {
                    debug!(channel = %self.name, %error, "cannot be read yet");
                    sleep(RETRY).await;
                    continue;
                }
            };
            if publications.is_empty() {
                // Retention has taken the rest.
                self.seen = until;
            }
            for publication in &publications {
                self.tell(publication);
            }
        }
        true
    }

    fn tell(&mut self, publication: &Publication) {
        if publication.seq > self.seen {
            self.seen = publication.seq;
            (self.follower)(Followed::Publication(publication.clone()));
        }
    }
}
