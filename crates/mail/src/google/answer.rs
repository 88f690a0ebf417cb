//! What Google's errors mean. Of their words only the names of reasons get further than here.

use std::time::Duration;

use fanfare_ingress::https::Answer;
use serde::Deserialize;

use super::{error::GoogleError, metrics::Call};

/// Longest name of a reason that is shown.
const NAME_BYTES_MAX: usize = 64;

/// Reasons for which Gmail asks for a pause; some come with 403, and some with 429.
const SLOW: [&str; 8] = [
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "quotaExceeded",
    "dailyLimitExceeded",
    "concurrentLimitExceeded",
    "servingLimitExceeded",
    "RATE_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
];
/// Of a watch, when there is one for another topic of this client.
const OTHER_WATCH: &str = "Only one user push notification client";

/// An error of the Gmail API.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    status: u16,
    /// Names of reasons, as old and new errors have them.
    reasons: Vec<String>,
    /// For people; never shown, as it may quote what was asked.
    words: String,
}

#[derive(Deserialize)]
struct Document {
    error: Body,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    errors: Vec<Reason>,
    #[serde(default)]
    details: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// What has nothing to do with what was asked: too much, or trouble of Google's own.
pub(super) fn trouble(answer: &Answer) -> Option<GoogleError> {
    match answer.status {
        429 => Some(GoogleError::Slow {
            after: retry_after(answer),
        }),
        408 | 500..=599 => Some(GoogleError::Unavailable(format!(
            "status {}",
            answer.status
        ))),
        _ => None,
    }
}

/// The name of an error of OAuth, `{"error":"invalid_grant"}`; empty if it has none.
pub(super) fn oauth_error(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        error: String,
    }
    let document: Option<Document> = serde_json::from_slice(body).ok();
    document
        .map(|document| plain(&document.error))
        .unwrap_or_default()
}

/// A name as names are, so that nothing else gets into logs.
pub(super) fn plain(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let fits = name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain);
    if fits { name } else { "?" }.to_owned()
}

impl Refusal {
    /// Reads an answer that is none of success.
    pub(super) fn read(answer: &Answer) -> Self {
        let document: Option<Document> = serde_json::from_slice(&answer.body).ok();
        let Some(Document { error }) = document else {
            return Self {
                status: answer.status,
                ..Self::default()
            };
        };
        let all = error.errors.into_iter().chain(error.details);
        let reasons = all.map(|reason| reason.reason).chain([error.status]);
        Self {
            status: answer.status,
            reasons: reasons
                .filter(|it| !it.is_empty())
                .map(|it| plain(&it))
                .collect(),
            words: error.message,
        }
    }

    /// Whether a watch was refused because the mailbox is watched for another topic of the same client.
    pub(super) fn is_other_watch(&self) -> bool {
        self.words.contains(OTHER_WATCH)
    }

    /// What is to be done about it. Errors that come with 401 and 404 and mean something of their own are seen to before.
    pub(super) fn error(&self, call: Call, answer: &Answer, topic: &str) -> GoogleError {
        let is = |names: &[&str]| {
            let mut all = self.reasons.iter();
            all.any(|reason| names.contains(&reason.as_str()))
        };
        if let Some(trouble) = trouble(answer) {
            return match trouble {
                GoogleError::Slow { after: None } => GoogleError::Slow {
                    after: retry_after_words(&self.words),
                },
                other => other,
            };
        }
        if is(&SLOW) {
            let after = retry_after(answer).or_else(|| retry_after_words(&self.words));
            return GoogleError::Slow { after };
        }
        if is(&["accessNotConfigured", "SERVICE_DISABLED"]) {
            let words = "the Gmail API is not enabled in its project: gcloud services enable gmail.googleapis.com";
            return GoogleError::Misconfigured(words.to_owned());
        }
        if is(&["insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"]) {
            return GoogleError::Unauthorised("reading mail was not allowed");
        }
        if is(&["domainPolicy"]) {
            return GoogleError::Unauthorised("its organisation does not allow it");
        }
        if self.status == 401 {
            return GoogleError::Unauthorised("Gmail does not take its access token");
        }
        if call == Call::Watch && matches!(self.status, 400 | 403 | 404) {
            return GoogleError::Misconfigured(format!(
                "Gmail cannot publish into {topic}: the topic must exist in the project of the OAuth client, and \
                 gmail-api-push@system.gserviceaccount.com must have the role Pub/Sub Publisher on it ({})",
                self.shown()
            ));
        }
        if is(&["failedPrecondition"]) {
            return GoogleError::Unauthorised("the account has no Gmail");
        }
        if call == Call::History && self.status == 404 {
            return GoogleError::Gone;
        }
        GoogleError::Unexpected(format!("{}: {}", call.name(), self.shown()))
    }

    fn shown(&self) -> String {
        match self.reasons.first() {
            Some(reason) => format!("status {}, {reason}", self.status),
            None => format!("status {}", self.status),
        }
    }
}

/// `Retry-After` in seconds.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// `… Retry after 2026-11-21T16:45:54.123Z …`, as Gmail says it to one who has asked far too much.
fn retry_after_words(words: &str) -> Option<Duration> {
    let (_, rest) = words.split_once("etry after ")?;
    let until = unix_seconds(rest.get(..19)?)?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    let after = until.saturating_sub(now.as_secs());
    Some(Duration::from_secs(after + 1))
}

/// Of `2026-11-21T16:45:54`, in UTC.
fn unix_seconds(text: &str) -> Option<u64> {
    let number = |range| {
        text.get(range)
            .and_then(|part: &str| part.parse::<u64>().ok())
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year is taken to begin in March, so that a leap day is its last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            headers: Default::default(),
            body: body.to_owned().into(),
        }
    }

    fn error(call: Call, status: u16, body: &str) -> GoogleError {
        let answer = answer(status, body);
        Refusal::read(&answer).error(call, &answer, "projects/p/topics/t")
    }

    #[test]
    fn reasons_of_old_and_new_errors_are_read() {
        let old = r#"{"error":{"code":403,"message":"m","errors":[{"domain":"usageLimits","reason":"userRateLimitExceeded"}]}}"#;
        let new = r#"{"error":{"code":403,"message":"m","status":"PERMISSION_DENIED","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED"}]}}"#;
        let scope =
            r#"{"error":{"code":403,"details":[{"reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}"#;
        let disabled =
            r#"{"error":{"code":403,"details":[{"@type":"help"},{"reason":"SERVICE_DISABLED"}]}}"#;
        for body in [old, new] {
            let slow = GoogleError::Slow { after: None };
            assert_eq!(error(Call::Message, 403, body), slow);
        }
        assert_eq!(error(Call::List, 403, scope).name(), "unauthorised");
        assert_eq!(error(Call::List, 403, disabled).name(), "misconfigured");
        assert_eq!(error(Call::Watch, 403, disabled).name(), "misconfigured");
        for body in ["", "{}", "[]", r#"{"error":"x"}"#, r#"{"error":{}}"#] {
            assert_eq!(error(Call::List, 403, body).name(), "unexpected", "{body}");
            assert_eq!(error(Call::History, 404, body), GoogleError::Gone);
            assert_eq!(error(Call::List, 429, body).name(), "slow");
        }
    }

    #[test]
    fn only_names_are_shown() {
        assert_eq!(plain("rateLimitExceeded"), "rateLimitExceeded");
        assert_eq!(plain("two words"), "?");
        assert_eq!(plain(&"x".repeat(65)), "?");
        assert_eq!(
            oauth_error(br#"{"error":"invalid_grant"}"#),
            "invalid_grant"
        );
        assert_eq!(oauth_error(br#"{"error":{"code":1}}"#), "");
    }

    #[test]
    fn the_time_to_wait_is_read_wherever_it_stands() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00"), Some(0));
        assert_eq!(unix_seconds("2000-02-29T00:00:01"), Some(951_782_401));
        assert_eq!(unix_seconds("2024-12-31T23:59:59"), Some(1_735_689_599));
        for text in [
            "2024-13-01T00:00:00",
            "0000-01-01T00:00:00",
            "tomorrow at noon...",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
        let past = "User-rate limit exceeded.  Retry after 2015-03-23T01:12:32.123Z (Mail sending)";
        assert_eq!(retry_after_words(past), Some(Duration::from_secs(1)));
        for words in [
            "",
            "Retry after",
            "Retry after a while, whenever you like",
            "Retry after ééééééééééé",
        ] {
            assert_eq!(retry_after_words(words), None, "{words}");
        }
        let mut slow = answer(429, "");
        assert_eq!(trouble(&slow), Some(GoogleError::Slow { after: None }));
        slow.headers.insert("retry-after", "7".parse().unwrap());
        let after = Some(Duration::from_secs(7));
        assert_eq!(trouble(&slow), Some(GoogleError::Slow { after }));
        assert_eq!(trouble(&answer(404, "")), None);
    }
}
