//! The state: small values that many nodes share and that nobody would miss after a minute. Objects with a version,
//! leases of connections, token buckets.
//!
//! Nothing that matters lives only here. What a node has put here it knows itself, and it asserts it again when the
//! shared state comes back from an absence.

use std::{sync::Arc, time::Duration};

use fanfare_wire::{ChannelName, Json, Millis, News, NewsBody};
use thiserror::Error;
use uuid::Uuid;

use super::BoxFuture;

/// Longest key in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 320;

/// A node whose lease was not renewed for so long is dead: everything that it held ends.
pub const NODE_LEASE: Duration = Duration::from_secs(9);

/// The shared state.
///
/// What every implementation promises, checked by `contract::state`:
/// 1. **One step.** Every call that changes something is atomic, and the news of the change are published in the same step:
///    nobody sees one without the other, nor the news of two changes of one key in another order than the changes.
/// 2. **Versions only grow.** A new object begins with the server's time in microseconds, every change adds at least 1. So a
///    version never comes again, not even after the object has expired or everything was lost. A removal is a change with a
///    version, which is remembered for its time to live: what is older cannot be [put back](State::assert_object) meanwhile.
/// 3. **Nothing is immortal.** Everything has a time to live, set in the same step as the value.
/// 4. **One clock.** Times are those of the server that keeps the state.
/// 5. **A lease ends with its node.** Leases of a node that was not heard of for [`NODE_LEASE`] end within two seconds
///    after that, each of them once, whoever notices it. A time in which the state was away from whoever notices does not
///    count: after an outage every node has [`NODE_LEASE`] again to be heard of.
/// 6. **A loss is noticed.** If the state lost everything (or this node's lease at least) while it was connected,
///    [`StateEvents::on_up`] says so within [`NODE_LEASE`] / 3.
pub trait State: Send + Sync + 'static {
    /// Starts to deliver, and to renew this node's own lease. News of changes come this way if they do not come over the
    /// bus. Called once, before anything else.
    fn start(&self, events: Arc<dyn StateEvents>);

    /// How it is; never waits.
    fn health(&self) -> StateHealth;

    /// Reads an object.
    fn object<'a>(&'a self, key: &'a StateKey)
    -> BoxFuture<'a, Result<Option<Object>, StateError>>;

    /// Changes an object, if it is as expected.
    fn change<'a>(
        &'a self,
        key: &'a StateKey,
        change: Change,
    ) -> BoxFuture<'a, Result<Changed, StateError>>;

    /// Puts an object back as it was: keeps whichever has the higher version. Tells nobody. Returns the version that is
    /// there now.
    fn assert_object<'a>(
        &'a self,
        key: &'a StateKey,
        object: &'a Object,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<u64, StateError>>;

    /// Takes leases; one answer for each. A holder that is there already keeps its place, and its lease is replaced.
    fn enter<'a>(&'a self, leases: &'a [Lease]) -> BoxFuture<'a, Result<Vec<Entered>, StateError>>;

    /// Renews leases that have a time to live of their own; one answer for each: whether it was still there.
    fn renew<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>>;

    /// Gives leases back. One answer for each: whether its member has left with it.
    fn leave<'a>(&'a self, leases: &'a [Held]) -> BoxFuture<'a, Result<Vec<bool>, StateError>>;

    /// Who holds leases in a scope, at most `limit` of them, in no order.
    fn leases<'a>(
        &'a self,
        scope: &'a StateKey,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Holder>, StateError>>;

    /// How many hold leases in a scope. Costs the same for large scopes as for small ones.
    fn count<'a>(&'a self, scope: &'a StateKey) -> BoxFuture<'a, Result<Count, StateError>>;

    /// Takes tokens out of a bucket, all or none. More than its capacity are refused always.
    fn take<'a>(
        &'a self,
        key: &'a StateKey,
        bucket: Bucket,
        tokens: u32,
    ) -> BoxFuture<'a, Result<Taken, StateError>>;
}

/// Where news and changes of health go. Called from tasks of the state; must not block.
pub trait StateEvents: Send + Sync + 'static {
    /// A change has happened, and its news do not come over the bus.
    fn on_news(&self, news: News);

    /// The state is reachable again, and may have lost everything: whoever holds something asserts it again.
    fn on_up(&self);

    /// The state cannot be reached.
    fn on_down(&self);
}

/// How the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateHealth {
    /// It lives in this process: there are no others.
    Local,
    /// It is shared and answers.
    Up,
    /// It should be shared, and cannot be reached: every call fails.
    Down,
}

/// The name of an object, a scope of leases, or a bucket: `kind/subject`.
///
/// The subject decides where the key lives in a cluster of stores. If it is the name of a channel, changes can tell this
/// channel in the same step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(String);

/// Why a call was not carried out.
#[derive(Debug, Clone, Error)]
pub enum StateError {
    /// It cannot be reached, or did not answer. A change may have happened.
    #[error("the shared state is not available: {0}")]
    Unavailable(String),
    /// The server is set up so that it may drop state at will.
    #[error("the shared state is refused: {0}")]
    Unfit(String),
}

/// A name that is no [`StateKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a key of the state is 1 to {STATE_KEY_BYTES_MAX} printable ASCII characters without space"
)]
pub struct StateKeyError;

/// A small value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The value.
    pub value: Json,
    /// Its version: greater than all before it.
    pub version: u64,
    /// When it was changed, by the state's clock.
    pub changed_at: Millis,
}

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// What must be there for the change to happen.
    pub expected: Expected,
    /// The new value; `None` removes the object.
    pub value: Option<Json>,
    /// How long it stays without another change; of a removal, how long it is remembered.
    pub ttl: Duration,
    /// Tells the [channel](StateKey::channel) of the key: a message with the data `{"version":…,"at":…,"value":…}`.
    pub tell: Option<Tell>,
}

/// How the channel of the key is told of a change.
#[derive(Debug, Clone)]
pub struct Tell {
    /// Tags of the message.
    pub tags: Option<Json>,
}

/// What must be there for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Anything,
    /// No object.
    Nothing,
    /// An object of this version.
    Version(u64),
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It happened.
    Done {
        /// The version of the change.
        version: u64,
        /// When, by the state's clock.
        at: Millis,
    },
    /// Something else was there; nothing happened.
    Conflict {
        /// What was there.
        current: Option<Object>,
    },
}

/// The proof that somebody is there: held by one connection, on behalf of a member.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Where, and by which connection.
    pub held: Held,
    /// Who is there: several connections of one member count as one.
    pub member: String,
    /// What others may know, a JSON object.
    pub info: Json,
    /// Ends without a renewal after so long; `None`: with its node only.
    pub ttl: Option<Duration>,
    /// Most members of the scope, this one included; `None`: any number.
    pub capacity: Option<u32>,
    /// Told when who holds it comes and leaves, however that comes about.
    pub announce: Option<Announce>,
}

/// A lease, named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// The scope.
    pub scope: StateKey,
    /// The connection.
    pub holder: Uuid,
}

/// What the [channel](StateKey::channel) of the scope is told of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// Of what this is told.
    pub per: Per,
    /// When it begins. `None`: nothing (it was told before).
    pub joined: Option<NewsBody>,
    /// When it ends.
    pub left: NewsBody,
}

/// Whose beginning and end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// The lease's own.
    Lease,
    /// The member's: of its first lease, and of its last.
    Member,
}

/// What became of a lease that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is held. `first`: the member was not there before.
    Held {
        /// The member was not there before.
        first: bool,
    },
    /// The scope has no room for another member.
    Full,
}

/// One who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The connection.
    pub holder: Uuid,
    /// The member.
    pub member: String,
    /// What others may know.
    pub info: Json,
}

/// How many hold leases in a scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Connections.
    pub holders: u64,
    /// Members.
    pub members: u64,
}

/// How a token bucket fills. It begins full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Most tokens in it: the burst.
    pub capacity: u32,
    /// Tokens that are added in `period`, evenly.
    pub refill: u32,
    /// The time in which `refill` tokens are added. Neither may be 0; it would count as 1 (token, nanosecond).
    pub period: Duration,
}

/// What became of a wish for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// They are yours.
    Granted {
        /// What is left.
        left: u32,
    },
    /// There were too few; none was taken.
    Refused {
        /// In so long there are enough.
        retry_after: Duration,
    },
}

impl StateKey {
    /// Checks a name.
    ///
    /// # Errors
    /// [`StateKeyError`] says what a name may be.
    pub fn parse(text: &str) -> Result<Self, StateKeyError> {
        let fits = (1..=STATE_KEY_BYTES_MAX).contains(&text.len());
        let allowed = |byte: u8| byte.is_ascii_graphic();
        let has_parts = text
            .split_once('/')
            .is_some_and(|(kind, subject)| !kind.is_empty() && !subject.is_empty());
        match fits && has_parts && text.bytes().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(StateKeyError),
        }
    }

    /// The key of a kind whose subject is a channel.
    ///
    /// # Errors
    /// [`StateKeyError`] if the kind is not fit for a key; a kind of up to 60 bytes leaves room for every channel.
    pub fn of(kind: &str, channel: &ChannelName) -> Result<Self, StateKeyError> {
        Self::parse(&format!("{kind}/{channel}"))
    }

    /// What follows the kind.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, subject)| subject)
    }

    /// The channel that the subject names, if it is the name of one.
    #[must_use]
    pub fn channel(&self) -> Option<ChannelName> {
        ChannelName::parse(self.subject()).ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_be_a_key_anywhere() {
        assert_eq!(
            StateKey::parse("voice/ABCD").unwrap().as_str(),
            "voice/ABCD"
        );
        let key = StateKey::parse("presence/chat/a:1").unwrap();
        assert_eq!(key.subject(), "chat/a:1");
        let channel = ChannelName::parse("watch:ABC").unwrap();
        assert_eq!(
            StateKey::of("voice", &channel).unwrap().channel(),
            Some(channel)
        );
        for bad in ["", "a b/c", "a/ä", "a/\n", "a", "a/", "/a"] {
            assert!(StateKey::parse(bad).is_err(), "{bad:?}");
        }
        assert!(StateKey::parse(&"k/".repeat(STATE_KEY_BYTES_MAX)).is_err());
    }
}
