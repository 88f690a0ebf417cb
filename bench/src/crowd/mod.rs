//! Subscribers in processes of their own, where one process may not open enough connections, or where two servers are
//! measured in turns and nobody is to be connected anew between them.
//!
//! Each process is this program with the hidden command `bench subscribers`; it ends with this process, however that
//! ends. The clock is that of the machine, so what they measure can be added up.

mod member;
mod message;

pub(crate) use self::member::{look, run};
pub(crate) use self::message::{Look, Party};

use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::clock;
use crate::crowd::message::{Answer, Order};
use crate::error::BenchError;
use crate::fleet::{Findings, Fleet, Jitter};
use crate::latency::Latency;
use crate::local::Process;

/// Subscribers of one process: below the limit of open files of most systems, and below the ports that Linux gives out
/// for one pair of addresses.
pub(crate) const PER_PROCESS: usize = 15_000;

/// The most processes: each has a loopback address of its own.
pub(crate) const PROCESSES_MAX: usize = 200;

/// The first source address is 127.0.0.2: the servers listen on 127.0.0.1.
const FIRST_SOURCE: usize = 2;

/// Whoever listens while something is published.
pub(crate) trait Audience {
    /// Records latencies of what is meant to be sent at `from` or later.
    ///
    /// # Errors
    /// When a part of it has failed.
    fn measure(&self, from: u64) -> Result<(), BenchError>;

    /// How it is.
    ///
    /// # Errors
    /// When a part of it has failed.
    fn look(&self) -> Result<Look, BenchError>;
}

impl Audience for Fleet {
    fn measure(&self, from: u64) -> Result<(), BenchError> {
        Self::measure(self, from)
    }

    fn look(&self) -> Result<Look, BenchError> {
        Ok(look(self))
    }
}

/// All processes. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Crowd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    pipes: RefCell<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    /// Starts `processes` of them for `party`, whose numbers, rate and source address are shared out; nobody connects yet.
    ///
    /// # Errors
    /// When this program cannot be started again, or a process refuses what it is told.
    pub(crate) fn start(party: &Party, processes: usize) -> Result<Self, BenchError> {
        let processes = processes.clamp(1, PROCESSES_MAX);
        let mut members = Vec::with_capacity(processes);
        for _ in 0..processes {
            members.push(Member::start()?);
        }
        let crowd = Self { members };
        let loopback = party.urls.iter().all(|url| url.contains("//127."));
        crowd.all(|index| {
            Order::Begin(Party {
                first: index,
                processes,
                source: loopback.then_some((FIRST_SOURCE + index) as u8),
                connect_rate: party.connect_rate / processes as f64,
                ..party.clone()
            })
        })?;
        Ok(crowd)
    }

    /// Connects up to `clients` subscribers in all; returns how long that took, in seconds.
    ///
    /// # Errors
    /// [`BenchError::NotReady`] when no further one became ready for as long as `patience`.
    pub(crate) fn connect_to(&self, clients: usize, patience: Duration) -> Result<f64, BenchError> {
        let begun = clock::now();
        self.all(|index| Order::Connect {
            clients: share(clients, self.members.len(), index),
            patience_seconds: patience.as_secs(),
        })?;
        Ok(clock::between(begun, clock::now()).as_secs_f64())
    }

    /// Hands over the latencies recorded since it was last asked.
    ///
    /// # Errors
    /// When a process has failed.
    pub(crate) fn take_latency(&self) -> Result<Latency, BenchError> {
        let mut all = Latency::new();
        for answer in self.all(|_| Order::TakeLatency)? {
            if let Answer::Latency(latency) = answer {
                all.merge(&latency);
            }
        }
        Ok(all)
    }

    /// Cuts connections from now on, as told.
    ///
    /// # Errors
    /// When a process has failed.
    pub(crate) fn jitter(&self, jitter: Jitter) -> Result<(), BenchError> {
        self.all(|_| Order::Jitter(jitter)).map(drop)
    }

    /// Waits until everybody has what `expected` says for its channel; returns how many have not when patience ran out.
    ///
    /// # Errors
    /// When a process has failed.
    pub(crate) fn wait_complete(
        &self,
        expected: &[u64],
        patience_seconds: f64,
    ) -> Result<usize, BenchError> {
        let answers = self.all(|_| Order::Await {
            expected: expected.to_vec(),
            patience_seconds,
        })?;
        let lacking = answers.into_iter().map(|answer| match answer {
            Answer::Incomplete(count) => count,
            _ => 0,
        });
        Ok(lacking.sum())
    }

    /// Ends all subscribers and returns what they found.
    ///
    /// # Errors
    /// When a process has failed.
    pub(crate) fn finish(self) -> Result<Findings, BenchError> {
        let mut all: Option<Findings> = None;
        for answer in self.all(|_| Order::Finish)? {
            if let Answer::Findings(findings) = answer {
                match &mut all {
                    Some(all) => all.merge(*findings),
                    None => all = Some(*findings),
                }
            }
        }
        all.ok_or(BenchError::Thread("subscriber"))
    }

    /// The processes, for reading their processor time.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .map(|member| member.process.id())
            .collect()
    }

    /// Tells every process before the first answer is waited for: they work at the same time.
    fn all(&self, order: impl Fn(usize) -> Order) -> Result<Vec<Answer>, BenchError> {
        for (index, member) in self.members.iter().enumerate() {
            member.tell(&order(index))?;
        }
        // All answers are taken, whatever one of them is: otherwise the next order would get an old one.
        let answers: Vec<_> = self.members.iter().map(Member::hear).collect();
        answers.into_iter().collect()
    }
}

impl Audience for Crowd {
    fn measure(&self, from: u64) -> Result<(), BenchError> {
        self.all(|_| Order::Measure(from)).map(drop)
    }

    fn look(&self) -> Result<Look, BenchError> {
        let looks = self.all(|_| Order::Look)?.into_iter();
        Ok(looks.fold(Look::default(), |sum, answer| match answer {
            Answer::Look(look) => sum.plus(look),
            _ => sum,
        }))
    }
}

impl Member {
    fn start() -> Result<Self, BenchError> {
        let program = env::current_exe()
            .map_err(|source| BenchError::system("find the file of this program", source))?;
        let mut command = Command::new(program);
        command
            .args(["bench", "subscribers"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn("fanfare bench subscribers", command, libc::SIGKILL)?;
        let child = process.child();
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Thread("subscriber"));
        };
        Ok(Self {
            process,
            pipes: RefCell::new(Pipes {
                orders,
                answers: BufReader::new(answers),
            }),
        })
    }

    fn tell(&self, order: &Order) -> Result<(), BenchError> {
        let failed = |source| BenchError::system("tell a process of subscribers", source);
        let mut text = serde_json::to_vec(order).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let orders = &mut self.pipes.borrow_mut().orders;
        orders
            .write_all(&text)
            .and_then(|()| orders.flush())
            .map_err(failed)
    }

    fn hear(&self) -> Result<Answer, BenchError> {
        let failed = |source| BenchError::system("hear a process of subscribers", source);
        let mut line = String::new();
        let answers = &mut self.pipes.borrow_mut().answers;
        if answers.read_line(&mut line).map_err(failed)? == 0 {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line).map_err(|error| failed(error.into()))? {
            Answer::NotReady {
                ready,
                wanted,
                seconds,
                reason,
            } => Err(BenchError::NotReady {
                what: "subscribers of one process",
                ready,
                wanted,
                seconds,
                reason,
            }),
            Answer::Failed(reason) => Err(failed(std::io::Error::other(reason))),
            answer => Ok(answer),
        }
    }
}

/// How many of `clients` the process `index` of so many has.
fn share(clients: usize, processes: usize, index: usize) -> usize {
    clients / processes + usize::from(index < clients % processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shared_out_without_rest() {
        for (clients, processes) in [(10, 3), (3, 10), (160_000, 11), (0, 1)] {
            let shares = (0..processes).map(|index| share(clients, processes, index));
            assert_eq!(shares.sum::<usize>(), clients);
        }
    }

    #[test]
    fn orders_and_answers_are_one_line_each() {
        let order = Order::Await {
            expected: vec![3, 4],
            patience_seconds: 1.5,
        };
        let text = serde_json::to_string(&order).unwrap();
        assert!(!text.contains('\n'));
        assert!(matches!(
            serde_json::from_str(&text).unwrap(),
            Order::Await { expected, .. } if expected == [3, 4]
        ));
        let answer = Answer::NotReady {
            ready: 3,
            wanted: 4,
            seconds: 9,
            reason: "a\nb".to_owned(),
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert!(!text.contains('\n'), "{text}");
        let look = Look {
            live: 1,
            delivered: 2,
            violations: 3,
            reconnects: 4,
        };
        assert_eq!(look.plus(look).delivered, 4);
    }
}
