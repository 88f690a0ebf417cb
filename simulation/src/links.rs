//! The links between simulated nodes: they are late, lose what is forwarded or its answer, end without a word, and give a node
//! the same drafts again when nobody waits for them any more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::{
    port::{
        BoxFuture, NodeRecord, Outcome,
        peers::{Line, Link, Members, NotTaken, PeerId, Peers, Taken, Taker},
    },
    simulation::Scope,
};
use fanfare_wire::{Draft, Epoch, Seq};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{
    dice::Dice,
    plan::{Breach, OwnerFaults, Plan},
};

/// The links between all nodes.
#[derive(Clone)]
pub(crate) struct Links(Arc<Inner>);

struct Inner {
    dice: Dice,
    breach: Option<Breach>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: OwnerFaults,
    joined: u128,
    ends: BTreeMap<PeerId, Arc<End>>,
    opened: BTreeMap<(PeerId, PeerId), Opened>,
    links: u64,
}

/// One node's end.
pub(crate) struct NodeLinks {
    links: Links,
    end: Arc<End>,
}

struct End {
    id: PeerId,
    scope: Scope,
    taker: OnceLock<Arc<dyn Taker>>,
    closed: AtomicBool,
}

/// A link from one node to another.
struct Opened {
    number: u64,
    ready_at: Instant,
    parcels: mpsc::UnboundedSender<Parcel>,
}

struct Parcel {
    drafts: Vec<Draft>,
    answer: oneshot::Sender<Result<Taken, NotTaken>>,
}

type Answer = BoxFuture<'static, Result<Taken, NotTaken>>;
type Answering = (Answer, oneshot::Sender<Result<Taken, NotTaken>>);

impl Links {
    pub(crate) fn new(dice: Dice, plan: &Plan) -> Self {
        let state = State {
            faults: plan.owners.clone().unwrap_or_default(),
            ..State::default()
        };
        Self(Arc::new(Inner {
            dice,
            breach: plan.breach,
            state: Mutex::new(state),
        }))
    }

    /// A node's end; it leaves when its scope ends.
    pub(crate) fn join(&self, scope: &Scope) -> NodeLinks {
        let mut state = self.state();
        state.joined += 1;
        let end = Arc::new(End {
            id: PeerId(state.joined),
            scope: scope.clone(),
            taker: OnceLock::new(),
            closed: AtomicBool::new(false),
        });
        state.ends.retain(|_, end| !end.scope.is_ended());
        state.ends.insert(end.id, Arc::clone(&end));
        drop(state);
        let links = self.clone();
        NodeLinks { links, end }
    }

    /// Whether a batch is said to have waited for others, and for how long.
    pub(crate) fn contention(&self) -> Option<Duration> {
        let dice = &self.0.dice;
        let contended = self.state().faults.contended;
        dice.chance(contended).then(|| dice.millis(1, 50))
    }

    /// Begins with faults.
    pub(crate) fn break_again(&self, faults: Option<OwnerFaults>) {
        self.state().faults = faults.unwrap_or_default();
    }

    /// Ends all faults. Channels stay contended.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults = OwnerFaults {
            contended: state.faults.contended,
            ..OwnerFaults::default()
        };
    }

    /// Lets go of everything, at the end of a run.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.ends.clear();
        state.opened.clear();
    }

    fn faults(&self) -> OwnerFaults {
        self.state().faults.clone()
    }

    fn one_way(&self) -> Duration {
        let dice = &self.0.dice;
        match dice.chance(self.faults().late) {
            true => dice.millis(1, 1500),
            false => dice.micros(50, 1500),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries what goes over a link, in order, until it ends.
    async fn carry(self, from: PeerId, to: Arc<End>, mut parcels: mpsc::UnboundedReceiver<Parcel>) {
        let line = Arc::new(Line::new(from));
        let (answers, to_answer) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().answer(to_answer));
        let dice = &self.0.dice;
        while let Some(mut parcel) = parcels.recv().await {
            sleep(self.one_way()).await;
            if dice.chance(self.faults().lose) {
                // Nothing arrives any more, and nobody is told for a while.
                sleep(dice.millis(1, 3000)).await;
                break;
            }
            if self.0.breach == Some(Breach::Overtake)
                && let Ok(later) = parcels.try_recv()
            {
                let first = std::mem::replace(&mut parcel, later);
                if !self.hand(&line, &to, parcel, &answers) {
                    break;
                }
                parcel = first;
            }
            if !self.hand(&line, &to, parcel, &answers) {
                break;
            }
        }
        line.break_off();
    }

    /// Hands a parcel to the node at the end of a link. Returns whether there is one.
    fn hand(
        &self,
        line: &Arc<Line>,
        to: &Arc<End>,
        parcel: Parcel,
        answers: &mpsc::UnboundedSender<Answering>,
    ) -> bool {
        let closed = to.closed.load(SeqCst) || to.scope.is_ended();
        let Some(taker) = to.taker.get().filter(|_| !closed) else {
            return false;
        };
        let Parcel { drafts, answer } = parcel;
        let dice = &self.0.dice;
        if self.0.breach == Some(Breach::EmptyPromise) && dice.chance(0.2) {
            let taken = promise(drafts.len());
            return answers
                .send((Box::pin(async { Ok(taken) }), answer))
                .is_ok();
        }
        if dice.chance(self.faults().repeat) {
            let (taker, to, drafts) = (Arc::clone(taker), Arc::clone(to), drafts.clone());
            let (line, after) = (Arc::new(Line::new(line.from())), dice.millis(1, 2000));
            tokio::spawn(async move {
                sleep(after).await;
                if !to.scope.is_ended() {
                    // Nobody waits for the answer.
                    drop(to.scope.enter(|| taker.take(&line, drafts)));
                }
            });
        }
        let taking = to.scope.enter(|| taker.take(line, drafts));
        answers.send((taking, answer)).is_ok()
    }

    /// Carries answers back, in order, until one is an error or lost.
    async fn answer(self, mut answers: mpsc::UnboundedReceiver<Answering>) {
        while let Some((answer, sender)) = answers.recv().await {
            let result = answer.await;
            sleep(self.one_way()).await;
            let is_over = result.is_err() || self.0.dice.chance(self.faults().lose_answer);
            if !is_over || result.is_err() {
                // A node that has died does not wait.
                let _ = sender.send(result);
            }
            if is_over {
                return;
            }
        }
    }
}

impl NodeLinks {
    /// What the node says about itself.
    pub(crate) fn about(&self) -> Bytes {
        self.end.id.0.to_string().into()
    }
}

impl Peers for NodeLinks {
    fn start(&self, taker: Arc<dyn Taker>) {
        // Called once.
        let _ = self.end.taker.set(taker);
    }

    fn meet(&self, nodes: &[NodeRecord]) -> Members {
        let own = self.end.id;
        let id = |node: &NodeRecord| {
            let text = std::str::from_utf8(&node.about).ok()?;
            text.parse().ok().map(PeerId)
        };
        let mut others: Vec<PeerId> = nodes.iter().filter_map(id).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|id| *id != own);
        Members { own, others }
    }

    fn link(&self, to: PeerId) -> Link {
        let mut state = self.links.state();
        let between = (self.end.id, to);
        if let Some(opened) = state.opened.get(&between)
            && !opened.parcels.is_closed()
        {
            return match opened.ready_at <= Instant::now() {
                true => Link::Open(opened.number),
                false => Link::Opening,
            };
        }
        let alive = |end: &&Arc<End>| !end.scope.is_ended() && !end.closed.load(SeqCst);
        let Some(end) = state.ends.get(&to).filter(alive).cloned() else {
            return Link::Down;
        };
        state.links += 1;
        let (parcels, to_carry) = mpsc::unbounded_channel();
        let opened = Opened {
            number: state.links,
            ready_at: Instant::now() + self.links.0.dice.millis(1, 30),
            parcels,
        };
        state.opened.insert(between, opened);
        tokio::spawn(self.links.clone().carry(self.end.id, end, to_carry));
        Link::Opening
    }

    fn forward(
        &self,
        to: PeerId,
        over: u64,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'static, Result<Taken, NotTaken>> {
        let (answer, receiver) = oneshot::channel();
        let state = self.links.state();
        if let Some(opened) = state.opened.get(&(self.end.id, to))
            && opened.number == over
        {
            // The answer tells if it is over.
            let _ = opened.parcels.send(Parcel { drafts, answer });
        }
        drop(state);
        let ended = |_| Err(NotTaken("the link has ended".to_owned()));
        Box::pin(async move { receiver.await.unwrap_or_else(ended) })
    }

    fn close(&self) {
        self.end.closed.store(true, SeqCst);
    }
}

/// What an owner says that has committed nothing.
fn promise(drafts: usize) -> Taken {
    let outcome = |number| Outcome {
        seq: Seq(number + 1),
        time: 0,
        duplicate: false,
    };
    Taken {
        // `named` refuses the empty word only.
        epoch: Epoch::named("e0").unwrap_or_else(|| unreachable!()),
        outcomes: (0..drafts as u64).map(outcome).collect(),
        crowded: true,
    }
}
