//! Socket.IO 4 (its protocol 5, on Engine.IO 4) at `/socket.io/`.
//!
//! A namespace is an app's; a room is a channel, and its publications are events. What a client has read it carries
//! itself, so that it goes on from there on any node.
//!
//! | module | subject |
//! | --- | --- |
//! | [`app`], [`events`] | what an app behind a namespace builds on |
//! | [`config`] | how it is served |
//! | `main` | the namespace `/`, built in: channels for clients without an app |
//! | `http` | requests: a new connection, a poll, a body, an upgrade |
//! | `poll` | long-polling: between a shard and requests that come and go |
//! | `probe` | from long-polling to a WebSocket |
//! | [`connection`] | one Engine.IO connection: transport, heartbeat, end |
//! | `session`, `stay` | the Socket.IO protocol of a connection; one client's stay in a namespace |
//! | `channels` | the channels of such a client, and how far it has read |

pub mod app;
mod channels;
pub mod config;
pub mod connection;
pub mod events;
mod http;
mod main;
mod poll;
mod probe;
mod session;
mod stay;

use std::sync::{Arc, Weak};

use fanfare_engine::Engine;
use fanfare_wire::{
    Form, FormId,
    socketio::{
        MAIN,
        form::{PersonalEvent, SharedEvent, Trail},
    },
};

use uuid::Uuid;

pub use app::{
    AskError, Client, EmitError, Gone, Handshake, Headers, JoinError, Joined, Keep, Lost,
    Namespace, Resumed,
};
pub use config::{Heartbeat, SocketIoConfig};
pub use connection::{Broken, End, Messages};
pub use events::{Ack, Answer, ArgError, Args, Events, Incoming};
pub use http::engine_io;
pub(crate) use http::socket_io;

use self::{channels::Forms, poll::Polls};
use crate::{Gateway, forward::Peers};

/// Wire forms of each namespace.
const FORMS_OF_NAMESPACE: usize = 3;

/// Socket.IO of a node.
pub(crate) struct SocketIo {
    engine: Arc<Engine>,
    heartbeat: Heartbeat,
    recovery: bool,
    /// Channels that one connection may be in.
    channels_max: usize,
    apps: Vec<App>,
    polls: Arc<Polls>,
    peers: Peers,
}

/// An app, and the wire forms of its namespace.
struct App {
    namespace: Arc<dyn Namespace>,
    forms: Forms,
}

impl SocketIo {
    /// The forms begin at `first` in the list of the engine's. `gateway` is for what is built in.
    pub(crate) fn new(
        config: SocketIoConfig,
        gateway: &Weak<Gateway>,
        engine: Arc<Engine>,
        node: Uuid,
        channels_max: usize,
        first: FormId,
    ) -> Arc<Self> {
        let form = |at: usize| FormId(first.0.saturating_add(u8::try_from(at).unwrap_or(u8::MAX)));
        let mut apps = config.apps;
        if !apps.iter().any(|app| app.name() == MAIN) {
            apps.insert(0, Arc::new(main::Main::new(Weak::clone(gateway))));
        }
        let apps = apps.into_iter().enumerate();
        let app = |(at, namespace): (usize, Arc<dyn Namespace>)| App {
            forms: Forms {
                seen: form(1 + FORMS_OF_NAMESPACE * at),
                plain: form(1 + FORMS_OF_NAMESPACE * at + 1),
                personal: form(1 + FORMS_OF_NAMESPACE * at + 2),
                joins: (namespace.name() == MAIN).then_some(first),
            },
            namespace,
        };
        let Heartbeat {
            interval, timeout, ..
        } = config.heartbeat;
        let peers = Peers::new(Arc::clone(&engine), node, interval + timeout);
        Arc::new(Self {
            engine,
            heartbeat: config.heartbeat,
            recovery: config.recovery,
            channels_max,
            apps: apps.map(app).collect(),
            polls: Arc::default(),
            peers,
        })
    }

    fn app(&self, namespace: &str) -> Option<&App> {
        self.apps
            .iter()
            .find(|app| app.namespace.name() == namespace)
    }
}

/// The wire forms of namespaces, in the order that [`SocketIo::new`] expects.
pub(crate) fn forms(namespaces: &[&str], recovery: bool) -> Vec<Box<dyn Form>> {
    let guard = if recovery {
        Trail::Guard
    } else {
        Trail::Nothing
    };
    let mut forms: Vec<Box<dyn Form>> = vec![Box::new(PersonalEvent::telling_joins(MAIN))];
    let main = (!namespaces.contains(&MAIN)).then_some(&MAIN);
    for namespace in main.into_iter().chain(namespaces) {
        forms.push(Box::new(SharedEvent::new(namespace, Trail::Seen)));
        forms.push(Box::new(SharedEvent::new(namespace, guard)));
        forms.push(Box::new(PersonalEvent::new(namespace)));
    }
    forms
}
