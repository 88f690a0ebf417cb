//! The data path of a node: commit, publish, fan out, deliver.
//!
//! Start reading here, in the order in which a message travels:
//!
//! | step | file | what happens |
//! | --- | --- | --- |
//! | publish | [`publish`] | the node's lane gathers drafts, commits them as one batch, acknowledges, hints |
//! | commit | [`port::log`] | the log numbers and stores them: the only truth |
//! | transact | [`transact`] | an app's rows commit together with its publications |
//! | spread | `spread` | what is committed goes to this node's subscribers and, as a hint, to the others |
//! | fan out | `channels`, `intake`, `ring` | whatever the news came by, each publication passes once and in order |
//! | heal | `sweep`, `heal` | what the bus lost is found in the lane log and fetched from the log |
//! | start anew | `epoch` | a database that was restored is another log: nothing of before is mixed with it |
//! | follow | [`follow`] | a reader inside the node, for what every node must know |
//! | tail | [`tail`] | a bell for readers inside the node that read the log themselves |
//! | who is here | [`presence`] | leases of the clients of all nodes in the shared state |
//! | deliver | [`hub`] | cursors move forward over ring and log; every socket is given the same bytes |
//!
//! The engine names no HTTP, SQL or Redis: those stand behind the [ports](port) or in front of the [`Engine`]. Nothing
//! is shown to anyone before the log has committed it.

mod channels;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod engine;
mod epoch;
pub mod follow;
mod heads;
mod heal;
pub mod hub;
mod intake;
pub mod load;
pub mod memory;
pub mod metrics;
mod pages;
pub mod port;
pub mod presence;
pub mod publish;
mod ring;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod spread;
pub mod state;
mod sweep;
pub mod tail;
mod task;
#[cfg(test)]
mod testing;
pub mod transact;

pub use engine::{Engine, EngineConfig, HISTORY_LIMIT_MAX, Readiness};
pub use metrics::Metrics;
pub use presence::{
    Announced, Attendance, Attendee, Counted, Members, PRESENCE_LIST_MAX, Presence,
};
pub use publish::{PublishError, Published};
pub use transact::Done;
