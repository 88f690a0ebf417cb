//! What verifies client tokens, made from the settings.

use std::{collections::HashMap, sync::Arc};

use fanfare_gateway::{
    https::Client,
    jose::{
        SecretKey,
        jwks::{HttpIssuer, Jwks},
    },
    token::{IssuerKeys, TokenIssuer, TokenVerifier},
};

use crate::config::{Config, Issuer, IssuerKey};

/// What verifies client tokens; `None` if nobody is known who could sign one. Must be called within a tokio runtime: published keys
/// are asked for at once.
pub(crate) fn verifier(config: &Config) -> Option<TokenVerifier> {
    let client = Client::new();
    let mut published = HashMap::new();
    let mut issuer = |issuer: &Issuer| {
        let keys = match &issuer.key {
            IssuerKey::Secret(algorithm, secret) => {
                let key = SecretKey::new(*algorithm, secret.reveal().as_bytes());
                IssuerKeys::Secret(key?)
            }
            IssuerKey::Public(key) => IssuerKeys::Public(key.clone()),
            IssuerKey::Jwks(url) => {
                let keys = published.entry(url.uri().clone()).or_insert_with(|| {
                    Jwks::new(Box::new(HttpIssuer::new(client.clone(), url.clone())))
                });
                IssuerKeys::Jwks(Arc::clone(keys))
            }
        };
        Some(TokenIssuer {
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms,
            keys,
            user_claim: issuer.user_claim.clone(),
            user_prefix: issuer.user_prefix.clone(),
        })
    };
    let issuers: Vec<_> = config
        .token_issuers
        .iter()
        .filter_map(&mut issuer)
        .collect();
    let secret = config
        .token_secret
        .as_ref()
        .map(|secret| secret.reveal().as_bytes());
    let nobody = secret.is_none() && issuers.is_empty();
    (!nobody).then(|| TokenVerifier::with_issuers(secret, issuers))
}
