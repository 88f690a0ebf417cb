//! A bell for readers inside the node that read a channel from the log in pages of their own, at a pace of their own: it
//! rings whenever there may be something new.
//!
//! It stands where a shard stands, as a [`follow`]er does; but it keeps nothing of what it is told, so a reader that
//! takes its time costs no memory. Whoever drops it no longer holds the channel.

use std::{sync::Arc, time::Duration};

use fanfare_wire::ChannelName;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use crate::{
    channels::{Attachment, Channels},
    follow,
    hub::{Inbox, Message},
    task,
};

/// Between two looks whether the channel is live, and of the log that is there now.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A channel's bell. The channel stays live on the node until this is dropped.
#[derive(Debug)]
pub struct Tail {
    bell: Arc<Notify>,
    // Ends the task when it is dropped.
    _open: oneshot::Sender<()>,
}

impl Tail {
    /// Waits until there may be something that was not there when this returned last; at first until the channel is live. May be
    /// dropped and called again.
    pub async fn rings(&self) {
        self.bell.notified().await;
    }
}

struct Listener {
    channels: Arc<Channels>,
    name: ChannelName,
    inbox: Arc<Inbox>,
    bell: Arc<Notify>,
    attachment: Option<Attachment>,
    /// The channel owes an answer.
    has_asked: bool,
}

/// Hangs a bell on a channel.
pub(crate) fn spawn(channels: Arc<Channels>, name: ChannelName) -> Tail {
    let woken = Arc::new(Notify::new());
    let wake = Arc::clone(&woken);
    let inbox = Inbox::new(follow::next_index(), Box::new(move || wake.notify_one()));
    let bell = Arc::new(Notify::new());
    let (open, closed) = oneshot::channel();
    let listener = Listener {
        channels,
        name,
        inbox,
        bell: Arc::clone(&bell),
        attachment: None,
        has_asked: false,
    };
    task::spawn(listener.run(woken, closed));
    Tail { bell, _open: open }
}

impl Listener {
    async fn run(mut self, woken: Arc<Notify>, mut closed: oneshot::Receiver<()>) {
        self.attach();
        loop {
            tokio::select! {
                () = woken.notified() => self.listen(),
                () = sleep(LOOK_INTERVAL) => self.look(),
                _ = &mut closed => break,
            }
        }
        // Who waits is answered, and can be detached then.
        while self.has_asked {
            woken.notified().await;
            self.listen();
        }
        self.detach();
    }

    fn attach(&mut self) {
        self.has_asked = true;
        self.channels.attach(self.name.clone(), &self.inbox);
    }

    fn detach(&mut self) {
        if let Some(attachment) = self.attachment.take() {
            self.channels.detach(&attachment, &self.inbox);
        }
    }

    /// Rings for what came.
    fn listen(&mut self) {
        for message in self.inbox.take(Vec::new()) {
            match message {
                Message::Attached(attachment) => {
                    self.attachment = Some(attachment);
                    self.has_asked = false;
                    self.bell.notify_one();
                }
                Message::AttachFailed { .. } => self.has_asked = false,
                Message::Run(_) => self.bell.notify_one(),
                _ => {}
            }
        }
    }

    fn look(&mut self) {
        let epoch = self.channels.epoch();
        let is_live = self
            .attachment
            .as_ref()
            .is_some_and(|attachment| *attachment.epoch() == epoch);
        if !is_live {
            self.detach();
            self.attach();
        }
    }
}
