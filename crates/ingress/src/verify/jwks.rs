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

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fanfare_engine::port::BoxFuture;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::token::RsaKey;
use crate::https::{Client, Url};

/// Shortest time between two questions to the issuer.
pub const REFRESH_MIN: Duration = Duration::from_secs(30);
/// Shortest time after one that was not answered.
pub const RETRY_MIN: Duration = Duration::from_secs(5);
/// How long a request waits for keys; the question goes on without it, and the sender tries again.
pub const WAIT_MAX: Duration = Duration::from_millis(75);

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
    keys: HashMap<String, Arc<RsaKey>>,
    /// From when to ask again, though they still hold; and until when they do.
    life: Option<(Instant, Instant)>,
    /// When the next question may be asked.
    not_before: Option<Instant>,
    asking: bool,
}

/// What a look at the keys came to.
enum Look {
    Key(Arc<RsaKey>),
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
    pub async fn key(self: &Arc<Self>, kid: &str) -> Result<Arc<RsaKey>, KeyError> {
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
                known.keys = keys;
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

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: String,
    e: String,
}

/// The RSA keys of a document that are for signatures with RS256. Others are passed over: an issuer may have them for
/// others.
fn parse(document: &[u8]) -> Result<HashMap<String, Arc<RsaKey>>, String> {
    let document: Document =
        serde_json::from_slice(document).map_err(|_| "it is not a set of keys".to_owned())?;
    let usable = |value: serde_json::Value| {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let Jwk {
            kid,
            kty,
            alg,
            purpose,
            n,
            e,
        } = jwk;
        let fits = kty == "RSA"
            && alg.is_none_or(|alg| alg == "RS256")
            && purpose.is_none_or(|purpose| purpose == "sig");
        let decode = |text: String| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let key = RsaKey {
            n: decode(n)?,
            e: decode(e)?,
        };
        fits.then(|| (kid, Arc::new(key)))
    };
    let keys: HashMap<_, _> = document
        .keys
        .into_iter()
        .filter_map(usable)
        .take(KEYS_MAX)
        .collect();
    match keys.is_empty() {
        true => Err("it has no key for RS256".to_owned()),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use serde_json::json;
    use tokio::time::{advance, sleep};

    use super::*;

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

    impl Scene {
        fn publish(&self, kids: &[&str]) {
            let key = |kid: &&str| json!({"kid": kid, "kty": "RSA", "alg": "RS256", "n": "AQAB", "e": "AQAB"});
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

    #[test]
    fn only_keys_for_rs256_are_taken() {
        let parse = |keys: serde_json::Value| {
            let text = json!({ "keys": keys }).to_string();
            parse(text.as_bytes()).map(|keys| {
                let mut kids: Vec<_> = keys.into_keys().collect();
                kids.sort();
                kids.join(",")
            })
        };
        let keys = json!([
            {"kid": "plain", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
            {"kid": "full", "kty": "RSA", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB"},
            {"kid": "ec", "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"},
            {"kid": "other", "kty": "RSA", "alg": "RS512", "n": "AQAB", "e": "AQAB"},
            {"kid": "enc", "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kid": "bad", "kty": "RSA", "n": "!", "e": "AQAB"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
            7
        ]);
        assert_eq!(parse(keys).as_deref(), Ok("full,plain"));
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
