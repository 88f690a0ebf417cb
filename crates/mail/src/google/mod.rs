//! Google: consent by OAuth, and the Gmail API, with errors sorted by what is to be done about them.
//!
//! | file | subject |
//! | --- | --- |
//! | `config` | where Google is, and who we are to it |
//! | `oauth` | consent, the exchange of its code, refreshing, taking it back |
//! | `tokens` | access tokens: in memory, asked for once for all who need one |
//! | `gmail`, `documents` | what Gmail is asked, and what is taken of its answers |
//! | `pacer` | keeps within Gmail's quota for a mailbox |
//! | `error`, `answer` | what its errors mean |
//! | `model` | grants, pages of the history, changes |

mod answer;
mod config;
mod documents;
mod error;
mod gmail;
mod metrics;
mod model;
mod oauth;
mod pacer;
mod secret;
mod tokens;

use std::{fmt, sync::Arc};

use fanfare_gateway::metrics::Family;
use fanfare_ingress::https::Client;

pub use self::{
    config::{
        AUTH_URL, GMAIL_URL, GoogleConfig, GoogleConfigError, JWKS_URL, REVOKE_URL, TOKEN_URL,
    },
    documents::{FROM_CHARS_MAX, SNIPPET_CHARS_MAX, SUBJECT_CHARS_MAX},
    error::{GoogleError, SignInError},
    gmail::PAGE_MAX,
    model::{
        Change, ChangeKind, Consent, Grant, HistoryPage, Label, MessagePage, Record, Signed, Watch,
    },
    oauth::{GMAIL_SCOPE, SCOPES},
    pacer::{PAUSE_MAX, UNITS_PER_MINUTE_DEFAULT, WAIT_MAX},
    secret::Secret,
    tokens::{MARGIN, TOKENS_MAX},
};
use self::{metrics::Metrics, oauth::OAuth, pacer::Pacer, tokens::Tokens};
use crate::{seal::Sealer, user::User};

/// What refresh tokens are sealed for.
const TOKEN_PURPOSE: &str = "refresh-token";

/// Google, as it is asked by this node. Cheap to clone; clones share access tokens and budgets.
#[derive(Clone)]
pub struct Google {
    shared: Arc<Shared>,
}

struct Shared {
    config: GoogleConfig,
    http: Client,
    oauth: OAuth,
    sealer: Arc<Sealer>,
    tokens: Tokens,
    pacer: Pacer,
    metrics: Arc<Metrics>,
}

impl Google {
    /// Google with this configuration; refresh tokens are sealed with `sealer`. Must be called within a tokio runtime: it asks for
    /// Google's keys at once.
    ///
    /// # Errors
    /// [`GoogleConfigError`].
    pub fn new(
        config: GoogleConfig,
        http: Client,
        sealer: Arc<Sealer>,
    ) -> Result<Self, GoogleConfigError> {
        config.check()?;
        let metrics = Arc::new(Metrics::default());
        let oauth = OAuth::new(&config, http.clone(), Arc::clone(&metrics))?;
        let pacer = Pacer::new(config.units_per_minute);
        let shared = Shared {
            config,
            http,
            oauth,
            sealer,
            tokens: Tokens::default(),
            pacer,
            metrics,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Begins a sign-in: where to send the browser, and what to keep for when it comes back. `login_hint` is an address that
    /// Google shows first.
    #[must_use]
    pub fn consent(&self, login_hint: Option<&str>) -> Consent {
        self.shared.oauth.consent(login_hint)
    }

    /// Ends a sign-in: exchanges the code that the browser brought, with the verifier of its [`Consent`]. A code can be exchanged
    /// once.
    ///
    /// # Errors
    /// [`GoogleError::SignIn`] if the sign-in was not completed as it must be; others.
    pub async fn exchange(&self, code: &str, verifier: &str) -> Result<Signed, GoogleError> {
        self.shared.oauth.exchange(code, verifier).await
    }

    /// Asks Google whether it knows the client and its secret; nobody's mailbox is touched. For who sets a server up.
    ///
    /// # Errors
    /// [`GoogleError::Misconfigured`] if it does not; others, if it cannot be asked.
    pub async fn check_client(&self) -> Result<(), GoogleError> {
        // Google looks at the client first, and only then at the token, which nobody has.
        let nobodys = Secret::new("none".to_owned());
        match self.shared.oauth.refresh(nobodys).await {
            Ok(_) | Err(GoogleError::Unauthorised(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A grant to keep: the refresh token, sealed for its user.
    #[must_use]
    pub fn grant(&self, user: &User, refresh_token: &Secret) -> Grant {
        let token = refresh_token.expose().as_bytes();
        Grant {
            user: user.clone(),
            sealed: self.shared.sealer.seal(TOKEN_PURPOSE, user.as_str(), token),
        }
    }

    /// What is to be kept in place of `grant.sealed`, if anything: Google gave another refresh token, or it is sealed with an
    /// old key. Known after Google was asked with this grant on this node. Until it is kept the grant works as before.
    #[must_use]
    pub fn replacement(&self, grant: &Grant) -> Option<Vec<u8>> {
        self.shared.tokens.replacement(grant)
    }

    /// Takes a grant back at Google. What Google does not know any more is taken back already.
    ///
    /// # Errors
    /// [`GoogleError`]; the grant may still hold then.
    pub async fn revoke(&self, grant: &Grant) -> Result<(), GoogleError> {
        self.shared.tokens.forget(&grant.user);
        let user = grant.user.as_str();
        let opened = self.shared.sealer.open(TOKEN_PURPOSE, user, &grant.sealed);
        let token = opened.map_err(|error| {
            GoogleError::Misconfigured(format!("a refresh token cannot be opened: {error}"))
        })?;
        let token = Secret::new(String::from_utf8_lossy(&token).into_owned());
        self.shared.oauth.revoke(&token).await
    }

    /// What is counted, for `/metrics`, whenever it is asked.
    pub fn families(&self) -> impl Fn() -> Vec<Family> + Send + Sync + use<> {
        let metrics = Arc::clone(&self.shared.metrics);
        move || metrics.families()
    }
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Google")
    }
}
