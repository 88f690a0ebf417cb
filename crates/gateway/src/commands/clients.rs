//! The connections of a node, by their users.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare_engine::hub::{Event, Remote};
use uuid::Uuid;

use super::Told;

/// A user, and a connection.
type Key = (Arc<str>, Uuid);

/// Connections that have introduced themselves. Anonymous ones have no name in common: they are found by their own.
#[derive(Default)]
pub(crate) struct Clients {
    remotes: Mutex<BTreeMap<Key, Remote>>,
}

/// A connection's place among them, until this is dropped.
pub(crate) struct Registered {
    clients: Arc<Clients>,
    key: Key,
}

impl Registered {
    /// How others reach the connection.
    pub(crate) fn remote(&self) -> Option<Remote> {
        self.clients.remotes().get(&self.key).cloned()
    }
}

impl Clients {
    /// A connection is there.
    pub(crate) fn register(
        self: &Arc<Self>,
        user: &str,
        client: Uuid,
        remote: Remote,
    ) -> Registered {
        let key = (Arc::from(user), client);
        self.remotes().insert(key.clone(), remote);
        Registered {
            clients: Arc::clone(self),
            key,
        }
    }

    /// Tells the connections that it may be for; each looks itself whether it is meant.
    pub(crate) fn tell(&self, told: &Arc<Told>) {
        for remote in self.of(told) {
            remote.send(Event::Post(Box::new(Arc::clone(told))));
        }
    }

    fn of(&self, told: &Told) -> Vec<Remote> {
        let user: Arc<str> = told.whose.user.as_str().into();
        let remotes = self.remotes();
        if told.whose.client.is_empty() {
            let all = (Arc::clone(&user), Uuid::nil())..=(user, Uuid::max());
            return remotes.range(all).map(|(_, it)| it.clone()).collect();
        }
        let client = Uuid::parse_str(&told.whose.client).ok();
        let found = client.and_then(|client| remotes.get(&(user, client)));
        found.cloned().into_iter().collect()
    }

    fn remotes(&self) -> MutexGuard<'_, BTreeMap<Key, Remote>> {
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.clients.remotes().remove(&self.key);
    }
}
