//! What goes wrong on demand: refusals, quota, errors of the server, latency.

use std::{collections::BTreeMap, sync::Mutex, thread, time::Duration};

use serde_json::json;

use crate::{http::Answer, lock};

/// Everything, wherever it is asked.
pub const ANYWHERE: &str = "any";

/// What will go wrong, by place.
#[derive(Debug, Default)]
pub struct Faults(Mutex<BTreeMap<String, Fault>>);

#[derive(Debug, Clone, Default)]
struct Fault {
    /// How many of the next requests fail.
    fails: u64,
    status: u16,
    reason: String,
    latency: Duration,
}

impl Faults {
    /// Lets the next `count` requests at a place fail.
    pub fn fail(&self, place: &str, count: u64, status: u16, reason: &str) {
        let mut faults = lock(&self.0);
        let fault = faults.entry(place.to_owned()).or_default();
        fault.fails = count;
        fault.status = status;
        fault.reason = reason.to_owned();
    }

    /// Lets all requests at a place take a while.
    pub fn slow(&self, place: &str, latency: Duration) {
        let mut faults = lock(&self.0);
        faults.entry(place.to_owned()).or_default().latency = latency;
    }

    /// Waits as it must; the answer, if the request is to fail.
    pub(crate) fn strike(&self, place: &str) -> Option<Answer> {
        let mut latency = Duration::ZERO;
        let mut answer = None;
        for place in [place, ANYWHERE] {
            let mut faults = lock(&self.0);
            let Some(fault) = faults.get_mut(place) else {
                continue;
            };
            latency = latency.max(fault.latency);
            if fault.fails > 0 && answer.is_none() {
                fault.fails -= 1;
                answer = Some(error(fault.status, &fault.reason));
            }
        }
        thread::sleep(latency);
        answer
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

/// An error as Google's APIs write it.
pub(crate) fn error(status: u16, reason: &str) -> Answer {
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
