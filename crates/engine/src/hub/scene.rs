//! A shard and its clients, all at rest, in one thread: for those who count what a pass costs.
//!
//! From [`Scene::publish`] on everything is what a node runs: the channel's intake and ring, the shard's inbox, the pass, one
//! write for each socket. Missing are the commit before it and epoll around it. There is no other thread, no clock that
//! matters and no chance in it, so what is counted today is counted tomorrow.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
};

use fanfare_wire::{ChannelName, Epoch, Form, FormId, Json, Publication, Run, Seq};
use uuid::Uuid;

use super::{
    Common, Context, Event, Inbox, Message, Remote, Request, Session, Sink, Start, Upstream,
    session::Call, shard::Shard,
};
use crate::{
    channels::{Attachment, Channel},
    metrics::Metrics,
};

/// The form that all clients of a scene have.
const FORM: FormId = FormId(0);
/// The log's epoch.
const EPOCH: &str = "scene";
/// Seconds until a client that takes nothing is cut off; no scene lasts so long.
const STALL_SECONDS: u32 = 3600;

/// Some channels of one shard, each with as many subscribers.
pub struct Scene {
    shard: Shard,
    channels: Vec<Arc<Channel>>,
    /// The other ends of the sockets, those of a channel behind each other.
    peers: Vec<TcpStream>,
    metrics: Arc<Metrics>,
    head: Seq,
    epoch: Epoch,
}

impl Scene {
    /// Connects `subscribers` clients for each of `channels` channels over the loopback interface, all with one wire form.
    ///
    /// # Errors
    /// When sockets cannot be made: each client takes two descriptors.
    pub fn new(channels: usize, subscribers: usize, form: Box<dyn Form>) -> io::Result<Self> {
        let epoch = Epoch::parse(EPOCH).ok_or(io::ErrorKind::InvalidInput)?;
        let channels = (0..channels)
            .map(|at| ChannelName::parse(&format!("scene:{at}")))
            .map(|name| name.map(|name| Channel::live(name, epoch.clone())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let metrics = Arc::new(Metrics::default());
        let common = Arc::new(Common {
            upstream: Arc::new(Above {
                channels: channels.clone(),
                epoch: epoch.clone(),
            }),
            forms: Box::new([form]),
            metrics: Arc::clone(&metrics),
            stall_seconds: STALL_SECONDS,
        });
        let inbox = Inbox::new(0, Box::new(|| {}));
        let mut scene = Self {
            shard: Shard::new(common, inbox),
            channels,
            peers: Vec::new(),
            metrics,
            head: Seq::ZERO,
            epoch,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        for at in 0..scene.channels.len() {
            for _ in 0..subscribers {
                scene.enter(at, &listener)?;
            }
        }
        scene.turn();
        Ok(scene)
    }

    fn enter(&mut self, channel: usize, listener: &TcpListener) -> io::Result<()> {
        self.peers.push(TcpStream::connect(listener.local_addr()?)?);
        let (socket, _) = listener.accept()?;
        self.shard.inbox.send(Message::Open {
            sink: Sink::socket(socket)?,
            session: Box::new(Subscriber(self.channels[channel].name().clone())),
            input: Vec::new(),
        });
        self.turn();
        Ok(())
    }

    /// The next `count` publications of each channel, one run for each: what a node has after a commit.
    #[must_use]
    pub fn runs(&mut self, count: u64, data: &Json) -> Vec<Arc<Run>> {
        let first = self.head.0 + 1;
        self.head = Seq(self.head.0 + count);
        let publication = |number| Publication {
            seq: Seq(number),
            id: Uuid::nil(),
            time: 1_700_000_000_000,
            data: data.clone(),
            info: None,
            tags: None,
        };
        let numbers = first..first + count;
        self.channels
            .iter()
            .filter_map(|channel| {
                let publications = numbers.clone().map(publication).collect();
                Run::new(channel.name().clone(), self.epoch.clone(), publications)
            })
            .collect()
    }

    /// Lets publications pass, as the node does after their commit.
    pub fn publish(&self, runs: &[Arc<Run>]) {
        for (channel, run) in self.channels.iter().cycle().zip(runs) {
            channel.offer(run);
        }
    }

    /// Does all that is due in the shard.
    pub fn turn(&mut self) {
        loop {
            self.shard.take_messages(&mut |_, _| true);
            if !self.shard.turn() {
                break;
            }
        }
    }

    /// How many publications have been written to sockets so far, each counted for each of its subscribers.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.metrics.deliveries.value()
    }

    /// Reads `length` bytes from each client and returns those of the last; all others have got the same, or this fails.
    ///
    /// # Errors
    /// When a socket breaks, or two clients of a channel got different bytes.
    pub fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let subscribers = self.peers.len() / self.channels.len();
        let mut last = Vec::new();
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let mut bytes = vec![0; length];
            peer.read_exact(&mut bytes)?;
            if at % subscribers != 0 && bytes != last {
                return Err(io::Error::other(
                    "clients of one channel got different bytes",
                ));
            }
            last = bytes;
        }
        Ok(last)
    }
}

/// A client of one channel that never says anything.
struct Subscriber(ChannelName);

impl Session for Subscriber {
    fn on_open(&mut self, cx: &mut Context<'_>) {
        cx.request(Request::Subscribe {
            tag: 0,
            channel: self.0.clone(),
            start: Start::Live,
            form: FORM,
            filter: None,
        });
    }

    fn on_bytes(&mut self, bytes: &mut [u8], _: &mut Context<'_>) -> usize {
        bytes.len()
    }

    fn on_event(&mut self, _: Event, _: &mut Context<'_>) {}
}

/// The node above the shard: it has the channels and no log.
struct Above {
    channels: Vec<Arc<Channel>>,
    epoch: Epoch,
}

impl Upstream for Above {
    fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    fn attach(&self, name: ChannelName, inbox: &Arc<Inbox>) {
        if let Some(channel) = self.channels.iter().find(|it| *it.name() == name) {
            channel.attach(inbox);
        }
    }

    fn detach(&self, _: &Attachment, _: &Arc<Inbox>) {}

    fn refresh(&self, _: ChannelName, _: u64, _: &Arc<Inbox>) {}

    fn cached_page(&self, _: &ChannelName, _: Seq) -> Option<Arc<Run>> {
        None
    }

    fn page(&self, _: ChannelName, _: Seq, _: &Arc<Inbox>) {}

    fn request(&self, _: Call, _: Remote) {}
}
