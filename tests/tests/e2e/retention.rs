//! What retention removed is never passed over in silence.

use fanfare_bench::local::NodeOptions;
use fanfare_tests::api::Api;
use fanfare_tests::expect::{ready_and, run_over_sse, run_over_ws};
use fanfare_tests::servers;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::json;

/// Keeps ten publications in `short:`, and looks every second.
const CONFIG: &str = r#"
retention_interval = "1s"

[[namespaces]]
name = "short"
history_max_count = 10
history_max_age = "1h"
"#;

const COUNT: u64 = 40;

/// The oldest that is left of `COUNT`.
const OLDEST: u64 = COUNT - 10 + 1;

#[test]
fn a_position_before_retention_is_told_as_truncated_on_sqlite() {
    check(servers::dev());
}

#[test]
fn a_position_before_retention_is_told_as_truncated_on_postgres() {
    check(NodeOptions {
        postgres: Some(servers::database()),
        ..servers::dev()
    });
}

#[test]
fn age_ends_a_publication_and_the_numbers_go_on() {
    let config = r#"
retention_interval = "1s"
[[namespaces]]
name = "brief"
history_max_age = "1s"
"#;
    let config = Some(config.to_owned());
    let node = servers::start(NodeOptions {
        config,
        ..servers::dev()
    });
    let mut api = Api::new(node.address());
    api.publish("brief:x", json!(1));
    api.publish("for-ever", json!(1));
    eventually("the old publication is gone", || {
        let request = json!({ "channel": "brief:x", "limit": 10 });
        api.history_page(&request)
            .publications
            .is_empty()
            .then_some(())
    });
    assert_eq!(api.publish("brief:x", json!(2)).offset, 2);
    assert_eq!(api.history("for-ever").publications.len(), 1);
}

fn check(options: NodeOptions) {
    let mut node = servers::start(NodeOptions {
        config: Some(CONFIG.to_owned()),
        ..options
    });
    let address = node.address();
    let mut api = Api::new(address);
    let mut early = Stream::open(address, &["short:x"], None);
    early.expect("ready");
    let epoch = api.publish("short:x", json!(1)).epoch;
    let id = early.event().id.unwrap();
    drop(early);
    for number in 2..=COUNT {
        api.publish("short:x", json!(number));
    }
    let oldest = |api: &mut Api| {
        let page = api.history_page(&json!({ "channel": "short:x", "limit": 1000 }));
        page.publications.first().map(|first| first.offset)
    };
    eventually("retention leaves ten", || {
        (oldest(&mut api) == Some(OLDEST)).then_some(())
    });

    // What a node has in memory it may still serve; one that has just started has the log alone.
    node.restart().unwrap();
    let mut api = Api::new(address);

    // Within what is left: whole.
    let mut client = Client::connect(address);
    let subscribed = client.subscribe_from("short:x", OLDEST - 1, &epoch);
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    run_over_ws(&mut client, "short:x", OLDEST, COUNT);

    // Before it: told, and on from where the reply says.
    let mut client = Client::connect(address);
    let subscribed = client.subscribe_from("short:x", 3, &epoch);
    assert_eq!(subscribed["was_recovering"], true, "{subscribed}");
    assert!(subscribed.get("recovered").is_none(), "{subscribed}");
    assert_eq!(subscribed["truncated"], true, "{subscribed}");
    assert_eq!(subscribed["oldest"], OLDEST, "{subscribed}");
    let begin = subscribed["offset"].as_u64().unwrap_or(0);
    assert!((OLDEST - 1..=COUNT).contains(&begin), "{subscribed}");

    let mut stream = Stream::open(address, &["short:x"], Some(&id));
    let truncated = ready_and(&mut stream, "truncated");
    assert_eq!(truncated["channel"], "short:x", "{truncated}");
    assert_eq!(truncated["oldest"], OLDEST, "{truncated}");

    api.publish("short:x", json!(COUNT + 1));
    run_over_ws(&mut client, "short:x", begin + 1, COUNT + 1);
    let received = run_over_sse(&mut stream, "short:x", OLDEST, COUNT + 1);
    assert_eq!(received.last(), Some(&json!(COUNT + 1)));
}
