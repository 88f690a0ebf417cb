//! Which walks may take long: a full sync takes minutes, and while some do, the changes of others must be told at once. So most
//! of a node's walks may be long ones, but never all; and a long one ends now and then, with what it has committed, so that its turn comes
//! again behind others.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// Mailboxes that a node walks at the same time: it mostly waits for Google.
pub(crate) const WALKS_AT_ONCE: usize = 32;
/// How many of them may take long.
pub(crate) const LONG_WALKS_AT_ONCE: usize = 24;
const _: () = assert!(LONG_WALKS_AT_ONCE < WALKS_AT_ONCE);

/// What takes longer is long.
const SHORT: Duration = Duration::from_secs(5);
/// After so long a walk ends, and goes on later.
pub(crate) const TURN: Duration = Duration::from_secs(600);

/// The places of long walks.
pub(crate) struct Turns(Semaphore);

/// One walk's turn.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    began: Instant,
    place: Option<SemaphorePermit<'a>>,
}

/// Why a walk is to go on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Pause {
    #[error("as many mailboxes as may be are being read at length")]
    Crowded,
    #[error("it has been its turn for long")]
    Long,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(LONG_WALKS_AT_ONCE))
    }
}

impl Turns {
    /// The turn of a walk that begins.
    pub(crate) fn begin(&self) -> Turn<'_> {
        Turn {
            turns: self,
            began: Instant::now(),
            place: None,
        }
    }
}

impl Turn<'_> {
    /// Whether a walk may begin what takes long.
    ///
    /// # Errors
    /// [`Pause::Crowded`].
    pub(crate) fn be_long(&mut self) -> Result<(), Pause> {
        if self.place.is_none() {
            let place = self.turns.0.try_acquire();
            self.place = Some(place.map_err(|_| Pause::Crowded)?);
        }
        Ok(())
    }

    /// Whether a walk may go on.
    ///
    /// # Errors
    /// [`Pause`].
    pub(crate) fn go_on(&mut self) -> Result<(), Pause> {
        match self.began.elapsed() {
            took if took < SHORT => Ok(()),
            took if took < TURN => self.be_long(),
            _ => Err(Pause::Long),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn long_walks_leave_room_for_short_ones() {
        let turns = Turns::default();
        let mut all: Vec<_> = (0..WALKS_AT_ONCE).map(|_| turns.begin()).collect();
        assert!(all.iter_mut().all(|turn| turn.go_on().is_ok()), "short");
        advance(SHORT).await;
        let long = all.iter_mut().filter_map(|turn| turn.go_on().ok()).count();
        assert_eq!(long, LONG_WALKS_AT_ONCE);
        assert_eq!(turns.begin().be_long(), Err(Pause::Crowded));
        assert_eq!(turns.begin().go_on(), Ok(()));
        assert_eq!(all[0].go_on(), Ok(()), "it has its place");
        advance(TURN).await;
        assert_eq!(all[0].go_on(), Err(Pause::Long));
        drop(all);
        assert_eq!(turns.begin().be_long(), Ok(()));
    }
}
