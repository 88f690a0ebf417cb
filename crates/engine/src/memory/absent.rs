//! The state of a server that shares its log with others but has nothing to share state over.

use std::{sync::Arc, time::Duration};

use crate::port::{
    BoxFuture, State,
    state::{
        Bucket, Change, Changed, Count, Entered, Held, Holder, Lease, Object, StateError,
        StateEvents, StateHealth, StateKey, Taken,
    },
};

/// A state that is never there: every call fails. Behind a [`SharedState`](crate::state::SharedState) the node goes on
/// with what it knows itself, and says that this is not all.
#[derive(Debug, Default, Clone, Copy)]
pub struct AbsentState;

impl State for AbsentState {
    fn start(&self, _: Arc<dyn StateEvents>) {}

    fn health(&self) -> StateHealth {
        StateHealth::Down
    }

    fn object<'a>(&'a self, _: &'a StateKey) -> BoxFuture<'a, Result<Option<Object>, StateError>> {
        absent()
    }

    fn change<'a>(
        &'a self,
        _: &'a StateKey,
        _: Change,
    ) -> BoxFuture<'a, Result<Changed, StateError>> {
        absent()
    }

    fn assert_object<'a>(
        &'a self,
        _: &'a StateKey,
        _: &'a Object,
        _: Duration,
    ) -> BoxFuture<'a, Result<u64, StateError>> {
        absent()
    }

    fn enter<'a>(&'a self, _: &'a [Lease]) -> BoxFuture<'a, Result<Vec<Entered>, StateError>> {
        absent()
    }

    fn renew<'a>(&'a self, _: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        absent()
    }

    fn leave<'a>(&'a self, _: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>> {
        absent()
    }

    fn leases<'a>(
        &'a self,
        _: &'a StateKey,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<Holder>, StateError>> {
        absent()
    }

    fn count<'a>(&'a self, _: &'a StateKey) -> BoxFuture<'a, Result<Count, StateError>> {
        absent()
    }

    fn take<'a>(
        &'a self,
        _: &'a StateKey,
        _: Bucket,
        _: u32,
    ) -> BoxFuture<'a, Result<Taken, StateError>> {
        absent()
    }
}

fn absent<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StateError>> {
    let words = "no Redis is configured for the nodes of this database";
    Box::pin(async move { Err(StateError::Unavailable(words.to_owned())) })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fanfare_wire::{Json, News};

    use super::*;
    use crate::{
        Metrics,
        port::state::{Expected, Tell},
        state::SharedState,
    };

    #[derive(Default)]
    struct Heard(Mutex<Vec<News>>);

    impl StateEvents for Heard {
        fn on_news(&self, news: News) {
            self.0.lock().unwrap().push(news);
        }

        fn on_up(&self) {}

        fn on_down(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_without_it_has_a_state_of_its_own_and_says_so() {
        let state = SharedState::new(Arc::new(AbsentState), Arc::new(Metrics::default()));
        let heard = Arc::new(Heard::default());
        state.start(Arc::clone(&heard) as Arc<dyn StateEvents>);
        let key = StateKey::parse("object/room:1").unwrap();
        let change = Change {
            expected: Expected::Nothing,
            value: Some(Json::parse(b"1").unwrap()),
            ttl: Duration::from_secs(3600),
            tell: Some(Tell { tags: None }),
        };
        let changed = state.change(&key, change).await;
        assert!(matches!(changed, Ok(Changed::Done { .. })), "{changed:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(state.health(), StateHealth::Down);
        let there = state.object(&key).await.unwrap();
        assert_eq!(there.unwrap().value.as_bytes(), b"1");
        assert_eq!(heard.0.lock().unwrap().len(), 1);
    }
}
