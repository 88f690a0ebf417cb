//! One node: the real engine on a simulated log, bus and sockets, that may stop or die at any await and comes back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{state::MemoryState, tables::NoTables},
    port::Retention,
    simulation::{Scope, Turn},
};
use tokio::time::sleep;

use crate::{session::LineForm, world::World};

/// How often retention is applied.
const RETENTION_INTERVAL: Duration = Duration::from_millis(700);
/// How long a client may take nothing.
const STALL_SECONDS: u32 = 60;

/// A place for a node: it holds one, or the memory of one.
#[derive(Default)]
pub(crate) struct Place {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    engine: Option<Arc<Engine>>,
    scope: Option<Scope>,
}

impl Place {
    /// The engine of the node that runs here, paused or not.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.state().engine.clone()
    }

    /// Starts a node.
    pub(crate) fn start(self: &Arc<Self>, number: usize, world: &Arc<World>) {
        let scope = Scope::new({
            let (place, world) = (Arc::clone(self), Arc::downgrade(world));
            move |scope| match world.upgrade() {
                Some(world) => place.at_await(number, scope, &world),
                None => Turn::Take,
            }
        });
        let retention = world.plan.keep.map(|keep| Retention {
            namespace: String::new(),
            age_max: None,
            count_max: Some(keep),
        });
        let links = Arc::new(world.links.join(&scope));
        let (about, metrics): (Bytes, _) = (links.about(), Arc::new(Metrics::default()));
        world
            .counted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&metrics));
        let config = EngineConfig {
            shards: world.plan.shards,
            retention: retention.into_iter().collect(),
            retention_interval: RETENTION_INTERVAL,
            stall_seconds: STALL_SECONDS,
            about: Arc::new(move || about.clone()),
            metrics: Arc::clone(&metrics),
        };
        let log = Arc::new(world.database.join());
        let bus = Arc::new(world.network.join(&scope));
        let state = Arc::new(MemoryState::alone());
        let form = Box::new(LineForm::new(world.plan.breach));
        let tables = Arc::new(NoTables);
        let started = scope.enter(|| Engine::start(config, log, bus, tables, state, vec![form]));
        match started {
            Ok(engine) => {
                if world.plan.owners.is_some() {
                    scope.enter(|| engine.join(links));
                }
                let mut state = self.state();
                state.engine = Some(engine);
                state.scope = Some(scope);
            }
            Err(error) => world
                .judge
                .strange(format!("a node does not start: {error}")),
        }
    }

    /// Ends all that a node does, for good.
    pub(crate) fn end(&self) {
        let (engine, scope) = {
            let mut state = self.state();
            (state.engine.take(), state.scope.take())
        };
        if let Some(scope) = scope {
            scope.end();
        }
        drop(engine);
    }

    fn at_await(self: &Arc<Self>, number: usize, scope: &Scope, world: &Arc<World>) -> Turn {
        let faults = world.node_faults();
        let dice = &world.dice;
        if dice.chance(faults.crash) {
            world.judge.interrupted(format!("node {number} dies"));
            scope.end();
            let (place, world) = (Arc::clone(self), Arc::clone(world));
            tokio::spawn(async move {
                // What is left of it is dropped outside of its own tasks.
                place.end();
                sleep(world.dice.millis(1, 2000)).await;
                if !world.is_over() {
                    place.start(number, &world);
                }
            });
        } else if dice.chance(faults.pause) {
            let time = dice.millis(1, faults.pause_ms);
            world
                .judge
                .interrupted(format!("node {number} stops for {time:?}"));
            scope.pause();
            let scope = scope.clone();
            tokio::spawn(async move {
                sleep(time).await;
                scope.resume();
            });
        } else if dice.chance(faults.yields) {
            return Turn::Yield;
        }
        Turn::Take
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
