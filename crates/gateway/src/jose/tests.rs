use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    key::Jwk,
    testing::{Pair, hmac_token, unsigned},
    *,
};

const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEO1d5Gl+Fh4cQPxQ9bj8EooluAkIC
HFaKfu2fDBQvJUC8i3G8pRsvz61ccXcqn22Ks9OGMVBk/JdrNLQERQ5b1w==
-----END PUBLIC KEY-----
";
const P384_PEM: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE0Cs/pF3ipXSUQmuEHCfNHRpSJhT4Hpcr
AAcJ7+3x8/Wvgf3foVjpHQ1Uw5V3vDYAoDJLIkkdAnOxSNSOqX/JA0Cd4xFwxvt4
84wOUa3t5C8dIH+wqMaF8NZmcX03iRSo
-----END PUBLIC KEY-----
";
const P521_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBWp09hkUEFketWmVZrXXm5pMkA2Bi
08tOxVSXnJd6yCp+59cOVqdfUEdiyGa0aM8GFimcOigdyCl8Jf1pWj6Cod4Aa6z9
uy599STqwrUiLeGI+kqDXe8hamLf1nbzm3VVY/pY50xnZStp37nDfnqO1nIO6SNI
NfepwbHWdcKB7Mq7SZI=
-----END PUBLIC KEY-----
";
const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEALQF4mhseb2qrf/zEWXVOrWPV+PEMf4HNGEhL1oEk790=
-----END PUBLIC KEY-----
";
const RSA_1024_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDen+vuCFVYYlBCeIwPrMkyj20/
iPDzPj03c4DtCgvd6n5a+ok4n6OgIBjbFDHvGUls458ypz9u5yW6Vo52Ke7DDhJj
IgXgy8WiLx/9Vm/sOjK/18k2QPYcZAghbKR3JsX7nJI2fzpCNSew3AvfpJV+M+RY
xsqQ2eEVoQ2DfUTzNQIDAQAB
-----END PUBLIC KEY-----
";
/// The public half of `Pair::rsa(0)`, written by OpenSSL in both ways.
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApaHax6PDOrRk5sfvEKml
xT1tG670igCJwIGv6gFeOMKtYIrNnVobpQABiXADso7e++FF743szyzKfwWZmmAV
vO4+pAs6jhhHGD3qYtAh7SB6xfeHx5+cwKZodexTMkW0ZTaJND0wB0v1bgMwFyPh
6XZ1wUsHvOWwc+q+0dt6puvyJryjEI7ghZ6fXEuLqC5troszK6bNYDTmDO/6wuOW
hL5js128Cr2+lm3gux9ppbMsAAScQob5yCVOVmoFaVoMXu3FKyBXWRlpmih42ovU
dWIZ5w0kQ1F5o5vRu0A6HPSDVWpw1DKkuSWIM2Y1KADpdWejx0sTLFvmUinD3f82
VwIDAQAB
-----END PUBLIC KEY-----
";
const RSA_PKCS1_PEM: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEApaHax6PDOrRk5sfvEKmlxT1tG670igCJwIGv6gFeOMKtYIrNnVob
pQABiXADso7e++FF743szyzKfwWZmmAVvO4+pAs6jhhHGD3qYtAh7SB6xfeHx5+c
wKZodexTMkW0ZTaJND0wB0v1bgMwFyPh6XZ1wUsHvOWwc+q+0dt6puvyJryjEI7g
hZ6fXEuLqC5troszK6bNYDTmDO/6wuOWhL5js128Cr2+lm3gux9ppbMsAAScQob5
yCVOVmoFaVoMXu3FKyBXWRlpmih42ovUdWIZ5w0kQ1F5o5vRu0A6HPSDVWpw1DKk
uSWIM2Y1KADpdWejx0sTLFvmUinD3f82VwIDAQAB
-----END RSA PUBLIC KEY-----
";

fn pairs() -> Vec<(Pair, Vec<Algorithm>)> {
    use Algorithm::{EdDsa, Es256, Es384};
    vec![
        (Pair::rsa(0), Algorithms::RSA.iter().collect()),
        (Pair::p256(), vec![Es256]),
        (Pair::p384(), vec![Es384]),
        (Pair::ed25519(), vec![EdDsa]),
    ]
}

fn claims_of<'a>(token: &'a Unverified<'_>, key: &PublicKey) -> Option<&'a [u8]> {
    token.verify(key)
}

#[test]
fn every_algorithm_verifies_what_its_key_has_signed_and_nothing_else() {
    let claims = json!({"sub": "ada"});
    let all = pairs();
    for (pair, algorithms) in &all {
        for algorithm in algorithms {
            let text = pair.token(*algorithm, "k", &claims);
            let token = Unverified::parse(&text).unwrap();
            assert_eq!(
                (token.algorithm, token.kid.as_deref()),
                (*algorithm, Some("k"))
            );
            for (other, _) in &all {
                let same = std::ptr::eq(other, pair);
                let read = claims_of(&token, &other.public());
                assert_eq!(read.is_some(), same, "{algorithm}");
            }
            assert_eq!(claims_of(&token, &Pair::rsa(1).public()), None);
            let read: Value =
                serde_json::from_slice(token.verify(&pair.public()).unwrap()).unwrap();
            assert_eq!(read, claims);
        }
    }
}

#[test]
fn a_header_cannot_choose_an_algorithm_that_its_key_is_not_for() {
    let claims = json!({"sub": "ada"});
    for (pair, algorithms) in pairs() {
        let key = pair.public();
        for algorithm in &algorithms {
            for said in Algorithm::ALL.iter().filter(|it| *it != algorithm) {
                let text = pair.token_with(*algorithm, &json!({"alg": said.name()}), &claims);
                let token = Unverified::parse(&text).unwrap();
                assert_eq!(token.verify(&key), None, "{algorithm} called {said}");
            }
            // A key that is for one algorithm verifies no other, though it could.
            let only = key
                .clone()
                .limited_to(Algorithms::of(&[*algorithm]))
                .unwrap();
            for other in algorithms.iter().filter(|it| *it != algorithm) {
                let text = pair.token(*other, "k", &claims);
                let token = Unverified::parse(&text).unwrap();
                assert!(token.verify(&key).is_some());
                assert_eq!(token.verify(&only), None, "{other} for {algorithm}");
            }
        }
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let claims = json!({"sub": "ada"});
    let texts = [RSA_PEM, RSA_PKCS1_PEM, P256_PEM, ED25519_PEM];
    for (pair, _) in pairs() {
        let mut secrets = vec![pair.public_bytes(), pair.jwk("k").to_string().into_bytes()];
        secrets.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
        secrets.extend(texts.iter().map(|text| text.trim().as_bytes().to_vec()));
        secrets.push(Vec::new());
        for algorithm in Algorithms::HMAC.iter() {
            for secret in &secrets {
                for said in Algorithm::ALL {
                    let header = json!({"alg": said.name(), "kid": "k"});
                    let text = hmac_token(algorithm, secret, &header, &claims);
                    let token = Unverified::parse(&text).unwrap();
                    assert_eq!(
                        token.verify(&pair.public()),
                        None,
                        "{algorithm} called {said}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_secret_verifies_its_own_algorithm() {
    let claims = json!({"sub": "ada"});
    for algorithm in Algorithms::HMAC.iter() {
        let key = SecretKey::new(algorithm, b"secret").unwrap();
        for signed in Algorithms::HMAC.iter() {
            for said in Algorithm::ALL {
                let header = json!({"alg": said.name()});
                let text = hmac_token(signed, b"secret", &header, &claims);
                let token = Unverified::parse(&text).unwrap();
                let expected = signed == algorithm && said == algorithm;
                assert_eq!(
                    token.verify_secret(&key).is_some(),
                    expected,
                    "{signed} called {said}"
                );
            }
        }
        let own = key.sign(claims.to_string().as_bytes());
        assert!(
            Unverified::parse(&own)
                .unwrap()
                .verify_secret(&key)
                .is_some()
        );
    }
    assert!(SecretKey::new(Algorithm::Rs256, b"secret").is_none());
    assert!(SecretKey::new(Algorithm::EdDsa, b"secret").is_none());
}

#[test]
fn a_token_without_a_signature_is_none() {
    let claims = json!({"sub": "ada"});
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let unsigned = unsigned(&json!({"alg": alg}), &claims);
        for text in [
            unsigned.clone(),
            format!("{unsigned}."),
            format!("{unsigned}.AAAA"),
        ] {
            assert!(Unverified::parse(&text).is_err(), "{text}");
        }
    }
    for (pair, algorithms) in pairs() {
        for algorithm in algorithms {
            let unsigned = unsigned(&json!({"alg": algorithm.name()}), &claims);
            for signature in [
                "",
                "AA",
                &"A".repeat(86),
                &"A".repeat(128),
                &"A".repeat(342),
            ] {
                let text = format!("{unsigned}.{signature}");
                let verified = Unverified::parse(&text)
                    .ok()
                    .and_then(|token| token.verify(&pair.public()).map(<[u8]>::to_vec));
                assert_eq!(verified, None, "{algorithm} {signature}");
            }
        }
    }
}

#[test]
fn what_a_header_brings_along_is_not_looked_at() {
    let (ours, theirs) = (Pair::rsa(0), Pair::rsa(1));
    let claims = json!({"sub": "ada"});
    let header = json!({
        "alg": "RS256", "kid": "k", "jwk": theirs.jwk("k"), "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/x", "x5c": ["AAAA"],
    });
    let text = theirs.token_with(Algorithm::Rs256, &header, &claims);
    assert_eq!(
        Unverified::parse(&text).unwrap().verify(&ours.public()),
        None
    );
    for header in [
        json!({"alg": "RS256", "crit": ["b64"], "b64": false}),
        json!({"alg": "RS256", "crit": []}),
        json!({"alg": ["RS256"]}),
        json!({"alg": "RS256", "kid": 7}),
        json!({"kid": "k"}),
        json!("RS256"),
    ] {
        let text = ours.token_with(Algorithm::Rs256, &header, &claims);
        let error = Unverified::parse(&text).unwrap_err();
        assert_eq!(error, FormError::Header, "{header}");
    }
    // Written twice, it could be one for us and another for somebody else.
    let doubled = r#"{"alg":"RS256","alg":"HS256"}"#;
    let header = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, doubled);
    assert_eq!(
        Unverified::parse(&format!("{header}.e30.AA")).unwrap_err(),
        FormError::Header
    );
}

#[test]
fn the_examples_of_the_standards_verify() {
    let check = |jwk: Value, token: &str| {
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        let key = PublicKey::from_jwk(&jwk).unwrap();
        assert!(
            Unverified::parse(token).unwrap().verify(&key).is_some(),
            "{token}"
        );
    };
    // RFC 7515, A.3.
    check(
        json!({"kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
        "eyJhbGciOiJFUzI1NiJ9\
        .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
        .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
    );
    // RFC 8037, A.4.
    check(
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc\
        .hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
}

#[test]
fn public_keys_are_read_from_pem() {
    let rsa = Pair::rsa(0).public();
    assert_eq!(PublicKey::from_pem(RSA_PEM), Ok(rsa.clone()));
    assert_eq!(PublicKey::from_pem(RSA_PKCS1_PEM), Ok(rsa.clone()));
    let spread = format!("a comment\n\n{}\nmore", RSA_PEM.replace('\n', "\r\n  "));
    assert_eq!(PublicKey::from_pem(&spread), Ok(rsa));
    for (text, algorithm) in [
        (P256_PEM, Algorithm::Es256),
        (P384_PEM, Algorithm::Es384),
        (ED25519_PEM, Algorithm::EdDsa),
    ] {
        let key = PublicKey::from_pem(text).unwrap();
        assert_eq!(key.algorithms(), Algorithms::of(&[algorithm]));
    }
    let private = P256_PEM.replace("PUBLIC", "PRIVATE");
    let of_rsa = P256_PEM.replace("PUBLIC", "RSA PRIVATE");
    let certificate = P256_PEM.replace("PUBLIC KEY", "CERTIFICATE");
    for (text, error) in [
        (private.as_str(), PemError::Private),
        (of_rsa.as_str(), PemError::Private),
        (certificate.as_str(), PemError::Certificate),
        (P521_PEM, PemError::Kind),
        (RSA_1024_PEM, PemError::Size),
        ("", PemError::Form),
        ("secret", PemError::Form),
        (&P256_PEM[..100], PemError::Form),
        (&P256_PEM.replace("MFkw", "MFow"), PemError::Form),
        (&P256_PEM.replace("MFkw", "!!!!"), PemError::Form),
    ] {
        assert_eq!(PublicKey::from_pem(text), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_calmly(text in "[ -~]{0,80}", der in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = Unverified::parse(&text);
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
        prop_assert!(PublicKey::from_pem(&pem).is_err());
    }

    #[test]
    fn one_other_bit_anywhere_is_noticed(at in any::<prop::sample::Index>(), bit in 0..6_u8, which in 0..4_usize) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (pair, algorithms) = pairs().swap_remove(which);
        let token = pair.token(algorithms[0], "k", &json!({"sub": "ada"}));
        let places: Vec<usize> = (0..token.len()).filter(|at| token.as_bytes()[*at] != b'.').collect();
        let at = places[at.index(places.len())];
        let digit = DIGITS.iter().position(|it| *it == token.as_bytes()[at]).unwrap();
        let mut changed = token.into_bytes();
        changed[at] = DIGITS[digit ^ (1 << bit)];
        let changed = String::from_utf8(changed).unwrap();
        let verified = Unverified::parse(&changed).ok().and_then(|it| it.verify(&pair.public()).map(<[u8]>::to_vec));
        prop_assert_eq!(verified, None);
    }
}
