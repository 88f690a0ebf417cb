//! What is posted to `/webhooks/gmail`: Google's keys come and go, and nothing else's notifications are believed.

use axum::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_mail::WEBHOOK_PATH;
use fanfare_stand_in::{pubsub::PushConfig, signer::Signer};
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    scene::{ANN, Node, Scene, Setup, eventually},
};

/// What Pub/Sub says of itself.
fn claims(node: &Node) -> Value {
    json!({
        "iss": "https://accounts.google.com",
        "aud": format!("{}{WEBHOOK_PATH}", node.origin()),
        "email": PushConfig::default().service_account,
        "email_verified": true,
        "exp": 32_503_680_000_i64,
    })
}

async fn push(node: &Node, token: &str, id: &str, data: &str) -> (u16, String) {
    let url = format!("{}{WEBHOOK_PATH}", node.origin());
    let bearer = format!("Bearer {token}");
    let body = json!({"message": {"data": STANDARD.encode(data), "messageId": id}}).to_string();
    let headers = [("authorization", &*bearer)];
    let answer = Browser::default()
        .go(Method::POST, &url, &headers, &body)
        .await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let reason = body["error"]["reason"].as_str().unwrap_or_default();
    (answer.status, reason.to_owned())
}

fn notification(address: &str, id: u64) -> String {
    json!({"emailAddress": address, "historyId": id}).to_string()
}

#[tokio::test]
async fn while_googles_keys_cannot_be_had_nobody_is_believed_and_nothing_is_lost() {
    let scene = Scene::with(Setup {
        certs: false,
        ..Setup::default()
    })
    .await;
    let node = &scene.nodes[0];
    let token = scene.google.token(&claims(node));
    let answer = push(node, &token, "a", &notification(ANN, 1)).await;
    assert_eq!(answer, (503, "keys_unavailable".to_owned()));
    // Nor is who signs in.
    let mut browser = Browser::default();
    eventually("the app is ready", || {
        let mut browser = browser.clone();
        async move {
            let me = browser.get(node, "/mail/me").await;
            (me.status == 401).then_some(())
        }
    })
    .await;
    let back = browser.consent(node, ANN).await;
    let lost = browser.go(Method::GET, &back, &[], "").await;
    assert_eq!(lost.header("location"), Some("/mail?error=unavailable"));
    assert!(browser.cookies.is_empty());
    scene.certs(true);
    browser.sign_in_as(&scene, ANN).await;
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    scene.message("when there are keys");
    stream.until("when there are keys").await;
    assert_eq!(push(node, &token, "a", &notification(ANN, 1)).await.0, 200);
}

#[tokio::test]
async fn what_google_has_not_signed_for_us_now_changes_nothing() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(node);
        claims[name] = value;
        scene.google.token(&claims)
    };
    let none = json!({"alg": "none", "kid": "stand-in-0"});
    let stolen = json!({"alg": "RS256", "kid": "stand-in-0"});
    let far = notification(ANN, 1 << 60);
    for (token, status, reason) in [
        (with("aud", json!("https://evil.example")), 403, "audience"),
        (with("email", json!("evil@example.com")), 403, "account"),
        (with("email_verified", json!(false)), 403, "account"),
        (with("exp", json!(1_700_000_000)), 401, "expired"),
        (with("iss", json!("https://evil.example")), 401, "issuer"),
        (Signer::new(0).sign(&none, &claims(node)), 401, "algorithm"),
        (
            Signer::new(1).sign(&stolen, &claims(node)),
            401,
            "signature",
        ),
        ("x".repeat(10_000), 401, "token"),
    ] {
        let answer = push(node, &token, reason, &far).await;
        assert_eq!(answer, (status, reason.to_owned()));
    }
    let worked = |outcome| node.metric("mail_notifications", Some(outcome));
    // A mailbox is live a little before its first walk has ended.
    let before = eventually("the first sync is over", || async {
        Some(worked("walked")).filter(|walked| *walked > 0)
    })
    .await;
    // Good ones, of nobody and of the past: acknowledged, and counted for what they are.
    let good = scene.google.token(&claims(node));
    let known = worked("known");
    for (id, data) in [
        ("n", notification("nobody@example.com", 1)),
        ("p", notification(ANN, 1)),
    ] {
        assert_eq!(push(node, &good, id, &data).await.0, 200, "{data}");
    }
    eventually("both are done", || async {
        (worked("unknown") == 1 && worked("known") > known).then_some(())
    })
    .await;
    assert_eq!(worked("walked"), before, "Google was asked for nothing");
    assert_eq!(browser.json(node, "/mail/messages").await["total"], 0);
    let me = browser.json(node, "/mail/me").await;
    assert_eq!(me["state"], "live");
}
