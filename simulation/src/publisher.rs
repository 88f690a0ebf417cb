//! A client that publishes: several messages under way at once, each sent again, through any node, until it is answered.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    connection::{Connection, Heard},
    session::{LAST, key, payload},
    world::World,
};

/// How long an answer may take before the message is sent again elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that wait to be sent while the window is full.
const DUE_MAX: usize = 64;

/// One publisher.
pub(crate) struct Publisher {
    name: u64,
    world: Arc<World>,
    made: u64,
    /// When the next message is due.
    next_at: Instant,
    /// To be sent, again or for the first time.
    due: VecDeque<Message>,
    /// Sent over the present connection, by tag.
    under_way: BTreeMap<u32, Message>,
    /// Asked for in history, by tag.
    asked: BTreeMap<u32, Asked>,
    tags: u32,
}

/// What history must have.
struct Asked {
    channel: String,
    epoch: String,
    number: u64,
    key: String,
}

struct Message {
    channel: String,
    data: String,
    /// Connections it was sent over.
    attempts: u32,
    /// Its place among the sends of its connection.
    place: u64,
}

impl Publisher {
    pub(crate) fn new(name: u64, world: Arc<World>) -> Self {
        Self {
            name,
            world,
            made: 0,
            next_at: Instant::now(),
            due: VecDeque::new(),
            under_way: BTreeMap::new(),
            asked: BTreeMap::new(),
            tags: 0,
        }
    }

    /// Publishes while the run invites to, and ends when everything is answered.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(connection) = Connection::open(&self.world) {
                self.use_up(connection).await;
                // What was not answered is sent again, in the order in which it was sent.
                let unanswered = std::mem::take(&mut self.under_way);
                for message in unanswered.into_values().rev() {
                    self.due.push_front(message);
                }
                self.asked.clear();
            }
            if self.is_done() {
                return;
            }
            sleep(self.world.dice.millis(1, 500)).await;
        }
    }

    /// The last message of a round.
    pub(crate) fn last_words(world: &World, channel: &str, round: u64) -> String {
        let key = format!("{LAST}{round}{channel}");
        world.judge.sent(&key, channel);
        payload(&key, 0)
    }

    fn is_done(&self) -> bool {
        !self.world.is_inviting() && self.due.is_empty() && self.under_way.is_empty()
    }

    /// Uses a connection until it ends or everything is answered.
    async fn use_up(&mut self, mut connection: Connection) {
        let mut place = 0;
        while !self.is_done() {
            self.make();
            while self.under_way.len() < self.world.plan.window
                && let Some(mut message) = self.due.pop_front()
            {
                place += 1;
                message.place = place;
                message.attempts += 1;
                let tag = self.tag();
                connection.send(&format!("pub {tag} {} {}", message.channel, message.data));
                self.under_way.insert(tag, message);
            }
            let time = match self.world.is_inviting() {
                true => self.next_at.saturating_duration_since(Instant::now()),
                false => PATIENCE,
            };
            match connection.hear_within(time).await {
                Heard::Line(line) => self.take(&line, &connection),
                Heard::Nothing if self.world.is_inviting() && !self.is_late() => {}
                Heard::Nothing | Heard::Gone => return,
            }
            if self.world.dice.chance(self.world.client_faults().leave) {
                return;
            }
        }
    }

    /// Something under way may be lost: every now and then all of it is sent again elsewhere.
    fn is_late(&self) -> bool {
        !self.under_way.is_empty() && self.world.dice.chance(0.01)
    }

    /// Invents what is due; sometimes several messages at once.
    fn make(&mut self) {
        while self.world.is_inviting() && self.next_at <= Instant::now() && self.due.len() < DUE_MAX
        {
            if !self.world.dice.chance(0.3) {
                self.next_at += Duration::from_millis(self.world.plan.pause_ms);
            }
            self.make_one();
        }
    }

    fn make_one(&mut self) {
        let world = &self.world;
        self.made += 1;
        let channel = world.channels[world.dice.index(world.channels.len())].clone();
        let key = format!("p{}m{}", self.name, self.made);
        world.judge.sent(&key, &channel);
        self.due.push_back(Message {
            channel,
            data: payload(&key, world.dice.between(0, world.plan.payload_max)),
            attempts: 0,
            place: 0,
        });
    }

    fn take(&mut self, line: &str, connection: &Connection) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let tag = words.get(1).and_then(|tag| tag.parse::<u32>().ok());
        match (words[0], tag, words.get(2)) {
            ("ok", Some(tag), Some(number)) => {
                let Some(message) = self.under_way.remove(&tag) else {
                    self.world
                        .judge
                        .strange(format!("an answer to nothing: {line}"));
                    return;
                };
                let number = number.parse().unwrap_or(0);
                let epoch = words.get(3).copied().unwrap_or_default();
                let key = key(message.data.as_bytes());
                let pipeline =
                    (message.attempts == 1).then_some((connection.number, message.place));
                self.world
                    .judge
                    .acked(&message.channel, (epoch, number), &key, pipeline);
                if self.world.dice.chance(0.1) {
                    let tag = self.tag();
                    let after = number.saturating_sub(1);
                    connection.send(&format!("hist {tag} {} {epoch} {after}", message.channel));
                    let asked = Asked {
                        channel: message.channel,
                        epoch: epoch.to_owned(),
                        number,
                        key,
                    };
                    self.asked.insert(tag, asked);
                }
            }
            ("pong", Some(_), None) => {}
            ("no", Some(tag), None) => {
                if let Some(message) = self.under_way.remove(&tag) {
                    self.due.push_back(message);
                }
            }
            ("h", Some(tag), Some(data)) => {
                let Some(asked) = self.asked.remove(&tag) else {
                    return;
                };
                let found = (*data != "-").then(|| key(data.as_bytes()));
                if *data != "!" {
                    self.world.judge.read(
                        &asked.channel,
                        (&asked.epoch, asked.number),
                        &asked.key,
                        found.as_deref(),
                    );
                }
            }
            _ => self
                .world
                .judge
                .strange(format!("publisher {} was told: {line}", self.name)),
        }
    }

    fn tag(&mut self) -> u32 {
        self.tags += 1;
        self.tags
    }
}
