//! Whole clusters under one seed and a virtual clock.
//!
//! The engine's real code (lanes, intakes, rings, sweeps, healing, shards, passes, joins) runs on a log, a bus and sockets
//! that are simulated, in one thread, with tokio's clock paused. Everything that may vary is drawn from one seed: how long
//! each message between the parts takes, which of them are lost, repeated or overtaken, when the log is away or does not say
//! what became of a commit, at which await a node stops or dies, how slowly a client reads. The same seed gives the same run,
//! so a failure is a number.
//!
//! | file | subject |
//! | --- | --- |
//! | `dice` | everything that is left to chance |
//! | `plan` | what a seed stands for: sizes, and which faults how often |
//! | `log`, `bus`, `links`, `socket` | the world between the nodes |
//! | `node` | one node: the real engine on these |
//! | `session` | a gateway of lines of text, and the breaches that prove the judge |
//! | `client`, `publisher` | who reads, who writes |
//! | `judge` | what happened, and whether it may |
//! | `world` | a run from its beginning to its verdict |

mod bus;
mod client;
mod connection;
mod dice;
mod judge;
mod links;
mod log;
mod node;
mod plan;
mod publisher;
mod session;
mod socket;
mod world;

pub use judge::{Figures, Violation};
pub use plan::{Breach, OwnerFaults, Plan};
pub use world::{Verdict, run};
