//! A client that subscribes: it comes, reads at its own pace, goes without a word, and comes back anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    connection::{Connection, Heard},
    judge::Who,
    world::World,
};

/// One client.
pub(crate) struct Client {
    who: Who,
    world: Arc<World>,
    /// Its channels, and the epoch and number of the last publication of each that it has seen.
    positions: BTreeMap<String, Option<(String, u64)>>,
    /// The subscribe of each channel whose answer is waited for. Another answer is of one that was taken back.
    asked: BTreeMap<String, u32>,
    /// The channels whose subscribe was answered. What others bring is of subscribes that were taken back.
    live: BTreeSet<String>,
    tags: u32,
}

impl Client {
    pub(crate) fn new(who: Who, world: Arc<World>, channels: &[String]) -> Self {
        let positions = channels.iter().map(|name| (name.clone(), None)).collect();
        Self {
            who,
            world,
            positions,
            asked: BTreeMap::new(),
            live: BTreeSet::new(),
            tags: 0,
        }
    }

    /// Reads until the run is over.
    pub(crate) async fn run(mut self) {
        while !self.world.is_over() {
            if let Some(connection) = Connection::open(&self.world) {
                self.read_all(connection).await;
                self.world.judge.disconnected(self.who);
            }
            let away_ms = self.world.client_faults().away_ms.max(1000);
            sleep(self.world.dice.millis(1, away_ms)).await;
        }
    }

    /// Reads until the connection ends, one way or the other.
    async fn read_all(&mut self, mut connection: Connection) {
        let channels: Vec<String> = self.positions.keys().cloned().collect();
        self.live.clear();
        for channel in &channels {
            self.subscribe(channel, &connection);
        }
        let dice = self.world.dice.clone();
        while !self.world.is_over() {
            let faults = self.world.client_faults();
            match connection.hear().await {
                Heard::Line(line) => self.take(&line, &connection).await,
                Heard::Nothing => {}
                Heard::Gone => return,
            }
            if dice.chance(faults.leave) {
                return;
            }
            if dice.chance(faults.resubscribe) {
                let channel = &channels[dice.index(channels.len())];
                self.asked.remove(channel);
                connection.send(&format!("unsub {channel}"));
                if !self.settle(&mut connection).await {
                    return;
                }
                self.live.remove(channel);
                self.subscribe(channel, &connection);
            }
            if faults.slow_ms > 0 {
                sleep(dice.millis(0, faults.slow_ms)).await;
            }
        }
    }

    /// Takes what was on its way before the channel was left. Returns whether the connection still lives.
    async fn settle(&mut self, connection: &mut Connection) -> bool {
        // The answer to a ping comes after everything that was written before.
        let pong = connection.ping();
        loop {
            match connection.hear_within(Duration::from_secs(5)).await {
                Heard::Line(line) if line == pong => return true,
                Heard::Line(line) => self.take(&line, connection).await,
                Heard::Nothing | Heard::Gone => return false,
            }
        }
    }

    fn subscribe(&mut self, channel: &str, connection: &Connection) {
        self.tags += 1;
        let tag = self.tags;
        self.asked.insert(channel.to_owned(), tag);
        self.rewind(channel);
        match self.positions.get(channel).and_then(Option::as_ref) {
            Some((epoch, seq)) => connection.send(&format!("sub {tag} {channel} {epoch} {seq}")),
            None => connection.send(&format!("sub {tag} {channel} live")),
        }
    }

    /// A client may ask for any position, not only for its own.
    fn rewind(&mut self, channel: &str) {
        let dice = &self.world.dice;
        if let Some(Some((_, seq))) = self.positions.get_mut(channel)
            && dice.chance(self.world.client_faults().rewind)
        {
            *seq = dice.between(0, *seq);
            self.world.judge.rewound(self.who, channel, *seq);
        }
    }

    async fn take(&mut self, line: &str, connection: &Connection) {
        let judge = self.world.judge.clone();
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words[0], words.get(1), number(2), words.get(3)) {
            ("pong", Some(_), None, None) => {}
            ("m" | "n" | "t", Some(channel), Some(_), _) if !self.live.contains(*channel) => {}
            ("m", Some(channel), Some(number), Some(data)) => {
                let key = crate::session::key(data.as_bytes());
                judge.received(self.who, channel, number, &key);
                self.moved(channel, number);
            }
            ("n", Some(_), Some(length), Some(data))
                if *data == crate::session::news(length).trim_matches('"') =>
            {
                judge.heard_news();
            }
            ("=", Some(channel), Some(number), Some(recovery)) => {
                let epoch = words.get(4).copied().unwrap_or_default();
                if !self.is_asked(channel, words.get(5)) {
                    return;
                }
                judge.subscribed(self.who, channel, number, recovery, epoch);
                let position = Some((epoch.to_owned(), number));
                self.live.insert((*channel).to_owned());
                self.positions.insert((*channel).to_owned(), position);
            }
            ("t", Some(channel), Some(oldest), None) => {
                judge.truncated(self.who, channel, oldest);
                self.moved(channel, oldest.saturating_sub(1));
            }
            ("!", Some(channel), Some(_), None) if self.is_asked(channel, words.get(2)) => {
                // The log was away.
                sleep(self.world.dice.millis(10, 300)).await;
                self.subscribe(channel, connection);
            }
            ("!", Some(_), Some(_), None) => {}
            _ => judge.strange(format!("client {} was told: {line}", self.who)),
        }
    }

    fn is_asked(&self, channel: &str, tag: Option<&&str>) -> bool {
        let tag = tag.and_then(|tag| tag.parse().ok());
        tag.is_some() && self.asked.get(channel).copied() == tag
    }

    fn moved(&mut self, channel: &str, number: u64) {
        if let Some(Some((_, seq))) = self.positions.get_mut(channel) {
            *seq = number;
        }
    }
}
