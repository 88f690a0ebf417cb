//! What namespaces, tokens and the backend grant: each right, each way to get it, and that it is denied without.

use fanfare_bench::local::{Node, NodeOptions};
use fanfare_tests::api::Api;
use fanfare_tests::backend::{Asked, Backend};
use fanfare_tests::stream::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::{Client, End};
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";
pub(crate) const KEY: &str = "an-api-key-of-the-tests";

const UNKNOWN_CHANNEL: u64 = 102;
const DENIED: u64 = 103;
pub(crate) const NOT_AVAILABLE: u64 = 108;
const EXPIRED: u64 = 110;

pub(crate) const CONFIG: &str = r#"
anonymous_clients = true

[[namespaces]]
name = "closed"
presence = "nobody"

[[namespaces]]
name = "anyone"
subscribe = "anyone"
publish = "anyone"
history = "anyone"
presence = "anyone"

[[namespaces]]
name = "users"
subscribe = "authenticated"
publish = "authenticated"
history = "authenticated"
presence = "authenticated"

[[namespaces]]
name = "guests"
subscribe = "anonymous"
publish = "anonymous"
history = "anonymous"
presence = "anonymous"

[[namespaces]]
name = "members"
subscribe = "anyone"
publish = "subscriber"
history = "subscriber"
presence = "subscriber"
join_leave = true

[[namespaces]]
name = "named"
presence = "nobody"
[[namespaces.rules]]
pattern = "free-*"
subscribe = "anyone"
publish = "anyone"
history = "anyone"
presence = "anyone"
[[namespaces.rules]]
pattern = "box-{user}"
subscribe = "authenticated"
publish = "authenticated"
history = "authenticated"
presence = "authenticated"

[[namespaces]]
name = "typing"
kind = "ephemeral"
subscribe = "anyone"
publish = ["authenticated", "subscriber"]
presence = "anyone"

[[namespaces]]
name = "forgetful"
subscribe = "anyone"
history = "anyone"
recovery = false

[[namespaces]]
name = "limited"
subscribe = "anyone"
publish = "anyone"
history = "anyone"
message_bytes_max = 20
history_limit_max = 2
publishes_per_second = 1
publishes_burst = 3
"#;

/// The rights, by the words of capabilities.
pub(crate) const RIGHTS: [&str; 4] = ["sub", "pub", "hst", "prs"];

/// Uses a right; the code of the error if that is refused.
#[track_caller]
pub(crate) fn exercise(client: &mut Client, right: &str, channel: &str) -> Option<u64> {
    let (command, request) = match right {
        "sub" => ("subscribe", json!({"channel": channel})),
        "pub" => ("publish", json!({"channel": channel, "data": 1})),
        "hst" => ("history", json!({"channel": channel, "limit": 1})),
        _ => ("presence", json!({"channel": channel})),
    };
    let reply = client.command(command, request);
    if right == "sub" && reply.get("subscribe").is_some() {
        client.command("unsubscribe", json!({"channel": channel}));
    }
    reply["error"]["code"].as_u64()
}

#[track_caller]
fn check(client: &mut Client, who: &str, channel: &str, has: bool) {
    for right in RIGHTS {
        let expected = (!has).then_some(DENIED);
        let got = exercise(client, right, channel);
        assert_eq!(got, expected, "{who}: {right} in {channel}");
    }
}

#[test]
fn each_class_has_its_rights_and_no_others() {
    let node = start(CONFIG);
    let mut ann = connect(&node, json!({"sub": "ann"}));
    let mut guest = connect(&node, json!({}));
    let mut nameless = Client::connect(node.address());
    for (channel, of_ann, of_guests) in [
        ("closed:x", false, false),
        ("anyone:x", true, true),
        ("users:x", true, false),
        ("guests:x", false, true),
        ("named:free-1", true, true),
        ("named:box-ann", true, false),
        ("named:box-bob", false, false),
        ("named:other", false, false),
    ] {
        check(&mut ann, "ann", channel, of_ann);
        check(&mut guest, "a guest with a token", channel, of_guests);
        check(&mut nameless, "a guest without one", channel, of_guests);
    }
    for right in RIGHTS {
        let got = exercise(&mut ann, right, "nowhere:x");
        assert_eq!(got, Some(UNKNOWN_CHANNEL), "{right}");
    }
}

#[test]
fn subscribers_have_their_rights_while_they_are_subscribed() {
    let node = start(CONFIG);
    let mut client = Client::connect(node.address());
    let of_subscribers = ["pub", "hst", "prs"];
    let check = |client: &mut Client, has: bool| {
        for right in of_subscribers {
            let expected = (!has).then_some(DENIED);
            assert_eq!(exercise(client, right, "members:x"), expected, "{right}");
        }
    };
    check(&mut client, false);
    client.subscribe("members:x");
    check(&mut client, true);
    client.command("unsubscribe", json!({"channel": "members:x"}));
    check(&mut client, false);
}

#[test]
fn a_capability_grants_its_rights_in_its_channels_and_nothing_else() {
    let node = start(CONFIG);
    for right in RIGHTS {
        let caps = json!([
            {"channels": ["closed:1"], "allow": [right]},
            {"channels": ["closed:a-*"], "match": "wildcard", "allow": [right]},
            {"channels": ["closed:a-none", "closed:2"], "allow": RIGHTS},
        ]);
        let mut client = connect(&node, json!({"sub": "ann", "caps": caps}));
        for used in RIGHTS {
            for (channel, granted) in [
                ("closed:1", used == right),
                ("closed:a-7", used == right),
                // The first that is for a channel decides.
                ("closed:a-none", used == right),
                ("closed:2", true),
                ("closed:b-7", false),
                ("users:x", true),
            ] {
                let expected = (!granted).then_some(DENIED);
                let got = exercise(&mut client, used, channel);
                assert_eq!(got, expected, "{used} in {channel} with {right}");
            }
        }
    }
    // An app's channels are not meant by a pattern.
    let caps = json!([{"channels": ["*"], "match": "wildcard", "allow": RIGHTS}]);
    let mut client = connect(&node, json!({"sub": "ann", "caps": caps}));
    assert_eq!(exercise(&mut client, "sub", "closed:x"), None);
    for channel in ["mail:1", "watch:ABCDEFGH"] {
        assert_eq!(exercise(&mut client, "sub", channel), Some(DENIED));
        assert_eq!(exercise(&mut client, "pub", channel), Some(DENIED));
    }
    assert_eq!(
        exercise(&mut client, "sub", "_fanfare:revocations"),
        Some(UNKNOWN_CHANNEL)
    );
    // What it does not understand it refuses whole.
    let regex = json!([{"channels": [".*"], "match": "regex", "allow": ["sub"]}]);
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, &json!({"sub": "ann", "caps": regex}));
    client.send_command("connect", json!({"token": token}));
    assert!(matches!(client.answer(), Err(End::Close(3500, _))));
}

#[test]
fn a_subscription_token_grants_rights_for_as_long_as_the_subscription() {
    let node = start(CONFIG);
    for right in ["pub", "hst", "prs"] {
        let mut client = connect(&node, json!({"sub": "ann"}));
        let token = of_subscription(json!({"allow": [right]}));
        let request = json!({"channel": "closed:x", "token": token});
        let reply = client.command("subscribe", request);
        let result = &reply["subscribe"];
        assert!(result.is_object(), "{reply}");
        let recovers = result["recoverable"].as_bool().unwrap_or(false);
        assert_eq!(recovers, right == "hst", "{reply}");
        let check = |client: &mut Client, subscribed: bool| {
            for used in ["pub", "hst", "prs"] {
                let expected = (!subscribed || used != right).then_some(DENIED);
                let got = exercise(client, used, "closed:x");
                assert_eq!(got, expected, "{used} with {right}");
                assert_eq!(exercise(client, used, "closed:y"), Some(DENIED));
            }
        };
        check(&mut client, true);
        client.command("unsubscribe", json!({"channel": "closed:x"}));
        check(&mut client, false);
    }
}

#[test]
fn other_gateways_go_by_the_same_rights() {
    let node = start(CONFIG);
    let status = |claims: Option<Value>, channel: &str| {
        let authorization = claims.map(|it| format!("Bearer {}", jwt::sign(SECRET, &it)));
        let headers = authorization.as_deref();
        let headers: Vec<_> = headers
            .map(|it| ("authorization", it))
            .into_iter()
            .collect();
        // A channel that is not there, the last of both, keeps the stream of whoever may read the other from beginning.
        let path = format!("/events?channel={channel}&channel=zone:x");
        fanfare_tests::http::Http::once(node.address(), "GET", &path, &headers, &[])
            .unwrap()
            .status
    };
    let (may, may_not) = (404, 403);
    let ann = || Some(json!({"sub": "ann"}));
    assert_eq!(status(None, "guests:x"), may);
    assert_eq!(status(None, "users:x"), may_not);
    assert_eq!(status(ann(), "guests:x"), may_not);
    assert_eq!(status(ann(), "named:box-ann"), may);
    assert_eq!(status(ann(), "named:box-bob"), may_not);
    let caps = json!([{"channels": ["closed:*"], "match": "wildcard", "allow": ["sub"]}]);
    assert_eq!(status(Some(json!({"caps": caps})), "closed:x"), may);
    assert_eq!(status(ann(), "closed:x"), may_not);
    // Clients that only listen.
    let subs = r#"{"subs":{"guests:x":{},"users:x":{},"typing:x":{"recover":true,"offset":0}}}"#;
    let mut listener = Stream::post(node.address(), "/connection/uni_http_stream", subs);
    let connect = listener.message();
    let subs = connect["connect"]["subs"].as_object().unwrap().clone();
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["guests:x"], "{connect}");
    let mut refused = [listener.message(), listener.message()].map(|push| {
        (
            push["channel"].to_string(),
            push["unsubscribe"]["code"].clone(),
        )
    });
    refused.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("\"typing:x\"".to_owned(), json!(NOT_AVAILABLE)),
        ("\"users:x\"".to_owned(), json!(DENIED)),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn a_backend_grants_what_tokens_grant() {
    let backend = Backend::start(answer);
    let node = start(&config_of(&backend));
    let mut client = Client::open(node.address());
    client.command("connect", json!({}));
    for used in RIGHTS {
        let expected = (used != "hst").then_some(DENIED);
        assert_eq!(exercise(&mut client, used, "closed:1"), expected, "{used}");
    }
    for right in ["pub", "hst", "prs"] {
        let channel = format!("asked:{right}");
        let reply = client.command("subscribe", json!({"channel": channel}));
        assert!(reply.get("subscribe").is_some(), "{reply}");
        for used in ["pub", "hst", "prs"] {
            let expected = (used != right).then_some(DENIED);
            let got = exercise(&mut client, used, &channel);
            assert_eq!(got, expected, "{used} with {right}");
        }
    }
    // Not counted, as the override says; and with what is told beside.
    let mut api = Api::with_key(node.address(), KEY);
    let listed = |api: &mut Api, channel: &str| {
        let result = api.call("presence", &json!({"channel": channel})).unwrap();
        let presence = result["presence"].as_object().unwrap().clone();
        presence.into_values().collect::<Vec<_>>()
    };
    assert!(listed(&mut api, "asked:pub").is_empty());
    let there = listed(&mut api, "asked:prs");
    assert_eq!(there[0]["chan_info"], json!({"seat": 2}), "{there:?}");
    let reply = client.command("subscribe", json!({"channel": "asked:over"}));
    assert_eq!(reply["error"]["code"], EXPIRED, "{reply}");
    // What it has said of the client comes back to it where it wants that, and nowhere else.
    let reply = client.command("rpc", json!({"method": "m"}));
    assert_eq!(reply["rpc"]["data"], json!({"b": 64}), "{reply}");
    assert_eq!(backend.asked("/rpc")[0].body["meta"], json!({"team": 7}));
    for asked in backend.asked("/subscribe") {
        assert!(asked.body.get("meta").is_none(), "{}", asked.body);
    }
}

/// Lets everybody in as ada, and grants what a channel is called.
fn answer(asked: &Asked) -> (u16, Value) {
    let result = match asked.path.as_str() {
        "/connect" => json!({
            "user": "ada", "meta": {"team": 7},
            "caps": [{"channels": ["closed:1"], "allow": ["hst"]}],
        }),
        "/subscribe" => match asked.body["channel"].as_str().unwrap_or_default() {
            "asked:pub" => json!({"allow": ["pub"], "override": {"presence": {"value": false}}}),
            "asked:over" => json!({"expire_at": 1_000}),
            channel => {
                let right = channel.strip_prefix("asked:").unwrap_or_default();
                json!({"allow": [right], "info": {"seat": 2}})
            }
        },
        // {"b":64}
        _ => json!({"b64data": "eyJiIjo2NH0="}),
    };
    (200, json!({ "result": result }))
}

#[test]
fn what_a_refresh_says_goes_before_what_the_connect_said() {
    let backend = Backend::start(|asked| {
        let result = match asked.path.as_str() {
            "/connect" => json!({
                "user": "ada", "expire_at": jwt::seconds_from_now(1),
                "caps": [{"channels": ["closed:1"], "allow": ["hst"]}],
            }),
            _ => json!({
                "expire_at": jwt::seconds_from_now(3_600),
                "caps": [{"channels": ["closed:1"], "allow": ["pub"]}],
            }),
        };
        (200, json!({ "result": result }))
    });
    let endpoint = |name: &str| {
        let url = backend.url(&format!("/{name}"));
        format!("[proxy.{name}]\nendpoint = \"{url}\"\n")
    };
    let namespace = "[[namespaces]]\nname = \"closed\"\n".to_owned();
    let node = start(&[endpoint("connect"), endpoint("refresh"), namespace].concat());
    let mut client = Client::open(node.address());
    client.command("connect", json!({}));
    eventually("the capabilities are those of the refresh", || {
        exercise(&mut client, "pub", "closed:1")
            .is_none()
            .then_some(())
    });
    assert_eq!(exercise(&mut client, "hst", "closed:1"), Some(DENIED));
}

fn config_of(backend: &Backend) -> String {
    let endpoint = |name: &str, more: &str| {
        let url = backend.url(&format!("/{name}"));
        format!("[proxy.{name}]\nendpoint = \"{url}\"\n{more}\n")
    };
    [
        endpoint("connect", ""),
        endpoint("subscribe", ""),
        endpoint("rpc", "include_connection_meta = true"),
        "[[namespaces]]\nname = \"closed\"\npresence = \"nobody\"\n".to_owned(),
        "[[namespaces]]\nname = \"asked\"\npresence = \"nobody\"\nsubscribe_proxy_enabled = true\n"
            .to_owned(),
    ]
    .concat()
}

pub(crate) fn start(config: &str) -> Node {
    servers::start(NodeOptions {
        config: Some(config.to_owned()),
        ..servers::closed(KEY, SECRET)
    })
}

#[track_caller]
pub(crate) fn connect(node: &Node, claims: Value) -> Client {
    let mut client = Client::open(node.address());
    let token = jwt::sign(SECRET, &claims);
    let reply = client.command("connect", json!({"token": token}));
    assert!(reply.get("connect").is_some(), "{reply}");
    client
}

/// A token of ann's for the channel `closed:x`, with more claims.
fn of_subscription(more: Value) -> String {
    let mut claims = json!({"sub": "ann", "channel": "closed:x"});
    let members = claims.as_object_mut().into_iter();
    for all in members {
        all.extend(more.as_object().cloned().unwrap_or_default());
    }
    jwt::sign(SECRET, &claims)
}
