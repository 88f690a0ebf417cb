use serde_json::json;

use super::*;
use crate::{
    jose::testing::{Pair, Published, hmac_token},
    token::TokenVerifier,
};

const NOW: Seconds = 1_700_000_000;
const OWN: &[u8] = b"the secret of this server";
const THEIRS: &[u8] = b"a secret shared with an issuer";
const HOME: &str = "https://home.example";
const FAR: &str = "https://far.example";

fn named(issuer: &str, keys: IssuerKeys) -> TokenIssuer {
    TokenIssuer {
        issuer: Some(issuer.to_owned()),
        ..TokenIssuer::any(keys)
    }
}

fn public(pair: &Pair) -> IssuerKeys {
    IssuerKeys::Public(Box::new(pair.public()))
}

fn secret(algorithm: Algorithm, secret: &[u8]) -> IssuerKeys {
    IssuerKeys::Secret(SecretKey::new(algorithm, secret).unwrap())
}

fn hs256(secret: &[u8], claims: &Value) -> String {
    hmac_token(Algorithm::Hs256, secret, &json!({"alg": "HS256"}), claims)
}

fn user_of(verifier: &TokenVerifier, token: &str) -> Result<String, TokenError> {
    verifier.connection(token, NOW).map(|claims| claims.sub)
}

#[test]
fn a_token_is_judged_by_whom_it_names() {
    let (home, far) = (Pair::rsa(0), Pair::p384());
    let verifier = TokenVerifier::with_issuers(
        Some(OWN),
        vec![
            named(HOME, public(&home)),
            named(FAR, public(&far)),
            named(FAR, secret(Algorithm::Hs512, THEIRS)),
        ],
    );
    let claims = |iss: &str| json!({"iss": iss, "sub": "ada"});
    let good = [
        home.token(Algorithm::Rs256, "k", &claims(HOME)),
        home.token(Algorithm::Ps512, "k", &claims(HOME)),
        far.token(Algorithm::Es384, "k", &claims(FAR)),
        hmac_token(
            Algorithm::Hs512,
            THEIRS,
            &json!({"alg": "HS512"}),
            &claims(FAR),
        ),
        // Whoever has the server's secret is trusted with every name that is nobody else's.
        hs256(OWN, &claims("anybody")),
        hs256(OWN, &json!({"sub": "ada", "iss": 7, "aud": {"x": 1}})),
    ];
    for token in good {
        assert_eq!(user_of(&verifier, &token).as_deref(), Ok("ada"), "{token}");
    }
    let bad = [
        home.token(Algorithm::Rs256, "k", &claims(FAR)),
        home.token(Algorithm::Rs256, "k", &claims("anybody")),
        home.token(Algorithm::Rs256, "k", &json!({"sub": "ada"})),
        far.token(Algorithm::Es384, "k", &claims(HOME)),
        hs256(OWN, &claims(HOME)),
        hs256(OWN, &claims(FAR)),
        hs256(THEIRS, &claims(FAR)),
        hmac_token(
            Algorithm::Hs512,
            THEIRS,
            &json!({"alg": "HS512"}),
            &claims(HOME),
        ),
        hmac_token(
            Algorithm::Hs512,
            OWN,
            &json!({"alg": "HS512"}),
            &claims("anybody"),
        ),
        Pair::rsa(1).token(Algorithm::Rs256, "k", &claims(HOME)),
    ];
    for token in bad {
        assert!(
            matches!(user_of(&verifier, &token), Err(TokenError::Invalid(_))),
            "{token}"
        );
    }
}

#[test]
fn a_public_key_is_not_the_secret_of_anybody() {
    let pair = Pair::rsa(0);
    let verifier = TokenVerifier::with_issuers(Some(OWN), vec![named(HOME, public(&pair))]);
    let claims = json!({"iss": HOME, "sub": "ada"});
    for algorithm in Algorithms::HMAC.iter() {
        for said in Algorithm::ALL {
            let header = json!({"alg": said.name()});
            for known in [pair.public_bytes(), pair.jwk("k").to_string().into_bytes()] {
                let token = hmac_token(algorithm, &known, &header, &claims);
                assert!(
                    user_of(&verifier, &token).is_err(),
                    "{algorithm} called {said}"
                );
            }
        }
    }
}

#[test]
fn an_issuer_is_held_to_its_algorithms_and_audiences() {
    let pair = Pair::rsa(0);
    let issuer = TokenIssuer {
        algorithms: Algorithms::of(&[Algorithm::Rs256, Algorithm::Es256]),
        audiences: vec!["us".to_owned(), "them".to_owned()],
        ..named(HOME, public(&pair))
    };
    let verifier = TokenVerifier::with_issuers(None, vec![issuer]);
    let judge = |algorithm, aud: Value| {
        let claims = json!({"iss": HOME, "sub": "ada", "aud": aud});
        user_of(&verifier, &pair.token(algorithm, "k", &claims))
    };
    for good in [json!("us"), json!("them"), json!(["others", "us"])] {
        assert!(judge(Algorithm::Rs256, good.clone()).is_ok(), "{good}");
        assert!(judge(Algorithm::Rs512, good.clone()).is_err(), "{good}");
    }
    let others = [
        json!("u"),
        json!("us "),
        json!(["others"]),
        json!([]),
        json!({"us": 1}),
        json!([["us"]]),
        Value::Null,
    ];
    for bad in others {
        let error = judge(Algorithm::Rs256, bad.clone()).unwrap_err();
        assert!(error.to_string().contains("audience"), "{bad}: {error}");
    }
}

#[test]
fn users_of_two_issuers_are_told_apart() {
    let issuer = TokenIssuer {
        user_claim: Some("email".to_owned()),
        user_prefix: "far:".to_owned(),
        ..named(FAR, secret(Algorithm::Hs256, THEIRS))
    };
    let verifier = TokenVerifier::with_issuers(Some(OWN), vec![issuer]);
    let judge = |claims: Value| user_of(&verifier, &hs256(THEIRS, &claims));
    let with = |email: Value| judge(json!({"iss": FAR, "sub": "ada", "email": email}));
    assert_eq!(with(json!("ada@x")).as_deref(), Ok("far:ada@x"));
    assert_eq!(with(json!("")).as_deref(), Ok(""), "anonymous");
    assert!(with(json!(7)).is_err() && with(Value::Null).is_err());
    assert!(judge(json!({"iss": FAR, "sub": "ada"})).is_err());
    assert!(with(json!("x".repeat(USER_BYTES_MAX - 3))).is_err());
    assert!(with(json!("x".repeat(USER_BYTES_MAX - 4))).is_ok());
    let claims = json!({"iss": FAR, "sub": "x", "email": "ada@x", "channel": "room"});
    let granted = verifier.subscription(&hs256(THEIRS, &claims), NOW).unwrap();
    assert_eq!(granted.sub, "far:ada@x");
}

#[test]
fn an_expired_token_is_told_from_one_that_never_held() {
    let old = secret(Algorithm::Hs256, THEIRS);
    let new = secret(Algorithm::Hs256, b"a secret that follows it");
    let verifier = TokenVerifier::with_issuers(None, vec![named(HOME, old), named(HOME, new)]);
    let claims = json!({"iss": HOME, "sub": "ada", "exp": NOW});
    for secret in [THEIRS, b"a secret that follows it"] {
        assert_eq!(
            user_of(&verifier, &hs256(secret, &claims)),
            Err(TokenError::Expired)
        );
    }
    let forged = user_of(&verifier, &hs256(b"another", &claims));
    assert!(matches!(forged, Err(TokenError::Invalid(_))), "{forged:?}");
    let nobody = TokenVerifier::with_issuers(None, Vec::new());
    assert!(matches!(
        user_of(&nobody, &hs256(b"", &claims)),
        Err(TokenError::Invalid(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn published_keys_are_found_by_their_id() {
    let (first, second, other) = (Pair::p256(), Pair::rsa(0), Pair::p256());
    let published = Published::new(&[&first, &second]);
    let keys = Jwks::new(published.issuer());
    let verifier = TokenVerifier::with_issuers(None, vec![named(HOME, IssuerKeys::Jwks(keys))]);
    let claims = json!({"iss": HOME, "sub": "ada"});
    let token = first.token(Algorithm::Es256, "0", &claims);
    assert_eq!(user_of(&verifier, &token), Err(TokenError::NotYet));
    verifier.answered().await;
    assert!(user_of(&verifier, &token).is_ok());
    assert!(user_of(&verifier, &second.token(Algorithm::Ps256, "1", &claims)).is_ok());
    for forged in [
        other.token(Algorithm::Es256, "0", &claims),
        first.token(Algorithm::Es256, "1", &claims),
        first.token(Algorithm::Es256, "2", &claims),
        first.token(Algorithm::Es256, "../0", &claims),
        first.token(Algorithm::Es256, "", &claims),
        first.token_with(Algorithm::Es256, &json!({"alg": "ES256"}), &claims),
        first.token_with(
            Algorithm::Es256,
            &json!({"alg": "RS256", "kid": "1"}),
            &claims,
        ),
        hmac_token(
            Algorithm::Hs256,
            &first.public_bytes(),
            &json!({"alg": "HS256", "kid": "0"}),
            &claims,
        ),
        hmac_token(
            Algorithm::Hs256,
            b"",
            &json!({"alg": "HS256", "kid": "/dev/null"}),
            &claims,
        ),
    ] {
        let judged = user_of(&verifier, &forged);
        assert!(
            matches!(judged, Err(TokenError::Invalid(_))),
            "{forged}: {judged:?}"
        );
    }
}
