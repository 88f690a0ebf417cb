//! The sources of webhooks, made from the settings.

use std::{collections::HashMap, sync::Arc};

use fanfare_engine::Engine;
use fanfare_ingress::{
    Ingress, Source,
    https::Client,
    publish::Publish,
    verify::{GoogleVerifier, HmacVerifier, Verify},
};

use crate::{
    config::{Config, Webhook, WebhookVerify},
    mail::{self, MailApp, MailStartError},
    wiring::ServeError,
};

/// Starts the webhook ingress. Must be called within a tokio runtime.
///
/// # Errors
/// [`ServeError`]: the webhooks cannot be served together.
pub(crate) fn start(
    config: &Config,
    engine: &Arc<Engine>,
    mail: Option<&MailApp>,
) -> Result<Ingress, ServeError> {
    let client = Client::new();
    let mut issuers = HashMap::new();
    let of_mail = mail.map(|mail| mail.source(&mut issuers, &client));
    let of_mail = of_mail.transpose().map_err(MailStartError::from)?;
    let mut source = |webhook: &Webhook| {
        let verify = match &webhook.verify {
            WebhookVerify::Hmac { secret, headers } => {
                let secret = secret.reveal().as_bytes();
                Verify::Hmac(Box::new(HmacVerifier::new(secret, headers.clone())))
            }
            WebhookVerify::Google { expected, jwks } => {
                let keys = mail::keys_of(&mut issuers, &client, jwks);
                Verify::Google(GoogleVerifier::new(keys, expected.clone()))
            }
        };
        let bytes_max = config.limits.message_bytes_max;
        Source {
            name: webhook.name.clone(),
            verify,
            handler: Arc::new(Publish::new(webhook.channel.clone(), bytes_max)),
            terms: webhook.terms,
        }
    };
    let mut sources: Vec<Source> = config.webhooks.iter().map(&mut source).collect();
    sources.extend(of_mail);
    Ok(Ingress::start(engine, &config.node_name, sources)?)
}
