//! What goes wrong on demand: refusals, quota, errors of the server, latency, no answer at all.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{http::Answer, lock, oauth::refused};

/// Everything, wherever it is asked.
pub const ANYWHERE: &str = "any";

/// The longest that a request is held.
const HOLD_MAX: Duration = Duration::from_secs(120);

/// What will go wrong, by place.
#[derive(Debug, Default)]
pub struct Faults {
    places: Mutex<BTreeMap<String, Fault>>,
    released: Condvar,
}

#[derive(Debug, Clone, Default)]
struct Fault {
    /// How many of the next requests fail.
    fails: u64,
    status: u16,
    reason: String,
    latency: Duration,
    held: bool,
}

impl Faults {
    /// Lets the next `count` requests at a place fail.
    pub fn fail(&self, place: &str, count: u64, status: u16, reason: &str) {
        let mut faults = lock(&self.places);
        let fault = faults.entry(place.to_owned()).or_default();
        fault.fails = count;
        fault.status = status;
        fault.reason = reason.to_owned();
    }

    /// Lets all requests at a place take a while.
    pub fn slow(&self, place: &str, latency: Duration) {
        let mut faults = lock(&self.places);
        faults.entry(place.to_owned()).or_default().latency = latency;
    }

    /// Lets requests at a place wait until they are released.
    pub fn hold(&self, place: &str, on: bool) {
        lock(&self.places).entry(place.to_owned()).or_default().held = on;
        self.released.notify_all();
    }

    /// Waits as it must; the answer, if the request is to fail.
    pub(crate) fn strike(&self, place: &str) -> Option<Answer> {
        let mut latency = Duration::ZERO;
        let mut answer = None;
        for at in [place, ANYWHERE] {
            let mut faults = lock(&self.places);
            let Some(fault) = faults.get_mut(at) else {
                continue;
            };
            latency = latency.max(fault.latency);
            if fault.fails > 0 && answer.is_none() {
                fault.fails -= 1;
                answer = Some(match place {
                    "token" | "revoke" => oauth_error(fault.status, &fault.reason),
                    _ => error(fault.status, &fault.reason),
                });
            }
        }
        thread::sleep(latency);
        self.wait_for_release(place);
        answer
    }

    fn wait_for_release(&self, place: &str) {
        let deadline = Instant::now() + HOLD_MAX;
        let mut places = lock(&self.places);
        let held = |places: &BTreeMap<String, Fault>| {
            let held = |place| places.get(place).is_some_and(|fault| fault.held);
            held(place) || held(ANYWHERE)
        };
        while held(&places) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.released.wait_timeout(places, left);
            places = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What a path is called where faults are made: its last part, that says what is asked for.
pub(crate) fn place_of(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').split('/');
    match parts.next() {
        Some("o") => "auth",
        Some("token") => "token",
        Some("revoke") => "revoke",
        Some("userinfo") => "userinfo",
        Some("certs") => "certs",
        _ => match parts.nth(3) {
            Some("watch") => "watch",
            Some("stop") => "stop",
            Some("history") => "history",
            Some("messages") => "messages",
            Some("labels") => "labels",
            Some("profile") => "profile",
            _ => "",
        },
    }
}

fn oauth_error(status: u16, reason: &str) -> Answer {
    let error = match (status, reason) {
        (_, "") if status >= 500 => "server_error",
        (_, "") => "invalid_request",
        (_, reason) => reason,
    };
    refused(status, error)
}

/// An error as Google's APIs write it.
pub(crate) fn error(status: u16, reason: &str) -> Answer {
    error_in_words(status, reason, "")
}

/// The same in other words than the usual.
pub(crate) fn error_in_words(status: u16, reason: &str, other: &str) -> Answer {
    let (name, default_reason, words, domain) = match status {
        400 => (
            "INVALID_ARGUMENT",
            "invalidArgument",
            "Invalid value.",
            "global",
        ),
        401 => (
            "UNAUTHENTICATED",
            "authError",
            "Invalid credentials.",
            "global",
        ),
        403 => (
            "PERMISSION_DENIED",
            "rateLimitExceeded",
            "Quota exceeded.",
            "usageLimits",
        ),
        404 => (
            "NOT_FOUND",
            "notFound",
            "Requested entity was not found.",
            "global",
        ),
        429 => (
            "RESOURCE_EXHAUSTED",
            "rateLimitExceeded",
            "Too many requests.",
            "usageLimits",
        ),
        503 => (
            "UNAVAILABLE",
            "backendError",
            "The service is not available.",
            "global",
        ),
        _ => ("INTERNAL", "backendError", "Internal error.", "global"),
    };
    let reason = if reason.is_empty() {
        default_reason
    } else {
        reason
    };
    let words = if other.is_empty() { words } else { other };
    let detail = json!({"message": words, "domain": domain, "reason": reason});
    let mut answer = Answer::json(
        status,
        &json!({"error": {"code": status, "message": words, "errors": [detail], "status": name}}),
    );
    if status == 429 || status == 503 {
        answer.headers.push(("retry-after", "1".to_owned()));
    }
    answer
}
