//! The sources of webhooks, made from the settings.

use std::{collections::HashMap, sync::Arc};

use fanfare_engine::Engine;
use fanfare_ingress::{
    Ingress, IngressError, Source,
    https::Client,
    publish::Publish,
    verify::{
        GoogleVerifier, HmacVerifier, Verify,
        jwks::{HttpIssuer, Jwks},
    },
};

use crate::config::{Config, Webhook, WebhookVerify};

/// Starts the webhook ingress. Must be called within a tokio runtime.
///
/// # Errors
/// [`IngressError`]: the webhooks cannot be served together.
pub(crate) fn start(config: &Config, engine: &Arc<Engine>) -> Result<Ingress, IngressError> {
    let client = Client::new();
    let mut issuers = HashMap::new();
    let mut source = |webhook: &Webhook| {
        let verify = match &webhook.verify {
            WebhookVerify::Hmac { secret, headers } => {
                let secret = secret.reveal().as_bytes();
                Verify::Hmac(Box::new(HmacVerifier::new(secret, headers.clone())))
            }
            WebhookVerify::Google { expected, jwks } => {
                let keys = issuers.entry(jwks.uri().clone()).or_insert_with(|| {
                    Jwks::new(Box::new(HttpIssuer::new(client.clone(), jwks.clone())))
                });
                Verify::Google(GoogleVerifier::new(Arc::clone(keys), expected.clone()))
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
    let sources = config.webhooks.iter().map(&mut source).collect();
    Ingress::start(engine, &config.node_name, sources)
}
