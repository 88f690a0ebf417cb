//! The app on one node: its parts, and how the server puts them to work.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::Router;
use fanfare_engine::{
    Engine,
    state::{Limiter, WhenAway},
};
use fanfare_gateway::{
    Gateway,
    metrics::{Family, Samples},
    sse::app::Farewell,
    token::{Seconds, TokenSigner},
};
use fanfare_ingress::{
    Handler, Ingress, SourceName, Terms,
    https::{Client, Url, UrlError},
    source::SourceNameError,
};
use fanfare_wire::iso8601;
use serde_json::Value;
use thiserror::Error;

use crate::{
    WEBHOOK_SOURCE,
    google::{Google, GoogleConfig, GoogleConfigError},
    http::{self, LoginError},
    labels::Labels,
    seal::Sealer,
    session::Cookies,
    streams::Streams,
    sync::{Sync, SyncConfig},
};

/// In how many milliseconds a client comes back that was closed for a newer stream, if it does not know better.
const TOO_MANY_RETRY_MS: u32 = 60_000;

const SECONDS_OF_DAY: Seconds = 24 * 3600;

/// What happens in the mailbox of a demonstration: does what is named, with what is asked; `None` if there is nothing of that name.
pub type Demo =
    Arc<dyn Fn(&str, &Value) -> Option<Result<Value, String>> + Send + std::marker::Sync>;

/// Where browsers and Google reach the server: `https`, or `http` on the loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    is_secure: bool,
}

/// A text that is no [`PublicUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PublicUrlError {
    /// It is no URL, or would carry cookies in the clear.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// There is something behind the host.
    #[error("write it without a path: the mail page is at /mail of the server")]
    Path,
}

/// How the app runs.
pub struct MailConfig {
    /// Where browsers and Google reach the server.
    pub public_url: PublicUrl,
    /// Where Google is. Its `redirect_url` is [`PublicUrl::callback`].
    pub google: GoogleConfig,
    /// What seals tokens and logins.
    pub sealer: Arc<Sealer>,
    /// What signs the cookies: with the secret that the gateway's sessions are judged by.
    pub signer: TokenSigner,
    /// Messages that are kept of each mailbox.
    pub keep_messages: usize,
    /// How long nothing may have been heard of a mailbox before it is looked at.
    pub poll_after: Duration,
    /// Event streams of one user, on all nodes together; at least 1.
    pub streams_per_user_max: usize,
    /// For how many days a browser stays signed in.
    pub session_days: u32,
    /// Makes things happen in the mailboxes of a demonstration; `None` otherwise.
    pub demo: Option<Demo>,
}

/// Why the app does not start.
#[derive(Debug, Error)]
pub enum MailError {
    /// Google would not take the configuration.
    #[error("mail: {0}")]
    Google(#[from] GoogleConfigError),
    /// The source of webhooks cannot be named.
    #[error("mail: {0}")]
    Source(#[from] SourceNameError),
}

/// The app on one node.
pub struct Mail {
    pub(crate) engine: Arc<Engine>,
    pub(crate) google: Google,
    pub(crate) sync: Sync,
    pub(crate) cookies: Cookies,
    pub(crate) streams: Arc<Streams>,
    pub(crate) labels: Labels,
    pub(crate) limiter: Limiter,
    pub(crate) public_url: PublicUrl,
    pub(crate) demo: Option<Demo>,
    pub(crate) metrics: LoginMetrics,
    /// The server's, which in turn holds on to this by its metrics.
    gateway: OnceLock<Weak<Gateway>>,
}

/// How logins end.
#[derive(Default)]
pub(crate) struct LoginMetrics {
    signed_in: AtomicU64,
    lost: [AtomicU64; LoginError::ALL.len()],
}

impl Mail {
    /// Makes the app on an engine. It serves once it was [put to work](Self::begin). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`MailError`]: the configuration cannot be used.
    pub fn new(config: MailConfig, engine: Arc<Engine>) -> Result<Arc<Self>, MailError> {
        let client = Client::new();
        let google = Google::new(config.google, client, Arc::clone(&config.sealer))?;
        let sync = SyncConfig {
            source: SourceName::parse(WEBHOOK_SOURCE)?,
            keep_messages: config.keep_messages,
            poll_after: config.poll_after,
        };
        let most = config.streams_per_user_max.max(1);
        let state = Arc::clone(engine.state());
        let session_seconds = Seconds::from(config.session_days.max(1)) * SECONDS_OF_DAY;
        Ok(Arc::new(Self {
            sync: Sync::new(Arc::clone(&engine), google.clone(), sync),
            google,
            cookies: Cookies::new(
                config.signer,
                config.sealer,
                config.public_url.is_secure(),
                session_seconds,
            ),
            streams: Streams::start(state, most, move || too_many(most)),
            labels: Labels::default(),
            limiter: engine.limiter(WhenAway::Local),
            public_url: config.public_url,
            demo: config.demo,
            metrics: LoginMetrics::default(),
            gateway: OnceLock::new(),
            engine,
        }))
    }

    /// Who works on what Google delivers to the source [`WEBHOOK_SOURCE`].
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        self.sync.handler()
    }

    /// The bounds of that source.
    #[must_use]
    pub fn terms() -> Terms {
        Sync::terms()
    }

    /// Puts the app to work: mailboxes are kept in sync by way of the ingress, sessions are judged and streams are opened by the
    /// gateway. Once.
    pub fn begin(&self, ingress: &Ingress, gateway: &Arc<Gateway>) {
        // Another one than the first would be a mistake of the caller, and changes nothing.
        let _ = self.gateway.set(Arc::downgrade(gateway));
        self.sync.start(ingress);
    }

    /// The HTTP routes, all below `/mail/`.
    pub fn router(self: &Arc<Self>) -> Router {
        http::router(self)
    }

    /// What is counted, for `/metrics`, whenever it is asked.
    pub fn families(
        self: &Arc<Self>,
    ) -> impl Fn() -> Vec<Family> + Send + std::marker::Sync + use<> {
        let (mail, sync, google) = (
            Arc::clone(self),
            self.sync.families(),
            self.google.families(),
        );
        move || {
            let mut families = mail.own_families();
            families.extend(sync());
            families.extend(google());
            families
        }
    }

    /// What judges sessions and opens streams.
    pub(crate) fn gateway(&self) -> Result<Arc<Gateway>, http::Failure> {
        let gateway = self.gateway.get().and_then(Weak::upgrade);
        gateway.ok_or_else(|| http::Failure::unavailable("the server is starting"))
    }

    fn own_families(&self) -> Vec<Family> {
        let lost = LoginError::ALL.into_iter().zip(&self.metrics.lost);
        let lost = lost.map(|(error, count)| (error.name(), count.load(Relaxed)));
        let logins = std::iter::once(("ok", self.metrics.signed_in.load(Relaxed))).chain(lost);
        let labelled = |(end, count): (&str, u64)| (vec![("end", end.to_owned())], count);
        vec![
            Family {
                name: "mail_logins",
                help: "Logins with Google, by how they ended",
                samples: Samples::Counter(logins.map(labelled).collect()),
            },
            Family {
                name: "mail_streams",
                help: "Event streams of mailboxes that are open",
                samples: Samples::Gauge(vec![(Vec::new(), self.streams.count())]),
            },
            Family {
                name: "mail_streams_closed",
                help: "Event streams that were closed because their user opened newer ones",
                samples: Samples::Counter(vec![(Vec::new(), self.streams.closed())]),
            },
        ]
    }
}

impl LoginMetrics {
    pub(crate) fn signed_in(&self) {
        self.signed_in.fetch_add(1, Relaxed);
    }

    pub(crate) fn lost(&self, error: LoginError) {
        self.lost[error as usize].fetch_add(1, Relaxed);
    }
}

impl PublicUrl {
    /// Parses a URL; a slash at its end does no harm.
    ///
    /// # Errors
    /// [`PublicUrlError`].
    pub fn parse(text: &str) -> Result<Self, PublicUrlError> {
        let url = Url::parse(text)?;
        let uri = url.uri();
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlError.into());
        };
        if uri.path() != "/" || uri.query().is_some() || text.contains('#') {
            return Err(PublicUrlError::Path);
        }
        // As browsers write it: in small letters, without the port that goes without saying.
        let authority = authority.as_str().to_ascii_lowercase();
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(usual).unwrap_or(&authority);
        Ok(Self {
            origin: format!("{scheme}://{authority}"),
            is_secure: scheme == "https",
        })
    }

    /// The origin of its pages, as browsers write it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Host and port, as browsers write them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// Whether browsers come over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The URL of a path that begins with `/`.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Where Google sends people back to.
    #[must_use]
    pub fn callback(&self) -> String {
        self.join(http::CALLBACK_PATH)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

/// What is said to the oldest stream when there is one too many.
fn too_many(most: usize) -> Farewell {
    let now = unix_seconds().saturating_mul(1000);
    let error = serde_json::json!({
        "type": "error",
        "data": {
            "code": "too_many_streams",
            "message": format!("more than {most} streams are open; the oldest was closed"),
        },
        "timestamp": iso8601(now),
    });
    Farewell {
        event: "error",
        data: error.to_string(),
        retry_ms: TOO_MANY_RETRY_MS,
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> Seconds {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin() {
        let origin = |text| PublicUrl::parse(text).unwrap().origin;
        assert_eq!(
            origin("https://Mail.Example.com/"),
            "https://mail.example.com"
        );
        assert_eq!(origin("https://m.example.com:443"), "https://m.example.com");
        assert_eq!(origin("http://127.0.0.1:8000"), "http://127.0.0.1:8000");
        let url = PublicUrl::parse("https://m.example.com:8443").unwrap();
        assert!(url.is_secure());
        assert_eq!(url.authority(), "m.example.com:8443");
        assert_eq!(url.callback(), "https://m.example.com:8443/mail/callback");
        for bad in [
            "http://m.example.com",
            "m.example.com",
            "",
            "ftp://127.0.0.1",
        ] {
            assert!(
                matches!(PublicUrl::parse(bad), Err(PublicUrlError::Url(_))),
                "{bad}"
            );
        }
        for bad in [
            "https://m.example.com/mail",
            "https://m.example.com/?x=1",
            "https://m.example.com/#x",
        ] {
            assert_eq!(PublicUrl::parse(bad), Err(PublicUrlError::Path), "{bad}");
        }
    }

    #[test]
    fn the_last_word_is_an_envelope_like_all_others() {
        let said = too_many(5);
        let data: Value = serde_json::from_str(&said.data).unwrap();
        assert_eq!(
            (said.event, &data["type"]),
            ("error", &Value::from("error"))
        );
        assert_eq!(data["data"]["code"], "too_many_streams");
        assert!(!said.data.contains('\n'));
    }
}
