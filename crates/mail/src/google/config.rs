//! Where Google is, and who we are to it.

use fanfare_ingress::https::Url;
use thiserror::Error;

use super::secret::Secret;

/// Where people consent.
pub const AUTH_URL: &str = "https://accounts.google.com/o/oauth2/v2/auth";
/// Where codes and refresh tokens are exchanged.
pub const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// Where grants are taken back.
pub const REVOKE_URL: &str = "https://oauth2.googleapis.com/revoke";
/// Where the Gmail API is.
pub const GMAIL_URL: &str = "https://gmail.googleapis.com";
/// Where the keys are that Google signs tokens with.
pub const JWKS_URL: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// Longest name of a topic, in bytes.
const TOPIC_BYTES_MAX: usize = 512;

/// Where Google is, and who we are to it.
#[derive(Debug, Clone)]
pub struct GoogleConfig {
    /// The OAuth client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// Where people consent; by default [`AUTH_URL`].
    pub auth_url: Url,
    /// Where codes and refresh tokens are exchanged; by default [`TOKEN_URL`].
    pub token_url: Url,
    /// Where grants are taken back; by default [`REVOKE_URL`].
    pub revoke_url: Url,
    /// Where the Gmail API is, without its path; by default [`GMAIL_URL`].
    pub gmail_url: Url,
    /// Where the keys are that Google signs tokens with; by default [`JWKS_URL`].
    pub jwks_url: Url,
    /// Where Google sends people back to: `PUBLIC_URL/mail/callback`, exactly as it is entered at Google.
    pub redirect_url: Url,
    /// The Pub/Sub topic that Gmail publishes changes into: `projects/PROJECT/topics/TOPIC`.
    pub topic: String,
    /// Units of Gmail's quota that may be used for one mailbox in a minute; by default
    /// [`UNITS_PER_MINUTE_DEFAULT`](super::UNITS_PER_MINUTE_DEFAULT). At least 1.
    pub units_per_minute: u32,
}

/// A configuration that Google would not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GoogleConfigError {
    /// There is no client.
    #[error(
        "client_id and client_secret are those of an OAuth client at Google, of the type \"Web application\""
    )]
    Client,
    /// The topic is none.
    #[error("topic is the full name of a Pub/Sub topic: projects/PROJECT/topics/TOPIC")]
    Topic,
    /// A URL is none.
    #[error("{0} cannot be used as a URL of OAuth")]
    Url(&'static str),
}

impl GoogleConfig {
    /// Looks for what Google would not take.
    ///
    /// # Errors
    /// [`GoogleConfigError`], the first.
    pub fn check(&self) -> Result<(), GoogleConfigError> {
        if self.client_id.is_empty() || self.client_secret.expose().is_empty() {
            return Err(GoogleConfigError::Client);
        }
        let parts: Vec<&str> = self.topic.split('/').collect();
        let fits = matches!(parts[..], ["projects", project, "topics", topic]
            if !project.is_empty() && !topic.is_empty());
        match fits && self.topic.len() <= TOPIC_BYTES_MAX {
            true => Ok(()),
            false => Err(GoogleConfigError::Topic),
        }
    }
}
