//! How often something may be done. The buckets are in the shared state, so that they hold over all nodes together.

use std::{sync::Arc, time::Duration};

use fanfare_engine::{
    memory::state::MemoryState,
    port::state::{Bucket, State, StateKey, Taken},
};

use crate::{
    failure::{Code, Failure},
    identity::fingerprint,
};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Making rooms, for a user or an address.
    CreateRoom,
    /// Joining, for a member.
    Join,
    /// Joining by those who have not been in, for an address and a room.
    JoinStranger,
    /// Asking for rooms by code, for an address.
    LookUp,
    /// Trying passwords, for an address and a room.
    Password,
    /// Trying passwords, for a room.
    PasswordOfRoom,
    /// Chat messages of a member.
    Chat,
    /// Commands of a member.
    Sync,
    /// Reactions of a member.
    Reaction,
    /// Voice signals of a member.
    Signal,
}

/// How the limits are set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rooms in an hour.
    pub(crate) rooms_per_hour: u32,
    /// Those that are not of a member are so many times as high.
    pub(crate) ease: u32,
}

/// Takes from buckets that hold over all nodes.
pub(crate) struct Limiter {
    limits: Limits,
    state: Arc<dyn State>,
    /// Used while the shared state is away.
    alone: MemoryState,
    nodes: Nodes,
}

/// How many nodes are alive.
pub(crate) type Nodes = Box<dyn Fn() -> usize + Send + Sync>;

const MINUTE: Duration = Duration::from_secs(60);

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::CreateRoom => "create",
            Self::Join => "join",
            Self::JoinStranger => "stranger",
            Self::LookUp => "lookup",
            Self::Password => "password",
            Self::PasswordOfRoom => "password-of-room",
            Self::Chat => "chat",
            Self::Sync => "sync",
            Self::Reaction => "reaction",
            Self::Signal => "signal",
        }
    }

    fn bucket(self, limits: Limits) -> Bucket {
        let (count, period) = match self {
            Self::CreateRoom => (limits.rooms_per_hour, 60 * MINUTE),
            Self::Join => (10, MINUTE),
            Self::JoinStranger => (30, MINUTE),
            Self::LookUp => (120, MINUTE),
            Self::Password => (10, 5 * MINUTE),
            Self::PasswordOfRoom => (60, 5 * MINUTE),
            Self::Chat => (30, MINUTE),
            Self::Sync => (10, Duration::from_secs(1)),
            Self::Reaction => (10, Duration::from_secs(10)),
            Self::Signal => (100, Duration::from_secs(10)),
        };
        let of_members = matches!(
            self,
            Self::Chat | Self::Sync | Self::Reaction | Self::Signal
        );
        let ease = if of_members { 1 } else { limits.ease.max(1) };
        let count = count.max(1).saturating_mul(ease);
        Bucket {
            capacity: count,
            refill: count,
            period,
        }
    }
}

impl Limiter {
    /// Buckets in the shared state; `nodes` says how many nodes are alive.
    pub(crate) fn new(limits: Limits, state: Arc<dyn State>, nodes: Nodes) -> Self {
        Self {
            limits,
            state,
            alone: MemoryState::alone(),
            nodes,
        }
    }

    /// Takes one, or says when there is one again. `subject` is whatever is limited.
    pub(crate) async fn take(&self, limit: Limit, subject: &str) -> Result<(), Failure> {
        // Subjects may hold users' names: any text, and nobody else's business.
        let key = format!("rate.watch.{}/{}", limit.name(), fingerprint(subject));
        let key = StateKey::parse(&key).map_err(Failure::internal)?;
        let bucket = limit.bucket(self.limits);
        let taken = match self.state.take(&key, bucket, 1).await {
            Ok(taken) => taken,
            // While it is away each node has its share.
            Err(_) => self.alone.take(&key, self.share(bucket), 1).await?,
        };
        match taken {
            Taken::Granted { .. } => Ok(()),
            Taken::Refused { retry_after } => Err(too_often(retry_after)),
        }
    }

    fn share(&self, bucket: Bucket) -> Bucket {
        let nodes = u32::try_from((self.nodes)()).unwrap_or(u32::MAX).max(1);
        let share = |whole: u32| (whole / nodes).max(1);
        Bucket {
            capacity: share(bucket.capacity),
            refill: share(bucket.refill),
            period: bucket.period,
        }
    }
}

/// The refusal of what comes too often.
pub(crate) fn too_often(retry_after: Duration) -> Failure {
    Failure {
        retry_after: Some(retry_after),
        ..Failure::new(
            Code::RateLimitExceeded,
            "too often; wait for retryAfterMs milliseconds",
        )
    }
}

#[cfg(test)]
mod tests {
    use fanfare_engine::memory::state::MemoryStates;

    use super::*;

    #[test]
    fn a_first_try_is_easier_but_members_are_equal() {
        let strict = Limits {
            rooms_per_hour: 5,
            ease: 1,
        };
        let easy = Limits {
            ease: 100,
            ..strict
        };
        assert_eq!(Limit::CreateRoom.bucket(strict).capacity, 5);
        assert_eq!(Limit::CreateRoom.bucket(easy).capacity, 500);
        assert_eq!(Limit::Chat.bucket(easy), Limit::Chat.bucket(strict));
        assert_eq!(Limit::Sync.bucket(strict).capacity, 10);
    }

    #[tokio::test]
    async fn without_the_shared_state_a_node_has_its_share() {
        let states = MemoryStates::new();
        let shared = Arc::new(states.join());
        let limits = Limits {
            rooms_per_hour: 6,
            ease: 1,
        };
        let state = Arc::clone(&shared) as Arc<dyn State>;
        let limiter = Limiter::new(limits, state, Box::new(|| 2));
        shared.cut();
        for _ in 0..3 {
            limiter.take(Limit::CreateRoom, "ann").await.unwrap();
        }
        let refused = limiter.take(Limit::CreateRoom, "ann").await.unwrap_err();
        assert_eq!(refused.code, Code::RateLimitExceeded);
        shared.mend();
        for _ in 0..6 {
            limiter.take(Limit::CreateRoom, "ann").await.unwrap();
        }
        assert!(limiter.take(Limit::CreateRoom, "ann").await.is_err());
    }
}
