//! A client's connection: lines both ways, and the suspicion that the other end is gone.

use std::{collections::VecDeque, time::Duration};

use fanfare_engine::hub::Sink;
use tokio::time::timeout;

use crate::{
    session::LineSession,
    socket::{self, ClientEnd},
    world::World,
};

/// A silent connection is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(2);
/// One that gives none within so long is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to some node.
pub(crate) struct Connection {
    /// Its number in the run.
    pub(crate) number: u64,
    end: ClientEnd,
    rest: Vec<u8>,
    lines: VecDeque<String>,
}

/// What a wait for a line came to.
pub(crate) enum Heard {
    /// A line.
    Line(String),
    /// Nothing within the time.
    Nothing,
    /// The connection is gone.
    Gone,
}

impl Connection {
    /// Connects to a node that listens; `None` if there is none.
    pub(crate) fn open(world: &World) -> Option<Self> {
        let engine = world.some_node()?;
        let faults = &world.plan.client;
        let (node, end) = socket::connect(&world.dice, faults.capacity, faults.cut_short);
        engine.hub().open(
            Sink::Simulated(Box::new(node)),
            Box::new(LineSession),
            Vec::new(),
        );
        world.judge.connected();
        Some(Self {
            number: world.next_number(),
            end,
            rest: Vec::new(),
            lines: VecDeque::new(),
        })
    }

    /// Sends a line.
    pub(crate) fn send(&self, line: &str) {
        self.end.write(line.as_bytes());
        self.end.write(b"\n");
    }

    /// Waits for a line that says something. A connection without any sign of life is gone.
    pub(crate) async fn hear(&mut self) -> Heard {
        match self.hear_within(SILENCE).await {
            Heard::Nothing => {}
            heard => return heard,
        }
        self.send("ping");
        match self.hear_within(PATIENCE).await {
            Heard::Nothing => Heard::Gone,
            heard => heard,
        }
    }

    /// Waits for a line for so long. A line that only says that the node lives counts as nothing.
    pub(crate) async fn hear_within(&mut self, time: Duration) -> Heard {
        loop {
            match self.lines.pop_front() {
                Some(line) if line == "pong" => return Heard::Line(line),
                Some(line) if line == "bye" => return Heard::Gone,
                Some(line) => return Heard::Line(line),
                None => {}
            }
            let Ok(bytes) = timeout(time, self.end.read()).await else {
                return Heard::Nothing;
            };
            let Some(bytes) = bytes else {
                return Heard::Gone;
            };
            self.rest.extend(bytes);
            let mut taken = 0;
            while let Some(length) = self.rest[taken..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.rest[taken..taken + length]);
                self.lines.push_back(line.into_owned());
                taken += length + 1;
            }
            self.rest.drain(..taken);
        }
    }
}
