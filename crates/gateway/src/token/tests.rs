use ring::hmac;

use super::*;
use crate::access::{Overrides, Right, Rights, Switch};

const CAPS: &str = r#"[{"channels":["room:*"],"match":"wildcard","allow":["sub","prs"]}]"#;

const SECRET: &[u8] = b"a secret of many bytes";
const NOW: Seconds = 1_700_000_000;

fn verifier() -> TokenVerifier {
    TokenVerifier::new(SECRET)
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// URL-safe base64 without padding, written anew so that these tests do not lean on what they test.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * index)) as usize & 63] as char);
        }
    }
    out
}

fn token(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        base64(header.as_bytes()),
        base64(claims.as_bytes())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = base64(hmac::sign(&key, message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

fn hs256(claims: &str) -> String {
    token(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET)
}

fn check(token: &str, expected: TokenError) {
    assert_eq!(
        verifier().connection(token, NOW).unwrap_err(),
        expected,
        "{token}"
    );
    assert_eq!(
        verifier().subscription(token, NOW).unwrap_err(),
        expected,
        "{token}"
    );
}

#[track_caller]
fn check_invalid(token: &str, words: &str) {
    for error in [
        verifier().connection(token, NOW).unwrap_err(),
        verifier().subscription(token, NOW).unwrap_err(),
    ] {
        assert!(
            matches!(error, TokenError::Invalid(reason) if reason.contains(words)),
            "{error}"
        );
    }
}

#[test]
fn a_token_signed_elsewhere_is_understood() {
    let claims = r#"{"sub":"42","exp":1700000001,"iat":1699999999.9,"aud":"x","jti":"y",
        "info":{"name": "Ann"},"channels":["news","chat:1"]}"#;
    let claims = verifier().connection(&hs256(claims), NOW).unwrap();
    assert_eq!(claims.sub, "42");
    assert_eq!((claims.exp, claims.iat), (Some(NOW + 1), Some(NOW - 1)));
    assert_eq!(claims.info.unwrap().as_bytes(), br#"{"name": "Ann"}"#);
    assert_eq!(claims.channels, [channel("chat:1"), channel("news")]);

    let claims = r#"{"sub":"42","channel":"chat:1"}"#;
    let claims = verifier().subscription(&hs256(claims), NOW).unwrap();
    assert_eq!((claims.channel, claims.exp), (channel("chat:1"), None));
}

#[test]
fn the_published_example_of_jwt_io_verifies() {
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9\
        .eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ\
        .SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
    let claims = TokenVerifier::new(b"your-256-bit-secret")
        .connection(token, NOW)
        .unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.iat),
        ("1234567890", Some(1_516_239_022))
    );
}

#[test]
fn what_is_signed_here_verifies_here() {
    let signer = TokenSigner::new(SECRET);
    let options = SubOptions {
        data: Some(Json::parse(b"[1]").unwrap()),
        expire_at: Some(NOW + 5),
        ..SubOptions::default()
    };
    let connection = ConnectionClaims {
        sub: "ü".into(),
        exp: Some(NOW + 60),
        iat: Some(NOW),
        jti: Some("session".into()),
        info: Some(Json::parse(b"{\"a\":[1, 2]}").unwrap()),
        channels: vec![channel("a"), channel("b:c")],
        subs: [(channel("a"), options)].into(),
        expire_at: Some(NOW + 600),
        caps: serde_json::from_str(CAPS).unwrap(),
        meta: Some(Json::parse(b"{\"team\":7}").unwrap()),
    };
    let token = signer.sign_connection(&connection).unwrap();
    assert_eq!(verifier().connection(&token, NOW).unwrap(), connection);

    let subscription = SubscriptionClaims {
        sub: String::new(),
        channel: channel("a"),
        exp: None,
        iat: Some(NOW),
        expire_at: Some(NOW + 600),
        terms: Terms {
            info: Some(Json::parse(b"{\"seat\":1}").unwrap()),
            allow: Rights::from(Right::Publish) | Right::History.into(),
            overrides: Overrides {
                presence: Some(Switch { value: false }),
                force_recovery: Some(Switch { value: true }),
                ..Overrides::default()
            },
        },
    };
    let token = signer.sign_subscription(&subscription).unwrap();
    assert_eq!(verifier().subscription(&token, NOW).unwrap(), subscription);

    let long = ConnectionClaims {
        sub: "u".repeat(USER_BYTES_MAX + 1),
        ..connection.clone()
    };
    assert!(signer.sign_connection(&long).is_err());
    let names = (0..100).map(|index| channel(&format!("{index}{}", "x".repeat(200))));
    let big = ConnectionClaims {
        channels: names.collect(),
        ..connection
    };
    assert!(signer.sign_connection(&big).is_err());
}

#[test]
fn what_is_opened_ends_when_its_claims_say() {
    let ends = |claims: &str| {
        let claims = verifier().connection(&hs256(claims), NOW);
        claims.map(|claims| claims.expires())
    };
    let later = NOW + 60;
    assert_eq!(ends("{}"), Ok(None));
    assert_eq!(ends(&format!(r#"{{"exp":{later}}}"#)), Ok(Some(later)));
    let both = |expire_at: Seconds| format!(r#"{{"exp":{later},"expire_at":{expire_at}}}"#);
    assert_eq!(ends(&both(0)), Ok(None));
    assert_eq!(ends(&both(NOW + 600)), Ok(Some(NOW + 600)));
    assert_eq!(ends(&both(NOW + 5)), Ok(Some(NOW + 5)));
    let subscription = |claims: String| verifier().subscription(&hs256(&claims), NOW);
    let of_channel = |end: Seconds| format!(r#"{{"channel":"a","exp":{later},"expire_at":{end}}}"#);
    assert_eq!(subscription(of_channel(0)).unwrap().expires(), None);
    let long = subscription(of_channel(NOW + 600)).unwrap();
    assert_eq!(long.expires(), Some(NOW + 600));
    assert_eq!(subscription(of_channel(NOW)), Err(TokenError::Expired));
    // A token that is over opens nothing, whatever it says of what it would open.
    let over = format!(r#"{{"exp":{NOW},"expire_at":0}}"#);
    assert_eq!(ends(&over), Err(TokenError::Expired));
}

#[test]
fn infos_in_base64_are_json_too() {
    // {"b":1}
    let claims = hs256(r#"{"info":{"a":1},"b64info":"eyJiIjoxfQ=="}"#);
    let info = verifier().connection(&claims, NOW).unwrap().info.unwrap();
    assert_eq!(info.as_bytes(), b"{\"b\":1}");
    let empty = hs256(r#"{"channel":"a","info":7,"b64info":""}"#);
    let terms = verifier().subscription(&empty, NOW).unwrap().terms;
    assert_eq!(terms.info.unwrap().as_bytes(), b"7");
    for wrong in ["no base64", "bm8gSlNPTg=="] {
        let claims = hs256(&format!(r#"{{"b64info":"{wrong}"}}"#));
        let refused = verifier().connection(&claims, NOW);
        assert!(matches!(refused, Err(TokenError::Invalid(_))), "{wrong}");
    }
}

#[test]
fn a_token_that_grants_something_unknown_grants_nothing() {
    for claims in [
        r#"{"caps":[{"channels":["a"],"allow":["everything"]}]}"#,
        r#"{"caps":[{"channels":["a.*"],"match":"regex","allow":["sub"]}]}"#,
        r#"{"caps":"all"}"#,
        r#"{"expire_at":"never"}"#,
    ] {
        let refused = verifier().connection(&hs256(claims), NOW);
        assert!(matches!(refused, Err(TokenError::Invalid(_))), "{claims}");
    }
    for claims in [
        r#"{"channel":"a","allow":["everything"]}"#,
        r#"{"channel":"a","override":{"presence":false}}"#,
    ] {
        let refused = verifier().subscription(&hs256(claims), NOW);
        assert!(matches!(refused, Err(TokenError::Invalid(_))), "{claims}");
    }
}

#[test]
fn neither_kind_is_taken_for_the_other() {
    let subscription = hs256(r#"{"sub":"1","channel":"a"}"#);
    assert!(matches!(
        verifier().connection(&subscription, NOW),
        Err(TokenError::Invalid(_))
    ));
    let connection = hs256(r#"{"sub":"1","channels":["a"]}"#);
    assert!(matches!(
        verifier().subscription(&connection, NOW),
        Err(TokenError::Invalid(_))
    ));
}

#[test]
fn a_subscription_token_permits_its_user_in_its_channel() {
    let claims = verifier()
        .subscription(&hs256(r#"{"sub":"1","channel":"a"}"#), NOW)
        .unwrap();
    assert!(claims.permit("1", &channel("a")).is_ok());
    assert!(claims.permit("1", &channel("b")).is_err());
    assert!(claims.permit("2", &channel("a")).is_err());
    assert!(claims.permit("", &channel("a")).is_err());
}

#[test]
fn only_hs256_counts() {
    let claims = r#"{"sub":"1","channel":"a"}"#;
    let unsigned = format!(
        "{}.{}.",
        base64(br#"{"alg":"none"}"#),
        base64(claims.as_bytes())
    );
    assert!(verifier().connection(&unsigned, NOW).is_err());
    assert!(verifier().subscription(&unsigned, NOW).is_err());
    for algorithm in ["HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256"] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        check_invalid(&token(&header, claims, SECRET), "HS256");
    }
    for algorithm in ["none", "None", "hs256", ""] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        assert!(
            verifier()
                .subscription(&token(&header, claims, SECRET), NOW)
                .is_err()
        );
    }
}

#[test]
fn another_secret_or_another_byte_is_noticed() {
    let claims = r#"{"sub":"1","channel":"a"}"#;
    check_invalid(
        &token(r#"{"alg":"HS256"}"#, claims, b"another secret"),
        "signature",
    );
    let good = hs256(claims);
    let signature = good.rsplit('.').next().unwrap();
    let forged = base64(br#"{"sub":"2","channel":"a"}"#);
    let header = good.split('.').next().unwrap();
    check_invalid(&format!("{header}.{forged}.{signature}"), "signature");
    check_invalid(good.strip_suffix(signature).unwrap(), "signature");
    for cut in 0..good.len() {
        assert!(
            verifier().subscription(&good[..cut], NOW).is_err(),
            "cut at {cut}"
        );
    }
}

#[test]
fn time_is_honoured_to_the_second() {
    let at = |claims: String, now| verifier().connection(&hs256(&claims), now).err();
    let exp = |exp: &str| format!(r#"{{"exp":{exp}}}"#);
    assert_eq!(at(exp("1700000000"), NOW - 1), None);
    assert_eq!(at(exp("1700000000"), NOW), Some(TokenError::Expired));
    assert_eq!(at(exp("1700000000.9"), NOW), Some(TokenError::Expired));
    assert_eq!(at(exp("0"), NOW), Some(TokenError::Expired));
    assert_eq!(at(exp("-1"), NOW), Some(TokenError::Expired));
    let nbf = |nbf: Seconds| format!(r#"{{"nbf":{nbf}}}"#);
    assert_eq!(at(nbf(NOW + CLOCK_SKEW_SECONDS), NOW), None);
    let early = at(nbf(NOW + CLOCK_SKEW_SECONDS + 1), NOW);
    assert!(matches!(early, Some(TokenError::Invalid(_))), "{early:?}");
    for impossible in [
        "\"tomorrow\"",
        "1e300",
        "18446744073709551615",
        "[1]",
        "true",
    ] {
        let error = at(exp(impossible), NOW);
        assert!(
            matches!(error, Some(TokenError::Invalid(_))),
            "{impossible}: {error:?}"
        );
    }
}

#[test]
fn what_is_no_token_is_refused() {
    check_invalid("", "JSON Web Token");
    check_invalid("a.b.c", "");
    check_invalid("....", "");
    check_invalid("ünï.cö.de", "");
    check_invalid(&hs256("[1,2]"), "claims");
    check_invalid(&hs256("not json"), "claims");
    check_invalid(&hs256(r#"{"sub":7}"#), "claims");
    check_invalid(&hs256(r#"{"sub":"1","sub":"2"}"#), "claims");
    let long = "u".repeat(USER_BYTES_MAX + 1);
    check_invalid(
        &hs256(&format!(r#"{{"sub":"{long}","channel":"a"}}"#)),
        "user name",
    );
    check(
        &"x".repeat(TOKEN_BYTES_MAX + 1),
        TokenError::Invalid("it is too long"),
    );
    let padded = hs256(&format!(
        r#"{{"channel":"a","pad":"{}"}}"#,
        "x".repeat(TOKEN_BYTES_MAX)
    ));
    check(&padded, TokenError::Invalid("it is too long"));
    let error = verifier()
        .connection(&hs256(r#"{"channels":["a b"]}"#), NOW)
        .unwrap_err();
    assert_eq!(error, TokenError::Invalid("it names an impossible channel"));
    let error = verifier()
        .subscription(&hs256(r#"{"channel":""}"#), NOW)
        .unwrap_err();
    assert_eq!(error, TokenError::Invalid("it names an impossible channel"));
}

#[test]
fn nobody_sees_the_secret() {
    let shown = format!("{:?} {:?}", verifier(), TokenSigner::new(SECRET));
    assert!(!shown.contains("a secret"), "{shown}");
}
