//! Access tokens, by mailbox, in memory only. One is had with a refresh token, holds for about an hour, and is asked for once
//! for all who need it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;

use super::{error::GoogleError, model::Grant, secret::Secret};
use crate::user::User;

/// Mailboxes whose tokens are kept; for one more, one of them is forgotten and asked for again when it is needed.
pub const TOKENS_MAX: usize = 20_000;
/// How long before its end a token is no longer used.
pub const MARGIN: Duration = Duration::from_secs(60);

/// An access token.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) token: Secret,
    /// It is used until then.
    pub(super) until: Instant,
    /// What is to be kept in place of the grant's sealed refresh token, if it is not that.
    pub(super) replacement: Option<Vec<u8>>,
}

/// An access token, and the number by which it is told from others of the same mailbox.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) access: Access,
    pub(super) number: u64,
}

type Refresh = BoxFuture<'static, Result<Access, GoogleError>>;

/// Access tokens, by mailbox.
#[derive(Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<User, Entry>>,
    next: AtomicU64,
}

struct Entry {
    /// The grant's.
    sealed: Vec<u8>,
    number: u64,
    access: Shared<Refresh>,
}

impl Tokens {
    /// A token that holds, and is not the one with the number `refused`. If there is none, `refresh` asks for one, with the sealed
    /// refresh token that it is given; everybody who needs one meanwhile waits for the same answer.
    pub(super) async fn get(
        &self,
        grant: &Grant,
        refused: Option<u64>,
        refresh: impl FnOnce(Vec<u8>) -> Refresh,
    ) -> Result<Numbered, GoogleError> {
        let (access, number) = self.look(grant, refused, refresh);
        let access = access.await?;
        Ok(Numbered { access, number })
    }

    /// What is to be kept in place of the grant's sealed refresh token, if it is not that.
    pub(super) fn replacement(&self, grant: &Grant) -> Option<Vec<u8>> {
        self.with(|known| {
            let entry = known.get(&grant.user)?;
            let replacement = entry.replacement()?;
            (entry.sealed == grant.sealed && replacement != grant.sealed).then_some(replacement)
        })
    }

    /// Forgets a mailbox.
    pub(super) fn forget(&self, user: &User) {
        self.with(|known| known.remove(user));
    }

    fn look(
        &self,
        grant: &Grant,
        refused: Option<u64>,
        refresh: impl FnOnce(Vec<u8>) -> Refresh,
    ) -> (Shared<Refresh>, u64) {
        self.with(|known| {
            let same = known
                .get(&grant.user)
                .filter(|entry| entry.is_of(&grant.sealed));
            if let Some(entry) = same
                && entry.holds(refused)
            {
                return (entry.access.clone(), entry.number);
            }
            let newest = same.and_then(Entry::replacement);
            let newest = newest.unwrap_or_else(|| grant.sealed.clone());
            if known.len() >= TOKENS_MAX
                && !known.contains_key(&grant.user)
                && let Some(any) = known.keys().next().cloned()
            {
                known.remove(&any);
            }
            let access = refresh(newest).shared();
            let number = self.next.fetch_add(1, Relaxed);
            let entry = Entry {
                sealed: grant.sealed.clone(),
                number,
                access: access.clone(),
            };
            known.insert(grant.user.clone(), entry);
            // It goes on though whoever asked may have gone.
            tokio::spawn(access.clone());
            (access, number)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<User, Entry>) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    fn replacement(&self) -> Option<Vec<u8>> {
        self.access.peek()?.as_ref().ok()?.replacement.clone()
    }

    /// Whether it came of this refresh token, or is kept in its place.
    fn is_of(&self, sealed: &[u8]) -> bool {
        self.sealed == sealed || self.replacement().is_some_and(|it| it == sealed)
    }

    fn holds(&self, refused: Option<u64>) -> bool {
        match self.access.peek() {
            None => true,
            Some(Ok(access)) => Instant::now() < access.until && refused != Some(self.number),
            Some(Err(_)) => false,
        }
    }
}

/// Until when to use a token that was asked for at `asked`, and holds for so long.
pub(super) fn use_until(asked: Instant, life: Duration) -> Instant {
    asked + life.saturating_sub(MARGIN).max(life / 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{advance, sleep};

    use super::*;

    #[derive(Clone, Default)]
    struct Scene {
        asked: Arc<Mutex<Vec<Vec<u8>>>>,
        error: Option<GoogleError>,
        replacement: Option<Vec<u8>>,
    }

    impl Scene {
        fn refresh(&self) -> impl FnOnce(Vec<u8>) -> Refresh + use<> {
            let scene = self.clone();
            move |sealed| {
                async move {
                    scene.asked.lock().unwrap().push(sealed);
                    sleep(Duration::from_secs(1)).await;
                    match scene.error {
                        Some(error) => Err(error),
                        None => Ok(Access {
                            token: Secret::new("t".to_owned()),
                            until: use_until(Instant::now(), Duration::from_secs(3600)),
                            replacement: scene.replacement,
                        }),
                    }
                }
                .boxed()
            }
        }

        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    fn grant(user: &str, sealed: &[u8]) -> Grant {
        Grant {
            user: User::parse(user).unwrap(),
            sealed: sealed.to_vec(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_need_a_token_ask_for_it_once() {
        let (tokens, scene) = (Tokens::default(), Scene::default());
        let (ann, bob) = (grant("ann", b"1"), grant("bob", b"1"));
        let get = |grant| tokens.get(grant, None, scene.refresh());
        let (a, b, c) = tokio::join!(get(&ann), get(&ann), get(&bob));
        assert_eq!(a.unwrap().number, b.unwrap().number);
        assert!(c.is_ok());
        assert_eq!(scene.asked(), 2, "one for each mailbox");
        get(&ann).await.unwrap();
        assert_eq!(scene.asked(), 2, "kept");
        advance(Duration::from_secs(3600) - MARGIN).await;
        get(&ann).await.unwrap();
        assert_eq!(scene.asked(), 3, "a minute before its end there is another");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_refused_is_replaced_once() {
        let (tokens, scene) = (Tokens::default(), Scene::default());
        let ann = grant("ann", b"1");
        let get = |refused| tokens.get(&ann, refused, scene.refresh());
        let first = get(None).await.unwrap().number;
        let (a, b) = tokio::join!(get(Some(first)), get(Some(first)));
        assert_eq!(a.unwrap().number, b.unwrap().number);
        get(Some(first)).await.unwrap();
        assert_eq!(scene.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_does_not_stop_the_question_and_an_error_is_not_kept() {
        let tokens = Tokens::default();
        let ann = grant("ann", b"1");
        let scene = Scene {
            error: Some(GoogleError::Gone),
            ..Scene::default()
        };
        let get = || tokens.get(&ann, None, scene.refresh());
        let gave_up = tokio::time::timeout(Duration::from_millis(1), get()).await;
        assert!(gave_up.is_err());
        sleep(Duration::from_secs(2)).await;
        assert!(tokens.get(&ann, None, scene.refresh()).await.is_err());
        assert_eq!(scene.asked(), 2);
        let well = Scene::default();
        assert!(tokens.get(&ann, None, well.refresh()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_grant_is_a_new_token_and_a_replacement_is_not() {
        let tokens = Tokens::default();
        let scene = Scene {
            replacement: Some(b"2".to_vec()),
            ..Scene::default()
        };
        let (first, second) = (grant("ann", b"1"), grant("ann", b"2"));
        tokens.get(&first, None, scene.refresh()).await.unwrap();
        assert_eq!(tokens.replacement(&first).unwrap(), b"2");
        assert_eq!(tokens.replacement(&second), None);
        let kept = tokens.get(&second, None, scene.refresh()).await.unwrap();
        assert_eq!(scene.asked(), 1, "what is kept in its place is of the same");
        let refused = Some(kept.number);
        tokens.get(&first, refused, scene.refresh()).await.unwrap();
        assert_eq!(scene.asked.lock().unwrap()[1], b"2", "the newest is used");
        let other = grant("ann", b"3");
        tokens.get(&other, None, scene.refresh()).await.unwrap();
        assert_eq!(scene.asked.lock().unwrap()[2], b"3");
        tokens.forget(&other.user);
        tokens.get(&other, None, scene.refresh()).await.unwrap();
        assert_eq!(scene.asked(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_so_many() {
        let (tokens, scene) = (Tokens::default(), Scene::default());
        for number in 0..TOKENS_MAX + 10 {
            let grant = grant(&format!("u{number}"), b"1");
            drop(tokens.look(&grant, None, scene.refresh()));
        }
        assert_eq!(tokens.with(|known| known.len()), TOKENS_MAX);
    }

    #[test]
    fn short_lives_are_used_by_half() {
        let now = Instant::now();
        let used = |seconds| use_until(now, Duration::from_secs(seconds)) - now;
        assert_eq!(used(3600), Duration::from_secs(3540));
        assert_eq!(used(61), Duration::from_millis(30_500));
        assert_eq!(used(2), Duration::from_secs(1));
    }
}
