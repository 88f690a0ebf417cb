//! Signs in as a browser does: login, consent, callback, each redirection followed, each cookie sent back.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::clock;
use crate::mail::http::{self, Answer};
use crate::mail::view::Message;

/// Redirections that are followed.
const REDIRECTIONS_MAX: usize = 8;

/// Between two attempts to sign in.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Rows asked for at once.
const PAGE: usize = 200;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Where the server is.
    address: SocketAddr,
    /// What goes into the header `Cookie`.
    pub(crate) cookie: String,
}

/// A mailbox as a client first sees it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// All rows.
    pub(crate) messages: Vec<Message>,
    /// Where the stream of events is to be opened.
    pub(crate) event_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    messages: Vec<Message>,
    next: Option<Value>,
    event_id: String,
}

impl Session {
    /// Signs in at `address` with the mailbox of `hint`. A node that has just started may not be able to yet; then it is tried
    /// again for as long as `patience` lasts.
    ///
    /// # Errors
    /// When it does not come to a session.
    pub(crate) fn sign_in(address: SocketAddr, hint: &str, patience: Duration) -> io::Result<Self> {
        let begun = clock::now();
        loop {
            match Self::try_to_sign_in(address, hint)? {
                Some(session) => return Ok(session),
                None if clock::between(begun, clock::now()) < patience => {
                    thread::sleep(RETRY_INTERVAL);
                }
                None => return Err(io::Error::other("nobody can be signed in")),
            }
        }
    }

    /// No session if it may be another time.
    fn try_to_sign_in(address: SocketAddr, hint: &str) -> io::Result<Option<Self>> {
        let mut jar = Jar::default();
        let mut next = (
            address,
            format!("/mail/login?login_hint={}", http::encode(hint)),
        );
        for _ in 0..REDIRECTIONS_MAX {
            let (at, path) = &next;
            let cookie = jar.header();
            let answer = http::request(*at, "GET", path, &[("Cookie", &cookie)], b"")?;
            if *at == address {
                jar.take(&answer);
            }
            let location = answer
                .header("location")
                .filter(|_| answer.status / 100 == 3);
            let Some(location) = location else {
                return Err(unexpected("signing in", &answer));
            };
            if let Some(code) = location.strip_prefix("/mail?error=") {
                if code == "unavailable" {
                    return Ok(None);
                }
                return Err(io::Error::other(format!("signing in ended with `{code}`")));
            }
            if location == "/mail" {
                let cookie = jar.header();
                return Ok(Some(Self { address, cookie }));
            }
            next = locate(*at, location)?;
        }
        Err(io::Error::other("signing in does not come to an end"))
    }

    /// Whether the mailbox is in sync.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(crate) fn is_live(&self) -> io::Result<bool> {
        let me: Value = self.get("/mail/me")?;
        match me["state"].as_str() {
            Some("live") => Ok(true),
            Some("syncing") => Ok(false),
            _ => Err(io::Error::other(format!("a mailbox that is {me}"))),
        }
    }

    /// Reads the whole mailbox, page by page.
    ///
    /// # Errors
    /// When there is no answer, or it is another.
    pub(crate) fn snapshot(&self) -> io::Result<Snapshot> {
        let mut snapshot: Option<Snapshot> = None;
        let mut before = String::new();
        loop {
            let page: Page = self.get(&format!("/mail/messages?limit={PAGE}{before}"))?;
            match &mut snapshot {
                Some(snapshot) => snapshot.messages.extend(page.messages),
                None => {
                    snapshot = Some(Snapshot {
                        messages: page.messages,
                        event_id: page.event_id,
                    });
                }
            }
            let next = match page.next {
                Some(Value::String(next)) => next,
                Some(next @ Value::Number(_)) => next.to_string(),
                _ => return snapshot.ok_or_else(|| io::Error::other("no page")),
            };
            before = format!("&before={}", http::encode(&next));
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        let answer = http::request(self.address, "GET", path, &[("Cookie", &self.cookie)], b"")?;
        if answer.status != 200 {
            return Err(unexpected(path, &answer));
        }
        serde_json::from_slice(&answer.body).map_err(io::Error::from)
    }
}

/// The cookies of one site.
#[derive(Debug, Default)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    fn take(&mut self, answer: &Answer) {
        for cookie in answer.headers_of("set-cookie") {
            let mut parts = cookie.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            if value.is_empty() || parts.any(|part| part.eq_ignore_ascii_case("max-age=0")) {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn header(&self) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }
}

/// Where a redirection leads: on this machine, or nowhere.
fn locate(at: SocketAddr, location: &str) -> io::Result<(SocketAddr, String)> {
    let wrong = || io::Error::other(format!("a redirection to {location}"));
    if location.starts_with('/') {
        return Ok((at, location.to_owned()));
    }
    let rest = location.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = host.parse().map_err(|_| wrong())?;
    if !address.ip().is_loopback() {
        return Err(wrong());
    }
    Ok((address, format!("/{path}")))
}

fn unexpected(what: &str, answer: &Answer) -> io::Error {
    let body = String::from_utf8_lossy(&answer.body);
    let body: String = body.chars().take(200).collect();
    io::Error::other(format!("{what}: status {}: {body}", answer.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_come_replace_each_other_and_go() {
        let answer = |cookies: &[&str]| Answer {
            status: 302,
            headers: cookies
                .iter()
                .map(|cookie| ("set-cookie".to_owned(), (*cookie).to_owned()))
                .collect(),
            body: Vec::new(),
        };
        let mut jar = Jar::default();
        jar.take(&answer(&["a=1; HttpOnly", "b=2=2; Path=/"]));
        assert_eq!(jar.header(), "a=1; b=2=2");
        jar.take(&answer(&["a=; Max-Age=0", "b=3", "c=4; Max-Age=0"]));
        assert_eq!(jar.header(), "b=3");
    }

    #[test]
    fn redirections_stay_on_this_machine() {
        let at: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(locate(at, "/x?y").unwrap(), (at, "/x?y".to_owned()));
        let (to, path) = locate(at, "http://127.0.0.1:2/o/auth?a=b").unwrap();
        assert_eq!((to.port(), path.as_str()), (2, "/o/auth?a=b"));
        for elsewhere in [
            "https://accounts.google.com/",
            "http://8.8.8.8:80/",
            "ftp://x",
        ] {
            assert!(locate(at, elsewhere).is_err(), "{elsewhere}");
        }
    }
}
