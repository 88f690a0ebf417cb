//! Tokens that others sign: an identity provider with published keys, and one with a secret of its own.

use std::net::SocketAddr;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_stand_in::Google;
use fanfare_tests::http::Http;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

const OWN: &str = "a-secret-of-the-tests-with-32-bytes";
const THEIRS: &str = "a-secret-that-others-have-as-well";
const KEY: &str = "an-api-key-of-the-tests";
const PROVIDER: &str = "https://accounts.google.com";
const INVALID_TOKEN: u16 = 3500;
const INTERNAL: u64 = 100;

#[test]
fn a_provider_lets_its_users_in_and_may_change_its_keys() {
    let google = google();
    let node = start(&google);
    let user = |name: &str| claims(PROVIDER, "fanfare", name);
    // Its keys are asked for at the start; until they are there a client is told to come again.
    let token = google.token(&user("ada"));
    eventually("the keys of the provider are known", || {
        connects(&node, &token).ok()
    });
    let stream = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let path = "/events?channel=no-such-namespace:x";
        Http::once(node.address(), "GET", path, &headers, &[])
            .unwrap()
            .status
    };
    assert_eq!(
        stream(&token),
        404,
        "who it is is known, the channel is not"
    );
    let others = google.token(&claims(PROVIDER, "others", "ada"));
    assert_eq!(stream(&others), 401);
    // Signed with a key that came after what the node knows: not refused for good, and accepted when its keys are read again.
    google
        .control("keys", &json!({"rotate": true, "keep": true}))
        .unwrap();
    let newer = google.token(&user("bob"));
    eventually("the new key of the provider is known", || {
        match connects(&node, &newer) {
            Ok(()) => Some(()),
            Err(Refused::Later) => None,
            Err(Refused::ForGood(code)) => panic!("refused for good: {code}"),
        }
    });
    assert!(
        connects(&node, &token).is_ok(),
        "the old key is still published"
    );
}

#[test]
fn nobody_signs_for_another() {
    let google = google();
    let node = start(&google);
    let good = google.token(&claims(PROVIDER, "fanfare", "ada"));
    eventually("the keys of the provider are known", || {
        connects(&node, &good).ok()
    });
    assert!(connects(&node, &jwt::sign(OWN, &json!({"sub": "ada"}))).is_ok());
    assert!(connects(&node, &theirs("HS512", &claims("billing", "x", "ada"))).is_err());
    let modulus = google_key(&google);
    for (case, token) in [
        (
            "the provider for nobody",
            google.token(&json!({"sub": "ada", "aud": "fanfare"})),
        ),
        (
            "the provider for billing",
            google.token(&claims("billing", "fanfare", "ada")),
        ),
        (
            "the provider for others",
            google.token(&claims(PROVIDER, "others", "ada")),
        ),
        (
            "our secret for the provider",
            jwt::sign(OWN, &claims(PROVIDER, "fanfare", "ada")),
        ),
        (
            "our secret for billing",
            jwt::sign(OWN, &claims("billing", "fanfare", "ada")),
        ),
        (
            "billing for the provider",
            jwt::sign(THEIRS, &claims(PROVIDER, "fanfare", "ada")),
        ),
        (
            "billing for nobody",
            jwt::sign(THEIRS, &json!({"sub": "ada"})),
        ),
        (
            "the public key as a secret",
            jwt::sign(&modulus, &claims(PROVIDER, "fanfare", "ada")),
        ),
    ] {
        let refused = connects(&node, &token);
        assert_eq!(refused, Err(Refused::ForGood(INVALID_TOKEN)), "{case}");
    }
    let billing = jwt::sign(THEIRS, &claims("billing", "x", "ada"));
    assert!(connects(&node, &billing).is_ok());
}

#[test]
fn a_provider_that_is_away_stops_nobody_else() {
    let google = google();
    google
        .control(
            "fail",
            &json!({"place": "certs", "count": 1000, "status": 503}),
        )
        .unwrap();
    let node = start(&google);
    let token = google.token(&claims(PROVIDER, "fanfare", "ada"));
    assert_eq!(connects(&node, &token), Err(Refused::Later));
    assert!(connects(&node, &jwt::sign(OWN, &json!({"sub": "ada"}))).is_ok());
    assert!(connects(&node, &jwt::sign(THEIRS, &claims("billing", "x", "ada"))).is_ok());
    google
        .control(
            "fail",
            &json!({"place": "certs", "count": 0, "status": 503}),
        )
        .unwrap();
    eventually("the provider is back", || connects(&node, &token).ok());
}

#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// With an error that tells the client to try again.
    Later,
    /// With a close code that tells it not to.
    ForGood(u16),
}

fn google() -> Google {
    Google::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn start(google: &Google) -> Node {
    let config = format!(
        "[[namespaces]]\nname = \"news\"\nsubscribe = \"authenticated\"\nhistory = \"authenticated\"\n\
         [[token_issuers]]\nissuer = \"{PROVIDER}\"\naudience = \"fanfare\"\njwks_url = \"{}\"\n\
         user_prefix = \"google:\"\n\
         [[token_issuers]]\nissuer = \"billing\"\nsecret = \"{THEIRS}\"\n",
        google.jwks_url()
    );
    servers::start(NodeOptions {
        config: Some(config),
        ..servers::closed(KEY, OWN)
    })
}

fn claims(iss: &str, aud: &str, sub: &str) -> Value {
    json!({"iss": iss, "aud": aud, "sub": sub, "iat": jwt::seconds_from_now(0), "exp": jwt::seconds_from_now(3_600)})
}

fn theirs(algorithm: &str, claims: &Value) -> String {
    jwt::sign_with_header(THEIRS, &json!({"alg": algorithm}), claims)
}

/// The modulus of the provider's key, as it is published.
fn google_key(google: &Google) -> String {
    let address = google.jwks_url();
    let address = address
        .strip_prefix("http://")
        .and_then(|it| it.split('/').next())
        .unwrap();
    let answer = Http::once(address.parse().unwrap(), "GET", "/certs", &[], &[]).unwrap();
    answer.json()["keys"][0]["n"].as_str().unwrap().to_owned()
}

fn connects(node: &Node, token: &str) -> Result<(), Refused> {
    let mut client = Client::open(node.address());
    client.send_command("connect", json!({ "token": token }));
    match client.answer() {
        Ok(reply) if reply.get("connect").is_some() => Ok(()),
        Ok(reply) => {
            assert_eq!(reply["error"]["code"], INTERNAL, "{reply}");
            assert_eq!(reply["error"]["temporary"], true, "{reply}");
            Err(Refused::Later)
        }
        Err(End::Close(code, _)) => Err(Refused::ForGood(code)),
        Err(other) => panic!("{other:?}"),
    }
}
