//! `fanfare token`: signs a token that lets a client in.

use fanfare_gateway::{
    access::Terms,
    token::{ConnectionClaims, Seconds, SubscriptionClaims, TokenError, TokenSigner},
};
use fanfare_wire::{ChannelName, Json, NameError};
use thiserror::Error;

use crate::{
    cli::TokenArgs,
    config::{SECRET_BYTES_MIN, Secret},
};

/// Why no token was signed.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenCommandError {
    /// The secret is one that no server accepts.
    #[error("--secret is shorter than {SECRET_BYTES_MIN} bytes; use the server's token_secret")]
    Secret,
    /// A channel cannot exist.
    #[error("\"{0}\": {1}")]
    Channel(String, NameError),
    /// The info is not JSON.
    #[error("--info is not JSON; write for example --info '{{\"name\":\"Ann\"}}'")]
    Info,
    /// The token would not be accepted.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Signs a connection token, or a subscription token if a channel is given.
///
/// # Errors
/// [`TokenCommandError`] says which argument cannot be used.
pub(crate) fn sign(arguments: &TokenArgs, now: Seconds) -> Result<String, TokenCommandError> {
    let signer = signer(&arguments.secret)?;
    let exp = arguments
        .expires_in
        .map(|seconds| now.saturating_add(seconds.into()));
    let info = arguments
        .info
        .as_deref()
        .map(|info| Json::parse(info.as_bytes()));
    let info = info.transpose().map_err(|_| TokenCommandError::Info)?;
    let sub = arguments.user.clone();
    if let Some(channel) = &arguments.channel {
        let claims = SubscriptionClaims {
            sub,
            channel: parse(channel)?,
            exp,
            iat: Some(now),
            expire_at: None,
            terms: Terms {
                info,
                ..Terms::default()
            },
        };
        return Ok(signer.sign_subscription(&claims)?);
    }
    let channels = arguments.grant.iter().map(|channel| parse(channel));
    let channels = channels.collect::<Result<_, _>>()?;
    let claims = ConnectionClaims {
        sub,
        exp,
        iat: Some(now),
        jti: arguments.session.clone(),
        info,
        channels,
        ..ConnectionClaims::default()
    };
    Ok(signer.sign_connection(&claims)?)
}

fn signer(secret: &Secret) -> Result<TokenSigner, TokenCommandError> {
    let secret = secret.reveal().as_bytes();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(TokenCommandError::Secret);
    }
    Ok(TokenSigner::new(secret))
}

fn parse(channel: &str) -> Result<ChannelName, TokenCommandError> {
    ChannelName::parse(channel)
        .map_err(|error| TokenCommandError::Channel(channel.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use fanfare_gateway::token::TokenVerifier;

    use super::*;

    const NOW: Seconds = 1_700_000_000;
    const SECRET: &str = "0123456789abcdef";

    fn arguments() -> TokenArgs {
        TokenArgs {
            secret: SECRET.to_owned().into(),
            user: "ann".to_owned(),
            session: None,
            channel: None,
            expires_in: Some(60),
            info: Some("{\"a\":1}".to_owned()),
            grant: vec!["news:x".to_owned()],
        }
    }

    #[test]
    fn both_kinds_are_accepted_by_the_server() {
        let verifier = TokenVerifier::new(SECRET.as_bytes());
        let claims = verifier
            .connection(&sign(&arguments(), NOW).unwrap(), NOW)
            .unwrap();
        assert_eq!(
            (claims.sub.as_str(), claims.exp, claims.iat),
            ("ann", Some(NOW + 60), Some(NOW))
        );
        assert_eq!(claims.channels.len(), 1);
        let channel = Some("chat:1".to_owned());
        let endless = TokenArgs {
            channel,
            expires_in: None,
            grant: Vec::new(),
            ..arguments()
        };
        let claims = verifier
            .subscription(&sign(&endless, NOW).unwrap(), NOW)
            .unwrap();
        assert_eq!((claims.channel.as_str(), claims.exp), ("chat:1", None));
    }

    #[test]
    fn arguments_that_cannot_be_used_are_named() {
        let check = |arguments: TokenArgs, words: &str| {
            let error = sign(&arguments, NOW).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(
            TokenArgs {
                secret: "short".to_owned().into(),
                ..arguments()
            },
            "16 bytes",
        );
        check(
            TokenArgs {
                channel: Some("a b".to_owned()),
                ..arguments()
            },
            "a b",
        );
        check(
            TokenArgs {
                grant: vec![String::new()],
                ..arguments()
            },
            "empty",
        );
        check(
            TokenArgs {
                info: Some("{".to_owned()),
                ..arguments()
            },
            "--info",
        );
        check(
            TokenArgs {
                user: "u".repeat(256),
                ..arguments()
            },
            "user name",
        );
    }
}
