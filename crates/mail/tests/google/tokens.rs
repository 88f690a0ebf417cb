//! Access tokens: had once for all, and had again when they hold no more.

use fanfare_ingress::https::Client;
use fanfare_mail::google::{Google, GoogleError, Grant};
use serde_json::json;

use crate::scene::{ADDRESS, Scene, config, sealer};

async fn ask_at_once(google: &Google, grant: &Grant, count: usize) {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (google, grant) = (google.clone(), grant.clone());
            tokio::spawn(async move { google.profile(&grant).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn many_questions_at_once_need_one_token() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    scene.control("latency", json!({"place": "token", "millis": 100}));
    let before = scene.requests("token");
    ask_at_once(&scene.google, &grant, 20).await;
    assert_eq!(scene.requests("token") - before, 1);
    assert_eq!(scene.requests("profile"), 20);
    assert_eq!(scene.counted("refresh", "ok"), 1);
}

#[tokio::test]
async fn a_token_that_gmail_does_not_take_any_more_is_had_again_once() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    scene.google.profile(&grant).await.unwrap();
    scene.control("access", json!({"lapse": true}));
    scene.control("latency", json!({"place": "token", "millis": 100}));
    let before = scene.requests("token");
    ask_at_once(&scene.google, &grant, 10).await;
    assert_eq!(scene.requests("token") - before, 1);
    let asked = scene.requests("token");
    scene.fail_times("profile", 401, "authError", 2);
    let answer = scene.google.profile(&grant).await;
    assert!(matches!(answer, Err(GoogleError::Unauthorised(_))));
    assert_eq!(
        scene.requests("token") - asked,
        1,
        "it does not go on for ever"
    );
}

#[tokio::test]
async fn a_token_is_not_used_to_its_end() {
    let scene = Scene::new();
    scene.control("access", json!({"seconds": 4}));
    let grant = scene.grant().await;
    scene.google.profile(&grant).await.unwrap();
    let before = scene.requests("token");
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    scene.google.profile(&grant).await.unwrap();
    assert_eq!(scene.requests("token") - before, 1);
    assert_eq!(scene.counted("profile", "unauthorised"), 0);
}

#[tokio::test]
async fn a_grant_that_was_taken_back_is_of_no_use() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    scene.google.profile(&grant).await.unwrap();
    scene.control("revoke", json!({"address": ADDRESS}));
    for _ in 0..2 {
        let answer = scene.google.profile(&grant).await;
        assert!(
            matches!(answer, Err(GoogleError::Unauthorised(_))),
            "{answer:?}"
        );
    }
    let again = scene.grant().await;
    scene.google.profile(&again).await.unwrap();
    scene.google.revoke(&again).await.unwrap();
    let answer = scene.google.profile(&again).await;
    assert!(
        matches!(answer, Err(GoogleError::Unauthorised(_))),
        "{answer:?}"
    );
    // What is gone need not go again.
    scene.google.revoke(&again).await.unwrap();
    assert_eq!(scene.counted("revoke", "ok"), 1);
    assert_eq!(scene.counted("revoke", "missing"), 1);
    scene.fail("revoke", 503, "");
    let answer = scene.google.revoke(&again).await;
    assert!(
        matches!(answer, Err(GoogleError::Unavailable(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn trouble_at_the_refresh_is_not_the_grants_fault() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    for (status, reason, outcome) in [
        (500, "", "unavailable"),
        (503, "", "unavailable"),
        (400, "temporarily_unavailable", "unavailable"),
        (429, "rate_limit_exceeded", "slow"),
        (401, "invalid_client", "misconfigured"),
        (400, "invalid_request", "unexpected"),
        (400, "<b>words</b> of any kind", "unexpected"),
    ] {
        scene.fail("token", status, reason);
        let error = scene.google.profile(&grant).await.unwrap_err();
        assert_eq!(error.name(), outcome, "{status} {reason}: {error}");
        assert!(!error.to_string().contains("words of"), "{error}");
    }
    scene.google.profile(&grant).await.unwrap();
    assert_eq!(scene.counted("refresh", "unavailable"), 3);
}

#[tokio::test]
async fn another_refresh_token_takes_the_place_of_the_first() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    assert_eq!(scene.google.replacement(&grant), None);
    scene.google.profile(&grant).await.unwrap();
    assert_eq!(scene.google.replacement(&grant), None, "it is the same");
    scene.control("consent", json!({"renewals": 1}));
    scene.control("access", json!({"lapse": true}));
    scene.google.profile(&grant).await.unwrap();
    let sealed = scene.google.replacement(&grant).unwrap();
    let renewed = Grant {
        sealed,
        ..grant.clone()
    };
    let before = scene.requests("token");
    scene.google.profile(&renewed).await.unwrap();
    assert_eq!(scene.requests("token"), before, "it is known already");
    assert_eq!(scene.google.replacement(&renewed), None);
    let elsewhere = Scene::node(&scene.stand_in, |_| ());
    elsewhere.profile(&renewed).await.unwrap();
}

#[tokio::test]
async fn a_grant_under_an_old_key_works_and_is_sealed_anew() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let node = |sealer| Google::new(config(&scene.stand_in.url()), Client::new(), sealer).unwrap();
    let between = node(sealer(2, &[1]));
    between.profile(&grant).await.unwrap();
    let renewed = Grant {
        sealed: between.replacement(&grant).unwrap(),
        ..grant.clone()
    };
    let after = node(sealer(2, &[]));
    after.profile(&renewed).await.unwrap();
    let answer = after.profile(&grant).await;
    let Err(GoogleError::Misconfigured(words)) = answer else {
        panic!("{answer:?}");
    };
    assert!(words.contains("encryption_keys_old"), "{words}");
    let foreign = Grant {
        user: fanfare_mail::user::User::parse("gsomebody").unwrap(),
        ..grant
    };
    let answer = scene.google.profile(&foreign).await;
    assert!(
        matches!(answer, Err(GoogleError::Misconfigured(_))),
        "{answer:?}"
    );
}
