//! A stand-in for Google on the loopback address: OAuth tokens, the Gmail API as far as a mail client in sync needs it, and
//! Pub/Sub push. For tests, and for a first try without an account. Never for anything else: its keys are public.
//!
//! | path | file | stands for |
//! | --- | --- | --- |
//! | `/o/oauth2/v2/auth`, `/token`, `/revoke`, `/userinfo` | [`oauth`] | Google's OAuth; everybody consents |
//! | `/certs` | [`oauth`] | the keys of its tokens (JWKS) |
//! | `/gmail/v1/users/…` | [`gmail`] | the Gmail API over a [`mailbox`] |
//! | (pushes out) | [`pubsub`] | a push subscription: signed, retried until 2xx, repeated and reordered on demand |
//! | `/control/…` | [`control`] | what a test does to it |
//! | | [`journal`] | what happened when |
//!
//! It is plain threads and blocking sockets, and shares no code with what it tests.

pub mod control;
pub mod faults;
pub mod gmail;
pub mod http;
pub mod journal;
pub mod mailbox;
pub mod oauth;
pub mod pubsub;
pub mod random;
pub mod signer;

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    faults::Faults,
    http::{Answer, Request},
    journal::{Call, Entries, Journal},
    mailbox::Mailbox,
    oauth::OAuth,
    pubsub::{Push, PushConfig},
};

/// A running stand-in; it ends when this is dropped.
pub struct Google {
    world: Arc<World>,
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

/// All that the stand-in knows.
pub struct World {
    /// By address.
    pub(crate) mailboxes: Mutex<BTreeMap<String, Mailbox>>,
    pub(crate) oauth: Mutex<OAuth>,
    pub(crate) faults: Faults,
    pub(crate) push: Arc<Push>,
    pub(crate) journal: Arc<Journal>,
}

impl Google {
    /// Starts on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's, if it cannot be listened there, or if the address is not a loopback address.
    pub fn start(listen: SocketAddr) -> io::Result<Self> {
        if !listen.ip().is_loopback() {
            let words = "the stand-in listens on loopback addresses only: its keys are public";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let journal = Arc::new(Journal::default());
        let world = Arc::new(World {
            mailboxes: Mutex::default(),
            oauth: Mutex::new(OAuth::new()),
            faults: Faults::default(),
            push: Push::start(Arc::clone(&journal)),
            journal,
        });
        let ended = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(&world);
        http::serve(listener, Arc::clone(&ended), move |request| {
            serving.answer(request)
        });
        Ok(Self {
            world,
            address,
            ended,
        })
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}/certs", self.url())
    }

    /// Does what `POST /control/WHAT` does, and returns its answer.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn control(&self, what: &str, request: &Value) -> Result<Value, String> {
        self.world.control(what, request)
    }

    /// Looks at a mailbox, or changes it; it is made if it is not there. What changes is pushed, if the mailbox is watched.
    pub fn mailbox<T>(&self, address: &str, look: impl FnOnce(&mut Mailbox) -> T) -> T {
        self.world.with_mailbox(address, look)
    }

    /// Where and how messages are pushed.
    pub fn set_push(&self, config: PushConfig) {
        self.world.push.configure(config);
    }

    /// Publishes a message, as anybody with the right to publish into the topic could.
    pub fn publish(&self, data: &[u8]) {
        self.world.push.publish(data, BTreeMap::new());
    }

    /// Takes out of the journal what has ended since the last time.
    #[must_use]
    pub fn take_journal(&self) -> Entries {
        self.world.journal.take()
    }

    /// A token as Pub/Sub signs it, for these claims.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        lock(&self.world.oauth).signer().token(claims)
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.world.push.end();
        // Wakes the one who accepts.
        let _ = std::net::TcpStream::connect(self.address);
    }
}

impl World {
    fn answer(&self, request: &Request) -> Answer {
        if let Some(what) = request.path.strip_prefix("/control/") {
            let asked = match request.body.is_empty() {
                true => Ok(Value::Object(serde_json::Map::new())),
                false => serde_json::from_slice(&request.body),
            };
            let answer = asked
                .map_err(|error| error.to_string())
                .and_then(|asked| self.control(what, &asked));
            return match answer {
                Ok(answer) => Answer::json(200, &answer),
                Err(words) => Answer::json(400, &serde_json::json!({ "error": words })),
            };
        }
        let place = faults::place_of(&request.path);
        let (address, begun) = (self.whose(request, place), Instant::now());
        self.journal.begun(place);
        let answer = match (self.faults.strike(place), place) {
            (Some(answer), _) => answer,
            (None, "auth" | "token" | "revoke" | "userinfo" | "certs") => self.oauth(request),
            (None, _) => self.gmail(request),
        };
        self.journal.answered(Call {
            address,
            place,
            begun,
            ended: Instant::now(),
        });
        answer
    }

    /// Whom a request is about, as far as its token says.
    fn whose(&self, request: &Request, place: &str) -> String {
        let oauth = lock(&self.oauth);
        let address = match place {
            "token" => {
                let form = request.form();
                let token = http::find(&form, "refresh_token");
                token.and_then(|token| oauth.address_to_refresh(token))
            }
            _ => request
                .bearer()
                .and_then(|token| oauth.address_of(token, unix_millis())),
        };
        address.unwrap_or_default()
    }

    /// Looks at a mailbox, and pushes what has changed.
    pub(crate) fn with_mailbox<T>(&self, address: &str, look: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mut mailboxes = lock(&self.mailboxes);
        let mailbox = mailboxes
            .entry(address.to_owned())
            .or_insert_with(|| Mailbox::new(address));
        let answer = look(mailbox);
        if let Some(data) = mailbox.notification(unix_millis()) {
            // Still under the lock: in the order of the changes.
            self.push.publish(data.as_bytes(), BTreeMap::new());
        }
        answer
    }
}

/// Nothing here is left half done by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
