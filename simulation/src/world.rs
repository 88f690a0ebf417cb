//! A run, from its beginning to its verdict.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use fanfare_engine::{Engine, Metrics};
use fanfare_wire::{ChannelName, Draft, Json, News, NewsBody};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    bus::Network,
    client::Client,
    dice::Dice,
    judge::{Figures, Judge, Violation},
    links::Links,
    log::Database,
    node::Place,
    plan::{ClientFaults, NodeFaults, Plan},
    publisher::Publisher,
    session::key,
};

/// Faults that last are drawn so often.
const TICK: Duration = Duration::from_millis(100);
/// When everything is well again, everything is everywhere within so long, or never.
const QUIET: Duration = Duration::from_secs(120);

/// The dice of news is that of another seed.
const NEWS: u64 = 0x6e65_7773_0000_0000;
/// So is that of what nodes hand to each other.
const OWNERS: u64 = 0x6f77_6e65_7273_0000;
/// Longest news in bytes.
const NEWS_BYTES_MAX: u64 = 3000;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What it did.
    pub plan: Plan,
    /// What it must not have done; empty in a run that holds.
    pub violations: Vec<Violation>,
    /// How much happened.
    pub figures: Figures,
}

/// A client, and its channels.
type Reader = (usize, Vec<String>);

/// What all parts of a run share.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    /// What happens to news is drawn from a dice of their own.
    news: Dice,
    pub(crate) judge: Judge,
    pub(crate) database: Database,
    pub(crate) network: Network,
    pub(crate) links: Links,
    /// What each node that there was has counted.
    pub(crate) counted: Mutex<Vec<Arc<Metrics>>>,
    pub(crate) channels: Vec<String>,
    places: Vec<Arc<Place>>,
    /// No more faults, no new messages.
    healed: AtomicBool,
    over: AtomicBool,
    numbers: AtomicU64,
}

/// Runs a seed. `change` may change its plan before it begins; `trace` prints everything that happens.
///
/// # Panics
/// If the operating system has no memory for a runtime.
#[must_use]
pub fn run(seed: u64, change: impl FnOnce(&mut Plan), trace: bool) -> Verdict {
    let dice = Dice::new(seed);
    let news = Dice::new(seed ^ NEWS);
    let mut plan = Plan::draw(&dice);
    plan.widen(&Dice::new(!seed));
    plan.tell(&news);
    let owners = Dice::new(seed ^ OWNERS);
    plan.own(&owners);
    change(&mut plan);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs memory only");
    let (violations, figures) = runtime.block_on(live((dice, news, owners), plan.clone(), trace));
    Verdict {
        plan,
        violations,
        figures,
    }
}

async fn live(dice: (Dice, Dice, Dice), plan: Plan, trace: bool) -> (Vec<Violation>, Figures) {
    let world = World::new(dice, plan, trace);
    for (number, place) in world.places.iter().enumerate() {
        place.start(number, &world);
    }
    let mut readers = Vec::new();
    for who in 0..world.plan.clients {
        let channels: Vec<String> = world
            .channels
            .iter()
            .filter(|_| world.dice.chance(0.6))
            .cloned()
            .collect();
        if channels.is_empty() {
            continue;
        }
        tokio::spawn(Client::new(who, Arc::clone(&world), &channels).run());
        readers.push((who, channels));
    }
    if let Some(pause_ms) = world.plan.news_ms {
        tokio::spawn(Arc::clone(&world).tell_news(pause_ms));
    }
    for round in 0..world.plan.rounds {
        if !world.play(round, &readers).await {
            break;
        }
    }
    world.database.compare().await;
    world.over.store(true, SeqCst);
    world.places.iter().for_each(|place| place.end());
    world.network.close();
    world.links.close();
    let (violations, mut figures) = world.judge.verdict();
    let counted = world.counted.lock().unwrap_or_else(PoisonError::into_inner);
    for metrics in &*counted {
        figures.forwarded += metrics.forwarded.value();
        figures.fallbacks += metrics.fallbacks.value();
    }
    (violations, figures)
}

impl World {
    fn new((dice, news, owners): (Dice, Dice, Dice), plan: Plan, trace: bool) -> Arc<Self> {
        let links = Links::new(owners, &plan);
        let judge = Judge::new(plan.bound(), trace);
        let channels: Vec<String> = (1..=plan.channels).map(|at| format!("c{at}")).collect();
        let names = channels
            .iter()
            .filter_map(|name| ChannelName::parse(name).ok())
            .collect();
        Arc::new(Self {
            database: Database::new(dice.clone(), (judge.clone(), links.clone()), names, &plan),
            network: Network::new(dice.clone(), news.clone(), &plan),
            links,
            counted: Mutex::default(),
            places: (0..plan.nodes).map(|_| Arc::default()).collect(),
            channels,
            judge,
            dice,
            news,
            plan,
            healed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
        })
    }

    /// A node that a client happens to find; it may be paused.
    pub(crate) fn some_node(&self) -> Option<Arc<Engine>> {
        self.places[self.dice.index(self.places.len())].engine()
    }

    /// Somebody tells something of no consequence, again and again, through any node.
    async fn tell_news(self: Arc<Self>, pause_ms: u64) {
        while !self.is_over() {
            sleep(self.news.millis(0, pause_ms)).await;
            let channel = &self.channels[self.news.index(self.channels.len())];
            let length = self.news.between(0, NEWS_BYTES_MAX);
            let engine = self.places[self.news.index(self.places.len())].engine();
            let data = Json::parse(crate::session::news(length).as_bytes());
            if let (Some(engine), Ok(channel), Ok(data)) =
                (engine, ChannelName::parse(channel), data)
            {
                let (info, tags) = (None, None);
                let body = NewsBody::Message { data, info, tags };
                engine.tell(News { channel, body });
            }
        }
    }

    /// A number that was not given out before.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, SeqCst)
    }

    /// What happens to nodes now.
    pub(crate) fn node_faults(&self) -> NodeFaults {
        match self.healed.load(SeqCst) {
            true => NodeFaults::default(),
            false => self.plan.node.clone(),
        }
    }

    /// What clients do now.
    pub(crate) fn client_faults(&self) -> ClientFaults {
        match self.healed.load(SeqCst) {
            true => ClientFaults::default(),
            false => self.plan.client.clone(),
        }
    }

    /// Whether new messages are published.
    pub(crate) fn is_inviting(&self) -> bool {
        !self.healed.load(SeqCst)
    }

    /// Whether the verdict is made.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// Faults, their end, and whether everything then becomes complete.
    async fn play(self: &Arc<Self>, round: u64, readers: &[Reader]) -> bool {
        self.break_again();
        let publishers: Vec<_> = (0..self.plan.publishers)
            .map(|_| tokio::spawn(Publisher::new(self.next_number(), Arc::clone(self)).run()))
            .collect();
        let end = Instant::now() + self.plan.duration;
        while Instant::now() < end {
            sleep(TICK).await;
            self.network.tick();
            self.database.tick();
        }
        self.heal();
        for publisher in publishers {
            if tokio::time::timeout(QUIET, publisher).await.is_err() {
                self.judge.unanswered("something of a publisher");
            }
        }
        // What the faults hid must come by itself, not only when another message shows that it is missing.
        if !self.becomes_complete(readers).await {
            return false;
        }
        self.say_last_words(round).await;
        self.becomes_complete(readers).await
    }

    async fn becomes_complete(&self, readers: &[Reader]) -> bool {
        let end = Instant::now() + QUIET;
        let complete = |(who, channels): &Reader| self.judge.is_complete(*who, channels);
        while !readers.iter().all(complete) && Instant::now() < end {
            sleep(TICK).await;
        }
        for (who, channels) in readers {
            self.judge.incomplete(*who, channels);
        }
        readers.iter().all(complete)
    }

    fn break_again(&self) {
        self.healed.store(false, SeqCst);
        self.network.break_again(self.plan.bus.clone());
        self.links.break_again(self.plan.owners.clone());
        self.database.break_again(self.plan.log.clone());
    }

    fn heal(&self) {
        self.healed.store(true, SeqCst);
        self.network.heal();
        self.links.heal();
        self.database.heal();
    }

    /// One more message in each channel, after which nothing comes that could show that it was lost.
    async fn say_last_words(&self, round: u64) {
        for channel in &self.channels {
            let data = Publisher::last_words(self, channel, round);
            let sent = key(data.as_bytes());
            let (Ok(name), Ok(json)) = (ChannelName::parse(channel), Json::parse(data.as_bytes()))
            else {
                continue;
            };
            let mut draft = Draft::new(name, Uuid::nil(), json);
            draft.idempotency_key = Some(sent.clone());
            let until = Instant::now() + QUIET;
            while Instant::now() < until {
                if let Some(engine) = self.some_node()
                    && let Ok(published) = engine.publish(draft.clone()).await
                {
                    let position = (published.epoch.as_str(), published.seq.0);
                    self.judge.acked(channel, position, &sent, None);
                    break;
                }
                sleep(TICK).await;
            }
        }
    }
}
