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

/// Tells a task of a command.
pub(crate) type Tell = dyn Fn(&Arc<Told>) + Send + Sync;

/// How a connection is told.
#[derive(Clone)]
pub(crate) enum Ear {
    /// Over its session in the hub.
    Session(Remote),
    /// By the task that serves it, which must not be waited for.
    Task(Arc<Tell>),
}

/// Connections that have introduced themselves. Anonymous ones have no name in common: they are found by their own.
#[derive(Default)]
pub(crate) struct Clients {
    ears: Mutex<BTreeMap<Key, Ear>>,
}

/// A connection's place among them, until this is dropped.
pub(crate) struct Registered {
    clients: Arc<Clients>,
    key: Key,
}

impl Registered {
    /// How others reach the connection's session, if it has one in the hub.
    pub(crate) fn remote(&self) -> Option<Remote> {
        match self.clients.ears().get(&self.key) {
            Some(Ear::Session(remote)) => Some(remote.clone()),
            Some(Ear::Task(_)) | None => None,
        }
    }
}

impl Clients {
    /// A connection is there.
    pub(crate) fn register(self: &Arc<Self>, user: &str, client: Uuid, ear: Ear) -> Registered {
        let key = (Arc::from(user), client);
        self.ears().insert(key.clone(), ear);
        Registered {
            clients: Arc::clone(self),
            key,
        }
    }

    /// Tells the connections that it may be for; each looks itself whether it is meant.
    pub(crate) fn tell(&self, told: &Arc<Told>) {
        for ear in self.of(told) {
            match ear {
                Ear::Session(remote) => remote.send(Event::Post(Box::new(Arc::clone(told)))),
                Ear::Task(tell) => tell(told),
            }
        }
    }

    fn of(&self, told: &Told) -> Vec<Ear> {
        let user: Arc<str> = told.whose.user.as_str().into();
        let ears = self.ears();
        if told.whose.client.is_empty() {
            let all = (Arc::clone(&user), Uuid::nil())..=(user, Uuid::max());
            return ears.range(all).map(|(_, it)| it.clone()).collect();
        }
        let client = Uuid::parse_str(&told.whose.client).ok();
        let found = client.and_then(|client| ears.get(&(user, client)));
        found.cloned().into_iter().collect()
    }

    fn ears(&self) -> MutexGuard<'_, BTreeMap<Key, Ear>> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.clients.ears().remove(&self.key);
    }
}
