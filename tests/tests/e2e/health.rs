//! What an operator reads: health and metrics.

use fanfare_tests::api::Api;
use fanfare_tests::servers::{self, Cluster};
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::json;

#[test]
fn a_node_alone_is_live_and_ready() {
    let node = servers::start(servers::dev());
    let api = Api::new(node.address());
    assert_eq!(api.get("/health/live").unwrap().status, 200);
    let ready = api.get("/health/ready").unwrap();
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert!(ready.json().is_object(), "{}", ready.text());
}

#[test]
fn readiness_names_the_parts() {
    let cluster = Cluster::start(1);
    let api = Api::new(cluster.nodes[0].address());
    let ready = eventually("the node is ready", || {
        api.get("/health/ready")
            .ok()
            .filter(|response| response.status == 200)
    });
    let text = ready.text().to_ascii_lowercase();
    assert!(text.contains("log") && text.contains("bus"), "{text}");
}

#[test]
fn metrics_count_what_happens() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    client.subscribe("channel");
    let mut api = Api::new(node.address());
    api.publish("channel", json!("counted"));
    client.publication("channel");
    let metrics = api.get("/metrics").unwrap();
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!samples.is_empty());
    for sample in &samples {
        assert!(
            sample.starts_with("fanfare_"),
            "a metric without the product's name: {sample}"
        );
        let value = sample.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "no number: {sample}");
    }
    // One connection, and it is the only one: some gauge must say so.
    let connections = samples.iter().find(|sample| sample.contains("connection"));
    assert!(
        connections.is_some_and(|sample| sample.ends_with(" 1")),
        "{connections:?}"
    );
}

#[test]
fn the_page_is_served_with_a_strict_policy() {
    let node = servers::start(servers::dev());
    let page = Api::new(node.address()).get("/").unwrap();
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .is_some_and(|value| value.starts_with("text/html"))
    );
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe-"), "{policy}");
}
