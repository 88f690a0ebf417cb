//! Objects of a kept state.

use std::time::Duration;

use tokio::time::Instant;

use super::Keeper;
use crate::{
    memory::state::{MemoryState, Was},
    port::state::{Change, Changed, Object, StateError, StateKey},
};

impl Keeper {
    pub(super) async fn object(&self, key: &StateKey) -> Result<Option<Object>, StateError> {
        let before = self.lock().known.version(key);
        let shared = || self.shared.object(key);
        let known = |local: &MemoryState| local.step(|store, _, _| store.object(key));
        let found = self.look(shared, known).await?;
        let mut inner = self.lock();
        if !inner.degraded {
            inner.known.saw(key, found.as_ref(), before);
        }
        Ok(found)
    }

    pub(super) async fn change(
        &self,
        key: &StateKey,
        change: Change,
    ) -> Result<Changed, StateError> {
        if let Some(changed) = self.change_here(key, &change) {
            return changed;
        }
        let before = self.lock().known.version(key);
        let changed = match self.ask(self.shared.change(key, change.clone())).await {
            Err(StateError::Unavailable(why)) => {
                let changed = self.change_here(key, &change);
                return changed.unwrap_or(Err(StateError::Unavailable(why)));
            }
            answer => answer?,
        };
        let now = Instant::now();
        let mut inner = self.lock();
        match &changed {
            Changed::Done { version, at } => {
                let was = Was {
                    value: change.value,
                    version: *version,
                    changed_at: *at,
                };
                if inner.degraded {
                    self.local.step(|store, _, at| {
                        let _ = store.put_back(key, &was, change.ttl, at);
                    });
                }
                inner.known.saw_clock(*at, now);
                inner.known.wrote(key, was, change.ttl, now);
            }
            Changed::Conflict { current } => inner.known.saw(key, current.as_ref(), before),
        }
        Ok(changed)
    }

    fn change_here(&self, key: &StateKey, change: &Change) -> Option<Result<Changed, StateError>> {
        self.here(|known, local, now| {
            let changed = local.step(|store, _, at| store.change(key, change, at))?;
            if let Changed::Done { version, at } = changed {
                let value = change.value.clone();
                let was = Was {
                    value,
                    version,
                    changed_at: at,
                };
                known.wrote(key, was, change.ttl, now);
            }
            Ok(changed)
        })
    }

    pub(super) async fn assert_object(
        &self,
        key: &StateKey,
        object: &Object,
        ttl: Duration,
    ) -> Result<u64, StateError> {
        let was = Was::from(object);
        let put_back = || {
            self.here(|known, local, now| {
                let there = local.step(|store, _, at| store.put_back(key, &was, ttl, at))?;
                known.wrote(key, was.clone(), ttl, now);
                Ok(there)
            })
        };
        if let Some(there) = put_back() {
            return there;
        }
        match self.ask(self.shared.assert_object(key, object, ttl)).await {
            Err(StateError::Unavailable(why)) => {
                put_back().unwrap_or(Err(StateError::Unavailable(why)))
            }
            Ok(there) => {
                let mut inner = self.lock();
                inner.known.wrote(key, was.clone(), ttl, Instant::now());
                inner.known.is_superseded(key, there);
                Ok(there)
            }
            refused => refused,
        }
    }
}
