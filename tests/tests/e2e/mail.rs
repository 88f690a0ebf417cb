//! Live mail over several nodes: a change in a mailbox is told once, on every wire, whichever node tells of it.

use std::path::Path;
use std::process::Command;

use fanfare_tests::api::Api;
use fanfare_tests::http::Http;
use fanfare_tests::mail::{API_KEY, Browser, SERVICE_ACCOUNT, Site, WEBHOOK, change};
use fanfare_tests::servers::binary;
use fanfare_tests::sse::Stream;
use fanfare_tests::wait::eventually;
use fanfare_tests::ws::Client;
use serde_json::{Value, json};

const ANN: &str = "ann@example.com";
const BOB: &str = "bob@example.com";

/// The benchmark in its short form: 60 streams on two nodes, Redis killed, a node killed, pushes sent twice, out of order,
/// and forged. Every view must be its mailbox in the end, with each change told once.
#[test]
fn every_view_is_its_mailbox_whatever_fails_and_nothing_forged_is_believed() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mail.json");
    let output = Command::new(binary())
        .args(["bench", "mail", "--short", "--nodes", "2"])
        .args(["--users", "15", "--streams", "4", "--messages", "5"])
        .args(["--rate", "25", "--seconds", "4", "--burst", "300"])
        .args(["--latency", "0", "--forged", "25", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let told =
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "{told}");
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["clients"], 60, "{told}");
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<&str> = phases
        .iter()
        .map(|phase| phase["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for phase in phases {
        let made = &phase["made"];
        let changes: u64 = ["added", "labels", "deleted"]
            .map(|kind| made[kind].as_u64().unwrap())
            .iter()
            .sum();
        assert!(changes >= 100, "{phase:#}");
        assert!(
            phase["deliveries"].as_u64() > Some(changes),
            "four see each: {phase:#}"
        );
        assert_eq!(
            (&phase["incomplete"], &phase["wrong"]),
            (&json!(0), &json!({})),
            "{phase:#}"
        );
    }
    let of = |phase: usize, field: &str| phases[phase][field].as_u64().unwrap();
    assert!((1..4).all(|phase| of(phase, "forged") > 0), "{told}");
    assert!(
        phases[1]["asked"]["duplicates"].as_u64() > Some(0),
        "{told}"
    );
    assert_eq!(
        (of(0, "lost"), of(1, "lost"), of(2, "lost")),
        (0, 0, 0),
        "{told}"
    );
    assert!(
        of(3, "lost") >= 30,
        "half of the streams were on the node that was killed: {told}"
    );
}

#[test]
fn a_stream_goes_on_at_another_node() {
    let mut site = Site::start(2, "");
    let browser = site.sign_in(ANN);
    let mut stream = browser.stream(site.address(0), &browser.event_id(site.address(0)));
    let first = site.receive(ANN, "Hello");
    let (name, id, data) = change(&mut stream);
    assert_eq!(
        (name.as_str(), &data["data"]["id"]),
        ("new_email", &json!(first))
    );
    assert_eq!(data["data"]["subject"], "Hello");
    site.nodes[0].kill();
    stream.end();
    // What happens meanwhile is told at the other node, once and in order.
    site.modify(ANN, &first, &["STARRED"], &["UNREAD"]);
    let second = site.receive(ANN, "Again");
    site.control("delete", json!({"address": ANN, "id": first}));
    let mut stream = browser.stream(site.address(1), &id);
    let mut told = Vec::new();
    let mut labels = json!(["INBOX", "UNREAD"]);
    while told.len() < 4 {
        let (name, _, data) = change(&mut stream);
        if name == "email_update" {
            labels.clone_from(&data["data"]["labels"]);
        }
        told.push((name, data["data"]["id"].as_str().unwrap().to_owned()));
    }
    let pair = |name: &str, id: &str| (name.to_owned(), id.to_owned());
    let expected = [
        pair("email_update", &first),
        pair("email_update", &first),
        pair("new_email", &second),
        pair("email_delete", &first),
    ];
    assert_eq!(told, expected);
    assert_eq!(labels, json!(["INBOX", "STARRED"]));
}

#[test]
fn a_session_that_is_ended_is_ended_on_all_nodes() {
    let site = Site::start(2, "");
    let (laptop, phone) = (site.sign_in(ANN), site.sign_in(ANN));
    let bob = site.sign_in(BOB);
    let open = |browser: &Browser| {
        let id = browser.event_id(site.address(0));
        [0, 1].map(|node| browser.stream(site.address(node), &id))
    };
    let (mut of_laptop, mut of_phone, mut of_bob) = (open(&laptop), open(&phone), open(&bob));
    let answer = laptop.post(site.address(0), "/mail/logout");
    assert_eq!(answer.status, 204, "{}", answer.text());
    of_laptop.iter_mut().for_each(Stream::end);
    for node in 0..2 {
        assert_eq!(laptop.get(site.address(node), "/mail/me").status, 401);
        assert_eq!(laptop.get(site.address(node), "/mail/events").status, 401);
    }
    assert!(
        of_phone.iter_mut().all(Stream::is_open),
        "another session of hers"
    );
    // All of hers, from outside.
    let user = phone.get(site.address(0), "/mail/me").json()["user"].clone();
    let mut api = Api::with_key(site.address(1), API_KEY);
    api.call("revoke", &json!({ "user": user })).unwrap();
    of_phone.iter_mut().for_each(Stream::end);
    assert_eq!(phone.get(site.address(0), "/mail/messages").status, 401);
    assert!(of_bob.iter_mut().all(Stream::is_open));
    assert_eq!(bob.get(site.address(0), "/mail/me").status, 200);
}

#[test]
fn the_newest_streams_of_a_user_stay_over_all_nodes() {
    let site = Site::start(2, "streams_per_user_max = 2\n");
    let browser = site.sign_in(ANN);
    let id = browser.event_id(site.address(0));
    // Each node says when its streams were opened, to the millisecond: the oldest is older than the next by more than that.
    let mut oldest = browser.stream(site.address(0), &id);
    let other = site.sign_in(BOB);
    let mut of_other = other.stream(site.address(0), &other.event_id(site.address(0)));
    let mut second = browser.stream(site.address(1), &id);
    let mut newest = browser.stream(site.address(1), &id);
    let told = loop {
        let event = oldest.event();
        if event.name == "error" {
            break event.data;
        }
    };
    assert_eq!(told["data"]["code"], "too_many_streams", "{told}");
    oldest.end();
    // The others go on.
    let message = site.receive(ANN, "Hello");
    for stream in [&mut second, &mut newest] {
        assert_eq!(change(stream).2["data"]["id"], json!(message));
    }
    assert!(of_other.is_open());
}

#[test]
fn a_push_is_acknowledged_while_gmail_hangs() {
    let site = Site::start(2, "");
    let browser = site.sign_in(ANN);
    let mut stream = browser.stream(site.address(0), &browser.event_id(site.address(0)));
    // Whatever was still to be looked at after the first sync is over.
    let first = site.receive(ANN, "Before");
    assert_eq!(change(&mut stream).2["data"]["id"], json!(first));
    let state = || site.control("state", json!({}));
    let is_asked = |state: &Value| {
        let history = |count: &str| state[count]["history"].as_u64().unwrap();
        history("requests") > history("answered")
    };
    eventually("Gmail is at rest", || {
        let state = state();
        (state["waiting"] == 0 && !is_asked(&state)).then_some(())
    });
    site.control("hold", json!({"place": "history", "on": true}));
    // Whoever asks from now on has no answer, so nobody walks to the end of what comes from now on.
    let before = state()["acknowledged"].as_u64();
    let message = site.receive(ANN, "Hello");
    eventually("the push is acknowledged", || {
        (state()["acknowledged"].as_u64() > before).then_some(())
    });
    eventually("Gmail is asked", || is_asked(&state()).then_some(()));
    assert!(stream.is_open() && browser.get(site.address(1), "/mail/me").status == 200);
    site.control("hold", json!({"place": "history", "on": false}));
    assert_eq!(change(&mut stream).2["data"]["id"], json!(message));
}

#[test]
fn the_same_events_are_on_the_websocket_with_the_same_positions() {
    let site = Site::start(2, "");
    let browser = site.sign_in(ANN);
    let id = browser.event_id(site.address(0));
    let mut stream = browser.stream(site.address(0), &id);
    let granted = browser.get(site.address(1), "/mail/token").json();
    let channel = granted["channel"].as_str().unwrap();
    let mut client = Client::open(site.address(1));
    let connected = client.command("connect", json!({ "token": granted["token"] }));
    assert!(connected.get("connect").is_some(), "{connected}");
    let (begin, offset) = place(&id);
    client.subscribe_from(channel, offset, begin.split('-').next().unwrap());
    let mut alike = |stream: &mut Stream, last: &str| {
        loop {
            let event = stream.event();
            if event.name == "heartbeat" {
                continue;
            }
            let publication = client.publication(channel);
            assert_eq!(publication["data"], event.data, "one envelope");
            assert_eq!(publication["tags"]["event"], event.name.as_str());
            let id = event.id.unwrap();
            assert_eq!(publication["offset"], place(&id).1);
            if event.name == last {
                return;
            }
        }
    };
    let message = site.receive(ANN, "Hello");
    alike(&mut stream, "new_email");
    site.modify(ANN, &message, &["STARRED"], &[]);
    alike(&mut stream, "email_update");
    site.control("delete", json!({"address": ANN, "id": message}));
    alike(&mut stream, "email_delete");
    // The token is for one's own mailbox.
    let other = site.sign_in(BOB);
    let other = other.get(site.address(0), "/mail/token").json();
    let refused = client.command("subscribe", json!({ "channel": other["channel"] }));
    assert!(refused.get("error").is_some(), "{refused}");
}

#[test]
fn a_push_that_must_not_be_taken_has_its_answer_its_count_and_a_line_without_secrets() {
    let site = Site::start(1, "");
    let browser = site.sign_in(ANN);
    let mut stream = browser.stream(site.address(0), &browser.event_id(site.address(0)));
    let token = |audience: &str, account: &str| {
        site.google.token(&json!({
            "iss": "https://accounts.google.com", "aud": audience, "email": account, "email_verified": true,
            "exp": 32_503_680_000_i64,
        }))
    };
    let audience = site.audience();
    // `{"emailAddress":"ann@example.com","historyId":9000000000000000}`
    let notification =
        "eyJlbWFpbEFkZHJlc3MiOiJhbm5AZXhhbXBsZS5jb20iLCJoaXN0b3J5SWQiOjkwMDAwMDAwMDAwMDAwMDB9";
    let body = |data: &str| json!({"message": {"data": data, "messageId": data}}).to_string();
    let good = token(&audience, SERVICE_ACCOUNT);
    let none = good.split('.').nth(1).unwrap();
    let none = format!("eyJhbGciOiJub25lIn0.{none}.");
    let cases = [
        (
            token("https://example.com/", SERVICE_ACCOUNT),
            body(notification),
            403,
            "audience",
        ),
        (
            token(&audience, "else@example.com"),
            body(notification),
            403,
            "account",
        ),
        (none, body(notification), 401, "algorithm"),
        (format!("{good}!"), body(notification), 401, "token"),
        (good.clone(), body("*"), 400, "malformed"),
        (good.clone(), body("e30="), 400, "unfit"),
        (good, body(&"A".repeat(900 << 10)), 413, "too_long"),
    ];
    let api = Api::with_key(site.address(0), API_KEY);
    for (token, body, status, reason) in &cases {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("content-type", "application/json"),
            ("authorization", &*bearer),
        ];
        let answer =
            Http::once(site.address(0), "POST", WEBHOOK, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.status, *status, "{reason}: {}", answer.text());
        assert_eq!(answer.json()["error"]["reason"], *reason);
        let counter = format!("webhooks_refused_total{{source=\"gmail\",reason=\"{reason}\"}}");
        assert_eq!(api.metric(&counter), 1.0);
        let log = site.nodes[0].stderr();
        assert!(log.contains(reason), "{reason}: {log}");
        assert!(
            !log.contains(token.as_str()) && !log.contains(notification),
            "{reason}: {log}"
        );
    }
    // Nobody heard of any of them.
    let message = site.receive(ANN, "Hello");
    assert_eq!(change(&mut stream).2["data"]["id"], json!(message));
}

/// The id of an event taken apart: what stands before the number, and the number.
fn place(id: &str) -> (&str, u64) {
    let (begin, offset) = id.rsplit_once('-').unwrap();
    (begin, offset.parse().unwrap())
}
