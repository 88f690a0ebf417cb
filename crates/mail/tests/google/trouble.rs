//! What goes wrong, and what it is called.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use fanfare_mail::google::{GoogleError, Grant};

use crate::scene::Scene;

async fn outcome(scene: &Scene, grant: &Grant, place: &str) -> GoogleError {
    let google = &scene.google;
    let answer = match place {
        "profile" => google.profile(grant).await.map(drop),
        "history" => google
            .history(grant, google.profile(grant).await.unwrap(), None)
            .await
            .map(drop),
        "messages" => google.message(grant, "18c0").await.map(drop),
        "labels" => google.labels(grant).await.map(drop),
        "watch" => google.watch(grant).await.map(drop),
        other => panic!("{other}"),
    };
    answer.unwrap_err()
}

#[tokio::test]
async fn each_error_says_what_is_to_be_done() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    for (place, status, reason, expected) in [
        ("history", 403, "rateLimitExceeded", "slow"),
        ("history", 403, "userRateLimitExceeded", "slow"),
        ("messages", 403, "quotaExceeded", "slow"),
        ("messages", 403, "dailyLimitExceeded", "slow"),
        ("history", 500, "", "unavailable"),
        ("history", 502, "", "unavailable"),
        ("history", 503, "", "unavailable"),
        ("history", 404, "", "gone"),
        ("labels", 404, "", "unexpected"),
        ("profile", 403, "insufficientPermissions", "unauthorised"),
        ("profile", 403, "domainPolicy", "unauthorised"),
        ("profile", 400, "failedPrecondition", "unauthorised"),
        ("profile", 403, "accessNotConfigured", "misconfigured"),
        ("profile", 403, "somethingNew", "unexpected"),
        ("profile", 418, "teapot", "unexpected"),
        ("watch", 403, "forbidden", "misconfigured"),
        ("watch", 404, "", "misconfigured"),
        ("watch", 400, "invalidArgument", "misconfigured"),
        ("watch", 403, "rateLimitExceeded", "slow"),
    ] {
        scene.fail(place, status, reason);
        let error = outcome(&scene, &grant, place).await;
        assert_eq!(error.name(), expected, "{place} {status} {reason}: {error}");
    }
    scene.fail("watch", 403, "forbidden");
    let words = outcome(&scene, &grant, "watch").await.to_string();
    assert!(
        words.contains("projects/p/topics/mail") && words.contains("gmail-api-push@"),
        "{words}"
    );
    // Everything goes on as before.
    scene.google.profile(&grant).await.unwrap();
    assert_eq!(scene.counted("history", "slow"), 2);
    assert_eq!(scene.counted("watch", "misconfigured"), 4);
}

#[tokio::test]
async fn a_pause_that_gmail_asks_for_is_kept() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    scene.google.profile(&grant).await.unwrap();
    scene.fail("history", 429, "");
    // Before it is asked for, so that the pause cannot have begun already.
    let began = Instant::now();
    let error = outcome(&scene, &grant, "history").await;
    let pause = Duration::from_secs(1);
    assert_eq!(error, GoogleError::Slow { after: Some(pause) });
    scene.google.profile(&grant).await.unwrap();
    assert!(began.elapsed() >= pause, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_not_asked_for_more() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let frugal = Scene::node(&scene.stand_in, |config| config.units_per_minute = 80);
    // A quarter of a minute's units: 20 profiles.
    for _ in 0..20 {
        frugal.profile(&grant).await.unwrap();
    }
    let before = scene.requests("messages");
    let answer = frugal.message(&grant, "18c0").await;
    let Err(GoogleError::Slow { after: Some(after) }) = answer else {
        panic!("{answer:?}");
    };
    assert!(after > Duration::from_secs(5) && after < Duration::from_secs(60));
    assert_eq!(scene.requests("messages"), before, "nobody was asked");
}

#[tokio::test]
async fn who_cannot_be_reached_is_not_available() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = fanfare_ingress::https::Url::parse(&format!("http://{closed}")).unwrap();
    let gmail_away = Scene::node(&scene.stand_in, |config| config.gmail_url = url.clone());
    let tokens_away = Scene::node(&scene.stand_in, |config| config.token_url = url);
    for google in [gmail_away, tokens_away] {
        let answer = google.profile(&grant).await;
        assert!(
            matches!(answer, Err(GoogleError::Unavailable(_))),
            "{answer:?}"
        );
    }
}

/// A server that answers everything with this.
fn answering(status: u16, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = [0; 4096];
            let _ = stream.read(&mut seen);
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn answers_that_make_no_sense_are_told_from_others_and_not_repeated() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    for (status, body) in [
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"historyId":"private words"}"#),
        (200, r#"{"historyId":-5}"#),
        (302, ""),
        (403, "<html>private words"),
        (
            403,
            r#"{"error":{"message":"private words","status":"private words"}}"#,
        ),
    ] {
        let url = fanfare_ingress::https::Url::parse(&answering(status, body)).unwrap();
        let odd = Scene::node(&scene.stand_in, |config| config.gmail_url = url.clone());
        let error = odd.profile(&grant).await.unwrap_err();
        assert!(
            matches!(error, GoogleError::Unexpected(_)),
            "{body}: {error}"
        );
        assert!(!error.to_string().contains("private"), "{error}");
        let odd = Scene::node(&scene.stand_in, |config| config.token_url = url);
        let error = odd.profile(&grant).await.unwrap_err();
        assert!(
            matches!(error, GoogleError::Unexpected(_)),
            "{body}: {error}"
        );
        assert!(!error.to_string().contains("private"), "{error}");
    }
    let locked_out = r#"{"error":{"code":403,"message":"User-rate limit exceeded.  Retry after 2999-01-01T00:00:00.000Z",
        "errors":[{"reason":"userRateLimitExceeded","domain":"usageLimits"}]}}"#;
    let url = fanfare_ingress::https::Url::parse(&answering(403, locked_out)).unwrap();
    let odd = Scene::node(&scene.stand_in, |config| config.gmail_url = url);
    let Err(GoogleError::Slow { after: Some(first) }) = odd.profile(&grant).await else {
        panic!("it is to wait");
    };
    assert!(first > Duration::from_secs(86_400 * 365));
    // Not that long, but it is not asked again at once.
    let Err(GoogleError::Slow { after: Some(then) }) = odd.profile(&grant).await else {
        panic!("it is still to wait");
    };
    assert!(then <= Duration::from_secs(16 * 60), "{then:?}");
}
