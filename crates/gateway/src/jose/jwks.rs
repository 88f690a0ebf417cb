//! The keys that an issuer publishes, as a node knows them.
//!
//! Known keys hold for as long as the issuer said, and are asked for again before that ends, so an issuer that is away for a while
//! is not missed. When they have run out nothing is verified until there are new ones. A key that is not among them makes the
//! node ask again, once for everybody and at most every [`REFRESH_MIN`]; meanwhile such tokens are refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fanfare_engine::port::BoxFuture;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::key::{Jwk, PublicKey};
use crate::{
    https::{Client, Url},
    unix_seconds,
};

/// Shortest time between two questions to the issuer.
pub const REFRESH_MIN: Duration = Duration::from_secs(30);
/// Shortest time after one that was not answered.
pub const RETRY_MIN: Duration = Duration::from_secs(5);
/// How long a request waits for keys; the question goes on without it, and the sender tries again.
pub const WAIT_MAX: Duration = Duration::from_millis(75);

/// A key may sign before it is published everywhere, and clocks differ: a token signed later than so many seconds before the
/// keys were read may be of a newer key.
pub const PUBLISH_LAG_SECONDS: i64 = 60;

/// How long keys hold if the issuer does not say.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
const LIFE_MIN: Duration = Duration::from_secs(60);
const LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Keys of one issuer; further ones are not looked at.
const KEYS_MAX: usize = 64;

/// Asks the issuer.
pub trait Issuer: Send + Sync + 'static {
    /// The published document, and for how long it holds.
    fn ask(&self) -> BoxFuture<'_, Result<(Bytes, Option<Duration>), String>>;
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    /// The issuer has no such key.
    Unknown,
    /// Nobody knows: the keys have run out, or are not there yet, and the issuer does not answer, or not quickly enough.
    Unavailable,
}

/// The keys of one issuer.
pub struct Jwks {
    issuer: Box<dyn Issuer>,
    known: Mutex<Known>,
    /// Counts the questions that have come to an end.
    asked: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<PublicKey>>,
    /// From when to ask again, though they still hold; and until when they do.
    life: Option<(Instant, Instant)>,
    /// When they were read, in seconds since the Unix epoch.
    read_at: i64,
    /// Counts how often a key was taken back or replaced.
    generation: u64,
    /// When the next question may be asked.
    not_before: Option<Instant>,
    asking: bool,
}

/// What a look at the keys came to.
enum Look {
    Key(Arc<PublicKey>),
    None(KeyError),
    /// There may be one when the question under way is answered.
    Wait(watch::Receiver<u64>),
}

impl Jwks {
    /// Keys of an issuer, and asks for them at once. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(issuer: Box<dyn Issuer>) -> Arc<Self> {
        let jwks = Arc::new(Self {
            issuer,
            known: Mutex::default(),
            asked: watch::Sender::new(0),
        });
        let mut known = jwks.lock();
        jwks.ask(&mut known);
        drop(known);
        jwks
    }

    /// A key by its id. Waits for the issuer for [`WAIT_MAX`] at most, and only if the key is not known.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<PublicKey>, KeyError> {
        match self.look(kid, true) {
            Look::Key(key) => return Ok(key),
            Look::None(error) => return Err(error),
            Look::Wait(mut asked) => {
                if timeout(WAIT_MAX, asked.changed()).await.is_err() {
                    return Err(KeyError::Unavailable);
                }
            }
        }
        match self.look(kid, false) {
            Look::Key(key) => Ok(key),
            Look::None(error) => Err(error),
            Look::Wait(_) => Err(KeyError::Unavailable),
        }
    }

    /// A key by its id, now. One that is not known is asked for; a token that was signed after the keys were read may be of a key
    /// that is newer than they are.
    ///
    /// # Errors
    /// [`KeyError`]; [`Unavailable`](KeyError::Unavailable) may change when the question under way is
    /// [answered](Self::answered), or later.
    pub fn known(
        self: &Arc<Self>,
        kid: &str,
        signed: Option<i64>,
    ) -> Result<Arc<PublicKey>, KeyError> {
        match self.look(kid, true) {
            Look::Key(key) => Ok(key),
            Look::Wait(_) => Err(KeyError::Unavailable),
            Look::None(KeyError::Unknown) => {
                let newest = self.lock().read_at.saturating_sub(PUBLISH_LAG_SECONDS);
                match signed.is_some_and(|signed| signed >= newest) {
                    true => Err(KeyError::Unavailable),
                    false => Err(KeyError::Unknown),
                }
            }
            Look::None(error) => Err(error),
        }
    }

    /// Waits until no question is under way, for [`WAIT_MAX`] at most.
    pub async fn answered(&self) {
        let mut asked = {
            let known = self.lock();
            if !known.asking {
                return;
            }
            self.asked.subscribe()
        };
        // Whoever waits looks again, whichever it was.
        let _ = timeout(WAIT_MAX, asked.changed()).await;
    }

    /// Changes when a key is taken back or replaced: what was verified before may not be any more.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    fn look(self: &Arc<Self>, kid: &str, may_ask: bool) -> Look {
        let now = Instant::now();
        let mut known = self.lock();
        let (ask_again, holds) = match known.life {
            Some((ask_from, until)) => (now >= ask_from, now < until),
            None => (true, false),
        };
        let key = known.keys.get(kid).filter(|_| holds).cloned();
        let due = known.not_before.is_none_or(|time| now >= time);
        if may_ask && due && !known.asking && (key.is_none() || ask_again) {
            self.ask(&mut known);
        }
        match key {
            Some(key) => Look::Key(key),
            None if known.asking => Look::Wait(self.asked.subscribe()),
            None if holds => Look::None(KeyError::Unknown),
            None => Look::None(KeyError::Unavailable),
        }
    }

    fn ask(self: &Arc<Self>, known: &mut Known) {
        known.asking = true;
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let answer = this.issuer.ask().await;
            this.learn(answer);
            this.asked.send_modify(|count| *count += 1);
        });
    }

    fn learn(&self, answer: Result<(Bytes, Option<Duration>), String>) {
        let parsed = answer.and_then(|(document, life)| {
            let keys = parse(&document)?;
            Ok((keys, life.unwrap_or(LIFE_DEFAULT)))
        });
        let now = Instant::now();
        let mut known = self.lock();
        known.asking = false;
        match parsed {
            Ok((keys, life)) => {
                debug!(
                    keys = keys.len(),
                    seconds = life.as_secs(),
                    "keys of the issuer"
                );
                let life = life.clamp(LIFE_MIN, LIFE_MAX);
                let stays = |(kid, key): (&String, &Arc<PublicKey>)| keys.get(kid) == Some(key);
                if !known.keys.iter().all(stays) {
                    known.generation += 1;
                }
                known.keys = keys;
                known.read_at = unix_seconds();
                known.life = Some((now + life.mul_f64(0.75), now + life));
                known.not_before = Some(now + REFRESH_MIN);
            }
            Err(reason) => {
                warn!(reason, "the keys of the issuer cannot be read");
                known.not_before = Some(now + RETRY_MIN);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An issuer that publishes its keys under a URL.
pub struct HttpIssuer {
    client: Client,
    url: Url,
}

impl HttpIssuer {
    /// Asks under this URL.
    #[must_use]
    pub fn new(client: Client, url: Url) -> Self {
        Self { client, url }
    }
}

impl Issuer for HttpIssuer {
    fn ask(&self) -> BoxFuture<'_, Result<(Bytes, Option<Duration>), String>> {
        Box::pin(async {
            let answer = self.client.get(&self.url).await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status != 200 {
                return Err(format!("it answers with status {}", answer.status));
            }
            let life = answer.header("cache-control").and_then(max_age);
            Ok((answer.body, life))
        })
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let seconds = |part: &str| part.trim().strip_prefix("max-age=")?.parse().ok();
    cache_control
        .split(',')
        .find_map(seconds)
        .map(Duration::from_secs)
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// The keys of a document that are for signatures of a kind that is verified. Others are passed over: an issuer may have them
/// for others. Of several with one id the first counts.
fn parse(document: &[u8]) -> Result<HashMap<String, Arc<PublicKey>>, String> {
    let document: Document =
        serde_json::from_slice(document).map_err(|_| "it is not a set of keys".to_owned())?;
    let usable = |value: serde_json::Value| {
        let mut jwk: Jwk = serde_json::from_value(value).ok()?;
        let kid = jwk.kid.take()?;
        Some((kid, Arc::new(PublicKey::from_jwk(&jwk)?)))
    };
    let mut keys = HashMap::new();
    for (kid, key) in document.keys.into_iter().filter_map(usable).take(KEYS_MAX) {
        keys.entry(kid).or_insert(key);
    }
    match keys.is_empty() {
        true => Err("it has no key that can be verified with".to_owned()),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::jose::{Algorithm, Algorithms};

    /// An issuer of a test: its document, or nothing, and how long it takes.
    struct Scene {
        document: Mutex<Option<serde_json::Value>>,
        asked: AtomicU64,
        takes: Mutex<Duration>,
    }

    struct ScenesIssuer(Arc<Scene>);

    impl Issuer for ScenesIssuer {
        fn ask(&self) -> BoxFuture<'_, Result<(Bytes, Option<Duration>), String>> {
            Box::pin(async {
                self.0.asked.fetch_add(1, SeqCst);
                let takes = *self.0.takes.lock().unwrap();
                sleep(takes).await;
                let document = self.0.document.lock().unwrap().clone();
                let document = document.ok_or("away")?;
                Ok((document.to_string().into(), Some(Duration::from_secs(3600))))
            })
        }
    }

    /// One of 2048 bits.
    fn modulus(byte: u8) -> String {
        URL_SAFE_NO_PAD.encode([byte; 256])
    }

    impl Scene {
        fn publish(&self, kids: &[&str]) {
            let key = |kid: &&str| json!({"kid": kid, "kty": "RSA", "alg": "RS256", "n": modulus(0xf1), "e": "AQAB"});
            let keys: Vec<_> = kids.iter().map(key).collect();
            *self.document.lock().unwrap() = Some(json!({ "keys": keys }));
        }

        fn leave(&self) {
            *self.document.lock().unwrap() = None;
        }

        fn asked(&self) -> u64 {
            self.asked.load(SeqCst)
        }
    }

    async fn scene(kids: &[&str]) -> (Arc<Scene>, Arc<Jwks>) {
        let scene = Arc::new(Scene {
            document: Mutex::default(),
            asked: AtomicU64::new(0),
            takes: Mutex::default(),
        });
        if !kids.is_empty() {
            scene.publish(kids);
        }
        let jwks = Jwks::new(Box::new(ScenesIssuer(Arc::clone(&scene))));
        sleep(Duration::from_millis(1)).await;
        (scene, jwks)
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_asked_for_once_and_kept() {
        let (scene, jwks) = scene(&["a", "b"]).await;
        for _ in 0..10 {
            assert!(jwks.key("a").await.is_ok() && jwks.key("b").await.is_ok());
        }
        assert_eq!(scene.asked(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_one_question_at_most_every_30_seconds() {
        let (scene, jwks) = scene(&["a"]).await;
        assert_eq!(jwks.key("x").await, Err(KeyError::Unknown));
        assert_eq!(scene.asked(), 1, "asked just before");
        advance(REFRESH_MIN).await;
        let ask = || async { jwks.key("x").await };
        let answers = tokio::join!(ask(), ask(), ask());
        assert_eq!(answers.0, Err(KeyError::Unknown));
        assert_eq!((answers.1, answers.2), (answers.0.clone(), answers.0));
        assert_eq!(scene.asked(), 2, "one question for all");
        assert_eq!(jwks.key("y").await, Err(KeyError::Unknown));
        assert_eq!(scene.asked(), 2);
        advance(REFRESH_MIN).await;
        scene.publish(&["a", "x"]);
        assert!(jwks.key("x").await.is_ok(), "rotated");
        assert_eq!(scene.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn known_keys_outlive_an_issuer_that_is_away_until_their_end() {
        let (scene, jwks) = scene(&["a"]).await;
        scene.leave();
        advance(Duration::from_secs(3000)).await;
        assert!(jwks.key("a").await.is_ok());
        sleep(Duration::from_millis(1)).await;
        assert_eq!(scene.asked(), 2, "asked again before the end");
        advance(Duration::from_secs(599)).await;
        assert!(jwks.key("a").await.is_ok());
        assert_eq!(jwks.key("x").await, Err(KeyError::Unknown));
        advance(Duration::from_secs(1)).await;
        assert_eq!(jwks.key("a").await, Err(KeyError::Unavailable));
        scene.publish(&["a"]);
        advance(RETRY_MIN).await;
        assert!(jwks.key("a").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_the_issuer() {
        let (scene, jwks) = scene(&[]).await;
        assert_eq!(jwks.key("a").await, Err(KeyError::Unavailable));
        assert_eq!(scene.asked(), 1);
        advance(RETRY_MIN).await;
        *scene.takes.lock().unwrap() = Duration::from_secs(2);
        scene.publish(&["a"]);
        let before = Instant::now();
        assert_eq!(jwks.key("a").await, Err(KeyError::Unavailable));
        assert_eq!(before.elapsed(), WAIT_MAX);
        sleep(Duration::from_secs(2)).await;
        assert!(jwks.key("a").await.is_ok(), "the question went on");
        assert_eq!(scene.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_may_be_newer_than_what_is_known_is_not_refused_for_good() {
        let (scene, jwks) = scene(&["a"]).await;
        let now = unix_seconds();
        let ancient = Some(now - PUBLISH_LAG_SECONDS - 10);
        assert_eq!(jwks.known("x", Some(now)), Err(KeyError::Unavailable));
        assert_eq!(jwks.known("x", ancient), Err(KeyError::Unknown));
        assert_eq!(jwks.known("x", None), Err(KeyError::Unknown));
        assert_eq!(scene.asked(), 1, "asked just before");
        scene.publish(&["a", "x"]);
        advance(REFRESH_MIN).await;
        assert_eq!(jwks.known("x", ancient), Err(KeyError::Unavailable), "asks");
        jwks.answered().await;
        assert!(jwks.known("x", ancient).is_ok());
        assert_eq!(scene.asked(), 2);
        jwks.answered().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_taken_back_or_replaced_begins_a_generation() {
        let (scene, jwks) = scene(&["a"]).await;
        let again = async |expected: u64| {
            advance(REFRESH_MIN).await;
            assert!(jwks.key("no such").await.is_err());
            assert_eq!(jwks.generation(), expected);
        };
        again(0).await;
        scene.publish(&["a", "b"]);
        again(0).await;
        scene.publish(&["b"]);
        again(1).await;
        let other = json!({"kid": "b", "kty": "RSA", "n": modulus(0xf3), "e": "AQAB"});
        *scene.document.lock().unwrap() = Some(json!({ "keys": [other] }));
        again(2).await;
        scene.leave();
        again(2).await;
    }

    #[test]
    fn only_public_keys_for_signatures_are_taken() {
        let parse = |keys: serde_json::Value| parse(json!({ "keys": keys }).to_string().as_bytes());
        let (n, short) = (modulus(0xf1), URL_SAFE_NO_PAD.encode([0xf1; 128]));
        let (x, long) = (
            URL_SAFE_NO_PAD.encode([7; 32]),
            URL_SAFE_NO_PAD.encode([7; 48]),
        );
        let keys = json!([
            {"kid": "plain", "kty": "RSA", "n": n, "e": "AQAB"},
            {"kid": "full", "kty": "RSA", "alg": "RS256", "use": "sig", "key_ops": ["verify"], "n": n, "e": "AQAB"},
            {"kid": "p256", "kty": "EC", "crv": "P-256", "x": x, "y": x},
            {"kid": "p384", "kty": "EC", "crv": "P-384", "alg": "ES384", "x": long, "y": long},
            {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": x},
            {"kid": "full", "kty": "EC", "crv": "P-256", "x": x, "y": x},
            {"kid": "secret", "kty": "oct", "alg": "HS256", "k": x},
            {"kid": "confused", "kty": "RSA", "alg": "HS256", "n": n, "e": "AQAB"},
            {"kid": "mixed", "kty": "RSA", "alg": "ES256", "n": n, "e": "AQAB"},
            {"kid": "short", "kty": "RSA", "n": short, "e": "AQAB"},
            {"kid": "half", "kty": "EC", "crv": "P-384", "x": x, "y": x},
            {"kid": "p521", "kty": "EC", "crv": "P-521", "x": long, "y": long},
            {"kid": "k1", "kty": "EC", "crv": "secp256k1", "x": x, "y": x},
            {"kid": "x", "kty": "OKP", "crv": "X25519", "x": x},
            {"kid": "enc", "kty": "RSA", "use": "enc", "n": n, "e": "AQAB"},
            {"kid": "signs", "kty": "RSA", "key_ops": ["sign"], "n": n, "e": "AQAB"},
            {"kid": "bad", "kty": "RSA", "n": "!", "e": "AQAB"},
            {"kty": "RSA", "n": n, "e": "AQAB"},
            7
        ]);
        let taken = parse(keys).unwrap();
        let mut kids: Vec<_> = taken.keys().map(String::as_str).collect();
        kids.sort_unstable();
        assert_eq!(kids, ["ed", "full", "p256", "p384", "plain"]);
        let of = |kid: &str| taken[kid].algorithms();
        assert_eq!(of("full"), Algorithms::of(&[Algorithm::Rs256]));
        assert_eq!(of("plain"), Algorithms::RSA);
        assert_eq!(of("p256"), Algorithms::of(&[Algorithm::Es256]));
        assert!(parse(json!([])).is_err());
        assert!(super::parse(b"<html>").is_err());
    }

    #[test]
    fn the_life_of_keys_is_read() {
        assert_eq!(
            max_age("public, max-age=20823, must-revalidate"),
            Some(Duration::from_secs(20823))
        );
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=soon"), None);
    }
}
