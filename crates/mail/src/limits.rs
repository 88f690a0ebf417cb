//! How often something may be done. The buckets are in the shared state, so that they hold over all nodes together.

use std::time::Duration;

use fanfare_engine::{
    port::state::{Bucket, StateKey, Taken},
    state::Limiter,
};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Beginning a login; for an address, which may be a proxy's.
    Login,
    /// Coming back from one, for which Google is asked; the same.
    Callback,
    /// Asking Google now; for a user.
    Sync,
    /// Reading one's messages; for a user.
    Read,
    /// Opening event streams; for a user.
    Open,
    /// Changing the demonstration's mailbox; for a user.
    Demo,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Callback => "callback",
            Self::Sync => "sync",
            Self::Read => "read",
            Self::Open => "open",
            Self::Demo => "demo",
        }
    }

    /// At once after a quiet time, and in a minute.
    fn bucket(self) -> Bucket {
        let count = match self {
            Self::Login | Self::Callback => 1_200,
            Self::Sync => 6,
            Self::Read => 300,
            Self::Open => 120,
            Self::Demo => 600,
        };
        Bucket {
            capacity: count,
            refill: count,
            period: MINUTE,
        }
    }
}

/// Takes one, or says when there is one again. `subject` is whatever is limited: an address, or a user.
pub(crate) async fn take(limiter: &Limiter, limit: Limit, subject: &str) -> Result<(), Duration> {
    // The names of addresses and users are keys already; who comes without an address shares one.
    let subject = if subject.is_empty() {
        "unknown"
    } else {
        subject
    };
    let Ok(key) = StateKey::parse(&format!("rate.mail.{}/{subject}", limit.name())) else {
        return Err(MINUTE);
    };
    match limiter.take(&key, limit.bucket(), 1).await {
        Taken::Granted { .. } => Ok(()),
        Taken::Refused { retry_after } => Err(retry_after),
    }
}
