//! What Gmail is asked.

use fanfare_mail::{
    google::{ChangeKind, GoogleError, Label, PAGE_MAX},
    message::HistoryId,
};
use serde_json::json;

use crate::scene::{ADDRESS, Scene};

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn history_tells_what_happened_in_order() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let start = scene.google.profile(&grant).await.unwrap();
    let message = json!({"address": ADDRESS, "from": "Bob <bob@example.com>", "subject": "Hi"});
    let ids = scene.control("message", message)["ids"].clone();
    let id = ids[0].as_str().unwrap();
    let star = json!({"address": ADDRESS, "id": id, "add": ["STARRED"], "remove": ["UNREAD"]});
    scene.control("modify", star);
    scene.control("delete", json!({"address": ADDRESS, "id": id}));
    let page = scene.google.history(&grant, start, None).await.unwrap();
    assert_eq!(page.next, None);
    assert!(page.records.windows(2).all(|two| two[0].id < two[1].id));
    assert!(page.records[0].id > start);
    assert_eq!(page.history_id, page.records.last().unwrap().id);
    let changes: Vec<_> = page.records.iter().flat_map(|it| &it.changes).collect();
    assert!(changes.iter().all(|it| it.message == id && it.thread == id));
    let kinds: Vec<_> = changes.iter().map(|it| it.kind.clone()).collect();
    let expected = [
        ChangeKind::Added,
        ChangeKind::LabelsAdded(labels(&["STARRED"])),
        ChangeKind::LabelsRemoved(labels(&["UNREAD"])),
        ChangeKind::Deleted,
    ];
    assert_eq!(kinds, expected);
    let none = scene.google.history(&grant, page.history_id, None).await;
    assert!(none.unwrap().records.is_empty());
    assert_eq!(scene.google.message(&grant, id).await, Ok(None));
    assert_eq!(scene.counted("message", "missing"), 1);
}

#[tokio::test]
async fn history_comes_in_pages_and_ends_where_gmail_forgets() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let start = scene.google.profile(&grant).await.unwrap();
    scene.control(
        "message",
        json!({"address": ADDRESS, "count": 2 * PAGE_MAX + 7}),
    );
    let (mut records, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = scene.google.history(&grant, start, next.as_deref()).await;
        let page = page.unwrap();
        records.extend(page.records);
        next = page.next;
        pages += 1;
        if next.is_none() {
            assert_eq!(page.history_id, records.last().unwrap().id);
            break;
        }
    }
    assert_eq!((records.len(), pages), (2 * PAGE_MAX + 7, 3));
    scene.control("expire", json!({"address": ADDRESS}));
    let answer = scene.google.history(&grant, start, None).await;
    assert_eq!(answer, Err(GoogleError::Gone));
    let answer = scene.google.history(&grant, HistoryId(0), None).await;
    assert_eq!(answer, Err(GoogleError::Gone));
    assert_eq!(scene.counted("history", "gone"), 2);
    let long = "x".repeat(10_000);
    for page in ["no token", &long] {
        let answer = scene.google.history(&grant, start, Some(page)).await;
        assert!(
            matches!(answer, Err(GoogleError::Unexpected(_))),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn messages_are_listed_newest_first_and_shown() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let add = |subject: &str| {
        let message = json!({
            "address": ADDRESS, "from": "Bob \"B\" <bob@example.com>", "subject": subject,
            "snippet": "It's <b>5 & 6</b> &amp; \"7\"", "labels": ["INBOX", "UNREAD"],
        });
        scene.control("message", message)["ids"][0]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let ids: Vec<String> = ["eins", "zwei\r\n\u{0}Grüße", "drei", "vier"]
        .map(add)
        .into();
    let bin = json!({"address": ADDRESS, "id": ids[2], "add": ["TRASH"], "remove": ["INBOX"]});
    scene.control("modify", bin);
    let first = scene.google.list(&grant, 2, None).await.unwrap();
    assert_eq!(first.ids, [ids[3].clone(), ids[1].clone()]);
    let next = first.next.unwrap();
    let rest = scene.google.list(&grant, 2, Some(&next)).await.unwrap();
    assert_eq!((rest.ids, rest.next), (vec![ids[0].clone()], None));
    let message = scene
        .google
        .message(&grant, &ids[1])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(message.id, ids[1]);
    assert_eq!(message.thread_id, ids[1]);
    assert_eq!(message.from, "Bob \"B\" <bob@example.com>");
    assert_eq!(message.subject, "zwei   Grüße");
    assert_eq!(message.snippet, "It's <b>5 & 6</b> &amp; \"7\"");
    assert_eq!(message.labels.len(), 2);
    assert!(message.date > 1_700_000_000_000 && message.version > HistoryId(0));
    let binned = scene
        .google
        .message(&grant, &ids[2])
        .await
        .unwrap()
        .unwrap();
    assert!(binned.labels.contains("TRASH") && binned.version > message.version);
    for id in ["", "../profile", "a b", "x?y", &"a".repeat(65)] {
        let answer = scene.google.message(&grant, id).await;
        assert!(matches!(answer, Err(GoogleError::Unexpected(_))), "{id}");
    }
    let empty = scene.control("label", json!({"address": ADDRESS, "name": "Päckchen"}));
    let known = scene.google.labels(&grant).await.unwrap();
    assert!(known.contains(&Label {
        id: empty["id"].as_str().unwrap().to_owned(),
        name: "Päckchen".to_owned(),
    }));
    assert!(known.iter().any(|label| label.id == "INBOX"));
}

#[tokio::test]
async fn a_watch_is_set_up_renewed_moved_and_stopped() {
    let scene = Scene::new();
    let grant = scene.grant().await;
    let watch = scene.google.watch(&grant).await.unwrap();
    assert_eq!(
        watch.history_id,
        scene.google.profile(&grant).await.unwrap()
    );
    let published = || {
        scene.control("state", json!({}))["published"]
            .as_u64()
            .unwrap()
    };
    let before = published();
    scene.control("message", json!({"address": ADDRESS}));
    assert_eq!(published(), before + 1, "it is told");
    let again = scene.google.watch(&grant).await.unwrap();
    assert!(again.expires >= watch.expires && again.history_id > watch.history_id);
    assert_eq!(scene.requests("stop"), 0);
    let moved = Scene::node(&scene.stand_in, |config| {
        config.topic = "projects/p/topics/other".to_owned();
    });
    moved.watch(&grant).await.unwrap();
    assert_eq!(scene.requests("stop"), 1, "one topic at a time");
    moved.stop(&grant).await.unwrap();
    moved.stop(&grant).await.unwrap();
    let before = published();
    scene.control("message", json!({"address": ADDRESS}));
    assert_eq!(published(), before, "it is not told");
}
