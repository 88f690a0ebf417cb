//! Webhooks: acknowledged means kept; kept means published once and in order, whoever is killed.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_bench::local::NodeOptions;
use fanfare_stand_in::Google;
use fanfare_tests::api::Api;
use fanfare_tests::http::Http;
use fanfare_tests::servers;
use fanfare_tests::wait::{deadline, eventually};
use fanfare_tests::webhook::Signed;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

const SECRET: &str = "a secret of the end to end tests";
const API_KEY: &str = "a key of the end to end tests";

/// Sources that deliver at once in a storm, each in its own order.
const STORM_SOURCES: usize = 3;
/// Deliveries of each.
const STORM_DELIVERIES: usize = 150;
/// Deliveries of which the time to their acknowledgement is taken.
const TIMED: usize = 400;

fn config(sources: usize) -> String {
    let mut text =
        "[[namespaces]]\nname = \"hooks\"\nsubscribe = \"anyone\"\nhistory = \"anyone\"\n"
            .to_owned();
    for number in 0..sources {
        text.push_str(&format!(
            "[[webhooks]]\nname = \"s{number}\"\nverify = \"hmac\"\nsecret = \"{SECRET}\"\nchannel = \"hooks:{number}\"\n"
        ));
    }
    text
}

fn google_config(google: &Google) -> String {
    format!(
        "[[webhooks]]\nname = \"google\"\nverify = \"google\"\naudience = \"https://fanfare.example.com/push\"\n\
         service_account = \"push@stand-in.iam.gserviceaccount.com\"\njwks_url = \"{}\"\nchannel = \"pushed\"\n",
        google.jwks_url()
    )
}

fn on_sqlite(config: String) -> NodeOptions {
    NodeOptions {
        config: Some(config),
        ..servers::dev()
    }
}

fn on_postgres(config: String) -> NodeOptions {
    NodeOptions {
        postgres: Some(servers::database()),
        ..on_sqlite(config)
    }
}

#[test]
fn a_webhook_is_published_once_to_whoever_listens() {
    for options in [on_sqlite(config(1)), on_postgres(config(1))] {
        let node = servers::start(options);
        let mut client = Client::connect(node.address());
        client.subscribe("hooks:0");
        let signed = Signed::new("s0", SECRET, &json!({"paid": 7}));
        until_kept(&signed, node.address());
        assert_eq!(client.publication("hooks:0")["data"], json!({"paid": 7}));
        let again = signed.send(node.address()).unwrap();
        assert_eq!(again.json(), json!({"accepted": true, "duplicate": true}));
        let forged = Signed::new("s0", "another secret", &json!({"paid": 8}));
        let refused = forged.send(node.address()).unwrap();
        assert_eq!(refused.status, 401, "{}", refused.text());
        let api = Api::new(node.address());
        eventually("it is counted", || {
            let done = "webhooks_worked_total{source=\"s0\",end=\"done\"}";
            (api.metric(done) == 1.0).then_some(())
        });
        assert_eq!(api.metric("webhooks_accepted_total{source=\"s0\"}"), 1.0);
        assert_eq!(api.metric("webhooks_duplicates_total{source=\"s0\"}"), 1.0);
        let refusals = "webhooks_refused_total{source=\"s0\",reason=\"signature\"}";
        assert_eq!(api.metric(refusals), 1.0);
        let log = node.stderr();
        assert!(log.contains("signature"), "{log}");
        assert!(!log.contains(SECRET) && !log.contains("paid"), "{log}");
    }
}

#[test]
fn dead_letters_are_for_who_has_the_key() {
    let node = servers::start(NodeOptions {
        dev: false,
        api_key: Some(API_KEY.to_owned()),
        ..on_sqlite(config(1))
    });
    let call = |method: &str, what: &str, key: &str| {
        let headers = [("content-type", "application/json"), ("x-api-key", key)];
        let path = format!("/api/webhooks_{what}");
        Http::once(node.address(), method, &path, &headers, b"{}").unwrap()
    };
    for what in ["dead", "replay"] {
        assert_eq!(call("POST", what, "wrong").status, 401);
        assert_eq!(call("GET", what, API_KEY).status, 405);
    }
    assert_eq!(call("POST", "raise", API_KEY).status, 404);
    eventually("there are none", || {
        (call("POST", "dead", API_KEY).json() == json!({"result": {"dead": []}})).then_some(())
    });
    let wrong = call("POST", "replay", API_KEY);
    assert_eq!(
        (wrong.status, wrong.json()["error"]["code"].as_u64()),
        (400, Some(107))
    );
}

#[test]
fn a_storm_of_webhooks_survives_a_kill_on_sqlite() {
    let mut node = servers::start(on_sqlite(config(STORM_SOURCES)));
    let address = node.address();
    storm(&[address], || {
        node.kill();
        node.restart().unwrap();
    });
    check_storm(address);
}

#[test]
fn a_storm_of_webhooks_survives_the_death_of_a_node_on_postgres() {
    let options = on_postgres(config(STORM_SOURCES));
    let start = |name: &str| {
        servers::start(NodeOptions {
            name: Some(name.to_owned()),
            ..options.clone()
        })
    };
    let (mut first, second) = (start("first"), start("second"));
    storm(&[first.address(), second.address()], || first.kill());
    check_storm(second.address());
}

#[test]
fn pushes_of_google_survive_duplicates_disorder_and_a_kill() {
    let google = Google::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut node = servers::start(on_sqlite(google_config(&google)));
    let push = json!({
        "endpoint": format!("{}/webhooks/google", node.url()), "duplicatesPercent": 40, "reorder": true,
    });
    google.control("push", &push).unwrap();
    google
        .control("mailbox", &json!({"address": "a@example.com"}))
        .unwrap();
    for number in 0..200 {
        google.publish(json!({ "n": number }).to_string().as_bytes());
    }
    let acknowledged = || google.control("state", &json!({})).unwrap()["acknowledged"].as_u64();
    eventually("some are there", || {
        (acknowledged() > Some(50)).then_some(())
    });
    node.kill();
    node.restart().unwrap();
    eventually("all are acknowledged", || {
        (acknowledged() == Some(200)).then_some(())
    });
    let forged = google.token(&json!({
        "iss": "https://accounts.google.com", "aud": "https://fanfare.example.com/push",
        "email": "somebody@example.com", "email_verified": true, "exp": 32_503_680_000_i64,
    }));
    let headers = [("authorization", format!("Bearer {forged}"))];
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let body = br#"{"message":{"data":"e30=","messageId":"forged"}}"#;
    let refused = Http::once(node.address(), "POST", "/webhooks/google", &headers, body).unwrap();
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(!node.stderr().contains(&forged));
    let mut numbers: Vec<u64> = eventually("all are published", || {
        let published = published(node.address(), "pushed");
        (published.len() >= 200).then_some(published)
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

/// Not a test of speed: it tells the times, and that all were kept.
#[test]
fn the_time_to_an_acknowledgement_is_told() {
    for (database, options) in [
        ("SQLite", on_sqlite(config(1))),
        ("PostgreSQL", on_postgres(config(1))),
    ] {
        let node = servers::start(options);
        until_kept(&Signed::new("s0", SECRET, &json!({"n": 0})), node.address());
        let mut http = Http::connect(node.address()).unwrap();
        let mut times: Vec<Duration> = (1..=TIMED)
            .map(|number| {
                let signed = Signed::new("s0", SECRET, &json!({ "n": number }));
                let began = Instant::now();
                let response = signed.send_over(&mut http).unwrap();
                assert_eq!(response.status, 200, "{}", response.text());
                began.elapsed()
            })
            .collect();
        times.sort();
        let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1000.0;
        println!(
            "acknowledged on {database}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
            at(50),
            at(95),
            at(99)
        );
        eventually("all are published", || {
            (published(node.address(), "hooks:0").len() == TIMED + 1).then_some(())
        });
    }
}

/// Each source delivers its numbers in order, each until it is acknowledged, through one address or another; `strike` is
/// called in the middle.
fn storm(addresses: &[SocketAddr], strike: impl FnOnce()) {
    thread::scope(|scope| {
        let senders: Vec<_> = (0..STORM_SOURCES)
            .map(|source| {
                scope.spawn(move || {
                    for number in 0..STORM_DELIVERIES {
                        let signed =
                            Signed::new(&format!("s{source}"), SECRET, &json!({ "n": number }));
                        until_kept_by_any(&signed, addresses, number);
                    }
                })
            })
            .collect();
        let some = (STORM_DELIVERIES / 3) as u64;
        eventually("the storm is under way", || {
            let address = addresses[0];
            (published(address, "hooks:0").len() as u64 >= some).then_some(())
        });
        strike();
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

fn check_storm(address: SocketAddr) {
    let expected: Vec<u64> = (0..STORM_DELIVERIES as u64).collect();
    for source in 0..STORM_SOURCES {
        let channel = format!("hooks:{source}");
        let numbers = eventually("all of a source are published", || {
            let published = published(address, &channel);
            (published.len() >= expected.len()).then_some(published)
        });
        assert_eq!(numbers, expected, "{channel}");
    }
}

fn published(address: SocketAddr, channel: &str) -> Vec<u64> {
    let history = Api::new(address).history(channel);
    let numbers = history.publications.iter().map(|it| &it.data["n"]);
    numbers
        .map(|number: &Value| number.as_u64().unwrap())
        .collect()
}

fn until_kept(signed: &Signed, address: SocketAddr) {
    until_kept_by_any(signed, &[address], 0);
}

fn until_kept_by_any(signed: &Signed, addresses: &[SocketAddr], first: usize) {
    let deadline = deadline();
    for attempt in first.. {
        let address = addresses[attempt % addresses.len()];
        if signed
            .send(address)
            .is_ok_and(|response| response.status == 200)
        {
            return;
        }
        assert!(Instant::now() < deadline, "a webhook is not acknowledged");
        thread::sleep(Duration::from_millis(20));
    }
}
