//! Live mail, made from the settings: with Google, or with a demonstration that needs nobody.

mod demo;

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc};

use axum::http::Uri;
use fanfare_backend::doctor::{Finding, Grade};
use fanfare_engine::Engine;
use fanfare_gateway::token::TokenSigner;
use fanfare_ingress::{
    Source, SourceName,
    https::{Client, Url, UrlError},
    source::SourceNameError,
    verify::{
        GoogleVerifier, Verify,
        jwks::{HttpIssuer, Jwks},
    },
};
use fanfare_mail::{
    WEBHOOK_PATH, WEBHOOK_SOURCE,
    app::{Mail, MailConfig, MailError, PublicUrl, PublicUrlError},
    google::{Google, GoogleConfig, GoogleError, Secret as MailSecret},
    seal::{SealKeyError, Sealer},
};
use thiserror::Error;

use crate::config::{Config, Gmail, MailSettings, Mailboxes, Secret};

/// Google's key sets, by where they are: sources that share one read it once.
pub(crate) type Issuers = HashMap<Uri, Arc<Jwks>>;

/// Why live mail cannot be served.
#[derive(Debug, Error)]
pub(crate) enum MailStartError {
    /// The app does not take the configuration.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// A key does not seal.
    #[error("mail, encryption_key: {0}")]
    Key(#[from] SealKeyError),
    /// A URL cannot be used.
    #[error("mail, public_url: {0}")]
    PublicUrl(#[from] PublicUrlError),
    /// A URL cannot be used.
    #[error("mail: {0}")]
    Url(#[from] UrlError),
    /// The name of the source is none.
    #[error("mail: {0}")]
    Source(#[from] SourceNameError),
    /// There is nothing to sign sessions with.
    #[error("mail: token_secret is missing; sessions are signed with it")]
    NoSecret,
    /// The demonstration cannot be given.
    #[error(
        "mail: the demonstration cannot listen on the loopback address: {0}; switch it off with enabled = false in [mail]"
    )]
    Demo(#[from] io::Error),
}

/// The app, and how Google's notifications come to it.
pub(crate) struct MailApp {
    pub(crate) mail: Arc<Mail>,
    gmail: Gmail,
}

/// Makes the app, if it is on. `address` is where this server listens. Must be called within a tokio runtime.
pub(crate) fn make(
    config: &Config,
    engine: &Arc<Engine>,
    address: SocketAddr,
) -> Result<Option<MailApp>, MailStartError> {
    let settings = &config.mail;
    let (gmail, demo) = match &settings.mailboxes {
        Mailboxes::Off => return Ok(None),
        Mailboxes::Gmail(gmail) => ((**gmail).clone(), None),
        Mailboxes::Demo => {
            let (gmail, demo) = demo::start(address)?;
            (gmail, Some(demo))
        }
    };
    let secret = config.token_secret.as_ref();
    let secret = secret.ok_or(MailStartError::NoSecret)?;
    let mail = Mail::new(
        MailConfig {
            public_url: gmail.public_url.clone(),
            google: google(&gmail, settings.units_per_minute)?,
            sealer: Arc::new(sealer(&gmail)?),
            signer: TokenSigner::new(secret.reveal().as_bytes()),
            keep_messages: settings.keep_messages,
            poll_after: settings.poll_after,
            streams_per_user_max: settings.streams_per_user_max,
            session_days: settings.session_days,
            demo,
        },
        Arc::clone(engine),
    )?;
    Ok(Some(MailApp { mail, gmail }))
}

impl MailApp {
    /// The source of webhooks that Google delivers to.
    pub(crate) fn source(
        &self,
        issuers: &mut Issuers,
        client: &Client,
    ) -> Result<Source, SourceNameError> {
        let keys = keys_of(issuers, client, &self.gmail.jwks_url);
        Ok(Source {
            name: SourceName::parse(WEBHOOK_SOURCE)?,
            verify: Verify::Google(GoogleVerifier::new(keys, self.gmail.expected.clone())),
            handler: self.mail.handler(),
            terms: Mail::terms(),
        })
    }
}

/// Asks Google whether it would work with this configuration, for `fanfare doctor`. Must be called within a tokio runtime.
pub(crate) async fn examine(settings: &MailSettings) -> Vec<Finding> {
    let finding = |grade, text: String| Finding { grade, text };
    let gmail = match &settings.mailboxes {
        Mailboxes::Off => return Vec::new(),
        Mailboxes::Demo => {
            let text = "no client_id is set: /mail shows a mailbox that is made up";
            return vec![finding(Grade::Ok, text.to_owned())];
        }
        Mailboxes::Gmail(gmail) => gmail,
    };
    let client = Client::new();
    let known = async {
        let google = google(gmail, settings.units_per_minute)
            .map_err(|error| GoogleError::Misconfigured(error.to_string()))?;
        let sealer =
            sealer(gmail).map_err(|error| GoogleError::Misconfigured(error.to_string()))?;
        let google = Google::new(google, client.clone(), Arc::new(sealer))
            .map_err(|error| GoogleError::Misconfigured(error.to_string()))?;
        google.check_client().await
    };
    let known = match known.await {
        Ok(()) => finding(Grade::Ok, "Google knows the OAuth client".to_owned()),
        Err(error @ GoogleError::Misconfigured(_)) => finding(Grade::Fail, error.to_string()),
        Err(error) => finding(
            Grade::Warn,
            format!("it is not known whether Google knows the OAuth client: {error}"),
        ),
    };
    let keys = match client.get(&gmail.jwks_url).await {
        Ok(answer) if answer.status == 200 => finding(
            Grade::Ok,
            "the keys of Google's tokens can be read".to_owned(),
        ),
        Ok(answer) => finding(
            Grade::Warn,
            format!(
                "jwks_url answers {}: no notification is believed",
                answer.status
            ),
        ),
        Err(error) => finding(
            Grade::Warn,
            format!(
                "the keys of Google's tokens cannot be read, and no notification is believed: {error}"
            ),
        ),
    };
    // Nobody but Google can say whether they are so there.
    let expected = format!(
        "enter at Google: redirect URI {}, push endpoint {}, audience {}, account {}",
        gmail.public_url.callback(),
        gmail.public_url.join(WEBHOOK_PATH),
        gmail.expected.audience,
        gmail.expected.service_account,
    );
    vec![known, keys, finding(Grade::Ok, expected)]
}

/// The key set that is published there.
pub(crate) fn keys_of(issuers: &mut Issuers, client: &Client, url: &Url) -> Arc<Jwks> {
    let keys = issuers
        .entry(url.uri().clone())
        .or_insert_with(|| Jwks::new(Box::new(HttpIssuer::new(client.clone(), url.clone()))));
    Arc::clone(keys)
}

fn google(gmail: &Gmail, units_per_minute: u32) -> Result<GoogleConfig, MailStartError> {
    Ok(GoogleConfig {
        client_id: gmail.client_id.clone(),
        client_secret: MailSecret::new(gmail.client_secret.reveal().to_owned()),
        auth_url: gmail.auth_url.clone(),
        token_url: gmail.token_url.clone(),
        revoke_url: gmail.revoke_url.clone(),
        gmail_url: gmail.gmail_url.clone(),
        jwks_url: gmail.jwks_url.clone(),
        redirect_url: Url::parse(&gmail.public_url.callback())?,
        topic: gmail.topic.clone(),
        units_per_minute,
    })
}

fn sealer(gmail: &Gmail) -> Result<Sealer, SealKeyError> {
    let old = gmail.encryption_keys_old.iter();
    let old: Vec<String> = old.map(|key| key.reveal().to_owned()).collect();
    Sealer::new(gmail.encryption_key.reveal(), &old)
}
