//! The engine, as the shards of the hub see it.

use std::sync::Arc;

use fanfare_wire::{ChannelName, Epoch, Run, Seq};

use super::Core;
use crate::{
    channels::Attachment,
    heal::Cause,
    hub::{Event, Inbox, Message, Remote, Upstream, session::Call},
    publish::Reply,
    task,
};

/// The engine, as the shards see it.
pub(super) struct Shards(pub(super) Arc<Core>);

impl Upstream for Shards {
    fn epoch(&self) -> Epoch {
        self.0.channels.epoch()
    }

    fn attach(&self, channel: ChannelName, inbox: &Arc<Inbox>) {
        self.0.channels.attach(channel, inbox);
    }

    fn detach(&self, attachment: &Attachment, inbox: &Arc<Inbox>) {
        self.0.channels.detach(attachment, inbox);
    }

    fn refresh(&self, channel: ChannelName, number: u64, inbox: &Arc<Inbox>) {
        let (core, inbox) = (Arc::clone(&self.0), Arc::clone(inbox));
        task::spawn(async move {
            let result = core.head(&channel).await;
            if let Ok((epoch, head)) = &result {
                core.channels.hear(&channel, epoch, *head, Cause::Audit);
            }
            inbox.send(Message::Refreshed {
                channel,
                number,
                result,
            });
        });
    }

    fn cached_page(&self, channel: &ChannelName, seq: Seq) -> Option<Arc<Run>> {
        self.0.pages.cached(channel, seq)
    }

    fn page(&self, channel: ChannelName, seq: Seq, inbox: &Arc<Inbox>) {
        self.0.pages.request(channel, seq, Arc::clone(inbox));
    }

    fn request(&self, call: Call, reply: Remote) {
        match call {
            Call::Publish { tag, draft } => {
                self.0
                    .publisher
                    .publish(draft, Reply::Session { remote: reply, tag });
            }
            Call::Presence { tag, channel } => {
                let presence = Arc::clone(&self.0.presence);
                task::spawn(async move {
                    let members = Arc::new(presence.members(&channel).await);
                    reply.send(Event::Presence { tag, members });
                });
            }
            Call::PresenceStats { tag, channel } => {
                let presence = Arc::clone(&self.0.presence);
                task::spawn(async move {
                    let counted = presence.count(&channel).await;
                    reply.send(Event::PresenceStats { tag, counted });
                });
            }
            Call::History { tag, query } => {
                let core = Arc::clone(&self.0);
                task::spawn(async move {
                    let result = core.history(query).await.map(Arc::new);
                    reply.send(Event::History { tag, result });
                });
            }
        }
    }
}
