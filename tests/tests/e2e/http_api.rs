//! The server API: what it answers, and what it says to bad input.

use fanfare_tests::api::{Api, Refusal};
use fanfare_tests::expect::ready_and;
use fanfare_tests::http::Http;
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

/// Code of an API error for a request that makes no sense.
const BAD_REQUEST: u64 = 107;
/// Code of an API error for what this channel does not have.
const NOT_AVAILABLE: u64 = 108;

#[test]
fn broadcast_answers_for_each_channel() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    api.publish("two", json!("before"));
    let request = json!({ "channels": ["one", "two"], "data": { "to": "all" } });
    let result = api.call("broadcast", &request).unwrap();
    let responses = result["responses"].as_array().unwrap();
    assert_eq!(responses.len(), 2, "{result}");
    assert_eq!(responses[0]["result"]["offset"], 1, "{result}");
    assert_eq!(responses[1]["result"]["offset"], 2, "{result}");
    assert_eq!(
        api.history("two").publications[1].data,
        json!({ "to": "all" })
    );
}

#[test]
fn what_the_libraries_of_centrifugo_send_is_taken_or_refused() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let data = json!({ "a": 1 });
    let encoded = "eyJhIjoxfQ==";
    for request in [
        json!({ "b64data": encoded }),
        json!({ "data": null, "b64data": encoded }),
        json!({ "data": data, "b64data": "", "delta": true, "skip_history": false, "version": 0, "version_epoch": "" }),
        json!({ "data": data, "tags": null, "idempotency_key": null }),
    ] {
        let mut whole = request.clone();
        whole["channel"] = json!("one");
        let answer = api.call("publish", &whole);
        assert!(answer.is_ok(), "{request}: {answer:?}");
        whole["channels"] = json!(["two"]);
        let answer = api.call("broadcast", &whole);
        assert!(answer.is_ok(), "{request}: {answer:?}");
    }
    for channel in ["one", "two"] {
        let kept = api.history(channel).publications;
        assert_eq!(kept.len(), 4);
        assert!(kept.iter().all(|one| one.data == data), "{kept:?}");
    }
    for (request, code) in [
        (json!({ "b64data": "no base64" }), BAD_REQUEST),
        (json!({ "b64data": "/w==" }), BAD_REQUEST),
        (json!({ "data": 1, "skip_history": true }), NOT_AVAILABLE),
        (json!({ "data": 1, "version": 3 }), NOT_AVAILABLE),
    ] {
        let mut whole = request.clone();
        whole["channel"] = json!("one");
        match api.call("publish", &whole) {
            Err(Refusal::Api { code: given, .. }) => assert_eq!(given, code, "{request}"),
            answer => panic!("{request}: {answer:?}"),
        }
    }
    let nulls = [
        (
            "history",
            json!({ "channel": "one", "limit": null, "since": null, "reverse": null }),
        ),
        ("channels", json!({ "pattern": null })),
        (
            "unsubscribe",
            json!({ "user": "ann", "client": null, "session": null, "channel": "one" }),
        ),
        (
            "disconnect",
            json!({ "user": "ann", "whitelist": null, "disconnect": null }),
        ),
        (
            "refresh",
            json!({ "user": "ann", "expired": null, "expire_at": null }),
        ),
    ];
    for (method, request) in nulls {
        let answer = api.call(method, &request);
        assert!(answer.is_ok(), "{method} {request}: {answer:?}");
    }
}

#[test]
fn a_broadcast_with_one_bad_channel_reaches_none() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    let request = json!({ "channels": ["one", "not allowed"], "data": 1 });
    match api.call("broadcast", &request) {
        Err(Refusal::Api {
            code: BAD_REQUEST, ..
        }) => {}
        answer => panic!("{answer:?}"),
    }
    assert_eq!(api.history("one").head, 0);
}

#[test]
fn history_goes_both_ways_and_in_pages() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    for number in 1..=10 {
        api.publish("channel", json!(number));
    }
    let epoch = api.history("channel").epoch;
    let check = |request: Value, expected: &[u64]| {
        let mut api = Api::new(node.address());
        let mut whole = request.clone();
        whole["channel"] = json!("channel");
        let page = api.history_page(&whole);
        let offsets: Vec<u64> = page.publications.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, expected, "{request}");
        assert_eq!(
            (page.head, page.epoch.as_str()),
            (10, epoch.as_str()),
            "{request}"
        );
    };
    let since = |offset: u64| json!({ "offset": offset, "epoch": epoch });
    check(json!({ "limit": 0 }), &[]);
    check(json!({ "limit": 3 }), &[1, 2, 3]);
    check(json!({ "limit": 3, "reverse": true }), &[10, 9, 8]);
    check(json!({ "limit": 3, "since": since(4) }), &[5, 6, 7]);
    check(
        json!({ "limit": 3, "since": since(4), "reverse": true }),
        &[3, 2, 1],
    );
    check(json!({ "limit": 100, "since": since(8) }), &[9, 10]);
    check(json!({ "limit": 100, "since": since(10) }), &[]);
}

#[test]
fn data_comes_back_as_it_was_sent() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let mut api = Api::new(node.address());
    let values = [
        json!(null),
        json!(0),
        json!(""),
        json!([]),
        json!({}),
        json!("line\nbreak and \u{2028} and \u{0000} and 🎺"),
        json!({ "deep": [[[[{ "er": -1.5e-7 }]]]] }),
        json!(9_007_199_254_740_993_u64),
    ];
    for value in &values {
        api.publish("channel", value.clone());
        assert_eq!(&client.publication("channel")["data"], value);
    }
    let history = api.history("channel");
    let stored: Vec<_> = history
        .publications
        .iter()
        .map(|one| one.data.clone())
        .collect();
    assert_eq!(stored, values);
    let mut ids: Vec<_> = history.publications.iter().map(|one| &one.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), values.len(), "ids are unique");
}

#[test]
fn tags_travel_with_their_publication() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let mut api = Api::new(node.address());
    let request = json!({ "channel": "channel", "data": 1, "tags": { "lang": "de" } });
    api.try_publish_request(&request).unwrap();
    assert_eq!(
        client.publication("channel")["tags"],
        json!({ "lang": "de" })
    );
    let history = api
        .call("history", &json!({ "channel": "channel", "limit": 1 }))
        .unwrap();
    assert_eq!(
        history["publications"][0]["tags"],
        json!({ "lang": "de" }),
        "{history}"
    );
}

#[test]
fn requests_that_are_no_requests() {
    let node = servers::start(servers::dev());
    let json = "application/json";
    let check = |case: &str, path: &str, content_type: &str, body: &[u8], expected: u16| {
        let headers = [("content-type", content_type)];
        let response = Http::once(node.address(), "POST", path, &headers, body).unwrap();
        assert_eq!(response.status, expected, "{case}: {}", response.text());
    };
    let good: &[u8] = br#"{"channel":"channel","data":1}"#;
    check(
        "another content type",
        "/api/publish",
        "text/plain",
        good,
        415,
    );
    check(
        "a form",
        "/api/publish",
        "application/x-www-form-urlencoded",
        good,
        415,
    );
    check("no JSON", "/api/publish", json, b"{\"channel\":", 400);
    check(
        "no UTF-8",
        "/api/publish",
        json,
        b"{\"channel\":\"\xff\xfe\"}",
        400,
    );
    check("nothing", "/api/publish", json, b"", 400);
    check("too long", "/api/publish", json, &oversized_publish(), 413);
    check("an unknown method", "/api/fly", json, good, 404);
    check(
        "with a charset",
        "/api/publish",
        "application/json; charset=utf-8",
        good,
        200,
    );
    let get = Http::once(node.address(), "GET", "/api/publish", &[], &[]).unwrap();
    assert_eq!(get.status, 405, "{}", get.text());
    assert_eq!(get.header("allow"), Some("POST"));
    assert_eq!(get.json()["error"]["code"], 107, "{}", get.text());
    let get = Http::once(node.address(), "GET", "/api/fly", &[], &[]).unwrap();
    assert_eq!(get.status, 404, "{}", get.text());
}

#[test]
fn requests_that_make_no_sense() {
    let node = servers::start(servers::dev());
    let mut api = Api::new(node.address());
    // A member that is missing may be found by the reader of JSON already; the code is the same.
    let mut check = |method: &str, request: Value| {
        let answer = api.call(method, &request);
        let as_expected = match &answer {
            Err(Refusal::Api { code, .. }) => *code == BAD_REQUEST,
            Err(Refusal::Status(400, text)) => text.contains("\"code\":107"),
            _ => false,
        };
        assert!(as_expected, "{method} {request}: {answer:?}");
    };
    check("publish", json!({ "data": 1 }));
    check("publish", json!({ "channel": "channel" }));
    check("publish", json!({ "channel": "", "data": 1 }));
    check("publish", json!({ "channel": "two words", "data": 1 }));
    check("publish", json!({ "channel": "ümlaut", "data": 1 }));
    check("publish", json!({ "channel": "quote\"", "data": 1 }));
    check("publish", json!({ "channel": "x".repeat(256), "data": 1 }));
    check(
        "publish",
        json!({ "channel": "c", "data": 1, "idempotency_key": "k".repeat(10_000) }),
    );
    check("broadcast", json!({ "channels": [], "data": 1 }));
    check("history", json!({ "limit": 1 }));
    check("history", json!({ "channel": "two words", "limit": 1 }));
    let longest = "x".repeat(255);
    assert_eq!(
        Api::new(node.address()).publish(&longest, json!(1)).offset,
        1
    );
}

#[test]
fn an_event_stream_that_makes_no_sense() {
    let node = servers::start(servers::dev());
    let check = |path: &str, expected: u16| {
        let response = Http::once(node.address(), "GET", path, &[], &[]).unwrap();
        assert_eq!(response.status, expected, "{path}: {}", response.text());
    };
    check("/events", 400);
    check("/events?channel=", 400);
    check("/events?channel=two%20words", 400);
    check(&format!("/events?channel={}", "x".repeat(256)), 400);
    let many: Vec<String> = (0..1_000)
        .map(|number| format!("channel=c{number}"))
        .collect();
    check(&format!("/events?{}", many.join("&")), 400);

    // A browser that is refused for the id that it was given would never come back, so it is told and goes on.
    let path = "/events?channel=channel&last_event_id=no-position-at-all";
    let mut stream = Stream::open_path(node.address(), path, &[]);
    assert_eq!(ready_and(&mut stream, "reset")["channel"], "channel");
}

#[test]
fn a_client_may_publish_and_read_history_over_its_connection() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let reply = client.command(
        "publish",
        json!({ "channel": "channel", "data": { "n": 1 } }),
    );
    assert!(reply.get("publish").is_some(), "{reply}");
    let publication = client.publication("channel");
    assert_eq!(publication["data"], json!({ "n": 1 }), "{publication}");
    assert!(
        publication["time"].as_u64().is_some_and(|time| time > 0),
        "{publication}"
    );
    let reply = client.command("history", json!({ "channel": "channel", "limit": 10 }));
    assert_eq!(reply["history"]["offset"], 1, "{reply}");
    assert_eq!(
        reply["history"]["publications"][0]["data"],
        json!({ "n": 1 }),
        "{reply}"
    );
    assert_eq!(reply["history"]["publications"][0]["offset"], 1, "{reply}");
    let reply = client.command("ping", json!({}));
    assert!(reply.get("error").is_none(), "{reply}");
}

/// A publish request over the limit of a body, and so short that it is on its way before the server refuses it.
fn oversized_publish() -> Vec<u8> {
    let text = "x".repeat(1024 * 1024);
    format!(r#"{{"channel":"channel","data":"{text}"}}"#).into_bytes()
}
