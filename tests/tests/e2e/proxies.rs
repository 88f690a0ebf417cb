//! What the application's own backend decides: who a client is, and what it may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::backend::{Asked, Backend};
use fanfare_tests::stream::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

use crate::browser::run_script;

const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
const KEY: &str = "an-api-key-of-the-tests";
const BACKEND_KEY: &str = "what-the-backend-knows-the-server-by";
const INTERNAL: u64 = 100;
const DENIED: u64 = 103;
const NOT_AVAILABLE: u64 = 108;

#[test]
fn the_backend_says_who_a_client_is() {
    let backend = backend();
    let node = start(&backend);
    let headers = [
        ("cookie", "session=ada"),
        ("x-secret", "not passed on"),
        ("x-key", "forged"),
    ];
    let mut client = Client::open_with(node.address(), &headers);
    let request = json!({"data": {"device": "phone"}, "name": "js", "version": "7"});
    let reply = client.command("connect", request);
    let connected = &reply["connect"];
    assert_eq!(connected["data"], json!({"welcome": "ada"}), "{reply}");
    assert!(
        connected.get("expires").is_none(),
        "it has no token to renew: {reply}"
    );
    let asked = only(&backend, "/connect");
    let expected = json!({
        "client": connected["client"], "transport": "websocket", "protocol": "json", "encoding": "json",
        "name": "js", "version": "7", "data": {"device": "phone"},
    });
    assert_eq!(asked.body, expected);
    assert_eq!(asked.headers["cookie"], "session=ada");
    assert_eq!(asked.headers["x-key"], BACKEND_KEY);
    assert_eq!(asked.headers["content-type"], "application/json");
    assert!(!asked.headers.contains_key("x-secret"));
    // What it says of the client is what others see, and what it may do.
    client.subscribe("granted");
    client.subscribe("open:x");
    client.command("publish", json!({"channel": "open:x", "data": 1}));
    let info = &client.publication("open:x")["info"];
    assert_eq!(
        (&info["user"], &info["conn_info"]),
        (&json!("ada"), &json!({"name": "Ada"}))
    );
    let denied = client.command("subscribe", json!({"channel": "other"}));
    assert_eq!(denied["error"]["code"], DENIED, "{denied}");
    // Who has a token is not asked about.
    let mut other = Client::open(node.address());
    let token = jwt::sign(SECRET, &json!({"sub": "bob"}));
    let reply = other.command("connect", json!({"token": token}));
    assert!(reply.get("connect").is_some(), "{reply}");
    assert_eq!(backend.asked("/connect").len(), 1);
}

#[test]
fn the_backend_says_who_a_client_is_over_any_transport() {
    let backend = backend();
    let node = start(&backend);
    let open = |path: &str, who: &str, body: &str| {
        let cookie = format!("session={who}");
        let headers = [("cookie", &*cookie)];
        Stream::open(node.address(), "POST", path, &headers, body)
    };
    // What stands behind a command that the backend decides waits for it.
    let commands = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"granted\"}}";
    let mut stream = open("/connection/http_stream", "ada", commands);
    let reply = stream.message();
    assert_eq!(
        reply["connect"]["data"],
        json!({"welcome": "ada"}),
        "{reply}"
    );
    assert!(reply["connect"]["session"].is_string(), "{reply}");
    assert_eq!(stream.reply(2)["subscribe"]["positioned"], true);
    assert_eq!(only(&backend, "/connect").body["transport"], "http_stream");
    let path = "/connection/uni_http_stream";
    let subs = r#"{"subs":{"granted":{},"other":{}}}"#;
    let mut listener = open(path, "ada", subs);
    let push = listener.message();
    let connect = &push["connect"];
    assert_eq!(connect["data"], json!({"welcome": "ada"}), "{push}");
    assert_eq!(connect["subs"]["granted"]["positioned"], true, "{push}");
    assert_eq!(connect["subs"].as_object().unwrap().len(), 1, "{push}");
    assert_eq!(listener.message()["unsubscribe"]["code"], DENIED);
    for (who, code) in [("nobody", 4501), ("blocked", 3004), ("broken", 3004)] {
        let mut listener = open(path, who, "{}");
        let push = listener.message();
        assert_eq!(push["disconnect"]["code"], code, "{who}: {push}");
        assert_eq!(listener.until_end(), None, "{who}");
    }
}

#[test]
fn a_client_that_the_backend_does_not_want_is_told_so() {
    let backend = backend();
    let node = start(&backend);
    let connect = |who: &str| {
        let cookie = format!("session={who}");
        let mut client = Client::open_with(node.address(), &[("cookie", &cookie)]);
        client.send_command("connect", json!({}));
        client.answer()
    };
    assert_eq!(
        connect("nobody"),
        Err(End::Close(4501, "unauthorized".to_owned()))
    );
    let refused = connect("blocked").unwrap();
    assert_eq!(
        refused["error"],
        json!({"code": 451, "message": "blocked \"for\" reasons"})
    );
    for broken in ["broken", "empty", "strange", "slow"] {
        let refused = connect(broken).unwrap();
        assert_eq!(refused["error"]["code"], INTERNAL, "{broken}: {refused}");
        assert_eq!(refused["error"]["temporary"], true, "{broken}: {refused}");
    }
    assert!(connect("ada").unwrap().get("connect").is_some());
    let api = Api::with_key(node.address(), KEY);
    let count = |end: &str| {
        api.metric(&format!(
            "proxy_calls_total{{event=\"connect\",end=\"{end}\"}}"
        ))
    };
    let counts = ["granted", "error", "disconnect", "failed"].map(count);
    assert_eq!(counts, [1.0, 1.0, 1.0, 4.0]);
}

#[test]
fn the_backend_says_who_subscribes_and_who_publishes_what() {
    let backend = backend();
    let node = start(&backend);
    let mut client = connect(&node, "ada");
    let reply = client.command("subscribe", json!({"channel": "asked:yes", "data": [1]}));
    assert_eq!(reply["subscribe"]["data"], json!({"topic": "x"}), "{reply}");
    assert!(reply["subscribe"].get("expires").is_none(), "{reply}");
    let asked = only(&backend, "/subscribe").body;
    assert_eq!(
        (&asked["user"], &asked["channel"], &asked["data"]),
        (&json!("ada"), &json!("asked:yes"), &json!([1]))
    );
    let reply = client.command("subscribe", json!({"channel": "asked:no"}));
    assert_eq!(reply["error"], json!({"code": 403, "message": "not you"}));
    // A channel that names its users needs nobody's word.
    client.subscribe("asked:7#ada,bob");
    for (command, request) in [
        ("subscribe", json!({"channel": "asked:7#bob"})),
        ("publish", json!({"channel": "asked:7#bob", "data": "mine"})),
    ] {
        let denied = client.command(command, request);
        assert_eq!(denied["error"]["code"], DENIED, "{denied}");
    }
    assert!(backend.asked("/publish").is_empty());
    // A token decides for itself.
    let token = jwt::sign(SECRET, &json!({"sub": "ada", "channel": "asked:by-token"}));
    let reply = client.command(
        "subscribe",
        json!({"channel": "asked:by-token", "token": token}),
    );
    assert!(reply.get("subscribe").is_some(), "{reply}");
    assert_eq!(backend.asked("/subscribe").len(), 2);

    let publish = |client: &mut Client, data: Value| {
        client.command("publish", json!({"channel": "asked:yes", "data": data}))
    };
    assert!(
        publish(&mut client, json!("as it is"))
            .get("publish")
            .is_some()
    );
    assert!(
        publish(&mut client, json!("improve me"))
            .get("publish")
            .is_some()
    );
    let refused = publish(&mut client, json!("refuse me"));
    assert_eq!(refused["error"], json!({"code": 422, "message": "no"}));
    let published = [
        client.publication("asked:yes"),
        client.publication("asked:yes"),
    ];
    assert_eq!(
        published.each_ref().map(|it| &it["data"]),
        [&json!("as it is"), &json!({"improved": true})]
    );
    assert_eq!(published[1]["tags"], json!({"by": "backend"}));
    assert_eq!(
        published.map(|it| it["offset"].as_u64()),
        [Some(1), Some(2)]
    );
    client.send_command(
        "publish",
        json!({"channel": "asked:yes", "data": "send me away"}),
    );
    assert_eq!(client.end(), End::Close(4321, "go".to_owned()));
}

#[test]
fn commands_of_one_frame_wait_for_each_other() {
    let backend = backend();
    let node = start(&backend);
    let mut client = Client::open_with(node.address(), &[("cookie", "session=ada")]);
    let lines = [
        json!({"id": 1, "connect": {}}),
        json!({"id": 2, "subscribe": {"channel": "asked:yes"}}),
        json!({"id": 3, "publish": {"channel": "asked:yes", "data": "slowly"}}),
        json!({"id": 4, "publish": {"channel": "asked:yes", "data": "quickly"}}),
        json!({"id": 5, "rpc": {"method": "sum", "data": [1, 2]}}),
        json!({"id": 6, "ping": {}}),
    ];
    let frame = lines.map(|line| line.to_string()).join("\n");
    client.send_text(&frame);
    client.send_text(&json!({"id": 7, "rpc": {"method": "fail"}}).to_string());
    let replies: Vec<Value> = (0..7).map(|_| client.answer().unwrap()).collect();
    let ids: Vec<_> = replies
        .iter()
        .map(|it| it["id"].as_u64().unwrap())
        .collect();
    // A publish is answered when it is committed; everything else in its turn.
    let of_others: Vec<_> = ids.iter().filter(|id| ![3, 4].contains(*id)).collect();
    assert_eq!(of_others, [&1, &2, &5, &6, &7], "{replies:?}");
    let data = |id: u64| replies.iter().find(|it| it["id"] == id).unwrap();
    assert_eq!(data(5)["rpc"]["data"], json!(3));
    assert_eq!(
        data(7)["error"],
        json!({"code": 400, "message": "unknown method"})
    );
    let order = [
        client.publication("asked:yes"),
        client.publication("asked:yes"),
    ];
    assert_eq!(
        order.map(|it| it["data"].clone()),
        [json!("slowly"), json!("quickly")]
    );
}

#[test]
fn the_backend_is_asked_again_when_its_word_runs_out() {
    let backend = backend();
    let node = start(&backend);
    let mut staying = connect(&node, "staying");
    let mut leaving = connect(&node, "leaving");
    staying.subscribe("asked:for-a-while");
    staying.subscribe("asked:no-longer");
    let ended = staying.push("asked:no-longer", "unsubscribe");
    assert_eq!(ended["code"], 2501);
    let End::Close(3005, _) = leaving.end() else {
        panic!("the connection has expired");
    };
    eventually("both were asked about again and again", || {
        staying.glance();
        let of = |path: &str, user: &str| {
            let asked = backend.asked(path);
            asked.iter().filter(|it| it.body["user"] == user).count()
        };
        (of("/refresh", "staying") >= 2 && of("/sub_refresh", "staying") >= 3).then_some(())
    });
    Api::with_key(node.address(), KEY).publish("asked:for-a-while", json!("still here"));
    assert_eq!(
        staying.publication("asked:for-a-while")["data"],
        "still here"
    );
}

#[test]
fn nothing_is_asked_where_there_is_no_backend() {
    let node = servers::start(servers::closed(KEY, SECRET));
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, &json!({"sub": "ada"}));
    client.command("connect", json!({"token": token}));
    let reply = client.command("rpc", json!({"method": "sum"}));
    assert_eq!(reply["error"]["code"], NOT_AVAILABLE, "{reply}");
}

#[test]
fn the_official_client_deals_with_the_backend() {
    let backend = backend();
    let node = start(&backend);
    run_script("proxies.mjs", &["--url", &node.url()], &[&node]);
}

fn seconds(offset: i64) -> i64 {
    jwt::seconds_from_now(offset)
}

#[test]
fn a_grant_of_what_was_taken_back_meanwhile_does_not_count() {
    let holds = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&holds);
    let backend = Backend::start(move |asked| {
        while asked.path == "/subscribe" && held.load(Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        match asked.path.as_str() {
            "/connect" => connecting(user_of(asked)),
            _ => (200, json!({"result": {}})),
        }
    });
    let node = start(&backend);
    // Another connection of hers shows when the node has heard of it.
    let mut witness = connect(&node, "ada");
    witness.subscribe("asked:yes");
    let mut client = connect(&node, "ada");
    holds.store(true, Relaxed);
    let subscribe = json!({"channel": "asked:yes"});
    client.send_command("subscribe", subscribe.clone());
    eventually("the backend is asked", || {
        (backend.asked("/subscribe").len() == 2).then_some(())
    });
    let request = json!({"user": "ada", "channel": "asked:yes"});
    let mut api = Api::with_key(node.address(), KEY);
    api.call("unsubscribe", &request).unwrap();
    assert_eq!(witness.push("asked:yes", "unsubscribe")["code"], 2000);
    holds.store(false, Relaxed);
    let answer = client.answer().unwrap();
    if answer.get("subscribe").is_some() {
        // It was there before the command was heard for it.
        assert_eq!(client.push("asked:yes", "unsubscribe")["code"], 2000);
    } else {
        assert_eq!(answer["error"]["code"], INTERNAL, "{answer}");
        assert_eq!(answer["error"]["temporary"], true, "{answer}");
    }
    let again = client.command("subscribe", subscribe);
    assert!(again.get("subscribe").is_some(), "{again}");
}

/// A backend that knows its users by their cookie.
fn backend() -> Backend {
    let failed = AtomicBool::new(false);
    Backend::start(move |asked| match asked.path.as_str() {
        // Away once, for the first who comes so.
        "/connect" if user_of(asked) == "flaky" && !failed.swap(true, Relaxed) => (503, json!({})),
        "/connect" => connecting(user_of(asked)),
        "/refresh" => match asked.body["user"].as_str() {
            Some("staying") => (200, json!({"result": {"expire_at": seconds(1)}})),
            _ => (200, json!({"result": {"expired": true}})),
        },
        "/subscribe" => match asked.body["channel"].as_str() {
            Some("asked:yes") => (200, json!({"result": {"data": {"topic": "x"}}})),
            Some("asked:for-a-while" | "asked:no-longer") => {
                (200, json!({"result": {"expire_at": seconds(1)}}))
            }
            _ => (200, json!({"error": {"code": 403, "message": "not you"}})),
        },
        "/sub_refresh" => match asked.body["channel"].as_str() {
            Some("asked:for-a-while") => (200, json!({"result": {"expire_at": seconds(1)}})),
            _ => (200, json!({"result": {"expired": true}})),
        },
        "/publish" => match asked.body["data"].as_str() {
            Some("improve me") => {
                let result = json!({"data": {"improved": true}, "tags": {"by": "backend"}});
                (200, json!({"result": result}))
            }
            Some("refuse me") => (200, json!({"error": {"code": 422, "message": "no"}})),
            Some("send me away") => (200, json!({"disconnect": {"code": 4321, "reason": "go"}})),
            Some("slowly") => {
                thread::sleep(Duration::from_millis(200));
                (200, json!({"result": {}}))
            }
            _ => (200, json!({"result": {}})),
        },
        "/rpc" if asked.body["method"] == "sum" => {
            let numbers = asked.body["data"].as_array().cloned().unwrap_or_default();
            let sum: i64 = numbers.iter().filter_map(Value::as_i64).sum();
            (200, json!({"result": {"data": sum}}))
        }
        _ => (
            200,
            json!({"error": {"code": 400, "message": "unknown method"}}),
        ),
    })
}

fn user_of(asked: &Asked) -> &str {
    let cookie = asked.headers.get("cookie").map(String::as_str);
    let user = cookie.and_then(|cookie| cookie.strip_prefix("session="));
    user.unwrap_or("nobody")
}

fn connecting(user: &str) -> (u16, Value) {
    match user {
        "nobody" => (
            200,
            json!({"disconnect": {"code": 4501, "reason": "unauthorized"}}),
        ),
        "blocked" => (
            200,
            json!({"error": {"code": 451, "message": "blocked \"for\" reasons"}}),
        ),
        "broken" => (500, json!({"result": {"user": "broken"}})),
        "empty" => (200, json!({})),
        "strange" => (200, json!({"result": {"user": 7}})),
        "slow" => {
            thread::sleep(Duration::from_secs(2));
            (200, json!({"result": {"user": "slow"}}))
        }
        "staying" | "leaving" => (
            200,
            json!({"result": {"user": user, "expire_at": seconds(2)}}),
        ),
        user => (
            200,
            json!({"result": {
                "user": user, "info": {"name": "Ada"}, "data": {"welcome": user}, "channels": ["granted"],
            }}),
        ),
    }
}

fn start(backend: &Backend) -> Node {
    let mut config = "[[namespaces]]\nname = \"open\"\nsubscribe = \"authenticated\"\npublish = \"authenticated\"\n\
        [[namespaces]]\nname = \"asked\"\nhistory = \"subscriber\"\nsubscribe_proxy_enabled = true\n\
        sub_refresh_proxy_enabled = true\npublish_proxy_enabled = true\nallow_user_limited_channels = true\n"
        .to_owned();
    for event in [
        "connect",
        "refresh",
        "subscribe",
        "sub_refresh",
        "publish",
        "rpc",
    ] {
        let url = backend.url(&format!("/{event}"));
        config.push_str(&format!("[proxy.{event}]\nendpoint = \"{url}\"\n"));
        // Only what is meant to be late is: the machine may be busy.
        let timeout = if event == "connect" { "1s" } else { "10s" };
        config.push_str(&format!("timeout = \"{timeout}\"\n"));
        config.push_str(&format!(
            "static_headers = {{ X-Key = \"{BACKEND_KEY}\" }}\n"
        ));
        config.push_str("http_headers = [\"Cookie\"]\n");
    }
    servers::start(NodeOptions {
        config: Some(config),
        ..servers::closed(KEY, SECRET)
    })
}

#[track_caller]
fn connect(node: &Node, user: &str) -> Client {
    let cookie = format!("session={user}");
    let mut client = Client::open_with(node.address(), &[("cookie", &cookie)]);
    let reply = client.command("connect", json!({}));
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

#[track_caller]
fn only(backend: &Backend, path: &str) -> Asked {
    let mut asked = backend.asked(path);
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}
