//! A push subscription: each message is posted until it is acknowledged with a status of 2xx; on demand some are posted twice,
//! and in another order.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    http,
    journal::{self, Journal},
    lock,
    oauth::ISSUER,
    random::Random,
    signer::Signer,
    unix_millis,
};

/// Posts under way at one time.
const PUSHERS: usize = 16;
/// Messages that wait; more are dropped, and counted.
const WAITING_MAX: usize = 100_000;
/// How long an answer may take.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after the first refusal; it doubles with each.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long a token holds, in seconds.
const TOKEN_SECONDS: i64 = 3600;
/// For how long a token is used again, as Pub/Sub does.
const TOKEN_REUSE: Duration = Duration::from_secs(60);

const SUBSCRIPTION: &str = "projects/stand-in/subscriptions/push";

/// Where and how messages are pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfig {
    /// `http://127.0.0.1:PORT/path`.
    pub endpoint: String,
    /// The audience of the tokens.
    pub audience: String,
    /// The service account of the tokens.
    pub service_account: String,
    /// In an envelope; otherwise the data alone, with metadata in headers.
    pub wrapped: bool,
    /// Of 100 messages that are acknowledged, how many are posted again all the same.
    pub duplicates_percent: u64,
    /// Messages are posted in any order.
    pub reorder: bool,
    /// The number of the key that signs.
    pub key: usize,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            audience: "https://fanfare.example.com/push".to_owned(),
            service_account: "push@stand-in.iam.gserviceaccount.com".to_owned(),
            wrapped: true,
            duplicates_percent: 0,
            reorder: false,
            key: 0,
        }
    }
}

/// What became of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Messages published.
    pub published: u64,
    /// Posts that were answered, whatever the answer, and those that were not.
    pub attempts: u64,
    /// Messages acknowledged, each once.
    pub acknowledged: u64,
    /// Posts of messages that were acknowledged before.
    pub duplicates: u64,
    /// The status of the last answer; 0 if there was none.
    pub last_status: u16,
    /// Messages that wait to be acknowledged.
    pub waiting: u64,
}

/// The subscription.
pub struct Push {
    state: Mutex<State>,
    news: Condvar,
    journal: Arc<Journal>,
}

/// A token, and what it was made for.
struct Stamp {
    config: PushConfig,
    token: String,
    made: Instant,
}

struct State {
    config: Option<PushConfig>,
    waiting: Vec<Message>,
    under_way: u64,
    counts: Pushed,
    random: Random,
    next_id: u64,
    ended: bool,
}

#[derive(Clone)]
struct Message {
    id: u64,
    data: Vec<u8>,
    attributes: BTreeMap<String, String>,
    published: String,
    due: Instant,
    attempts: u32,
    /// It was acknowledged, and is posted once more.
    again: bool,
}

impl Push {
    pub(crate) fn start(journal: Arc<Journal>) -> Arc<Self> {
        let push = Arc::new(Self {
            state: Mutex::new(State {
                config: None,
                waiting: Vec::new(),
                under_way: 0,
                counts: Pushed::default(),
                random: Random::new(1),
                next_id: 0,
                ended: false,
            }),
            news: Condvar::new(),
            journal,
        });
        for _ in 0..PUSHERS {
            let push = Arc::clone(&push);
            thread::spawn(move || push.run());
        }
        push
    }

    /// Where and how messages are pushed from now on, those that wait included.
    pub fn configure(&self, config: PushConfig) {
        let mut state = lock(&self.state);
        state.config = Some(config);
        for message in &mut state.waiting {
            message.due = Instant::now();
        }
        self.news.notify_all();
    }

    /// How messages are pushed.
    #[must_use]
    pub fn config(&self) -> Option<PushConfig> {
        lock(&self.state).config.clone()
    }

    /// Takes a message. Returns its id.
    pub fn publish(&self, data: &[u8], attributes: BTreeMap<String, String>) -> u64 {
        let mut state = lock(&self.state);
        state.next_id += 1;
        let id = state.next_id;
        if state.waiting.len() < WAITING_MAX {
            state.counts.published += 1;
            state.waiting.push(Message {
                id,
                data: data.to_vec(),
                attributes,
                published: rfc3339(unix_millis()),
                due: Instant::now(),
                attempts: 0,
                again: false,
            });
            self.news.notify_one();
        }
        id
    }

    /// What became of messages so far.
    #[must_use]
    pub fn counts(&self) -> Pushed {
        let state = lock(&self.state);
        let waiting = state.waiting.len() as u64 + state.under_way;
        Pushed {
            waiting,
            ..state.counts
        }
    }

    pub(crate) fn end(&self) {
        lock(&self.state).ended = true;
        self.news.notify_all();
    }

    fn run(&self) {
        let mut stamp: Option<Stamp> = None;
        while let Some((message, config)) = self.next() {
            let holds =
                |stamp: &Stamp| stamp.config == config && stamp.made.elapsed() < TOKEN_REUSE;
            let current = stamp
                .take()
                .filter(holds)
                .unwrap_or_else(|| Stamp::new(config));
            let begun = Instant::now();
            let status = post(&message, &current).unwrap_or(0);
            self.journal.posted(journal::Post {
                data: message.data.clone(),
                begun,
                ended: Instant::now(),
                status,
                again: message.again,
            });
            self.settle(message, &current.config, status);
            stamp = Some(current);
        }
    }

    /// Waits for a message that is due; none at the end.
    fn next(&self) -> Option<(Message, PushConfig)> {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return None;
            }
            let now = Instant::now();
            let mut wait = Duration::from_secs(1);
            if let Some(config) = state.config.clone() {
                let due: Vec<usize> = (0..state.waiting.len())
                    .filter(|&at| state.waiting[at].due <= now)
                    .collect();
                if !due.is_empty() {
                    let at = match config.reorder {
                        true => due[state.random.below(due.len() as u64) as usize],
                        false => due[0],
                    };
                    state.under_way += 1;
                    return Some((state.waiting.remove(at), config));
                }
                let next = state.waiting.iter().map(|message| message.due).min();
                wait = next.map_or(wait, |due| due.saturating_duration_since(now));
            }
            let waited = self.news.wait_timeout(state, wait);
            state = match waited {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn settle(&self, mut message: Message, config: &PushConfig, status: u16) {
        let mut state = lock(&self.state);
        state.under_way -= 1;
        state.counts.attempts += 1;
        state.counts.last_status = status;
        // What Pub/Sub takes for an acknowledgement.
        let acknowledged = matches!(status, 102 | 200 | 201 | 202 | 204);
        if message.again {
            state.counts.duplicates += 1;
            return;
        }
        if acknowledged {
            state.counts.acknowledged += 1;
            if state.random.below(100) < config.duplicates_percent {
                message.again = true;
                message.due = Instant::now() + Duration::from_millis(state.random.below(50));
                state.waiting.push(message);
            }
        } else {
            let wait = RETRY_MIN.saturating_mul(1 << message.attempts.min(10));
            message.due = Instant::now() + wait.min(RETRY_MAX);
            message.attempts += 1;
            state.waiting.push(message);
        }
        self.news.notify_one();
    }
}

impl Stamp {
    fn new(config: PushConfig) -> Self {
        let now = unix_millis() / 1000;
        let token = Signer::new(config.key).token(&json!({
            "iss": ISSUER, "aud": config.audience, "azp": "113774264463038321964", "sub": "113774264463038321964",
            "email": config.service_account, "email_verified": true, "iat": now, "exp": now + TOKEN_SECONDS,
        }));
        Self {
            config,
            token,
            made: Instant::now(),
        }
    }
}

fn post(message: &Message, stamp: &Stamp) -> Option<u16> {
    let config = &stamp.config;
    let rest = config.endpoint.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = host
        .to_socket_addrs()
        .ok()?
        .find(|it| it.ip().is_loopback())?;
    let mut headers = vec![
        ("authorization", format!("Bearer {}", stamp.token)),
        (
            "user-agent",
            "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)".to_owned(),
        ),
    ];
    let id = message.id.to_string();
    let body = match config.wrapped {
        true => {
            headers.push(("content-type", "application/json".to_owned()));
            let text = json!({
                "message": {
                    "data": STANDARD.encode(&message.data), "messageId": id, "message_id": id,
                    "publishTime": message.published, "publish_time": message.published,
                    "attributes": message.attributes,
                },
                "subscription": SUBSCRIPTION,
            });
            text.to_string().into_bytes()
        }
        false => {
            headers.push(("x-goog-pubsub-message-id", id));
            headers.push(("x-goog-pubsub-publish-time", message.published.clone()));
            headers.push(("x-goog-pubsub-subscription-name", SUBSCRIPTION.to_owned()));
            message.data.clone()
        }
    };
    http::post(address, &format!("/{path}"), &headers, &body, ACK_TIMEOUT).ok()
}

/// A time as Google writes it.
fn rfc3339(millis: i64) -> String {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // From a day count to a date of the Gregorian calendar, which repeats every 400 years of 146,097 days. The year is taken
    // to begin in March, so that a leap day is its last.
    let since = days + 719_468;
    let era = since.div_euclid(146_097);
    let of_era = since.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_614_366_835_749), "2021-02-26T19:13:55.749Z");
        assert_eq!(rfc3339(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
    }
}
