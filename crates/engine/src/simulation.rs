//! What a simulation needs of the engine: nodes as tasks of one thread, that can be paused and ended at every await, and
//! sockets that are not the operating system's.
//!
//! A node that is [started](crate::Engine::start) within a [`Scope`] runs all its parts, the shards of its hub included,
//! as tasks of that scope, on tokio's clock; with that clock paused and a runtime of one thread, what a node does depends
//! on nothing but what it is told. It is compiled for tests only, and does nothing outside of a scope.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::task::AbortHandle;

use crate::hub::Remote;

/// Finished tasks are forgotten when so many were started since the last look.
const TASKS_BETWEEN_LOOKS: usize = 256;

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// A socket of a simulation, the node's end of it.
pub trait Socket: Send + 'static {
    /// Tells the socket whom to inform: it calls [`Remote::readable`] when bytes or the end arrive, and
    /// [`Remote::writable`] once there is room after a write was cut short.
    fn bind(&mut self, remote: Remote);

    /// Takes as many bytes as there is room for; `None` when the peer is gone.
    fn write(&mut self, bytes: &[u8]) -> Option<usize>;

    /// Reads into `buffer`: `None` when there is nothing now, 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// Nothing more will be written. Returns whether the peer can still be waited for.
    fn end(&mut self) -> bool;
}

/// What a task does when it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It goes on.
    Take,
    /// The others go first.
    Yield,
}

/// The tasks of one simulated node, from its start to its end.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    at_await: Box<dyn Fn(&Scope) -> Turn + Send + Sync>,
}

#[derive(Default)]
struct State {
    paused: bool,
    ended: bool,
    /// Tasks whose turn came while the node was paused.
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    started: usize,
}

impl Scope {
    /// A scope without tasks. `at_await` is asked whenever a task of it goes on from an await: there it may
    /// [pause](Self::pause) or [end](Self::end) the scope.
    pub fn new(at_await: impl Fn(&Self) -> Turn + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            at_await: Box::new(at_await),
        }))
    }

    /// The scope of the task that runs now.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `act` as if it were part of the node.
    pub fn enter<T>(&self, act: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let result = act();
        CURRENT.set(before);
        result
    }

    /// Starts a task of the node. A node that has ended starts none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.is_ended() {
            return;
        }
        let task = tokio::spawn(Scoped {
            scope: self.clone(),
            task: Box::pin(task),
        });
        let mut state = self.state();
        state.started += 1;
        if state.started.is_multiple_of(TASKS_BETWEEN_LOOKS) {
            state.tasks.retain(|task| !task.is_finished());
        }
        state.tasks.push(task.abort_handle());
    }

    /// Stops the node where it is; its tasks go on after [`resume`](Self::resume), and what arrived meanwhile waits.
    pub fn pause(&self) {
        self.state().paused = true;
    }

    /// Ends a pause.
    pub fn resume(&self) {
        let waiting = {
            let mut state = self.state();
            state.paused = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends the node where it is: none of its tasks goes on.
    pub fn end(&self) {
        let (tasks, waiting) = {
            let mut state = self.state();
            state.ended = true;
            let state = &mut *state;
            (
                std::mem::take(&mut state.tasks),
                std::mem::take(&mut state.waiting),
            )
        };
        tasks.iter().for_each(AbortHandle::abort);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the node is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Whether the node has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state().ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task of a scope.
struct Scoped {
    scope: Scope,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Scoped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turn = match self.scope.is_paused() || self.scope.is_ended() {
            true => Turn::Take,
            false => (self.scope.0.at_await)(&self.scope),
        };
        {
            let mut state = self.scope.state();
            if state.ended {
                return Poll::Ready(());
            }
            if state.paused {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        if turn == Turn::Yield {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let scope = self.scope.clone();
        scope.enter(|| self.task.as_mut().poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::time::sleep;

    use super::*;

    fn counting(scope: &Scope) -> Arc<AtomicUsize> {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        scope.spawn(async move {
            loop {
                counted.fetch_add(1, SeqCst);
                sleep(Duration::from_secs(1)).await;
            }
        });
        count
    }

    fn paused_clock() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    }

    #[test]
    fn a_paused_node_stands_still_and_goes_on() {
        paused_clock().block_on(async {
            let scope = Scope::new(|_| Turn::Take);
            let count = counting(&scope);
            sleep(Duration::from_millis(2500)).await;
            assert_eq!(count.load(SeqCst), 3);
            scope.pause();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(count.load(SeqCst), 3);
            scope.resume();
            sleep(Duration::from_millis(1500)).await;
            assert_eq!(count.load(SeqCst), 5);
        });
    }

    #[test]
    fn an_ended_node_does_nothing_more() {
        paused_clock().block_on(async {
            let scope = Scope::new(|_| Turn::Take);
            let count = counting(&scope);
            sleep(Duration::from_millis(1500)).await;
            scope.end();
            let late = counting(&scope);
            sleep(Duration::from_secs(10)).await;
            assert_eq!((count.load(SeqCst), late.load(SeqCst)), (2, 0));
            assert_eq!(Arc::strong_count(&count), 1, "its tasks are dropped");
        });
    }

    #[test]
    fn a_node_can_end_at_any_await() {
        paused_clock().block_on(async {
            let awaits = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&awaits);
            let scope = Scope::new(move |scope| {
                if counted.fetch_add(1, SeqCst) == 4 {
                    scope.end();
                }
                Turn::Take
            });
            let count = counting(&scope);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(count.load(SeqCst), 4);
            assert!(Scope::current().is_none());
        });
    }
}
