//! Signing in and out: whose browser it is, and what does not count as one.

use axum::http::Method;
use fanfare_gateway::token::{ConnectionClaims, TokenSigner};
use serde_json::Value;

use crate::{
    browser::{Browser, Stream},
    scene::{ANN, Scene, Setup, TOKEN_SECRET, eventually},
};

/// Where a login ended.
fn end(answer: &fanfare_ingress::https::Answer) -> (u16, String) {
    let place = answer.header("location").unwrap_or_default();
    (answer.status, place.to_owned())
}

fn lost(code: &str) -> (u16, String) {
    (302, format!("/mail?error={code}"))
}

#[tokio::test]
async fn who_consents_is_signed_in_and_can_sign_out_everywhere() {
    let scene = Scene::with(Setup {
        nodes: 2,
        ..Setup::default()
    })
    .await;
    let [here, there] = &scene.nodes[..] else {
        panic!("two nodes");
    };
    let mut browser = Browser::sign_in(&scene).await;
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["fanfare_mail"]);
    let me = browser.json(here, "/mail/me").await;
    assert_eq!((&me["email"], &me["dev"]), (&ANN.into(), &false.into()));
    let mut before = browser.clone();
    let mut stream = before.stream(there, None).await;
    stream.until("event: ready\n").await;
    let gone = browser.post(here, "/mail/logout").await;
    assert_eq!(gone.status, 204);
    assert!(browser.cookies.is_empty());
    // What was copied before is of no use any more, on any node.
    stream.end().await;
    for node in &scene.nodes {
        eventually("the session is over", || {
            let mut before = before.clone();
            async move { (before.get(node, "/mail/me").await.status == 401).then_some(()) }
        })
        .await;
    }
    assert_eq!(before.stream(there, None).await.status, 401);
    // Who is not signed in is signed out.
    assert_eq!(before.post(here, "/mail/logout").await.status, 204);
    assert_eq!(here.metric("mail_logins", Some("ok")), 1);
}

#[tokio::test]
async fn an_answer_of_google_signs_in_the_browser_that_has_asked_and_no_other() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    Browser::sign_in(&scene).await;
    let go = async |browser: &mut Browser, url: &str| {
        let answer = browser.go(Method::GET, url, &[], "").await;
        assert!(!browser.cookies.contains_key("fanfare_mail"), "{url}");
        end(&answer)
    };
    let mut mine = Browser::default();
    let back = mine.consent(node, "mallory@example.com").await;
    // Login CSRF: the victim's browser follows a link that an attacker's login has led to.
    let mut victim = Browser::default();
    assert_eq!(go(&mut victim, &back).await, lost("expired"));
    victim.consent(node, ANN).await;
    assert_eq!(go(&mut victim, &back).await, lost("state"));
    assert!(victim.cookies.is_empty(), "what was begun is over");
    let callback = format!("{}/mail/callback", node.origin());
    let state = back.split("state=").nth(1).unwrap().to_owned();
    for (query, code) in [
        (format!("error=access_denied&state={state}"), "denied"),
        (format!("error=server_error&state={state}"), "failed"),
        (format!("state={state}"), "failed"),
        (format!("code=nonsense&state={state}"), "expired"),
        ("code=nonsense".to_owned(), "state"),
        (format!("code=x&state={state}&state={state}"), "failed"),
        ("error=access_denied".to_owned(), "state"),
    ] {
        let mut copy = mine.clone();
        let url = format!("{callback}?{query}");
        assert_eq!(go(&mut copy, &url).await, lost(code), "{query}");
        assert!(node.metric("mail_logins", Some(code)) > 0, "{code}");
    }
    // Whoever only looks at the address uses nothing up.
    let looked = mine.clone().go(Method::HEAD, &back, &[], "").await;
    assert_eq!(looked.status, 405);
    let answer = mine.go(Method::GET, &back, &[], "").await;
    assert_eq!(end(&answer), (302, "/mail".to_owned()));
    assert!(mine.cookies.contains_key("fanfare_mail"));
    // A code is good once, and its login is over.
    assert_eq!(go(&mut Browser::default(), &back).await, lost("expired"));
}

#[tokio::test]
async fn nobody_is_sent_elsewhere() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let places = [
        "/mail/login?login_hint=a&redirect=https://evil.example&next=//evil.example",
        "/mail/login?login_hint=%0d%0alocation:https://evil.example",
    ];
    for path in places {
        let answer = Browser::default().get(node, path).await;
        assert_eq!(answer.status, 302);
        let place = answer.header("location").unwrap();
        assert!(
            place.starts_with(&format!("{}/o/oauth2/", scene.google.url())),
            "{place}"
        );
        let redirect = "redirect_uri=http%3A%2F%2F127.0.0.1";
        assert!(place.contains(redirect), "{place}");
        assert_eq!(answer.headers.get_all("location").iter().count(), 1);
    }
}

#[tokio::test]
async fn other_pages_and_other_tokens_get_nowhere() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let origin = node.origin();
    let url = |path: &str| format!("{origin}{path}");
    for headers in [
        [("origin", "https://evil.example"), ("accept", "*/*")],
        [("origin", "null"), ("accept", "*/*")],
        [("origin", &*origin), ("sec-fetch-site", "cross-site")],
        [("origin", &*origin), ("sec-fetch-site", "same-site")],
    ] {
        for path in ["/mail/logout", "/mail/disconnect", "/mail/sync"] {
            let answer = browser.go(Method::POST, &url(path), &headers, "").await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
        for path in ["/mail/me", "/mail/messages", "/mail/token", "/mail/events"] {
            let answer = browser.go(Method::GET, &url(path), &headers, "").await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
    }
    let user = browser.json(node, "/mail/me").await["user"].clone();
    let user = user.as_str().unwrap().to_owned();
    let sign = |jti: Option<&str>, exp: Option<i64>, channels: &[&str]| {
        let channels = channels.iter().map(|name| name.parse_channel()).collect();
        let claims = ConnectionClaims {
            sub: user.clone(),
            exp,
            iat: Some(1),
            jti: jti.map(str::to_owned),
            channels,
            ..ConnectionClaims::default()
        };
        TokenSigner::new(TOKEN_SECRET)
            .sign_connection(&claims)
            .unwrap()
    };
    let far = Some(4_000_000_000);
    let for_pages = browser.json(node, "/mail/token").await;
    for (what, token) in [
        (
            "a token for a page",
            for_pages["token"].as_str().unwrap().to_owned(),
        ),
        ("a client's", sign(Some("session-1"), far, &[])),
        ("one without a session", sign(None, far, &[])),
        ("one for ever", sign(Some("mail-1"), None, &[])),
        ("one that grants", sign(Some("mail-1"), far, &["mail:x"])),
        ("an old one", sign(Some("mail-1"), Some(1_700_000_000), &[])),
        ("nonsense", "a.b.c".to_owned()),
    ] {
        let mut other = Browser::default();
        other.cookies.insert("fanfare_mail".to_owned(), token);
        assert_eq!(other.get(node, "/mail/me").await.status, 401, "{what}");
        assert_eq!(other.stream(node, None).await.status, 401, "{what}");
    }
    let mut good = Browser::default();
    good.cookies
        .insert("fanfare_mail".to_owned(), sign(Some("mail-1"), far, &[]));
    assert_eq!(good.get(node, "/mail/me").await.status, 200);
}

#[tokio::test]
async fn paths_take_their_methods_and_nobody_keeps_what_they_answer() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let url = |path: &str| format!("{}{path}", node.origin());
    for (method, path, status, code) in [
        (Method::GET, "/mail/me", 401, "unauthorized"),
        (Method::GET, "/mail/messages", 401, "unauthorized"),
        (Method::GET, "/mail/events", 401, "unauthorized"),
        (Method::GET, "/mail/token", 401, "unauthorized"),
        (Method::POST, "/mail/sync", 401, "unauthorized"),
        (Method::POST, "/mail/disconnect", 401, "unauthorized"),
        (Method::POST, "/mail/me", 405, "method_not_allowed"),
        (Method::DELETE, "/mail/messages", 405, "method_not_allowed"),
        (Method::POST, "/mail/login", 405, "method_not_allowed"),
        (Method::POST, "/mail/callback", 405, "method_not_allowed"),
        (Method::GET, "/mail/logout", 405, "method_not_allowed"),
        (Method::GET, "/mail/disconnect", 405, "method_not_allowed"),
        (Method::GET, "/mail/sync", 405, "method_not_allowed"),
        (Method::PUT, "/mail/events", 405, "method_not_allowed"),
    ] {
        let answer = Browser::default().go(method, &url(path), &[], "").await;
        assert_eq!(answer.status, status, "{path}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], code, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    // A demonstration's paths are not there.
    let answer = Browser::default()
        .go(Method::POST, &url("/mail/dev/message"), &[], "{}")
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_mailbox_that_is_disconnected_is_forgotten_and_can_be_connected_at_once() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    scene.message("Hello");
    let mut browser = Browser::sign_in(&scene).await;
    let elsewhere = Browser::sign_in(&scene).await;
    let mut stream: Stream = elsewhere.stream(node, None).await;
    stream.until("event: ready\n").await;
    let gone = browser.post(node, "/mail/disconnect").await;
    assert_eq!(gone.status, 204, "{:?}", gone.body);
    eventually("this session is over", || {
        let mut before = elsewhere.clone();
        async move { (before.get(node, "/mail/me").await.status == 401).then_some(()) }
    })
    .await;
    let mut again = Browser::sign_in(&scene).await;
    let list = again.json(node, "/mail/messages").await;
    assert_eq!(list["messages"][0]["subject"], "Hello");
}

trait ParseChannel {
    fn parse_channel(&self) -> fanfare_wire::ChannelName;
}

impl ParseChannel for &str {
    fn parse_channel(&self) -> fanfare_wire::ChannelName {
        fanfare_wire::ChannelName::parse(self).unwrap()
    }
}
