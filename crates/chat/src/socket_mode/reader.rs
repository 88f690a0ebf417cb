//! The reader of an app on a node: one task for as long as the app has a socket here.
//!
//! The node with the newest socket claims the app's row and reads; the others look every beat whether the row is free, or whether its reader has
//! shown no sign of life for a few beats, and take over then. Two may read for a moment: then something comes twice, and what either of them
//! knows to be acknowledged counts.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use fanfare_engine::{hub::HistoryQuery, port::Direction, tail::Tail};
use fanfare_wire::{ChannelName, Seq};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    App, COMMANDS_MAX,
    deliveries::{Deliveries, SocketId},
    envelope::{Event, Told},
    store::Holder,
};
use crate::{Chat, failure::Failure, id::Id};

/// Beats without a sign of life of another node's reader, after which it counts as dead.
const SILENT_BEATS: u32 = 3;
/// How long envelopes wait when no socket has room.
const NO_ROOM: std::time::Duration = std::time::Duration::from_millis(200);

/// What sockets say.
pub(super) enum Command {
    /// One has come, with where to put what it is to send.
    Joined(SocketId, mpsc::Sender<Utf8Bytes>),
    /// An envelope was acknowledged.
    Acknowledged(Uuid),
    /// One takes nothing new any more; it still acknowledges.
    Retired(SocketId),
    /// One is gone.
    Left(SocketId),
}

/// See the [module](self).
pub(super) struct Reader {
    chat: Arc<Chat>,
    app: App,
    channel: ChannelName,
    /// What the row calls it.
    name: String,
    queue: mpsc::Receiver<Command>,
    tail: Tail,
    /// Those that take something, the one that is next in front.
    lines: std::collections::VecDeque<Line>,
    deliveries: Deliveries,
    /// What the row says is acknowledged.
    kept: Seq,
    role: Role,
    /// There may be something to read.
    has_news: bool,
    /// No socket had room: until then nothing is sent, so that nothing overtakes.
    full_until: Option<Instant>,
}

struct Line {
    socket: SocketId,
    out: mpsc::Sender<Utf8Bytes>,
}

/// Whether it reads.
enum Role {
    Reads,
    /// It is to claim the row as soon as the database answers.
    Wants,
    /// Another one reads, or nobody: as it was seen last, and for how many beats.
    Waits(Option<Holder>, u32),
}

impl Reader {
    pub(super) fn new(
        chat: &Arc<Chat>,
        app: &App,
        queue: mpsc::Receiver<Command>,
    ) -> Result<Self, Failure> {
        let channel = app.id.channel(crate::APPS)?;
        Ok(Self {
            tail: chat.engine.tail(channel.clone()),
            chat: Arc::clone(chat),
            app: app.clone(),
            channel,
            name: Uuid::new_v4().simple().to_string(),
            queue,
            lines: std::collections::VecDeque::new(),
            deliveries: Deliveries::from(Seq::ZERO),
            kept: Seq::ZERO,
            role: Role::Waits(None, 0),
            has_news: false,
            full_until: None,
        })
    }

    /// Until the last socket is gone.
    pub(super) async fn run(mut self) {
        let mut beat = interval(self.chat.sockets.timing.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.next_due();
            tokio::select! {
                command = self.queue.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                () = self.tail.rings() => self.has_news = true,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = beat.tick() => self.beat().await,
            }
            // Whoever has said that it takes nothing any more is given nothing, whatever woke the reader.
            self.obey_all();
            if let Err(failure) = self.step().await {
                // The next beat tries again.
                debug!(app = %self.app.id, %failure, "an app waits for the database");
            }
        }
        self.end().await;
    }

    fn next_due(&self) -> Option<Instant> {
        let sends = matches!(self.role, Role::Reads) && !self.lines.is_empty();
        let due = sends.then(|| self.deliveries.next_due()).flatten();
        due.map(|due| self.full_until.map_or(due, |until| due.max(until)))
    }

    fn obey_all(&mut self) {
        for _ in 0..COMMANDS_MAX {
            match self.queue.try_recv() {
                Ok(command) => self.obey(command),
                Err(_) => break,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Joined(socket, out) => {
                self.lines.push_front(Line { socket, out });
                if !matches!(self.role, Role::Reads) {
                    self.role = Role::Wants;
                }
            }
            Command::Acknowledged(envelope) => {
                if self.deliveries.acknowledge(envelope) {
                    self.chat
                        .sockets
                        .counters
                        .acknowledged
                        .fetch_add(1, Relaxed);
                }
            }
            Command::Retired(socket) => self.lines.retain(|line| line.socket != socket),
            Command::Left(socket) => {
                self.lines.retain(|line| line.socket != socket);
                self.deliveries.lost(socket, Instant::now());
            }
        }
    }

    /// Does what can be done now.
    async fn step(&mut self) -> Result<(), Failure> {
        if matches!(self.role, Role::Wants) {
            self.claim(None).await?;
        }
        if matches!(self.role, Role::Reads) && !self.lines.is_empty() {
            self.send();
            while matches!(self.role, Role::Reads) && self.has_news && self.deliveries.room() > 0 {
                self.read().await?;
                self.send();
            }
        }
        self.keep().await
    }

    async fn claim(&mut self, instead_of: Option<&Holder>) -> Result<(), Failure> {
        let claimed = self
            .chat
            .claim(&self.app.id, &self.name, instead_of)
            .await?;
        let Some(acknowledged) = claimed else {
            self.role = Role::Waits(None, 0);
            return Ok(());
        };
        debug!(app = %self.app.id, %acknowledged, "reads for an app");
        self.kept = acknowledged;
        // What this node knows to be acknowledged may not be in the row yet.
        self.deliveries = Deliveries::from(acknowledged.max(self.deliveries.acknowledged()));
        self.role = Role::Reads;
        self.has_news = true;
        Ok(())
    }

    /// Reads a page, as far as there is room.
    async fn read(&mut self) -> Result<(), Failure> {
        let after = self.deliveries.read();
        let query = HistoryQuery {
            channel: self.channel.clone(),
            since: Some((None, after)),
            limit: self.deliveries.room(),
            direction: Direction::Forward,
        };
        let limit = query.limit;
        let page = self.chat.engine.history(query).await;
        let page = page.map_err(|_| Failure::away())?;
        // What was read before somebody else claimed the app is not in question; what was read after is theirs to give.
        let holder = self.chat.holder(&self.app.id).await?;
        if holder.is_none_or(|holder| holder.name != self.name) {
            self.role = Role::Waits(None, 0);
            self.has_news = false;
            return Ok(());
        }
        if page.trimmed > after {
            self.note_missed(page.trimmed.0 - after.0);
            self.deliveries.skip_to(page.trimmed);
        }
        let count = page.publications.len();
        let mut rooms = Rooms::default();
        for publication in &page.publications {
            let mut envelopes = Vec::new();
            for (at, event) in Told::read(publication).into_iter().enumerate() {
                if self.may_hear(&event, &mut rooms).await? {
                    envelopes.extend(event.envelopes(&self.app, publication, at));
                }
            }
            self.deliveries
                .add(publication.seq, envelopes, Instant::now());
        }
        // A page may end early because of its weight: then there is more.
        self.has_news = count == limit || (count > 0 && self.deliveries.read() < page.head);
        Ok(())
    }

    fn note_missed(&self, count: u64) {
        self.chat.sockets.counters.missed.fetch_add(count, Relaxed);
        warn!(app = %self.app.id, count, "an app was away for longer than its events are kept");
    }

    /// Whether the bot is in the conversation now, or is being told that it is not any more.
    async fn may_hear(&self, event: &Event, rooms: &mut Rooms) -> Result<bool, Failure> {
        let bot = &self.app.bot_user;
        let Some(conversation) = event.conversation() else {
            return Ok(true);
        };
        if event.is_farewell_to(bot) {
            return Ok(true);
        }
        if let Some((_, is_member)) = rooms.0.iter().find(|(id, _)| *id == conversation) {
            return Ok(*is_member);
        }
        let is_member = self.chat.is_member(&conversation, bot).await?;
        rooms.0.push((conversation, is_member));
        Ok(is_member)
    }

    /// Sends what is due, in order, each to the socket whose turn it is.
    fn send(&mut self) {
        let now = Instant::now();
        let is_full = self.full_until.is_some_and(|until| now < until);
        if is_full || !matches!(self.role, Role::Reads) {
            return;
        }
        let (timing, counters) = (self.chat.sockets.timing, &self.chat.sockets.counters);
        for due in self.deliveries.due(now) {
            let text = Utf8Bytes::from(due.envelope.text(due.attempts, due.repeat));
            // A repetition goes to another socket than the one that did not acknowledge, if there is one.
            let is_fresh = |line: &Line| Some(line.socket) != due.socket;
            let fresh = (0..self.lines.len()).filter(|at| is_fresh(&self.lines[*at]));
            let rest = (0..self.lines.len()).filter(|at| !is_fresh(&self.lines[*at]));
            let takes = |at: &usize| self.lines[*at].out.try_send(text.clone()).is_ok();
            let Some(at) = fresh.chain(rest).find(takes) else {
                self.full_until = Some(now + NO_ROOM);
                break;
            };
            if let Some(line) = self.lines.remove(at) {
                let (patience, most) = (timing.acknowledge, timing.repeat_max);
                self.deliveries
                    .sent(due.key, line.socket, now, patience, most);
                self.lines.push_back(line);
            }
            match due.attempts {
                0 => counters.sent.fetch_add(1, Relaxed),
                _ => counters.repeated.fetch_add(1, Relaxed),
            };
        }
    }

    async fn keep(&mut self) -> Result<(), Failure> {
        let acknowledged = self.deliveries.acknowledged();
        if acknowledged > self.kept {
            self.chat.keep(&self.app.id, acknowledged).await?;
            self.kept = acknowledged;
        }
        Ok(())
    }

    /// Shows a sign of life, or looks for one.
    async fn beat(&mut self) {
        let result = match self.role {
            Role::Reads if self.lines.is_empty() => self.hand_over().await,
            Role::Reads => self.hold().await,
            Role::Wants => Ok(()),
            Role::Waits(..) if self.lines.is_empty() => Ok(()),
            Role::Waits(..) => self.look().await,
        };
        if let Err(failure) = result {
            debug!(app = %self.app.id, %failure, "an app waits for the database");
        }
    }

    async fn hold(&mut self) -> Result<(), Failure> {
        if !self.chat.beat(&self.app.id, &self.name).await? {
            debug!(app = %self.app.id, "another node reads for an app");
            self.role = Role::Waits(None, 0);
        }
        // What the bell has missed, whatever the reason, waits no longer than a beat.
        self.has_news = true;
        Ok(())
    }

    /// No socket here takes anything new: another node's may.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        self.chat.release(&self.app.id, &self.name).await?;
        self.role = Role::Waits(None, 0);
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let Some(holder) = self.chat.holder(&self.app.id).await? else {
            return Ok(());
        };
        let Role::Waits(seen, beats) = &mut self.role else {
            return Ok(());
        };
        match seen.as_ref() == Some(&holder) {
            true => *beats += 1,
            false => (*seen, *beats) = (Some(holder.clone()), 0),
        }
        let is_free = holder.name.is_empty() || *beats >= SILENT_BEATS;
        match is_free {
            true => self.claim(Some(&holder)).await,
            false => Ok(()),
        }
    }

    async fn end(&mut self) {
        let kept = self.keep().await;
        let released = self.chat.release(&self.app.id, &self.name).await;
        if let Err(failure) = kept.and(released) {
            // Another reader repeats a little, after a few beats.
            debug!(app = %self.app.id, %failure, "the end of an app's reader is not noted");
        }
    }
}

/// Where the bot is, looked up once for a page.
#[derive(Default)]
struct Rooms(Vec<(Id, bool)>);
