//! A client that subscribes: it comes, reads at its own pace, goes without a word, and comes back anywhere.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// Its channels, and the last number of each that it has seen.
    positions: BTreeMap<String, Option<u64>>,
}

impl Client {
    pub(crate) fn new(who: Who, world: Arc<World>, channels: &[String]) -> Self {
        let positions = channels.iter().map(|name| (name.clone(), None)).collect();
        Self {
            who,
            world,
            positions,
        }
    }

    /// Reads until the run is over.
    pub(crate) async fn run(mut self) {
        while !self.world.is_over() {
            if let Some(connection) = Connection::open(&self.world) {
                self.read_all(connection).await;
                self.world.judge.disconnected(self.who);
            }
            sleep(self.world.dice.millis(1, 1000)).await;
        }
    }

    /// Reads until the connection ends, one way or the other.
    async fn read_all(&mut self, mut connection: Connection) {
        for channel in self.positions.keys() {
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
                let channels: Vec<&String> = self.positions.keys().collect();
                let channel = channels[dice.index(channels.len())].clone();
                connection.send(&format!("unsub {channel}"));
                if !self.settle(&channel, &mut connection).await {
                    return;
                }
                self.subscribe(&channel, &connection);
            }
            if faults.slow_ms > 0 {
                sleep(dice.millis(0, faults.slow_ms)).await;
            }
        }
    }

    /// Takes what was on its way before the channel was left. Returns whether the connection still lives.
    async fn settle(&mut self, channel: &str, connection: &mut Connection) -> bool {
        // The answer to a ping comes after everything that was written before.
        connection.send("ping");
        loop {
            match connection.hear_within(Duration::from_secs(5)).await {
                Heard::Line(line) if line == "pong" => return true,
                // An earlier subscribe failed, and was not tried again before the channel was left.
                Heard::Line(line) if line == format!("! {channel}") => {}
                Heard::Line(line) => self.take(&line, connection).await,
                Heard::Nothing | Heard::Gone => return false,
            }
        }
    }

    fn subscribe(&self, channel: &str, connection: &Connection) {
        match self.positions.get(channel).copied().flatten() {
            Some(position) => connection.send(&format!("sub {channel} {position}")),
            None => connection.send(&format!("sub {channel} live")),
        }
    }

    async fn take(&mut self, line: &str, connection: &Connection) {
        let judge = self.world.judge.clone();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words[0], words.get(1), number(2), words.get(3)) {
            ("pong", None, None, None) => {}
            ("m", Some(channel), Some(number), Some(data)) => {
                let key = crate::session::key(data.as_bytes());
                judge.received(self.who, channel, number, &key);
                self.positions.insert((*channel).to_owned(), Some(number));
            }
            ("=", Some(channel), Some(number), Some(recovery)) => {
                judge.subscribed(self.who, channel, number, recovery);
                self.positions.insert((*channel).to_owned(), Some(number));
            }
            ("t", Some(channel), Some(oldest), None) => {
                judge.truncated(self.who, channel, oldest);
                let position = oldest.saturating_sub(1);
                self.positions.insert((*channel).to_owned(), Some(position));
            }
            ("!", Some(channel), None, None) => {
                // The log was away.
                sleep(self.world.dice.millis(10, 300)).await;
                self.subscribe(channel, connection);
            }
            _ => judge.strange(format!("client {} was told: {line}", self.who)),
        }
    }
}
