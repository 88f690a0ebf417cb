//! What every [`Bus`] promises, as checks that run against any implementation.
//!
//! Each check makes its own nodes and its own channels, so they can run side by side on one network, except for
//! [`survives_an_outage`], which breaks it. A check panics with a sentence when a promise is broken. None of them looks
//! at the clock but to give up.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare_wire::{ChannelName, Epoch, Json, News, NewsBody, Publication, Run, Seq, hint::Hint};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::port::{BoxFuture, Bus, BusEvent, BusEvents, BusHealth};

/// How long a check waits for what must come before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The epoch of all hints here; buses that are bound to an epoch are made with this one.
pub const EPOCH: &str = "contract";

/// Hints in the check of order.
const ORDERED_HINTS: u64 = 10_000;

/// A network under test.
pub trait BusNetwork: Send + Sync {
    /// Makes a node's bus, not yet started.
    fn join(&self) -> Arc<dyn Bus>;

    /// Breaks the path of all nodes.
    fn break_path(&self) -> BoxFuture<'_, ()>;

    /// Makes it whole again.
    fn mend_path(&self) -> BoxFuture<'_, ()>;
}

/// Runs all checks, the breaking one last.
pub async fn check_all(network: &dyn BusNetwork) {
    carries_hints_unchanged(network).await;
    delivers_to_subscribers_only(network).await;
    keeps_order_without_loss(network).await;
    tells_news_once(network).await;
    survives_an_outage(network).await;
}

/// A hint arrives at the other node with every field and every byte as it was, whatever the bytes.
pub async fn carries_hints_unchanged(network: &dyn BusNetwork) {
    let (sender, receiver) = (Node::join(network).await, Node::join(network).await);
    let channel = new_channel();
    receiver.subscribe(&[&channel]).await;
    let data: Vec<u8> = (0..=255)
        .chain([0; 300])
        .chain(b"\r\n$-1\r\n".iter().copied())
        .collect();
    let whole = Publication {
        seq: Seq(u64::MAX - 1),
        id: Uuid::max(),
        time: i64::MIN,
        data: Json::trusted(data.into()),
        info: Some(Json::trusted(b"\0\xff\n".to_vec().into())),
        tags: Some(Json::trusted(b"{}".to_vec().into())),
    };
    let bare = Publication {
        seq: Seq(u64::MAX),
        info: None,
        tags: None,
        ..whole.clone()
    };
    let sent = hint(&channel, -7, u64::MAX, vec![whole, bare]);
    deliver(
        &sender,
        &receiver,
        vec![sent.clone()],
        &[(&channel, sent.n)],
    )
    .await;
    let arrived = receiver.hints(&channel).remove(0);
    assert_eq!((arrived.lane, arrived.n), (sent.lane, sent.n));
    assert_eq!(arrived.run.epoch(), sent.run.epoch());
    assert_eq!(arrived.run.publications(), sent.run.publications());
}

/// Hints come for the channels that were asked for, for no others, and no longer after unsubscribe.
pub async fn delivers_to_subscribers_only(network: &dyn BusNetwork) {
    let (sender, receiver) = (Node::join(network).await, Node::join(network).await);
    let (first, second, other) = (new_channel(), new_channel(), new_channel());
    receiver.subscribe(&[&first]).await;
    receiver.subscribe(&[&first, &second]).await;
    let hints = vec![
        numbered(&other, 1),
        numbered(&first, 1),
        numbered(&second, 1),
    ];
    deliver(&sender, &receiver, hints, &[(&first, 1), (&second, 1)]).await;

    receiver
        .bus
        .unsubscribe(vec![first.clone(), first.clone(), other.clone()]);
    let last = new_channel();
    receiver.subscribe(&[&last]).await;
    let hints = vec![
        numbered(&first, 2),
        numbered(&second, 2),
        numbered(&last, 2),
    ];
    deliver(&sender, &receiver, hints, &[(&second, 2), (&last, 2)]).await;
    assert!(
        receiver.hints(&other).is_empty(),
        "a hint came for a channel that nobody asked for"
    );
    assert!(
        receiver.hints(&first).iter().all(|hint| hint.n == 1),
        "a hint came after unsubscribe"
    );

    receiver.subscribe(&[&first]).await;
    deliver(
        &sender,
        &receiver,
        vec![numbered(&first, 3)],
        &[(&first, 3)],
    )
    .await;
}

/// On a path that does not break, thousands of hints arrive complete and in order; repeats are allowed.
///
/// A path that reports a break while the hints travel has made no promise, so the check starts again.
pub async fn keeps_order_without_loss(network: &dyn BusNetwork) {
    let (sender, receiver) = (Node::join(network).await, Node::join(network).await);
    let round = async {
        loop {
            let channel = new_channel();
            receiver.forget_breaks();
            sender.forget_breaks();
            if !receiver.bus.subscribe(vec![channel.clone()]).await {
                receiver.await_up().await;
                continue;
            }
            for first in (1..=ORDERED_HINTS).step_by(100) {
                let burst = first..(first + 100).min(ORDERED_HINTS + 1);
                sender
                    .bus
                    .publish(burst.map(|number| numbered(&channel, number)).collect());
                tokio::task::yield_now().await;
            }
            let done = |hint: &Hint| hint.n == ORDERED_HINTS;
            receiver
                .wait(|log| log.hints.iter().any(done) || log.breaks > 0)
                .await;
            if receiver.breaks() + sender.breaks() == 0 {
                return receiver.hints(&channel);
            }
        }
    };
    let hints = patient("a healthy path", round).await;
    let mut head = 0;
    for hint in hints {
        assert!(
            hint.n <= head + 1,
            "hint {} came after {head}: lost or out of order",
            hint.n
        );
        head = head.max(hint.n);
    }
    assert_eq!(head, ORDERED_HINTS);
}

/// News arrive at the other nodes that asked for their channel, as they were, in order and once, and not at all at the
/// node that told them, though it asked for the channel too.
///
/// A path that reports a break while they travel has made no promise, so the check starts again.
pub async fn tells_news_once(network: &dyn BusNetwork) {
    let (sender, receiver) = (Node::join(network).await, Node::join(network).await);
    let other = new_channel();
    let round = async {
        loop {
            let channel = new_channel();
            sender.subscribe(&[&channel]).await;
            receiver.subscribe(&[&channel]).await;
            receiver.forget_breaks();
            sender.forget_breaks();
            let sent = pieces_of_news(&channel);
            sender.bus.tell(pieces_of_news(&other).remove(0));
            for news in &sent {
                sender.bus.tell(news.clone());
            }
            // Behind the news on the same way; it comes back to the sender too where a bus does that.
            sender.bus.publish(vec![numbered(&channel, 1)]);
            let behind = (channel.clone(), 1);
            receiver
                .wait(|log| log.seen.contains(&behind) || log.breaks > 0)
                .await;
            if receiver.breaks() + sender.breaks() == 0 {
                let arrived = receiver.news(&channel);
                assert_eq!(arrived, sent, "news did not arrive as they were told");
                return channel;
            }
        }
    };
    let channel = patient("a healthy path", round).await;
    assert!(
        receiver.news(&other).is_empty(),
        "news came for a channel that nobody asked for"
    );
    // What the sender hears of the other node comes behind whatever it would hear of itself.
    let answer = pieces_of_news(&channel).remove(1);
    let answered = async {
        loop {
            sender.await_up().await;
            sender.forget_breaks();
            receiver.bus.tell(answer.clone());
            sender
                .wait(|log| !log.news.is_empty() || log.breaks > 0)
                .await;
            if let Some(first) = sender.news(&channel).first() {
                assert_eq!(*first, answer, "a node was told its own news");
                return;
            }
        }
    };
    patient("an answer", answered).await;
}

/// A break is reported and blocks nobody; afterwards every subscription works again before `Up`, those that were asked
/// for in the meantime included, and those that were given up in the meantime not.
pub async fn survives_an_outage(network: &dyn BusNetwork) {
    let (sender, receiver) = (Node::join(network).await, Node::join(network).await);
    let (before, given_up, during) = (new_channel(), new_channel(), new_channel());
    receiver.subscribe(&[&before, &given_up]).await;
    let (ups, sender_ups) = (receiver.ups(), sender.ups());

    network.break_path().await;
    receiver.await_down().await;
    sender.await_down().await;
    assert_eq!(receiver.bus.health(), BusHealth::Down);
    assert!(
        !receiver.bus.subscribe(vec![during.clone()]).await,
        "confirmed on a broken path"
    );
    receiver.bus.unsubscribe(vec![given_up.clone()]);
    sender.bus.publish(vec![numbered(&before, 1)]);

    network.mend_path().await;
    receiver.wait(|log| log.ups > ups).await;
    sender.wait(|log| log.ups > sender_ups).await;
    let hints = vec![
        numbered(&given_up, 2),
        numbered(&before, 2),
        numbered(&during, 2),
    ];
    deliver(&sender, &receiver, hints, &[(&before, 2), (&during, 2)]).await;
    assert!(
        receiver.hints(&given_up).is_empty(),
        "unsubscribed during the outage, yet it came"
    );
}

/// A started bus and what it has reported; for tests of implementations that go beyond the contract.
pub struct Node {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    recorder: Arc<Recorder>,
}

impl Node {
    /// Joins the network, starts the bus and waits until it is up.
    pub async fn join(network: &dyn BusNetwork) -> Self {
        let node = Self::start(network.join());
        node.await_up().await;
        node
    }

    /// Starts a bus.
    pub fn start(bus: Arc<dyn Bus>) -> Self {
        let recorder = Arc::new(Recorder::default());
        bus.start(Arc::clone(&recorder) as Arc<dyn BusEvents>);
        Self { bus, recorder }
    }

    /// Subscribes, again and again if the path breaks meanwhile, until it is confirmed.
    pub async fn subscribe(&self, channels: &[&ChannelName]) {
        let confirmed = async {
            let channels: Vec<_> = channels.iter().map(|channel| (*channel).clone()).collect();
            while !self.bus.subscribe(channels.clone()).await {
                self.await_up().await;
            }
        };
        patient("the confirmation of a subscribe", confirmed).await;
    }

    /// Waits until the path is up.
    pub async fn await_up(&self) {
        self.wait(|log| log.up).await;
    }

    /// Waits until the path is down.
    pub async fn await_down(&self) {
        self.wait(|log| !log.up).await;
    }

    /// How often `Up` was reported.
    pub fn ups(&self) -> usize {
        self.recorder.log().ups
    }

    /// All hints of a channel so far.
    pub fn hints(&self, channel: &ChannelName) -> Vec<Hint> {
        let log = self.recorder.log();
        log.hints
            .iter()
            .filter(|hint| hint.run.channel() == channel)
            .cloned()
            .collect()
    }

    /// All news of a channel so far.
    pub fn news(&self, channel: &ChannelName) -> Vec<News> {
        let log = self.recorder.log();
        let of = log.news.iter().filter(|news| news.channel == *channel);
        of.cloned().collect()
    }

    fn breaks(&self) -> usize {
        self.recorder.log().breaks
    }

    fn forget_breaks(&self) {
        self.recorder.log().breaks = 0;
    }

    async fn wait(&self, condition: impl Fn(&Log) -> bool) {
        let met = async {
            loop {
                // Registered before the look, so that what happens in between is not missed.
                let news = self.recorder.news.notified();
                let met = {
                    let log = self.recorder.log();
                    assert!(!log.overlapped, "events came two at a time");
                    condition(&log)
                };
                if met {
                    return;
                }
                news.await;
            }
        };
        patient("an event of the bus", met).await;
    }
}

/// Publishes hints and waits until those in `awaited` (channel and `n`) have arrived.
///
/// Whenever the receiver reports a break meanwhile, the hints may be lost, and are published again.
pub async fn deliver(
    sender: &Node,
    receiver: &Node,
    hints: Vec<Hint>,
    awaited: &[(&ChannelName, u64)],
) {
    // How many have arrived, in the order of `awaited`. Nothing that has arrived goes away, so none is looked for twice:
    // the bus must not wait for a look that takes long.
    let known = AtomicUsize::new(0);
    let arrived = |log: &Log| {
        while let Some((channel, n)) = awaited.get(known.load(Ordering::SeqCst)) {
            if !log.seen.contains(&((*channel).clone(), *n)) {
                return false;
            }
            known.fetch_add(1, Ordering::SeqCst);
        }
        true
    };
    loop {
        receiver.await_up().await;
        let breaks = receiver.breaks();
        sender.bus.publish(hints.clone());
        receiver
            .wait(|log| log.breaks != breaks || arrived(log))
            .await;
        if arrived(&receiver.recorder.log()) {
            return;
        }
    }
}

/// A hint with one publication, both numbered `number`.
pub fn numbered(channel: &ChannelName, number: u64) -> Hint {
    let publication = Publication {
        seq: Seq(number),
        id: Uuid::nil(),
        time: 0,
        data: Json::trusted(number.to_string().into_bytes().into()),
        info: None,
        tags: None,
    };
    hint(channel, 1, number, vec![publication])
}

/// News of every kind, with bytes of every kind.
fn pieces_of_news(channel: &ChannelName) -> Vec<News> {
    let info = Json::trusted(b"{\"user\":\"u\"}".to_vec().into());
    let odd = Json::trusted((0..=255).chain(*b"\r\n$-1\r\n").collect::<Vec<u8>>().into());
    let bodies = [
        NewsBody::Message {
            data: odd,
            info: Some(info.clone()),
            tags: Some(Json::trusted(b"{}".to_vec().into())),
        },
        NewsBody::Message {
            data: Json::trusted(b"1".to_vec().into()),
            info: None,
            tags: None,
        },
        NewsBody::Join { info: info.clone() },
        NewsBody::Leave { info },
    ];
    let news = |body| News {
        channel: channel.clone(),
        body,
    };
    bodies.into_iter().map(news).collect()
}

/// A channel that no other check uses.
pub fn new_channel() -> ChannelName {
    let name = format!("check:{}", Uuid::new_v4());
    ChannelName::parse(&name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn hint(channel: &ChannelName, lane: i64, n: u64, publications: Vec<Publication>) -> Hint {
    let epoch = Epoch::parse(EPOCH).unwrap_or_else(|| panic!("{EPOCH} is an epoch"));
    let run = Run::new(channel.clone(), epoch, publications);
    Hint {
        lane,
        n,
        run: run.unwrap_or_else(|| panic!("the publications follow each other")),
    }
}

async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

#[derive(Default)]
struct Recorder {
    log: Mutex<Log>,
    news: Notify,
    busy: AtomicBool,
}

#[derive(Default)]
struct Log {
    hints: Vec<Hint>,
    news: Vec<News>,
    /// The channels and numbers of `hints`.
    seen: HashSet<(ChannelName, u64)>,
    up: bool,
    ups: usize,
    /// Reports of `Gap` and `Down`, and of `Up`, which implies a gap.
    breaks: usize,
    /// Two events were given at the same time.
    overlapped: bool,
}

impl Recorder {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusEvents for Recorder {
    fn on_event(&self, event: BusEvent) {
        let alone = !self.busy.swap(true, Ordering::SeqCst);
        let mut log = self.log();
        log.overlapped |= !alone;
        match event {
            BusEvent::Hint(hint) => {
                log.seen.insert((hint.run.channel().clone(), hint.n));
                log.hints.push(hint);
            }
            BusEvent::News(news) => log.news.push(news),
            BusEvent::Gap => log.breaks += 1,
            BusEvent::Down => {
                log.up = false;
                log.breaks += 1;
            }
            BusEvent::Up => {
                log.up = true;
                log.ups += 1;
                log.breaks += usize::from(log.ups > 1);
            }
        }
        drop(log);
        self.news.notify_waiters();
        self.busy.store(false, Ordering::SeqCst);
    }
}
