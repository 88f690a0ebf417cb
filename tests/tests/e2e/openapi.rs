//! The document that the server gives of its API: every method's real request and answer is what it says.

use std::collections::BTreeSet;

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::schema::Schemas;
use fanfare_tests::ws::Client;
use fanfare_tests::{jwt, servers};
use serde_json::{Value, json};

const KEY: &str = "an-api-key-of-the-tests";
const SECRET: &str = "a-secret-of-the-tests-with-32-bytes";

const CONFIG: &str = r#"
[[namespaces]]
name = "room"
subscribe = "authenticated"
publish = "subscriber"
history = "subscriber"
presence = "subscriber"
history_max_count = 1000
"#;

/// The document, and what was held against it so far.
struct Document {
    schemas: Schemas,
    held: BTreeSet<String>,
}

impl Document {
    /// Calls a method; what is sent, and what comes back, must be what the document says.
    #[track_caller]
    fn hold(&mut self, api: &mut Api, method: &str, request: &Value) -> Value {
        let path = format!("/api/{method}");
        let operation = self.schemas.0["paths"][&path]["post"].clone();
        assert_eq!(operation["operationId"], method, "{path} is not described");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let faults = self.schemas.faults(schema, request);
        assert!(faults.is_empty(), "{method} {request}: {faults:#?}");
        let body = request.to_string();
        let response = api
            .post(&path, "application/json", body.as_bytes())
            .unwrap();
        self.look(&operation, method, response.status, &response.json());
        self.held.insert(path);
        response.json()
    }

    #[track_caller]
    fn look(&self, operation: &Value, method: &str, status: u16, answer: &Value) {
        let described = &operation["responses"][status.to_string()];
        let described = self.schemas.resolved(described);
        let schema = &described["content"]["application/json"]["schema"];
        assert!(
            schema.is_object(),
            "{method} has no answer with status {status}"
        );
        let faults = self.schemas.faults(schema, answer);
        assert!(faults.is_empty(), "{method} {status} {answer}: {faults:#?}");
    }
}

#[test]
fn every_method_is_what_the_document_says() {
    let node = servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..servers::closed(KEY, SECRET)
    });
    let mut api = Api::with_key(node.address(), KEY);
    // Whoever reads it needs no key.
    let response = Api::new(node.address()).get("/api/openapi.json").unwrap();
    assert_eq!(response.status, 200);
    let mut document = Document {
        schemas: Schemas(response.json()),
        held: BTreeSet::new(),
    };
    let mut client = Client::open(node.address());
    let claims = json!({ "sub": "ann", "jti": "s", "info": { "name": "Ann" }, "subs": { "room:1": { "info": 1 } } });
    let reply = client.command("connect", json!({ "token": jwt::sign(SECRET, &claims) }));
    let id = &reply["connect"]["client"];
    client.command(
        "publish",
        json!({ "channel": "room:1", "data": { "from": "ann" } }),
    );

    let position = api.publish("room:1", json!(1));
    let since = json!({ "offset": 0, "epoch": position.epoch });
    let far = jwt::seconds_from_now(3600);
    let requests = [
        (
            "publish",
            json!({ "channel": "room:1", "data": null, "idempotency_key": "k", "tags": { "a": "b" } }),
        ),
        (
            "publish",
            json!({ "channel": "room:1", "data": null, "idempotency_key": "k", "tags": { "a": "b" } }),
        ),
        ("publish", json!({ "channel": "nowhere:1", "data": [] })),
        (
            "publish",
            json!({ "channel": "room:1", "b64data": "e30=", "delta": true, "skip_history": false }),
        ),
        (
            "broadcast",
            json!({ "channels": ["room:1", "room:2"], "data": "to all" }),
        ),
        (
            "subscribe",
            json!({
                "user": "ann", "client": id, "session": "s", "channel": "room:2", "info": {}, "data": [], "expire_at": far,
                "override": { "presence": { "value": true }, "force_push_join_leave": { "value": true } }, "recover_since": since,
            }),
        ),
        ("subscribe", json!({ "channel": "room:2" })),
        ("presence", json!({ "channel": "room:1" })),
        ("presence", json!({ "channel": "nowhere:1" })),
        ("presence_stats", json!({ "channel": "room:1" })),
        (
            "history",
            json!({ "channel": "room:1", "limit": 10, "since": since, "reverse": false }),
        ),
        ("history", json!({ "channel": "room:never" })),
        (
            "history",
            json!({ "channel": "room:1", "since": { "offset": 1, "epoch": "another" } }),
        ),
        ("channels", json!({ "pattern": "room:*" })),
        ("channels", json!({})),
        ("info", json!({})),
        ("unsubscribe", json!({ "user": "ann", "channel": "room:2" })),
        ("refresh", json!({ "user": "ann", "expire_at": far })),
        ("history_remove", json!({ "channel": "room:1" })),
        ("history", json!({ "channel": "room:1", "since": since })),
        (
            "batch",
            json!({ "parallel": true, "commands": [
            { "publish": { "channel": "room:1", "data": 1 } }, { "info": {} }, { "channels": {} },
            { "presence": { "channel": "nowhere:1" } }, { "history_remove": { "channel": "room:1" } },
        ] }),
        ),
        (
            "disconnect",
            json!({ "user": "ann", "disconnect": { "code": 4000, "reason": "enough" }, "whitelist": [id] }),
        ),
        ("disconnect", json!({ "user": "ann" })),
        ("revoke", json!({ "session": "s" })),
        ("revoke", json!({ "user": "ann" })),
    ];
    for (method, request) in &requests {
        let answer = document.hold(&mut api, method, request);
        // Something was there to be looked at.
        if *method == "presence" && request["channel"] == "room:1" {
            assert_eq!(
                answer["result"]["presence"].as_object().unwrap().len(),
                1,
                "{answer}"
            );
        }
    }
    let paths = document.schemas.0["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(
        document.held, described,
        "methods that nothing was held against"
    );
}

#[test]
fn refusals_are_what_the_document_says() {
    let node = servers::start(servers::closed(KEY, SECRET));
    let mut api = Api::with_key(node.address(), KEY);
    let response = api.get("/api/openapi.json").unwrap();
    let document = Document {
        schemas: Schemas(response.json()),
        held: BTreeSet::new(),
    };
    let operation = document.schemas.0["paths"]["/api/publish"]["post"].clone();
    let mut stranger = Api::new(node.address());
    for (response, status) in [
        (api.post("/api/publish", "application/json", b"{}"), 400),
        (api.post("/api/publish", "text/plain", b"{}"), 415),
        (
            stranger.post("/api/publish", "application/json", b"{}"),
            401,
        ),
    ] {
        let response = response.unwrap();
        assert_eq!(response.status, status);
        document.look(&operation, "publish", status, &response.json());
    }
}
