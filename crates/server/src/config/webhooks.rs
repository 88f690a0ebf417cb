//! What the file says of webhooks.

use std::{collections::BTreeSet, fmt};

use fanfare_gateway::access::ChannelRules;
use fanfare_ingress::{
    SourceName, Terms,
    https::Url,
    source::{BODY_BYTES_DEFAULT, BODY_BYTES_LIMIT, SourceNameError},
    verify::{hmac::HmacHeaders, token::Expected},
};
use fanfare_wire::ChannelName;
use serde::Deserialize;

use super::{
    ConfigError, Secret,
    check::{self, Bounds},
};

/// Where Google publishes the keys of its tokens.
const GOOGLE_JWKS: &str = "https://www.googleapis.com/oauth2/v3/certs";

const BODY_BYTES: Bounds = Bounds::new(BODY_BYTES_DEFAULT as u64, 1, BODY_BYTES_LIMIT as u64);
const ATTEMPTS: Bounds = Bounds::new(12, 1, 1000);

/// One of the file's `[[webhooks]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWebhook {
    name: String,
    verify: FileVerify,
    channel: String,
    secret: Option<Secret>,
    signature_header: Option<String>,
    timestamp_header: Option<String>,
    id_header: Option<String>,
    audience: Option<String>,
    service_account: Option<String>,
    jwks_url: Option<String>,
    body_bytes_max: Option<u64>,
    attempts_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileVerify {
    Hmac,
    Google,
}

/// A source of webhooks whose deliveries are published into a channel.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    /// Its name.
    pub(crate) name: SourceName,
    /// How it is told from others.
    pub(crate) verify: WebhookVerify,
    /// Where its deliveries are published.
    pub(crate) channel: ChannelName,
    /// Its bounds.
    pub(crate) terms: Terms,
}

/// How a source is told from others.
#[derive(Debug, Clone)]
pub(crate) enum WebhookVerify {
    /// By a signature.
    Hmac {
        /// The shared secret.
        secret: Secret,
        /// Where its parts stand.
        headers: HmacHeaders,
    },
    /// By a token of Google's.
    Google {
        /// For whom and of whom.
        expected: Expected,
        /// Where the keys are published.
        jwks: Url,
    },
}

/// Checks and completes what the file says.
pub(super) fn resolve(
    webhooks: Vec<FileWebhook>,
    rules: &ChannelRules,
) -> Result<Vec<Webhook>, ConfigError> {
    let mut names = BTreeSet::new();
    let mut resolved = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        let webhook = one(webhook, rules)?;
        if !names.insert(webhook.name.clone()) {
            let problem = format!("\"{}\" is there twice", webhook.name);
            return Err(ConfigError::setting("webhooks", problem));
        }
        resolved.push(webhook);
    }
    Ok(resolved)
}

fn one(file: FileWebhook, rules: &ChannelRules) -> Result<Webhook, ConfigError> {
    let name = SourceName::parse(&file.name).map_err(|error: SourceNameError| {
        let problem = format!("\"{}\" is no name; {error}", file.name.escape_default());
        ConfigError::setting("webhooks, name", problem)
    })?;
    let place = Place(&name);
    let channel = ChannelName::parse(&file.channel)
        .map_err(|error| place.wrong("channel", error.to_string()))?;
    let Some(options) = rules.of(&channel) else {
        let problem =
            format!("the namespace of \"{channel}\" does not exist; add it to [[namespaces]]");
        return Err(place.wrong("channel", problem));
    };
    if !options.is_durable() {
        let problem = format!(
            "the namespace of \"{channel}\" is ephemeral; a delivery is published once, into a channel that keeps it"
        );
        return Err(place.wrong("channel", problem));
    }
    let body = (None, file.body_bytes_max);
    let attempts = (None, file.attempts_max);
    let terms = Terms {
        body_bytes_max: check::size(&place.setting("body_bytes_max"), body, BODY_BYTES)?,
        attempts_max: check::small(&place.setting("attempts_max"), attempts, ATTEMPTS)?,
        ..Terms::default()
    };
    let verify = verify(&place, file)?;
    Ok(Webhook {
        name,
        verify,
        channel,
        terms,
    })
}

fn verify(place: &Place<'_>, file: FileWebhook) -> Result<WebhookVerify, ConfigError> {
    let FileWebhook {
        verify,
        secret,
        signature_header,
        timestamp_header,
        id_header,
        audience,
        service_account,
        jwks_url,
        ..
    } = file;
    let of_hmac = secret.is_some()
        || signature_header.is_some()
        || timestamp_header.is_some()
        || id_header.is_some();
    let of_google = audience.is_some() || service_account.is_some() || jwks_url.is_some();
    match verify {
        FileVerify::Hmac if of_google => Err(place.wrong(
            "verify",
            "\"hmac\" has no audience, service_account or jwks_url",
        )),
        FileVerify::Google if of_hmac => {
            Err(place.wrong("verify", "\"google\" has no secret and no names of headers"))
        }
        FileVerify::Hmac => {
            let setting = place.setting("secret");
            let secret = check::key(&setting, secret)?;
            let secret = secret.ok_or_else(|| {
                ConfigError::setting(setting, "is missing; make one with: openssl rand -hex 32")
            })?;
            let mut headers = HmacHeaders::default();
            if let Some(name) = signature_header {
                headers.signature = place.header("signature_header", &name)?;
            }
            if let Some(name) = timestamp_header {
                headers.timestamp = place.header("timestamp_header", &name)?;
            }
            if let Some(name) = id_header {
                headers.id = Some(place.header("id_header", &name)?);
            }
            Ok(WebhookVerify::Hmac { secret, headers })
        }
        FileVerify::Google => {
            let needed = |setting, value: Option<String>| {
                let value = value.filter(|value| !value.is_empty());
                value.ok_or_else(|| place.wrong(setting, "is missing; \"google\" needs it"))
            };
            let jwks = jwks_url.unwrap_or_else(|| GOOGLE_JWKS.to_owned());
            let jwks =
                Url::parse(&jwks).map_err(|error| place.wrong("jwks_url", error.to_string()))?;
            let expected = Expected {
                audience: needed("audience", audience)?,
                service_account: needed("service_account", service_account)?,
            };
            Ok(WebhookVerify::Google { expected, jwks })
        }
    }
}

/// Where a mistake is, for its message.
struct Place<'a>(&'a SourceName);

impl Place<'_> {
    fn setting(&self, setting: impl fmt::Display) -> String {
        format!("webhook \"{}\", {setting}", self.0)
    }

    fn wrong(&self, setting: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::setting(self.setting(setting), problem)
    }

    fn header<T: for<'a> TryFrom<&'a str>>(
        &self,
        setting: &str,
        name: &str,
    ) -> Result<T, ConfigError> {
        T::try_from(name).map_err(|_| self.wrong(setting, "is not the name of a header"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        channels::{self, Everywhere},
        file,
    };

    fn resolve_text(text: &str) -> Result<Vec<Webhook>, String> {
        let file =
            file::parse(std::path::Path::new("f.toml"), text).map_err(|it| it.to_string())?;
        let everywhere = Everywhere::unsaid(false);
        let rules = channels::resolve(file.channels, file.namespaces, everywhere).unwrap();
        resolve(file.webhooks, &rules).map_err(|error| error.to_string())
    }

    const HMAC: &str = "[[namespaces]]\nname = \"billing\"\n[[webhooks]]\nname = \"b\"\nverify = \"hmac\"\n\
        channel = \"billing:events\"\n";
    const GOOGLE: &str = "[[webhooks]]\nname = \"g\"\nverify = \"google\"\nchannel = \"plain\"\n";

    #[test]
    fn both_kinds_are_understood() {
        let hmac = format!("{HMAC}secret = \"0123456789abcdef\"\nid_header = \"X-Event-Id\"\n");
        let both = resolve_text(&format!(
            "{hmac}{GOOGLE}audience = \"a\"\nservice_account = \"s\"\nattempts_max = 3\n"
        ));
        let both = both.unwrap();
        let WebhookVerify::Hmac { headers, .. } = &both[0].verify else {
            panic!("{both:?}");
        };
        assert_eq!(headers.signature, "x-signature");
        assert_eq!(headers.id.as_ref().unwrap(), "x-event-id");
        let WebhookVerify::Google { jwks, .. } = &both[1].verify else {
            panic!("{both:?}");
        };
        assert_eq!(jwks.uri().to_string(), GOOGLE_JWKS);
        assert_eq!(both[1].terms.attempts_max, 3);
        assert!(!format!("{both:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn mistakes_are_named() {
        let google = format!("{GOOGLE}audience = \"a\"\nservice_account = \"s\"\n");
        let secret = "secret = \"0123456789abcdef\"\n";
        for (text, words) in [
            (HMAC.to_owned(), "webhook \"b\", secret: is missing"),
            (format!("{HMAC}secret = \"short\"\n"), "16 bytes"),
            (
                format!("{HMAC}{secret}audience = \"a\"\n"),
                "has no audience",
            ),
            (format!("{HMAC}{secret}id_header = \"a b\"\n"), "id_header"),
            (
                format!("{HMAC}{secret}body_bytes_max = 0\n"),
                "body_bytes_max",
            ),
            (format!("{google}{secret}"), "has no secret"),
            (GOOGLE.to_owned(), "audience: is missing"),
            (
                format!("{google}jwks_url = \"http://example.com/\"\n"),
                "https://",
            ),
            (format!("{google}{google}"), "twice"),
            (google.replace("\"g\"", "\"g/h\""), "webhooks, name"),
            (google.replace("plain", "no:such"), "does not exist"),
            (
                google.replace("plain", "typing:x")
                    + "[[namespaces]]\nname = \"typing\"\nkind = \"ephemeral\"\n",
                "is ephemeral",
            ),
            (google.replace("plain", "_fanfare:x"), "does not exist"),
            (google.replace("google", "none"), "unknown variant"),
        ] {
            let error = resolve_text(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
