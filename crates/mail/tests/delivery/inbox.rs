//! Messages in pages, and the bounds of what may be asked.

use axum::http::Method;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    scene::{ANN, Scene, Setup, eventually},
};

#[tokio::test]
async fn messages_come_in_pages_the_newest_first_with_the_names_of_labels() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let ids: Vec<String> = (0..7).map(|n| scene.message(&format!("m{n}"))).collect();
    let own = json!({"address": ANN, "name": "Receipts"});
    let label = scene.google.control("label", &own).unwrap()["id"].clone();
    let marked = json!({"address": ANN, "id": ids[2], "add": [label], "remove": ["UNREAD"]});
    scene.google.control("modify", &marked).unwrap();
    let mut browser = Browser::sign_in(&scene).await;
    let mut subjects = Vec::new();
    let mut path = "/mail/messages?limit=3".to_owned();
    loop {
        let page = browser.json(node, &path).await;
        assert_eq!((&page["total"], &page["unread"]), (&json!(7), &json!(6)));
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() <= 3);
        subjects.extend(messages.iter().map(|it| it["subject"].clone()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        path = format!("/mail/messages?limit=3&before={next}");
    }
    let expected: Vec<Value> = (0..7).rev().map(|n| json!(format!("m{n}"))).collect();
    assert_eq!(subjects, expected);
    let label = label.as_str().unwrap();
    let page = browser
        .json(node, &format!("/mail/messages?label={label}"))
        .await;
    assert_eq!((&page["total"], &page["unread"]), (&json!(1), &json!(0)));
    assert_eq!(page["messages"][0]["id"], *ids[2]);
    let named = json!({"id": label, "name": "Receipts"});
    assert!(
        page["labels"].as_array().unwrap().contains(&named),
        "{page}"
    );
    // What goes to the bin stays, and is not counted among what is visible.
    let binned = json!({"address": ANN, "id": ids[6], "add": ["TRASH"], "remove": ["INBOX"]});
    scene.google.control("modify", &binned).unwrap();
    eventually("it is in the bin", || {
        let mut browser = browser.clone();
        async move {
            let page = browser.json(node, "/mail/messages?visible=true").await;
            (page["total"] == 6 && page["unread"] == 5).then_some(())
        }
    })
    .await;
    for (list, total) in [("label=TRASH", 1), ("label=TRASH&visible=true", 0)] {
        let page = browser.json(node, &format!("/mail/messages?{list}")).await;
        assert_eq!(page["total"], total, "{list}");
    }
    // More than a page may hold is a page, and nobody else's messages are there.
    let page = browser.json(node, "/mail/messages?limit=100000").await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 7);
    let mut other = Browser::default();
    other.sign_in_as(&scene, "bob@example.com").await;
    assert_eq!(other.json(node, "/mail/messages").await["total"], 0);
    let stolen = path.replace("limit=3", "limit=4");
    assert_eq!(other.json(node, &stolen).await["total"], 0);
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let long = "x".repeat(300);
    for path in [
        "/mail/messages?limit=many",
        "/mail/messages?limit=-1",
        "/mail/messages?before=yesterday",
        "/mail/messages?label=%00",
        "/mail/messages?limit=1&limit=2",
        "/mail/events?last_event_id=a&last_event_id=b",
        &format!("/mail/messages?label={long}"),
        &format!("/mail/messages?before={long}"),
    ] {
        let answer = browser.get(node, path).await;
        assert_eq!(answer.status, 400, "{path}");
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], "bad_request", "{path}");
    }
}

#[tokio::test]
async fn google_is_asked_on_demand_but_not_too_often() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    // Its notification gets lost.
    let nowhere = json!({"endpoint": "http://127.0.0.1:1/"});
    scene.google.control("push", &nowhere).unwrap();
    scene.message("asked for");
    assert_eq!(browser.post(node, "/mail/sync").await.status, 202);
    stream.until("asked for").await;
    let refused = eventually("too often", || {
        let mut browser = browser.clone();
        async move {
            let answer = browser.post(node, "/mail/sync").await;
            (answer.status != 202).then_some(answer)
        }
    })
    .await;
    assert_eq!(refused.status, 429);
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
}

#[tokio::test]
async fn in_a_demonstration_things_happen_on_demand_in_ones_own_mailbox() {
    let scene = Scene::with(Setup {
        demo: true,
        ..Setup::default()
    })
    .await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    assert_eq!(browser.json(node, "/mail/me").await["dev"], true);
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    let url = |what: &str| format!("{}/mail/dev/{what}", node.origin());
    let wish = json!({"address": "bob@example.com", "subject": "for me"}).to_string();
    let answer = browser.go(Method::POST, &url("message"), &[], &wish).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    stream.until("for me").await;
    for (what, body, status) in [
        ("message", "[]", 400),
        ("message", "{", 400),
        ("nothing", "{}", 404),
        ("message", &*" ".repeat(20_000), 413),
    ] {
        let answer = browser.go(Method::POST, &url(what), &[], body).await;
        assert_eq!(answer.status, status, "{what} {body}");
    }
    let stranger = Browser::default()
        .go(Method::POST, &url("message"), &[], "{}")
        .await;
    assert_eq!(stranger.status, 401);
    // A login begins where its cookies are: at the server's public name.
    let other_name = format!(
        "http://localhost:{}/mail/login?login_hint=x",
        node.address.port()
    );
    let sent = Browser::default()
        .go(Method::GET, &other_name, &[], "")
        .await;
    let there = format!("{}/mail/login?login_hint=x", node.origin());
    assert_eq!(sent.header("location"), Some(&*there));
}
