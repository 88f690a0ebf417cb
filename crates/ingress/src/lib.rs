//! The webhook ingress: what other systems tell this one, taken once, kept before it is acknowledged, and worked off in order.
//!
//! | step | file | what happens |
//! | --- | --- | --- |
//! | receive | `receive` | `POST /webhooks/{source}`: bounds, then the source's [verification](verify), then the handler's [`Place`] |
//! | submit | [`submit`] | what an app delivers to its own source goes on from here like any other |
//! | keep | `store` | deduplication keys and delivery in one transaction; 2xx only after its commit |
//! | claim | `dispatch` | a node takes a key's deliveries for a while: nobody else works on that key meanwhile |
//! | work | `work` | the [`Handler`] runs; its rows and publications commit together with the acknowledgement |
//! | give up | `store`, [`operator`] | after too many attempts a delivery goes to the dead letters, which an operator lists and replays |
//!
//! Deliveries of one key are worked off one after the other in the order in which they were kept, on whatever node. A
//! node that dies loses its claims when their lease ends; what it had not committed is done again by another.

mod backoff;
pub mod clock;
pub mod delivery;
mod dispatch;
mod metrics;
pub mod operator;
pub mod publish;
mod receive;
pub mod refusal;
mod schema;
mod settle;
pub mod source;
mod store;
pub mod submit;
pub mod verify;
mod work;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use axum::{Router, routing::any};
use fanfare_engine::Engine;
use fanfare_gateway::metrics::Family;
use thiserror::Error;

use crate::{
    dispatch::{Desk, Dispatcher},
    metrics::Metrics,
    receive::Lines,
    store::Store,
};

/// The client that other systems are asked with.
pub use fanfare_gateway::https;

pub use crate::{
    delivery::{Delivery, HandleError, Handler, Place, Unfit},
    source::{Source, SourceName, Terms},
    submit::{SubmitError, Submitter},
};

/// Most sources of a node.
pub const SOURCES_MAX: usize = 64;

/// A configuration of sources that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IngressError {
    /// Two sources have one name.
    #[error("two webhooks are named \"{0}\"; give each a name of its own")]
    Twice(String),
    /// There are more than [`SOURCES_MAX`].
    #[error("there are more than {SOURCES_MAX} webhooks")]
    TooMany,
}

/// A node's webhook ingress.
pub struct Ingress {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
}

/// What receiving, working and operating share.
pub(crate) struct Shared {
    pub(crate) desks: BTreeMap<SourceName, Arc<Desk>>,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    /// The tables are there.
    pub(crate) opened: AtomicBool,
    /// Lines that may still be logged about refusals.
    pub(crate) lines: Lines,
}

impl Ingress {
    /// Starts the ingress of a node on its engine's tables. `node` names the node in claims. The tables are made in the
    /// background: until then deliveries are refused with 503. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`IngressError`]: the sources cannot be served together.
    pub fn start(
        engine: &Arc<Engine>,
        node: &str,
        sources: Vec<Source>,
    ) -> Result<Self, IngressError> {
        if sources.len() > SOURCES_MAX {
            return Err(IngressError::TooMany);
        }
        let mut desks = BTreeMap::new();
        for source in sources {
            let name = source.name.clone();
            let desk = Arc::new(Desk::new(source));
            if desks.insert(name.clone(), desk).is_some() {
                return Err(IngressError::Twice(name.as_str().to_owned()));
            }
        }
        let metrics = Arc::new(Metrics::new(desks.keys()));
        let shared = Arc::new(Shared {
            desks,
            store: Store::new(Arc::clone(engine)),
            metrics,
            opened: AtomicBool::new(false),
            lines: Lines::default(),
        });
        let dispatcher = Dispatcher::start(&shared, node);
        Ok(Self { shared, dispatcher })
    }

    /// `/webhooks/{source}`, for the router of the node.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/webhooks/{source}", any(receive::receive))
            .with_state(Arc::clone(&self.shared))
    }

    /// `/api/webhooks_dead` and `/api/webhooks_replay`, to be guarded like the rest of the server API
    /// ([`Gateway::guarded`](fanfare_gateway::Gateway::guarded)).
    pub fn operator_router(&self) -> Router {
        operator::router(Arc::clone(&self.shared))
    }

    /// For apps that have something to deliver to themselves.
    #[must_use]
    pub fn submitter(&self) -> Submitter {
        Submitter::new(&self.shared)
    }

    /// What it counts, for `/metrics`, whenever it is asked.
    pub fn families(&self) -> impl Fn() -> Vec<Family> + Send + Sync + use<> {
        let metrics = Arc::clone(&self.shared.metrics);
        move || metrics.families()
    }

    /// Begins no more work and waits until what runs is committed or given back. Deliveries are still taken.
    pub async fn stop(&self) {
        self.dispatcher.stop().await;
    }
}
