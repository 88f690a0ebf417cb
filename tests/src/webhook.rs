//! Webhooks as another system sends them: signed, and sent again until they are acknowledged.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;

use ring::hmac;
use serde_json::Value;

use crate::http::{Http, Response};
use crate::jwt::seconds_from_now;

/// A delivery that is signed; sent again it is the same one.
#[derive(Clone, Debug)]
pub struct Signed {
    path: String,
    body: Vec<u8>,
    signature: String,
    timestamp: String,
}

impl Signed {
    /// Signs a body for a webhook.
    pub fn new(webhook: &str, secret: &str, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        let timestamp = seconds_from_now(0).to_string();
        let mut text = format!("{timestamp}.").into_bytes();
        text.extend_from_slice(&body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let mut signature = "sha256=".to_owned();
        for byte in hmac::sign(&key, &text).as_ref() {
            // Writing to a string does not fail.
            let _ = write!(signature, "{byte:02x}");
        }
        Self {
            path: format!("/webhooks/{webhook}"),
            body,
            signature,
            timestamp,
        }
    }

    /// Sends it on a connection.
    ///
    /// # Errors
    /// When the connection breaks; what became of the delivery is then not known.
    pub fn send_over(&self, http: &mut Http) -> io::Result<Response> {
        let headers = [
            ("content-type", "application/json"),
            ("x-signature", self.signature.as_str()),
            ("x-timestamp", self.timestamp.as_str()),
        ];
        http.request("POST", &self.path, &headers, &self.body)
    }

    /// Sends it on a connection of its own.
    ///
    /// # Errors
    /// When nobody listens or the connection breaks.
    pub fn send(&self, address: SocketAddr) -> io::Result<Response> {
        self.send_over(&mut Http::connect(address)?)
    }
}
