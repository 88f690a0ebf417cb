//! What of its publications a subscriber is given, and in which form: filters of tags, and deltas.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

use crate::browser::run_script;

/// What is refused as it was said.
const BAD_REQUEST: u64 = 107;

fn start() -> Node {
    let config = "
        [[namespaces]]
        name = \"whole\"
        allowed_delta_types = []

        [[namespaces]]
        name = \"plain\"
        allow_tags_filter = false
        ";
    servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::dev()
    })
}

fn subscribe(client: &mut Client, request: &Value) -> Value {
    let reply = client.command("subscribe", request.clone());
    assert!(reply.get("subscribe").is_some(), "{reply}");
    reply["subscribe"].clone()
}

#[test]
fn the_official_client_decodes_deltas() {
    let node = start();
    run_script("deltas.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn the_official_client_is_given_what_it_wants() {
    let node = start();
    run_script("filters.mjs", &["--url", &node.url()], &[&node]);
}

#[test]
fn the_first_publication_is_whole_and_the_next_one_a_delta_of_it() {
    let node = start();
    let mut api = Api::new(node.address());
    let mut client = Client::connect(node.address());
    let request = json!({ "channel": "c", "delta": "fossil" });
    assert_eq!(subscribe(&mut client, &request)["delta"], true);
    let data = |number: u32| json!({ "number": number, "padding": "x".repeat(300) });
    for number in 1..=3 {
        api.publish("c", data(number));
        let publication = client.publication("c");
        let text = publication["data"].as_str().expect("a string");
        if number == 1 {
            assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), data(1));
            assert!(publication.get("delta").is_none(), "{publication}");
        } else {
            assert_eq!(publication["delta"], true);
            assert!(text.len() < 40, "{text}");
        }
    }
    let again = client.command("unsubscribe", json!({ "channel": "c" }));
    assert!(again.get("unsubscribe").is_some());
    // What it had before does not count.
    let request = json!({ "channel": "c", "delta": "fossil", "recover": true, "offset": 2 });
    assert_eq!(subscribe(&mut client, &request)["recovered"], true);
    let publication = client.publication("c");
    assert_eq!(publication["offset"], 3);
    assert!(publication.get("delta").is_none(), "{publication}");
}

#[test]
fn deltas_are_given_where_they_are_allowed_and_of_one_kind() {
    let node = start();
    let mut client = Client::connect(node.address());
    let request = json!({ "channel": "whole:c", "delta": "fossil" });
    assert!(subscribe(&mut client, &request).get("delta").is_none());
    let request = json!({ "channel": "d", "delta": "xdelta" });
    let reply = client.command("subscribe", request);
    assert_eq!(reply["error"]["code"], BAD_REQUEST, "{reply}");
    // What stands between two publications that are wanted, nobody can build on.
    let filter = json!({ "key": "a", "cmp": "ex" });
    let request = json!({ "channel": "e", "delta": "fossil", "tf": filter });
    assert!(subscribe(&mut client, &request).get("delta").is_none());
}

#[test]
fn who_wants_nothing_of_it_goes_on_behind_all_of_it() {
    let node = start();
    let mut api = Api::new(node.address());
    let wanted = json!({ "key": "wanted", "cmp": "ex" });
    let mut client = Client::connect(node.address());
    let request = json!({ "channel": "c", "tf": wanted });
    let position = subscribe(&mut client, &request);
    let mut publish = |data: u32, tags: Value| {
        let request = json!({ "channel": "c", "data": data, "tags": tags });
        let result = api.call("publish", &request).expect("an answer");
        result["offset"].as_u64().expect("an offset")
    };
    for number in 0..200 {
        publish(number, json!({ "other": "x" }));
    }
    let offset = publish(200, json!({ "wanted": "" }));
    let publication = client.publication("c");
    assert_eq!(publication["offset"], offset);
    assert_eq!(publication["tags"], json!({ "wanted": "" }));
    // Nothing that is wanted lies between the position of before and this one.
    drop(client);
    let mut client = Client::connect(node.address());
    let epoch = &position["epoch"];
    let request =
        json!({ "channel": "c", "tf": wanted, "recover": true, "offset": 0, "epoch": epoch });
    assert_eq!(subscribe(&mut client, &request)["recovered"], true);
    assert_eq!(client.publication("c")["offset"], offset);
    let last = publish(201, json!({ "wanted": "yes" }));
    assert_eq!(client.publication("c")["offset"], last);
}

#[test]
fn a_wrong_filter_is_an_error_of_its_subscribe_alone() {
    let node = start();
    let mut client = Client::connect(node.address());
    let nested = (0..20).fold(
        json!({ "key": "a", "cmp": "ex" }),
        |node, _| json!({ "op": "not", "nodes": [node] }),
    );
    for (channel, filter, words) in [
        ("c", json!(7), "other types"),
        ("c", nested, "16 levels"),
        ("c", json!({ "cmp": "ex" }), "needs key"),
        (
            "plain:c",
            json!({ "key": "a", "cmp": "ex" }),
            "does not allow",
        ),
    ] {
        let request = json!({ "channel": channel, "tf": filter });
        let reply = client.command("subscribe", request);
        assert_eq!(reply["error"]["code"], BAD_REQUEST, "{reply}");
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
    }
    client.subscribe("c");
}
