//! The tokens that Google signs for Pub/Sub push: JSON Web Tokens, RS256 and nothing else.

use fanfare_gateway::jose::{self, Algorithm, FormError, PublicKey};
use serde::Deserialize;

use crate::refusal::Refusal;

pub use fanfare_gateway::jose::TOKEN_BYTES_MAX;

/// How far the clocks of Google and of this node may be apart, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];

/// Whom a token must be for, and of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The audience of the push subscription.
    pub audience: String,
    /// The address of the service account that the push subscription authenticates as.
    pub service_account: String,
}

/// A token whose form is right, and whose signature nobody has looked at.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// The id of its key.
    pub kid: String,
    token: jose::Unverified<'a>,
}

/// Who somebody is, as Google says in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What Google calls the account, for ever.
    pub sub: Option<String>,
    /// Its address.
    pub email: Option<String>,
    /// Whether Google vouches for the address.
    pub email_verified: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
    iat: Option<i64>,
    email: Option<String>,
    email_verified: Option<bool>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Refusal::Token`], or [`Refusal::Algorithm`] for every algorithm but RS256.
    pub fn parse(token: &'a str) -> Result<Self, Refusal> {
        let mut token = jose::Unverified::parse(token).map_err(|error| match error {
            FormError::Algorithm => Refusal::Algorithm,
            FormError::TooLong | FormError::Parts | FormError::Header => Refusal::Token,
        })?;
        if token.algorithm != Algorithm::Rs256 {
            return Err(Refusal::Algorithm);
        }
        let kid = token.kid.take().ok_or(Refusal::Token)?;
        Ok(Self { kid, token })
    }

    /// Verifies signature and claims, in this order: whether it is a token of the expected service account.
    ///
    /// # Errors
    /// The first [`Refusal`] that there is reason for.
    pub fn verify(&self, key: &PublicKey, expected: &Expected, unix: i64) -> Result<(), Refusal> {
        let identity = self.identify(key, &expected.audience, unix)?;
        let of_account = identity.email.as_ref() == Some(&expected.service_account);
        match of_account && identity.email_verified {
            true => Ok(()),
            false => Err(Refusal::Account),
        }
    }

    /// Verifies signature and claims, in this order, and says whose token it is: of anybody whom Google signs tokens for this
    /// audience for.
    ///
    /// # Errors
    /// The first [`Refusal`] that there is reason for.
    pub fn identify(
        &self,
        key: &PublicKey,
        audience: &str,
        unix: i64,
    ) -> Result<Identity, Refusal> {
        let claims = self.token.verify(key).ok_or(Refusal::Signature)?;
        let claims: Claims = serde_json::from_slice(claims).map_err(|_| Refusal::Token)?;
        let issuer = claims.iss.as_deref().unwrap_or_default();
        if !ISSUERS.contains(&issuer) {
            return Err(Refusal::Issuer);
        }
        let not_yet = |from: Option<i64>| from.is_some_and(|from| from > unix + LEEWAY_SECONDS);
        let over = claims
            .exp
            .is_none_or(|exp| exp.saturating_add(LEEWAY_SECONDS) <= unix);
        if over || not_yet(claims.nbf) || not_yet(claims.iat) {
            return Err(Refusal::Expired);
        }
        if claims.aud.as_deref() != Some(audience) {
            return Err(Refusal::Audience);
        }
        Ok(Identity {
            sub: claims.sub,
            email: claims.email,
            email_verified: claims.email_verified == Some(true),
        })
    }
}

#[cfg(test)]
mod tests {
    use fanfare_stand_in::signer::Signer;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn expected() -> Expected {
        Expected {
            audience: "https://mail.example.com/push".to_owned(),
            service_account: "push@project.iam.gserviceaccount.com".to_owned(),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://accounts.google.com",
            "aud": "https://mail.example.com/push",
            "email": "push@project.iam.gserviceaccount.com",
            "email_verified": true,
            "iat": NOW - 10,
            "exp": NOW + 3600,
            "sub": "1137742644630",
        })
    }

    fn judge(token: &str) -> Result<(), Refusal> {
        let signer = Signer::new(0);
        let (n, e) = signer.public();
        let unverified = Unverified::parse(token)?;
        assert_eq!(unverified.kid, signer.kid());
        unverified.verify(&PublicKey::rsa(&n, &e).unwrap(), &expected(), NOW)
    }

    #[test]
    fn a_token_holds_for_whom_it_was_made() {
        let signer = Signer::new(0);
        let judge = |claims: &Value| judge(&signer.token(claims));
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            judge(&claims)
        };
        assert_eq!(judge(&claims()), Ok(()));
        assert_eq!(with("iss", json!("accounts.google.com")), Ok(()));
        assert_eq!(with("exp", json!(NOW - LEEWAY_SECONDS + 1)), Ok(()));
        assert_eq!(with("exp", json!(i64::MAX)), Ok(()));
        for (name, value, refusal) in [
            (
                "iss",
                json!("https://accounts.google.com.evil.example"),
                Refusal::Issuer,
            ),
            ("iss", Value::Null, Refusal::Issuer),
            (
                "aud",
                json!("https://mail.example.com/pus"),
                Refusal::Audience,
            ),
            ("aud", Value::Null, Refusal::Audience),
            (
                "email",
                json!("other@project.iam.gserviceaccount.com"),
                Refusal::Account,
            ),
            ("email", Value::Null, Refusal::Account),
            ("email_verified", json!(false), Refusal::Account),
            ("email_verified", Value::Null, Refusal::Account),
            ("exp", json!(NOW - LEEWAY_SECONDS), Refusal::Expired),
            ("exp", Value::Null, Refusal::Expired),
            ("iat", json!(NOW + 31), Refusal::Expired),
            ("nbf", json!(NOW + 31), Refusal::Expired),
            (
                "aud",
                json!(["https://mail.example.com/push"]),
                Refusal::Token,
            ),
            ("email_verified", json!("true"), Refusal::Token),
        ] {
            assert_eq!(with(name, value.clone()), Err(refusal), "{name}: {value}");
        }
    }

    #[test]
    fn nothing_but_rs256_of_the_right_key_is_a_signature() {
        let (ours, other) = (Signer::new(0), Signer::new(1));
        let with_header = |header: Value| ours.sign(&header, &claims());
        let kid = ours.kid();
        assert_eq!(
            judge(&with_header(json!({"alg": "RS256", "kid": kid}))),
            Ok(())
        );
        for alg in ["none", "None", "HS256", "RS384", "rs256", ""] {
            let token = with_header(json!({"alg": alg, "kid": kid}));
            assert_eq!(judge(&token), Err(Refusal::Algorithm), "{alg}");
        }
        let forged = other.sign(&json!({"alg": "RS256", "kid": kid}), &claims());
        assert_eq!(judge(&forged), Err(Refusal::Signature));
        let token = ours.token(&claims());
        let (rest, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(judge(&format!("{rest}.")), Err(Refusal::Signature));
        let moved = other.token(&claims());
        let body = moved.split('.').nth(1).unwrap();
        let head = token.split('.').next().unwrap();
        assert!(judge(&format!("{head}.{body}A.{signature}")).is_err());
        let critical = json!({"alg": "RS256", "kid": kid, "crit": ["exp"]});
        assert_eq!(judge(&with_header(critical)), Err(Refusal::Token));
        for broken in [
            "",
            ".",
            "..",
            "a.b.c",
            "a.b",
            &"a".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert_eq!(judge(broken), Err(Refusal::Token), "{broken}");
        }
        let no_kid = Unverified::parse(&with_header(json!({"alg": "RS256"}))).err();
        assert_eq!(no_kid, Some(Refusal::Token));
    }
}
