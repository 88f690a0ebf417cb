//! How often something may be done. The buckets are in the shared state, so that they hold over all nodes together.

use std::time::Duration;

use fanfare_engine::{
    port::state::{Bucket, StateKey, Taken},
    state::Limiter as Buckets,
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
    buckets: Buckets,
}

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
    /// Limits in these buckets.
    pub(crate) fn new(limits: Limits, buckets: Buckets) -> Self {
        Self { limits, buckets }
    }

    /// Takes one, or says when there is one again. `subject` is whatever is limited.
    pub(crate) async fn take(&self, limit: Limit, subject: &str) -> Result<(), Failure> {
        // Subjects may hold users' names: any text, and nobody else's business.
        let key = format!("rate.watch.{}/{}", limit.name(), fingerprint(subject));
        let key = StateKey::parse(&key).map_err(Failure::internal)?;
        let bucket = limit.bucket(self.limits);
        match self.buckets.take(&key, bucket, 1).await {
            Taken::Granted { .. } => Ok(()),
            Taken::Refused { retry_after } => Err(too_often(retry_after)),
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
}
