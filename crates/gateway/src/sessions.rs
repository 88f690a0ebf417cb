//! Sessions: a token is verified once and remembered; a revocation ends what was opened with it, at once and on all nodes.
//!
//! A revocation matters: it must not be lost with a cache, and must hold while Redis is away. So it is a publication like
//! any other, in a channel that no client reaches ([`REVOCATIONS`]): committed before it is acknowledged, heard by every node
//! within milliseconds, healed by the sweep, and read from its beginning by a node that starts. Until a node has read all
//! of them it accepts no token.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use fanfare_engine::{Engine, follow::Followed, publish::PublishError};
use fanfare_wire::{ChannelName, Draft, Json, NameError, Publication};
use ring::digest;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    Gateway,
    token::{ConnectionClaims, Proof, Seconds, SubscriptionClaims, TokenError, TokenVerifier},
    unix_seconds,
};

/// The channel of the revocations; its namespace is nobody's but the server's.
pub const REVOCATIONS: &str = "_fanfare:revocations";

/// Verified tokens that a node remembers, at least half of them and at most all.
pub const VERIFIED_MAX: usize = 65_536;

/// From how many revoked sessions on it is looked for those whose tokens have all expired.
const SWEEP_FROM: usize = 1024;

/// For how many seconds a session is remembered after its last token: what was opened with it may outlive it a little, and clocks are put
/// back.
const REMEMBERED_SECONDS: Seconds = 3600;

/// What is said of a token that is no longer valid.
const REVOKED: TokenError = TokenError::Invalid("it was revoked");

/// What is no longer valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// All tokens of a user that were signed up to a second.
    User {
        /// The user (`sub`).
        user: String,
        /// The last second (`iat`); tokens that do not say when they were signed are older than any.
        until: Seconds,
    },
    /// The tokens of one session.
    Session {
        /// The session (`jti`).
        session: String,
        /// When its last token expires (`exp`), if that is known: then it need not be remembered for ever.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Seconds>,
    },
}

/// Verifies tokens, and knows which are revoked.
pub struct Sessions {
    verifier: Option<TokenVerifier>,
    verified: Mutex<Verified>,
    revoked: Mutex<Revoked>,
    /// All revocations that there were at the start are known.
    caught_up: watch::Sender<bool>,
    /// Rung after a revocation.
    bell: Notify,
    hits: AtomicU64,
}

/// Tokens by their digest, in two generations: when the young ones are as many as may be, the old ones go.
#[derive(Default)]
struct Verified {
    young: HashMap<[u8; 32], Proved>,
    old: HashMap<[u8; 32], Proved>,
}

/// What a token says, and who has vouched for it.
type Proved = (Arc<ConnectionClaims>, Proof);

#[derive(Default)]
struct Revoked {
    users: HashMap<String, Seconds>,
    /// Until when each is remembered.
    sessions: HashMap<String, Seconds>,
    sweep_at: usize,
}

impl Sessions {
    /// Sessions of a node. Begins to read the revocations at once, and has open connections looked at after each.
    pub(crate) fn start(verifier: Option<TokenVerifier>, engine: &Arc<Engine>) -> Arc<Self> {
        let sessions = Arc::new(Self::new(verifier));
        match revocations() {
            Ok(channel) => {
                let told = Arc::clone(&sessions);
                engine.follow(
                    channel,
                    Box::new(move |followed| told.on_followed(followed)),
                );
            }
            // Without them no token is accepted.
            Err(error) => error!(%error, "the channel of the revocations has an impossible name"),
        }
        let (told, engine) = (Arc::clone(&sessions), Arc::downgrade(engine));
        tokio::spawn(async move {
            loop {
                told.bell.notified().await;
                let Some(engine) = engine.upgrade() else {
                    return;
                };
                engine.hub().recheck();
            }
        });
        sessions
    }

    fn new(verifier: Option<TokenVerifier>) -> Self {
        Self {
            verifier,
            verified: Mutex::default(),
            revoked: Mutex::default(),
            caught_up: watch::Sender::new(false),
            bell: Notify::new(),
            hits: AtomicU64::new(0),
        }
    }

    /// Who a connection token says that a client is.
    ///
    /// # Errors
    /// [`TokenError`]: it is not valid, no longer valid, or cannot be judged yet.
    pub fn connection(&self, token: &str) -> Result<Arc<ConnectionClaims>, TokenError> {
        let verifier = self.verifier()?;
        let now = unix_seconds();
        let digest = digest_of(token);
        let known = self.verified().get(&digest);
        let claims = match known.filter(|(_, proof)| verifier.holds(*proof)) {
            Some((claims, _)) => {
                self.hits.fetch_add(1, Relaxed);
                claims
            }
            None => {
                let (claims, proof) = verifier.prove_connection(token, now)?;
                let claims = Arc::new(claims);
                self.verified().put(digest, (Arc::clone(&claims), proof));
                claims
            }
        };
        let is_over = |end: Option<Seconds>| end.is_some_and(|end| now >= end);
        if is_over(claims.exp) || is_over(claims.expires()) {
            return Err(TokenError::Expired);
        }
        match self.is_revoked(&claims) {
            true => Err(REVOKED),
            false => Ok(claims),
        }
    }

    /// The same, but waits a moment for the keys of the token's issuer if they are just being asked for.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn connection_soon(&self, token: &str) -> Result<Arc<ConnectionClaims>, TokenError> {
        match (self.connection(token), self.verifier()) {
            (Err(TokenError::NotYet), Ok(verifier)) => {
                verifier.answered().await;
                self.connection(token)
            }
            (judged, _) => judged,
        }
    }

    /// What a subscription token grants. A user that was revoked and has signed in again needs new ones.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn subscription(&self, token: &str) -> Result<SubscriptionClaims, TokenError> {
        let claims = self.verifier()?.subscription(token, unix_seconds())?;
        match self.revoked().holds_user(&claims.sub, claims.iat) {
            true => Err(REVOKED),
            false => Ok(claims),
        }
    }

    /// Whether what was opened with these claims must end.
    #[must_use]
    pub fn is_revoked(&self, claims: &ConnectionClaims) -> bool {
        self.revoked().holds(claims)
    }

    /// Waits until tokens can be judged: all revocations that there were at the start are known.
    pub async fn ready(&self) {
        // It fails only if the sender is gone, and that is here.
        let _ = self.caught_up.subscribe().wait_for(|ready| *ready).await;
    }

    /// How many users and sessions are revoked.
    pub(crate) fn revocation_count(&self) -> usize {
        let revoked = self.revoked();
        revoked.users.len() + revoked.sessions.len()
    }

    /// How many times a token was known already.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    fn verifier(&self) -> Result<&TokenVerifier, TokenError> {
        let verifier = self.verifier.as_ref();
        let verifier = verifier.ok_or(TokenError::Invalid("this server has no token_secret"))?;
        match *self.caught_up.borrow() {
            true => Ok(verifier),
            false => Err(TokenError::NotYet),
        }
    }

    fn on_followed(&self, followed: Followed) {
        match followed {
            Followed::Publication(publication) => self.on_publication(&publication),
            Followed::CaughtUp => {
                self.caught_up.send_replace(true);
                self.bell.notify_one();
            }
            // What was revoked in a log that was put back stays revoked on the nodes that have heard of it.
            Followed::Reset => {}
        }
    }

    fn on_publication(&self, publication: &Publication) {
        match serde_json::from_slice(publication.data.as_bytes()) {
            Ok(revocation) => {
                info!(seq = %publication.seq, "a revocation");
                self.revoked().add(revocation, unix_seconds());
                if *self.caught_up.borrow() {
                    self.bell.notify_one();
                }
            }
            Err(error) => {
                warn!(%error, seq = %publication.seq, "a revocation of a form that this version does not know");
            }
        }
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Revocation {
    /// The message that revokes it everywhere once it is committed.
    ///
    /// # Errors
    /// If it cannot be written down.
    pub fn draft(&self) -> Result<Draft, RevocationError> {
        let channel = revocations()?;
        let data = Json::parse(&serde_json::to_vec(self)?)?;
        Ok(Draft::new(channel, Uuid::now_v7(), data))
    }
}

/// A revocation that cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The channel of the revocations cannot be named.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It cannot be written down.
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    /// What was written is no JSON.
    #[error(transparent)]
    Json(#[from] fanfare_wire::JsonError),
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The revocation cannot be written down: a name in it is impossible.
    #[error("this cannot be revoked")]
    Impossible,
    /// It was not committed, or its outcome is not known: revoke again.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Gateway {
    /// Revokes tokens, at once and on all nodes; returns when that is committed. For apps; the servers of an application call
    /// `POST /api/revoke`.
    ///
    /// # Errors
    /// [`RevokeError`]: nothing was revoked, unless it says that the outcome is not known.
    pub async fn revoke(&self, revocation: &Revocation) -> Result<(), RevokeError> {
        let draft = revocation.draft().map_err(|_| RevokeError::Impossible)?;
        self.engine.publish(draft).await?;
        Ok(())
    }
}

impl Verified {
    fn get(&mut self, digest: &[u8; 32]) -> Option<Proved> {
        if let Some(proved) = self.young.get(digest) {
            return Some(proved.clone());
        }
        let proved = self.old.remove(digest)?;
        self.put(*digest, proved.clone());
        Some(proved)
    }

    fn put(&mut self, digest: [u8; 32], proved: Proved) {
        if self.young.len() >= VERIFIED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, proved);
    }
}

impl Revoked {
    fn add(&mut self, revocation: Revocation, now: Seconds) {
        match revocation {
            Revocation::User { user, until } => {
                let known = self.users.entry(user).or_insert(until);
                *known = until.max(*known);
            }
            Revocation::Session { session, expires } => {
                let until = expires.map_or(Seconds::MAX, |expires| {
                    expires.saturating_add(REMEMBERED_SECONDS)
                });
                let known = self.sessions.entry(session).or_insert(until);
                *known = until.max(*known);
                self.sweep(now);
            }
        }
    }

    fn sweep(&mut self, now: Seconds) {
        if self.sessions.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.sessions.retain(|_, until| *until > now);
            // Each look costs as much as there is, so it is done seldom.
            self.sweep_at = self.sessions.len() * 2;
        }
    }

    fn holds(&self, claims: &ConnectionClaims) -> bool {
        let session = claims.jti.as_ref();
        self.holds_user(&claims.sub, claims.iat)
            || session.is_some_and(|session| self.sessions.contains_key(session))
    }

    fn holds_user(&self, user: &str, signed: Option<Seconds>) -> bool {
        let signed = signed.unwrap_or(Seconds::MIN);
        self.users.get(user).is_some_and(|until| signed <= *until)
    }
}

fn revocations() -> Result<ChannelName, NameError> {
    ChannelName::parse(REVOCATIONS)
}

/// Tokens are not kept, so that no dump of memory holds them for longer than their request.
fn digest_of(token: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use fanfare_wire::Seq;
    use serde_json::json;
    use tokio::time::advance;

    use super::*;
    use crate::{
        jose::{
            Algorithm,
            jwks::{Jwks, REFRESH_MIN},
            testing::{Pair, Published},
        },
        token::{IssuerKeys, TokenIssuer, TokenSigner},
    };

    fn claims(user: &str, session: Option<&str>, iat: Option<Seconds>) -> ConnectionClaims {
        ConnectionClaims {
            sub: user.to_owned(),
            exp: None,
            iat,
            jti: session.map(str::to_owned),
            ..ConnectionClaims::default()
        }
    }

    fn sessions() -> Sessions {
        let sessions = Sessions::new(Some(TokenVerifier::new(b"secret")));
        sessions.on_followed(Followed::CaughtUp);
        sessions
    }

    fn revoke(sessions: &Sessions, revocation: &Revocation) {
        let draft = revocation.draft().unwrap();
        sessions.on_followed(Followed::Publication(Publication {
            seq: Seq(1),
            id: draft.id,
            time: 0,
            data: draft.data,
            info: None,
            tags: None,
        }));
    }

    #[test]
    fn a_user_is_revoked_up_to_a_second_and_a_session_for_good() {
        let sessions = sessions();
        let revocation = Revocation::User {
            user: "ada".to_owned(),
            until: 100,
        };
        revoke(&sessions, &revocation);
        assert!(sessions.is_revoked(&claims("ada", None, Some(100))));
        assert!(sessions.is_revoked(&claims("ada", None, None)));
        assert!(!sessions.is_revoked(&claims("ada", None, Some(101))));
        assert!(!sessions.is_revoked(&claims("bob", None, Some(1))));
        let revocation = Revocation::Session {
            session: "s1".to_owned(),
            expires: None,
        };
        revoke(&sessions, &revocation);
        assert!(sessions.is_revoked(&claims("bob", Some("s1"), Some(1_000))));
        assert!(!sessions.is_revoked(&claims("bob", Some("s2"), Some(1_000))));
    }

    #[test]
    fn a_session_whose_tokens_have_expired_is_forgotten() {
        let (now, mut revoked) = (1_000_000, Revoked::default());
        let mut add = |session: String, expires| {
            revoked.add(Revocation::Session { session, expires }, now);
            revoked.sessions.len()
        };
        add("for ever".to_owned(), None);
        add("of before".to_owned(), None);
        add("of before".to_owned(), Some(1));
        add("holds".to_owned(), Some(now + 1));
        let most = (0..SWEEP_FROM * 8).map(|number| add(format!("s{number}"), Some(now / 2)));
        assert!(most.max() < Some(SWEEP_FROM));
        for session in ["for ever", "of before", "holds"] {
            assert!(
                revoked.holds(&claims("ada", Some(session), None)),
                "{session}"
            );
        }
        // As it was written before there was an end.
        let old: Revocation = serde_json::from_value(json!({"session": {"session": "s"}})).unwrap();
        let (session, expires) = ("s".to_owned(), None);
        assert_eq!(old, Revocation::Session { session, expires });
        assert_eq!(
            serde_json::to_value(&old).unwrap(),
            json!({"session": {"session": "s"}})
        );
    }

    #[test]
    fn a_token_that_is_remembered_is_still_judged() {
        let sessions = sessions();
        let signer = TokenSigner::new(b"secret");
        let now = unix_seconds();
        let token = signer
            .sign_connection(&claims("ada", None, Some(now)))
            .unwrap();
        assert_eq!(sessions.connection(&token).unwrap().sub, "ada");
        assert_eq!(sessions.hits(), 0);
        assert_eq!(sessions.connection(&token).unwrap().sub, "ada");
        assert_eq!(sessions.hits(), 1);
        let revocation = Revocation::User {
            user: "ada".to_owned(),
            until: now,
        };
        revoke(&sessions, &revocation);
        assert!(sessions.connection(&token).is_err());
        let other = TokenSigner::new(b"other").sign_connection(&claims("ada", None, None));
        assert!(sessions.connection(&other.unwrap()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_whose_key_was_taken_back_is_not_remembered() {
        let (ours, newer) = (Pair::p256(), Pair::p256());
        let published = Published::new(&[&ours]);
        let issuer = TokenIssuer::any(IssuerKeys::Jwks(Jwks::new(published.issuer())));
        let sessions = Sessions::new(Some(TokenVerifier::with_issuers(None, vec![issuer])));
        sessions.on_followed(Followed::CaughtUp);
        let token = ours.token(Algorithm::Es256, "0", &json!({"sub": "ada"}));
        assert_eq!(
            sessions.connection(&token),
            Err(TokenError::NotYet),
            "asked for just now"
        );
        assert_eq!(sessions.connection_soon(&token).await.unwrap().sub, "ada");
        assert!(sessions.connection(&token).is_ok());
        assert_eq!(sessions.hits(), 1);
        published.set(&[&newer]);
        advance(REFRESH_MIN).await;
        let other = newer.token(Algorithm::Es256, "another kid", &json!({"sub": "ada"}));
        assert!(sessions.connection_soon(&other).await.is_err());
        assert!(sessions.connection(&token).is_err());
        let token = newer.token(Algorithm::Es256, "0", &json!({"sub": "bob"}));
        assert_eq!(sessions.connection(&token).unwrap().sub, "bob");
    }

    #[test]
    fn who_signs_in_again_after_a_revocation_needs_new_subscription_tokens() {
        let sessions = sessions();
        let signer = TokenSigner::new(b"secret");
        let token = |sub: &str, iat| {
            let claims = SubscriptionClaims {
                sub: sub.to_owned(),
                channel: ChannelName::parse("room").unwrap(),
                exp: None,
                iat,
                expire_at: None,
                terms: Default::default(),
            };
            signer.sign_subscription(&claims).unwrap()
        };
        let tokens = [
            token("ada", Some(100)),
            token("ada", None),
            token("ada", Some(101)),
            token("bob", None),
        ];
        let accepted = || {
            tokens
                .each_ref()
                .map(|it| sessions.subscription(it).is_ok())
        };
        assert_eq!(accepted(), [true; 4]);
        let revocation = Revocation::User {
            user: "ada".to_owned(),
            until: 100,
        };
        revoke(&sessions, &revocation);
        assert_eq!(accepted(), [false, false, true, true]);
    }

    #[test]
    fn no_token_is_accepted_before_all_revocations_are_known() {
        let sessions = Sessions::new(Some(TokenVerifier::new(b"secret")));
        let token = TokenSigner::new(b"secret")
            .sign_connection(&claims("ada", None, None))
            .unwrap();
        assert_eq!(sessions.connection(&token), Err(TokenError::NotYet));
        sessions.on_followed(Followed::CaughtUp);
        assert!(sessions.connection(&token).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_used_stay() {
        let mut verified = Verified::default();
        let one = (Arc::new(claims("ada", None, None)), Proof::default());
        let digest = |number: u32| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_le_bytes());
            digest
        };
        for number in 0..u32::try_from(VERIFIED_MAX * 2).unwrap() {
            verified.put(digest(number), one.clone());
            assert!(verified.get(&digest(0)).is_some(), "{number}");
            assert!(verified.young.len() + verified.old.len() <= VERIFIED_MAX + 1);
        }
        assert!(verified.get(&digest(1)).is_none());
    }
}
