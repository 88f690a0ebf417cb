//! Pusher's protocol 7, as Sockudo speaks it: public channels only, and events published over its HTTP API.
//!
//! A request is signed with HMAC-SHA256 over its method, path and parameters, among them the MD5 of the body: that is how the
//! protocol proves who publishes. Sources: Pusher's documents "HTTP API reference" and "Pusher Channels Protocol".

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use md5::{Digest, Md5};
use memchr::memmem;
use ring::hmac;

use super::{Heard, excerpt, name};
use crate::link::Outbox;

/// The one app of the servers that are started here; they hear this machine only.
pub(crate) struct App;

impl App {
    /// Its id.
    pub(crate) const ID: &str = "bench";
    /// What clients name it by.
    pub(crate) const KEY: &str = "bench-key";
    /// What requests are signed with.
    pub(crate) const SECRET: &str = "bench-secret";

    /// Seconds since 1970.
    pub(super) fn now() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    /// The signed path of a request with this body.
    pub(super) fn path(body: &str, seconds: u64) -> String {
        let path = format!("/apps/{}/events", Self::ID);
        let digest = hex(&Md5::digest(body.as_bytes()));
        // In the order of their names.
        let query = format!(
            "auth_key={}&auth_timestamp={seconds}&auth_version=1.0&body_md5={digest}",
            Self::KEY
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, Self::SECRET.as_bytes());
        let tag = hmac::sign(&key, format!("POST\n{path}\n{query}").as_bytes());
        format!("{path}?{query}&auth_signature={}", hex(tag.as_ref()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The body of a request: data is a string in this protocol.
pub(super) fn event(channel: &str, data: &str) -> String {
    format!(
        r#"{{"name":"message","channel":{},"data":{}}}"#,
        name(channel),
        name(data)
    )
}

/// One message from the server. The name of the event comes first or last, so it is looked for.
pub(super) fn hear<'a>(
    channel: &str,
    text: &'a [u8],
    out: &mut Outbox,
) -> Result<Heard<'a>, String> {
    let Some(begin) = memmem::find(text, b"\"pusher") else {
        return Ok(Heard::Message(text));
    };
    let event = &text[begin..];
    if event.starts_with(b"\"pusher:connection_established\"") {
        let subscribe = format!(
            r#"{{"event":"pusher:subscribe","data":{{"channel":{}}}}}"#,
            name(channel)
        );
        out.text(subscribe.as_bytes());
        Ok(Heard::Nothing)
    } else if event.starts_with(b"\"pusher_internal:subscription_succeeded\"") {
        Ok(Heard::Subscribed)
    } else if event.starts_with(b"\"pusher:ping\"") {
        out.text(br#"{"event":"pusher:pong","data":{}}"#);
        Ok(Heard::Nothing)
    } else if event.starts_with(b"\"pusher:error\"")
        || event.starts_with(b"\"pusher:subscription_error\"")
    {
        Err(format!("refused: {}", excerpt(text)))
    } else {
        Ok(Heard::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hashlib and hmac.
    #[test]
    fn requests_are_signed() {
        let body = event("c", r#"{"at":1}"#);
        assert_eq!(
            body,
            r#"{"name":"message","channel":"c","data":"{\"at\":1}"}"#
        );
        assert_eq!(
            App::path(&body, 1_700_000_000),
            concat!(
                "/apps/bench/events?auth_key=bench-key&auth_timestamp=1700000000&auth_version=1.0&",
                "body_md5=c61a044c35743298ea71698b0306cba7&auth_signature=0259854d863963a13eb3da498679b5bb3a758ff3d0ef537a3b51d7ab8f7841be"
            )
        );
    }

    #[test]
    fn a_subscriber_is_led_to_its_channel() {
        let mut out = Outbox::default();
        let established =
            br#"{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\"}"}"#;
        assert_eq!(hear("c", established, &mut out), Ok(Heard::Nothing));
        assert!(out.waiting() > 40);
        let succeeded =
            br#"{"channel":"c","data":"{}","event":"pusher_internal:subscription_succeeded"}"#;
        assert_eq!(hear("c", succeeded, &mut out), Ok(Heard::Subscribed));
        let before = out.waiting();
        assert_eq!(
            hear("c", br#"{"event":"pusher:ping","data":{}}"#, &mut out),
            Ok(Heard::Nothing)
        );
        assert!(out.waiting() > before);
        let message = br#"{"event":"message","data":"{\"at\":1}","channel":"c"}"#;
        assert_eq!(hear("c", message, &mut out), Ok(Heard::Message(message)));
        let error = br#"{"event":"pusher:error","data":{"code":4001,"message":"no app"}}"#;
        assert!(hear("c", error, &mut out).unwrap_err().contains("4001"));
    }
}
