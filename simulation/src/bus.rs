//! The bus between simulated nodes: it loses, repeats, delays and reorders hints, loses and delays news, and cuts nodes off.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::{
    port::{BoxFuture, Bus, BusEvent, BusEvents, BusHealth},
    simulation::Scope,
};
use fanfare_wire::{ChannelName, News, hint::Hint};
use tokio::time::sleep;

use crate::{
    dice::Dice,
    plan::{Breach, BusFaults, Plan},
};

/// After so long a node notices that it no longer hears itself.
const NOTICED_AFTER: Duration = Duration::from_millis(1500);

/// The path between all nodes.
#[derive(Clone)]
pub(crate) struct Network(Arc<Inner>);

struct Inner {
    dice: Dice,
    /// For news, so that they change nothing for hints.
    news: Dice,
    is_mute: bool,
    state: Mutex<State>,
}

struct State {
    faults: BusFaults,
    silent: bool,
    ends: Vec<Arc<End>>,
}

/// One node's end.
pub(crate) struct NodeBus {
    network: Network,
    end: Arc<End>,
}

struct End {
    scope: Scope,
    state: Mutex<EndState>,
}

#[derive(Default)]
struct EndState {
    events: Option<Arc<dyn BusEvents>>,
    channels: BTreeSet<ChannelName>,
    cut: bool,
    /// The node knows that it is cut off.
    down: bool,
    /// How often the path was cut, so that a late notice is not taken for the present.
    cuts: u32,
}

impl Network {
    pub(crate) fn new(dice: Dice, news: Dice, plan: &Plan) -> Self {
        Self(Arc::new(Inner {
            dice,
            news,
            is_mute: plan.breach == Some(Breach::NoHints),
            state: Mutex::new(State {
                faults: plan.bus.clone(),
                silent: false,
                ends: Vec::new(),
            }),
        }))
    }

    /// A node's end; it leaves when its scope ends.
    pub(crate) fn join(&self, scope: &Scope) -> NodeBus {
        let end = Arc::new(End {
            scope: scope.clone(),
            state: Mutex::default(),
        });
        let mut state = self.state();
        state.ends.retain(|end| {
            let ended = end.scope.is_ended();
            if ended {
                end.state().events = None;
            }
            !ended
        });
        state.ends.push(Arc::clone(&end));
        drop(state);
        NodeBus {
            network: self.clone(),
            end,
        }
    }

    /// What may happen in a tenth of a second.
    pub(crate) fn tick(&self) {
        let (ends, faults) = {
            let state = self.state();
            (state.ends.clone(), state.faults.clone())
        };
        let dice = &self.0.dice;
        for end in &ends {
            let cut = end.state().cut;
            match cut {
                false if dice.chance(faults.cut) => end.cut(),
                true if dice.chance(0.1) => end.mend(dice.millis(0, 500)),
                _ => {}
            }
        }
        let mut state = self.state();
        match state.silent {
            false => state.silent = dice.chance(faults.silence),
            true => state.silent = !dice.chance(0.2),
        }
    }

    /// Begins with faults.
    pub(crate) fn break_again(&self, faults: BusFaults) {
        self.state().faults = faults;
    }

    /// Ends the faults that last. Hints are lost, repeated and late as before: the last message is where it shows.
    pub(crate) fn heal(&self) {
        let ends = {
            let mut state = self.state();
            state.faults.cut = 0.0;
            state.faults.silence = 0.0;
            state.silent = false;
            state.ends.clone()
        };
        for end in ends {
            if end.state().cut {
                end.mend(Duration::from_millis(100));
            }
        }
    }

    /// Lets go of all nodes.
    pub(crate) fn close(&self) {
        for end in std::mem::take(&mut self.state().ends) {
            end.state().events = None;
        }
    }

    fn spread(&self, hint: &Bytes, channel: &ChannelName) {
        let (ends, faults) = {
            let state = self.state();
            if state.silent || self.0.is_mute {
                return;
            }
            (state.ends.clone(), state.faults.clone())
        };
        let dice = &self.0.dice;
        for end in ends {
            let wants = {
                let state = end.state();
                state.channels.contains(channel) && !state.cut
            };
            if !wants || dice.chance(faults.lose) {
                continue;
            }
            for _ in 0..1 + u8::from(dice.chance(faults.repeat)) {
                let delay = match dice.chance(faults.slow) {
                    true => dice.millis(0, faults.slow_ms),
                    false => dice.micros(50, 2000),
                };
                end.deliver(hint.clone(), delay);
            }
        }
    }

    /// News reach the other nodes at most once, and soon or not at all.
    fn spread_news(&self, from: &Arc<End>, news: &News) {
        let (ends, silent) = {
            let state = self.state();
            (state.ends.clone(), state.silent || self.0.is_mute)
        };
        let dice = &self.0.news;
        for end in ends {
            let wants = {
                let state = end.state();
                state.channels.contains(&news.channel) && !state.cut
            };
            if !wants || silent || Arc::ptr_eq(&end, from) || dice.chance(0.1) {
                continue;
            }
            end.tell(news.clone(), dice.micros(50, 5000));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    fn deliver(self: &Arc<Self>, hint: Bytes, delay: Duration) {
        let end = Arc::clone(self);
        self.scope.spawn(async move {
            sleep(delay).await;
            let events = {
                let state = end.state();
                state.events.clone().filter(|_| !state.cut)
            };
            if let (Some(events), Ok(hint)) = (events, Hint::decode(hint)) {
                events.on_event(BusEvent::Hint(hint));
            }
        });
    }

    fn tell(self: &Arc<Self>, news: News, delay: Duration) {
        let end = Arc::clone(self);
        self.scope.spawn(async move {
            sleep(delay).await;
            let events = end.state().events.clone();
            if let Some(events) = events {
                events.on_event(BusEvent::News(news));
            }
        });
    }

    fn cut(self: &Arc<Self>) {
        let cuts = {
            let mut state = self.state();
            state.cut = true;
            state.cuts += 1;
            state.cuts
        };
        let end = Arc::clone(self);
        self.scope.spawn(async move {
            sleep(NOTICED_AFTER).await;
            let events = {
                let mut state = end.state();
                if !state.cut || state.cuts != cuts {
                    return;
                }
                state.down = true;
                state.events.clone()
            };
            if let Some(events) = events {
                events.on_event(BusEvent::Down);
            }
        });
    }

    fn mend(self: &Arc<Self>, delay: Duration) {
        let cuts = self.state().cuts;
        let end = Arc::clone(self);
        self.scope.spawn(async move {
            sleep(delay).await;
            let events = {
                let mut state = end.state();
                if !state.cut || state.cuts != cuts {
                    return;
                }
                state.cut = false;
                // What was lost before anybody noticed is lost without a word.
                let down = std::mem::take(&mut state.down);
                state.events.clone().filter(|_| down)
            };
            if let Some(events) = events {
                events.on_event(BusEvent::Up);
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for NodeBus {
    fn start(&self, events: Arc<dyn BusEvents>) {
        self.end.state().events = Some(Arc::clone(&events));
        events.on_event(BusEvent::Up);
    }

    fn publish(&self, hints: Vec<Hint>) {
        if self.end.state().cut {
            return;
        }
        for hint in hints {
            self.network.spread(&hint.encode(), hint.run.channel());
        }
    }

    fn tell(&self, news: News) {
        if !self.end.state().cut {
            self.network.spread_news(&self.end, &news);
        }
    }

    fn subscribe(&self, channels: Vec<ChannelName>) -> BoxFuture<'_, bool> {
        let delay = self.network.0.dice.micros(100, 3000);
        Box::pin(async move {
            sleep(delay).await;
            let mut state = self.end.state();
            state.channels.extend(channels);
            !state.cut
        })
    }

    fn unsubscribe(&self, channels: Vec<ChannelName>) {
        let mut state = self.end.state();
        for channel in &channels {
            state.channels.remove(channel);
        }
    }

    fn health(&self) -> BusHealth {
        match self.end.state().down {
            true => BusHealth::Down,
            false => BusHealth::Up,
        }
    }
}
