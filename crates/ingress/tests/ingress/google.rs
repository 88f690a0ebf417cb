//! Pub/Sub push, from the stand-in: forged pushes are refused, and those that are repeated and reordered have one effect.

use std::{collections::BTreeSet, sync::Arc};

use axum::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use fanfare_ingress::{
    Source,
    https::{Client, Url},
    publish::Publish,
    verify::{
        GoogleVerifier, Verify,
        jwks::{HttpIssuer, Jwks},
        token::Expected,
    },
};
use fanfare_stand_in::{Google, signer::Signer};
use fanfare_wire::ChannelName;
use serde_json::{Value, json};

use crate::scene::{Database, Node, SOURCE, eventually, json_of, source, unix_seconds};

const AUDIENCE: &str = "https://fanfare.example.com/push";
const ACCOUNT: &str = "push@stand-in.iam.gserviceaccount.com";

fn google() -> Google {
    Google::start("127.0.0.1:0".parse().unwrap()).unwrap()
}

fn node(database: &Database, google: &Google) -> Node {
    Node::start_with(database, "a", || {
        let url = Url::parse(&google.jwks_url()).unwrap();
        let keys = Jwks::new(Box::new(HttpIssuer::new(Client::new(), url)));
        let expected = Expected {
            audience: AUDIENCE.to_owned(),
            service_account: ACCOUNT.to_owned(),
        };
        let channel = ChannelName::parse("events").unwrap();
        let mut source = Source {
            verify: Verify::Google(GoogleVerifier::new(keys, expected)),
            ..source(Arc::new(Publish::new(channel, 10_000)))
        };
        source.terms.body_bytes_max = 2000;
        source
    })
}

fn claims() -> Value {
    json!({
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT, "email_verified": true,
        "iat": unix_seconds(), "exp": unix_seconds() + 3600, "sub": "1",
    })
}

fn message(id: &str, data: &str) -> String {
    json!({"message": {"data": STANDARD.encode(data), "messageId": id}}).to_string()
}

#[test]
fn forged_pushes_are_refused_and_counted() {
    let google = google();
    let database = Database::sqlite();
    let node = node(&database, &google);
    let push = |token: &str, body: &str| {
        let headers = [("authorization", format!("Bearer {token}"))];
        let answer = node.send(Method::POST, SOURCE, body.as_bytes(), &headers);
        let answer = answer.unwrap();
        let reason = json_of(&answer)["error"]["reason"]
            .as_str()
            .map(str::to_owned);
        (answer.status, reason.unwrap_or_default())
    };
    let good = google.token(&claims());
    // Its keys may not be there yet.
    eventually("a good push is taken", || {
        (push(&good, &message("1", "{}")).0 == 200).then_some(())
    });
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        google.token(&claims)
    };
    let now = unix_seconds();
    let none = Signer::new(0).sign(&json!({"alg": "none", "kid": "stand-in-0"}), &claims());
    let stolen = Signer::new(1).sign(&json!({"alg": "RS256", "kid": "stand-in-0"}), &claims());
    let body = message("2", "{}");
    for (token, body, status, reason) in [
        (
            with("aud", json!("https://other.example.com")),
            &body,
            403,
            "audience",
        ),
        (
            with("email", json!("else@example.com")),
            &body,
            403,
            "account",
        ),
        (with("email_verified", json!(false)), &body, 403, "account"),
        (
            with("iss", json!("https://evil.example.com")),
            &body,
            401,
            "issuer",
        ),
        (with("exp", json!(now - 100)), &body, 401, "expired"),
        (none, &body, 401, "algorithm"),
        (stolen, &body, 401, "signature"),
        ("no.token".to_owned(), &body, 401, "token"),
        (Signer::new(3).token(&claims()), &body, 401, "unknown_key"),
        (good.clone(), &"{}".to_owned(), 400, "malformed"),
        (
            good.clone(),
            &message("3", "{}").replace("e30=", "%%%"),
            400,
            "malformed",
        ),
        (good.clone(), &message("4", "no JSON"), 400, "unfit"),
        (good.clone(), &"x".repeat(2500), 413, "too_long"),
    ] {
        assert_eq!(push(&token, body), (status, reason.to_owned()));
        let count = node.metric("webhooks_refused", Some(("reason", reason)));
        assert!(count > 0, "{reason} is not counted");
    }
    let answer = node
        .send(Method::POST, SOURCE, body.as_bytes(), &[])
        .unwrap();
    assert_eq!(answer.status, 401);
    assert_eq!(node.metric("webhooks_accepted", None), 1);
}

#[test]
fn without_keys_nothing_is_taken_and_with_them_everything_is() {
    let google = google();
    google
        .control(
            "fail",
            &json!({"place": "certs", "count": 1_000_000, "status": 503}),
        )
        .unwrap();
    let database = Database::sqlite();
    let node = node(&database, &google);
    let endpoint = node.webhook_url();
    google
        .control(
            "push",
            &json!({"endpoint": endpoint, "audience": AUDIENCE, "serviceAccount": ACCOUNT}),
        )
        .unwrap();
    google.publish(b"{\"n\":1}");
    eventually("it is refused for want of keys", || {
        let reason = Some(("reason", "keys_unavailable"));
        (node.metric("webhooks_refused", reason) > 0).then_some(())
    });
    assert!(node.published("events").is_empty());
    google
        .control("fail", &json!({"place": "certs", "count": 0}))
        .unwrap();
    eventually("it comes when there are keys", || {
        (node.published("events") == [json!({"n": 1})]).then_some(())
    });
}

#[test]
fn repeated_and_reordered_pushes_have_one_effect_each_wrapped_or_not() {
    let google = google();
    let database = Database::sqlite();
    let node = node(&database, &google);
    let endpoint = node.webhook_url();
    let mut request = json!({
        "endpoint": endpoint, "audience": AUDIENCE, "serviceAccount": ACCOUNT,
        "duplicatesPercent": 60, "reorder": true,
    });
    google.control("push", &request).unwrap();
    for number in 0..60 {
        google.publish(json!({ "n": number }).to_string().as_bytes());
    }
    let settled = |count: u64| {
        eventually("all is acknowledged", || {
            let state = google.control("state", &json!({})).unwrap();
            (state["acknowledged"] == count && state["waiting"] == 0).then_some(state)
        })
    };
    settled(60);
    request["wrapped"] = json!(false);
    google.control("push", &request).unwrap();
    for number in 60..100 {
        google.publish(json!({ "n": number }).to_string().as_bytes());
    }
    let state = settled(100);
    assert!(state["duplicates"].as_u64().unwrap() > 0, "{state}");
    let published = eventually("all is published", || {
        let published = node.published("events");
        (published.len() >= 100).then_some(published)
    });
    let numbers: BTreeSet<i64> = published
        .iter()
        .map(|it| it["n"].as_i64().unwrap())
        .collect();
    assert_eq!((published.len(), numbers.len()), (100, 100));
    assert_eq!(node.metric("webhooks_accepted", None), 100);
}
