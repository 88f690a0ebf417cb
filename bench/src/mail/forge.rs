//! Pushes that must not be taken, and such as must be taken and do nothing: each has its documented answer.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fanfare_stand_in::Google;
use fanfare_stand_in::signer::Signer;
use ring::hmac;
use serde_json::{Value, json};

use crate::mail::http;

/// Where Gmail's notifications are posted.
pub(crate) const PATH: &str = "/webhooks/gmail";

/// Longer than any body that is taken, in bytes.
const TOO_LONG: usize = 900 << 10;

/// What is wrong with a push, and what it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forgery {
    /// For another audience.
    Audience,
    /// Of another service account, of Google all the same.
    Account,
    /// The address of the account is not verified.
    Unverified,
    /// Signed with `none`, that is: not at all.
    NoneAlgorithm,
    /// Signed with HMAC, the public key as the secret.
    PublicKeyAsSecret,
    /// Out of date.
    Expired,
    /// Changed after it was signed.
    Signature,
    /// Of a key that nobody published.
    UnknownKey,
    /// Of another issuer.
    Issuer,
    /// Without a token.
    Unsigned,
    /// With something that is no token.
    NoToken,
    /// Well signed, and the data is not base64.
    Malformed,
    /// Well signed, and not a notification.
    Unfit,
    /// Well signed, and too long.
    TooLong,
    /// Well signed, and of a mailbox that nobody has connected.
    UnknownMailbox,
    /// Well signed, and of long ago.
    Past,
}

/// Who makes them.
pub(crate) struct Forger<'a> {
    google: &'a Google,
    audience: String,
    service_account: String,
    /// The address of a mailbox that is connected.
    mailbox: String,
    next: u64,
}

/// One that is ready to be posted.
#[derive(Debug)]
pub(crate) struct Forged {
    /// Which.
    pub(crate) forgery: Forgery,
    token: Option<String>,
    body: Vec<u8>,
}

impl Forgery {
    /// All there are.
    pub(crate) const ALL: [Self; 16] = [
        Self::Audience,
        Self::Account,
        Self::Unverified,
        Self::NoneAlgorithm,
        Self::PublicKeyAsSecret,
        Self::Expired,
        Self::Signature,
        Self::UnknownKey,
        Self::Issuer,
        Self::Unsigned,
        Self::NoToken,
        Self::Malformed,
        Self::Unfit,
        Self::TooLong,
        Self::UnknownMailbox,
        Self::Past,
    ];

    /// The status, and the reason if it is refused, as docs/webhooks.md has them.
    pub(crate) fn answer(self) -> (u16, Option<&'static str>) {
        match self {
            Self::Audience => (403, Some("audience")),
            Self::Account | Self::Unverified => (403, Some("account")),
            Self::NoneAlgorithm | Self::PublicKeyAsSecret => (401, Some("algorithm")),
            Self::Expired => (401, Some("expired")),
            Self::Signature => (401, Some("signature")),
            Self::UnknownKey => (401, Some("unknown_key")),
            Self::Issuer => (401, Some("issuer")),
            Self::Unsigned => (401, Some("unsigned")),
            Self::NoToken => (401, Some("token")),
            Self::Malformed => (400, Some("malformed")),
            Self::Unfit => (400, Some("unfit")),
            Self::TooLong => (413, Some("too_long")),
            Self::UnknownMailbox | Self::Past => (200, None),
        }
    }
}

impl<'a> Forger<'a> {
    /// A forger who knows what the server expects, and a mailbox that is connected.
    pub(crate) fn new(
        google: &'a Google,
        audience: &str,
        service_account: &str,
        mailbox: &str,
    ) -> Self {
        Self {
            google,
            audience: audience.to_owned(),
            service_account: service_account.to_owned(),
            mailbox: mailbox.to_owned(),
            next: 0,
        }
    }

    /// The next one; they take turns.
    pub(crate) fn next(&mut self) -> Forged {
        let forgery = Forgery::ALL[self.next as usize % Forgery::ALL.len()];
        self.next += 1;
        Forged {
            forgery,
            token: self.token(forgery),
            body: self.body(forgery),
        }
    }

    fn token(&self, forgery: Forgery) -> Option<String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = now.as_secs();
        let mut claims = json!({
            "iss": "https://accounts.google.com", "aud": self.audience, "azp": "1", "sub": "1",
            "email": self.service_account, "email_verified": true, "iat": now, "exp": now + 3_600,
        });
        let mut set = |name: &str, value: Value| claims[name] = value;
        match forgery {
            Forgery::Audience => set("aud", json!("https://elsewhere.example.com/webhooks/gmail")),
            Forgery::Account => set("email", json!("somebody@stand-in.iam.gserviceaccount.com")),
            Forgery::Unverified => set("email_verified", json!(false)),
            Forgery::Expired => set("exp", json!(now - 120)),
            Forgery::Issuer => set("iss", json!("https://accounts.example.com")),
            _ => {}
        }
        let token = match forgery {
            Forgery::Unsigned => return None,
            Forgery::NoToken => "not-a-token".to_owned(),
            Forgery::NoneAlgorithm => {
                let header = json!({"alg": "none", "kid": "stand-in-0", "typ": "JWT"});
                format!("{}.{}.", encode(&header), encode(&claims))
            }
            Forgery::PublicKeyAsSecret => {
                let header = json!({"alg": "HS256", "kid": "stand-in-0", "typ": "JWT"});
                let signed = format!("{}.{}", encode(&header), encode(&claims));
                let key = hmac::Key::new(hmac::HMAC_SHA256, &Signer::new(0).public().0);
                let tag = hmac::sign(&key, signed.as_bytes());
                format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
            }
            Forgery::UnknownKey => {
                // Well signed, and named as a key that is not among those that are published.
                let header = json!({"alg": "RS256", "kid": "made-up", "typ": "JWT"});
                Signer::new(0).sign(&header, &claims)
            }
            Forgery::Signature => {
                let token = self.google.token(&claims);
                let signature = token.rfind('.').unwrap_or_default() + 1;
                let other = self.google.token(&json!({}));
                let other = other.rsplit('.').next().unwrap_or_default();
                format!("{}{other}", &token[..signature])
            }
            _ => self.google.token(&claims),
        };
        Some(token)
    }

    /// A notification that would do harm if it were believed: of a place that the history never had.
    fn body(&self, forgery: Forgery) -> Vec<u8> {
        let far = 9_000_000_000_000_000_000_u64 + self.next;
        let mut data = json!({"emailAddress": self.mailbox, "historyId": far}).to_string();
        match forgery {
            Forgery::Unfit => data = "not a notification".to_owned(),
            Forgery::UnknownMailbox => {
                data = json!({"emailAddress": "nobody@example.com", "historyId": 7}).to_string();
            }
            Forgery::Past => {
                data = json!({"emailAddress": self.mailbox, "historyId": 1}).to_string();
            }
            _ => {}
        }
        let data = match forgery {
            Forgery::Malformed => "*".to_owned(),
            Forgery::TooLong => "A".repeat(TOO_LONG),
            _ => STANDARD.encode(data),
        };
        let id = format!("forged-{}-{}", std::process::id(), self.next);
        json!({
            "message": {"data": data, "messageId": id, "message_id": id, "publishTime": "2026-11-21T00:00:00Z"},
            "subscription": "projects/stand-in/subscriptions/push",
        })
        .to_string()
        .into_bytes()
    }
}

impl Forged {
    /// Posts it; gives what was answered otherwise than it should be, and nothing if all is well.
    ///
    /// # Errors
    /// When nobody answers, or only that it should come again later: that says nothing about it.
    pub(crate) fn post(&self, address: SocketAddr) -> io::Result<Option<String>> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        let answer = http::request(address, "POST", PATH, &headers, &self.body)?;
        if answer.status == 503 {
            return Err(io::Error::other("to be tried again"));
        }
        let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = told["error"]["reason"].as_str();
        let (status, expected) = self.forgery.answer();
        let well = answer.status == status && (expected.is_none() || reason == expected);
        Ok((!well).then(|| {
            format!(
                "{:?} was answered with {} {}",
                self.forgery, answer.status, told
            )
        }))
    }
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_forgery_has_its_turn_and_none_is_like_another() {
        let google = Google::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut forger = Forger::new(&google, "aud", "push@example.com", "a@example.com");
        let all: Vec<Forged> = Forgery::ALL.iter().map(|_| forger.next()).collect();
        let kinds: Vec<Forgery> = all.iter().map(|forged| forged.forgery).collect();
        assert_eq!(kinds, Forgery::ALL);
        assert!(
            all.iter()
                .all(|forged| forged.body.len() > TOO_LONG || forged.forgery != Forgery::TooLong)
        );
        let bodies: BTreeSet<&[u8]> = all.iter().map(|forged| forged.body.as_slice()).collect();
        assert_eq!(bodies.len(), all.len(), "each is a message of its own");
        let well_signed = all.iter().filter(|forged| {
            let parts = forged.token.as_deref().unwrap_or_default().split('.');
            parts.filter(|part| !part.is_empty()).count() == 3
        });
        // Not `none`, not what is no token, and not without one.
        assert_eq!(well_signed.count(), all.len() - 3);
    }
}
