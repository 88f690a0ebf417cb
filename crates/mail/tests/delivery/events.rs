//! The event stream, and the same over another gateway.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    browser::{Browser, Stream},
    scene::{ANN, Scene, Setup, eventually},
};

fn two_nodes() -> Setup {
    Setup {
        nodes: 2,
        ..Setup::default()
    }
}

#[tokio::test]
async fn what_happens_is_told_and_a_stream_goes_on_from_its_last_id_on_another_node() {
    let scene = Scene::with(two_nodes()).await;
    let [here, there] = &scene.nodes[..] else {
        panic!("two nodes");
    };
    let mut browser = Browser::sign_in(&scene).await;
    let list = browser.json(here, "/mail/messages").await;
    let id = scene.message("First");
    // From before it came: the list is never ahead of the stream.
    let mut stream = browser.stream(here, list["eventId"].as_str()).await;
    stream.until("event: new_email\n").await;
    stream.until("event: sync_complete\n").await;
    assert!(
        stream.text.contains("\"subject\":\"First\""),
        "{}",
        stream.text
    );
    assert!(stream.text.starts_with("retry: "), "{}", stream.text);
    let last = stream.last_id();
    drop(stream);
    // While nobody looks.
    let change = serde_json::json!({"address": ANN, "id": id, "add": ["STARRED"]});
    scene.google.control("modify", &change).unwrap();
    scene.push_to(there);
    scene.message("Second");
    let mut stream = browser.stream(there, Some(&last)).await;
    stream.until("\"subject\":\"Second\"").await;
    assert_eq!(stream.count("event: email_update\n"), 1, "{}", stream.text);
    assert_eq!(stream.count("event: new_email\n"), 1, "{}", stream.text);
    assert!(stream.text.contains("\"added\":[\"STARRED\"]"));
    let delete = serde_json::json!({"address": ANN, "id": id});
    scene.google.control("delete", &delete).unwrap();
    stream.until("event: email_delete\n").await;
    let told = data_of(&stream.text, "email_delete");
    assert_eq!(told["data"]["id"], *id);
    assert!(told["timestamp"].as_str().unwrap().ends_with('Z'));
    // An id in the address does as well as the header, and one of another channel resets.
    let cookie = format!("cookie: {}\r\n", browser.cookie());
    let path = format!("/mail/events?last_event_id={last}");
    let mut stream = Stream::open(here.address, &path, &cookie).await;
    stream.until("event: email_delete\n").await;
    let mut stream = browser.stream(here, Some("elsewhere-1-7")).await;
    stream.until("event: reset\n").await;
}

#[tokio::test]
async fn the_same_events_come_over_another_gateway_with_the_token_of_the_page() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let ticket = browser.json(node, "/mail/token").await;
    let [token, channel] = ["token", "channel"].map(|name| ticket[name].as_str().unwrap());
    let bearer = format!("authorization: Bearer {token}\r\n");
    let path = format!("/events?channel={channel}");
    let mut other = Stream::open(node.address, &path, &bearer).await;
    other.until("event: ready\n").await;
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    scene.message("Once");
    stream.until("event: sync_complete\n").await;
    other.until("\"sync_complete\"").await;
    let told = data_of(&stream.text, "new_email");
    let line = other.text.lines().find(|line| line.contains("new_email"));
    let published: Value =
        serde_json::from_str(line.unwrap().strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(published["data"], told, "one envelope");
    assert_eq!(published["tags"]["event"], "new_email");
    // The cookie grants nothing there, and the token of one mailbox nothing of another.
    let cookie = format!(
        "authorization: Bearer {}\r\n",
        browser.cookies["fanfare_mail"]
    );
    for (path, headers) in [
        (path.as_str(), &cookie),
        ("/events?channel=mail:g1", &bearer),
    ] {
        assert_eq!(Stream::open(node.address, path, headers).await.status, 403);
    }
    // It ends with the session.
    browser.post(node, "/mail/logout").await;
    other.end().await;
}

#[tokio::test]
async fn a_mailbox_is_its_list_and_what_was_told_after_it() {
    let scene = Scene::with(two_nodes()).await;
    let node = &scene.nodes[1];
    let ids: Vec<String> = (0..20).map(|n| scene.message(&format!("m{n}"))).collect();
    let mut browser = Browser::sign_in(&scene).await;
    let list = browser.json(node, "/mail/messages?limit=100").await;
    let mut stream = browser.stream(node, list["eventId"].as_str()).await;
    for (number, id) in ids.iter().enumerate() {
        let what = if number % 3 == 0 { "delete" } else { "modify" };
        let asked = serde_json::json!({"address": ANN, "id": id, "remove": ["UNREAD"]});
        scene.google.control(what, &asked).unwrap();
    }
    let last = scene.message("the last");
    stream.until(&format!("\"id\":\"{last}\"")).await;
    stream.until("event: sync_complete\n").await;
    let mut view: BTreeMap<String, Value> = BTreeMap::new();
    for message in list["messages"].as_array().unwrap() {
        view.insert(message["id"].as_str().unwrap().to_owned(), message.clone());
    }
    for event in events(&stream.text) {
        let id = event["data"]["id"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap() {
            "email_delete" => drop(view.remove(&id)),
            "new_email" | "email_update" => drop(view.insert(id, event["data"].clone())),
            _ => {}
        }
    }
    let after = browser.json(node, "/mail/messages?limit=100").await;
    let labels = |message: &Value| message["labels"].clone();
    let shown: BTreeMap<&str, Value> = view.iter().map(|(id, it)| (&**id, labels(it))).collect();
    let kept = after["messages"].as_array().unwrap().iter();
    let kept: BTreeMap<&str, Value> = kept
        .map(|it| (it["id"].as_str().unwrap(), labels(it)))
        .collect();
    assert_eq!(shown, kept);
    assert_eq!(after["unread"], 1);
}

#[tokio::test]
async fn somebody_whose_grant_is_gone_is_told_to_connect_again() {
    let scene = Scene::new().await;
    let node = &scene.nodes[0];
    let mut browser = Browser::sign_in(&scene).await;
    let mut stream = browser.stream(node, None).await;
    stream.until("event: ready\n").await;
    let asked = serde_json::json!({"address": ANN});
    scene.google.control("revoke", &asked).unwrap();
    scene.message("unseen");
    stream.until("event: error\n").await;
    assert_eq!(data_of(&stream.text, "error")["data"]["code"], "reconnect");
    assert_eq!(browser.json(node, "/mail/me").await["state"], "reconnect");
    browser.sign_in_as(&scene, ANN).await;
    eventually("what was missed is there", || {
        let mut browser = browser.clone();
        async move {
            let list = browser.json(node, "/mail/messages").await;
            (list["messages"][0]["subject"] == "unseen").then_some(())
        }
    })
    .await;
}

/// The data of the events, in order.
fn events(text: &str) -> impl Iterator<Item = Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str::<Value>(data).unwrap())
        .filter(|event| event["type"].is_string())
}

/// The data of the first event of a name.
fn data_of(text: &str, name: &str) -> Value {
    let event = format!("event: {name}\ndata: ");
    let (_, rest) = text.split_once(&event).unwrap();
    serde_json::from_str(rest.lines().next().unwrap()).unwrap()
}
