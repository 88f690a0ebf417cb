//! A small HTTPS client for the few questions that apps ask of other systems: bounded in time and size, keeps connections.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Legacy, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;
use tokio::time::timeout;

/// How long a question may take, the answer's body included.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest body of an answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// Where to ask: `https`, or `http` on the loopback address, where nobody listens in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

/// A text that is no [`Url`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write an https:// URL; http:// is taken for 127.0.0.1 and localhost only")]
pub struct UrlError;

/// A client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An answer, complete.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: header::HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer. Says nothing of headers and bodies.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The request is not one that can be sent.
    #[error("the request cannot be made: {0}")]
    Request(hyper::http::Error),
    /// The other side cannot be reached, or broke off.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It took longer than [`TIMEOUT`].
    #[error("it did not answer within {} seconds", TIMEOUT.as_secs())]
    Timeout,
    /// The answer is longer than [`ANSWER_BYTES_MAX`].
    #[error("its answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
}

impl Url {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`UrlError`] if it is none, or would carry secrets in the clear.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError)?;
        let authority = uri.authority().ok_or(UrlError)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(UrlError);
        }
        let allowed = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_loopback(authority.host()),
            _ => false,
        };
        if allowed {
            Ok(Self(uri))
        } else {
            Err(UrlError)
        }
    }

    /// The same, but takes `http` for any host: for one in a network of one's own, where nobody listens in.
    ///
    /// # Errors
    /// [`UrlError`] if it is none.
    pub fn parse_in_own_network(text: &str) -> Result<Self, UrlError> {
        let secure = text.strip_prefix("http://");
        match secure.map(|rest| Self::parse(&format!("https://{rest}"))) {
            Some(Ok(_)) => text.parse().map(Self).map_err(|_| UrlError),
            Some(Err(error)) => Err(error),
            None => Self::parse(text),
        }
    }

    /// The URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client that trusts the authorities that Mozilla trusts.
    #[must_use]
    pub fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Legacy::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self(client)
    }

    /// Gets a URL.
    ///
    /// # Errors
    /// [`ClientError`]: there is no answer.
    pub async fn get(&self, url: &Url) -> Result<Answer, ClientError> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(url.0.clone())
            .body(Full::default())
            .map_err(ClientError::Request)?;
        self.ask(request).await
    }

    /// Sends a request. Its URI is to be one that [`Url`] has checked.
    ///
    /// # Errors
    /// [`ClientError`]: there is no answer; what became of the request is then not known.
    pub async fn ask(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let agent = header::HeaderValue::from_static(AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        match timeout(TIMEOUT, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let answer = self.0.request(request).await;
        let answer = answer.map_err(|error| ClientError::Unreachable(root_of(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => ClientError::TooLong,
            false => ClientError::Unreachable(root_of(&*error)),
        })?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        })
    }
}

/// The innermost of an error's causes: the others say that something is wrong, this one what.
fn root_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}

impl Answer {
    /// A header that is there and is text; the first of several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_in_the_clear_but_of_this_machine() {
        for good in [
            "https://www.googleapis.com/oauth2/v3/certs",
            "http://127.0.0.1:8090/certs",
            "http://localhost:1/",
            "http://[::1]:1/x",
            "http://127.1.2.3/x",
        ] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://www.googleapis.com/oauth2/v3/certs",
            "http://127.0.0.1.example.com/",
            "http://10.0.0.1/",
            "https://user:word@example.com/",
            "ftp://127.0.0.1/",
            "/certs",
            "https://",
            "",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlError), "{bad}");
        }
        let own = |text: &str| Url::parse_in_own_network(text).is_ok();
        assert!(own("http://app:3000/connect") && own("https://app/connect"));
        assert!(!own("http://user:word@app/") && !own("ftp://app/") && !own("http://"));
    }
}
