//! The stand-in over its wires: consent, tokens, mail, faults, pushes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fanfare_stand_in::Google;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "a@example.com";

fn google() -> Google {
    Google::start("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Status, head and body of an answer.
fn ask(google: &Google, method: &str, path: &str, token: &str, body: &str) -> (u16, String, Value) {
    let address = google.url();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_default();
    (status, head.to_owned(), body)
}

const CLIENT: &str = "client_id=c&client_secret=s&redirect_uri=http://127.0.0.1/back";

/// Consents, and gives the access token and the refresh token.
fn consent(google: &Google) -> (String, String) {
    let path = format!(
        "/o/oauth2/v2/auth?response_type=code&access_type=offline&state=xyz&login_hint={USER}&{CLIENT}"
    );
    let (status, head, _) = ask(google, "GET", &path, "", "");
    assert_eq!(status, 302);
    assert!(head.contains("state=xyz"), "{head}");
    let code = head
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let form = format!("grant_type=authorization_code&code={code}&{CLIENT}");
    let (status, _, tokens) = ask(google, "POST", "/token", "", &form);
    assert_eq!(status, 200);
    let (status, _, refused) = ask(google, "POST", "/token", "", &form);
    assert_eq!(
        (status, &refused["error"]),
        (400, &json!("invalid_grant")),
        "a code is good once"
    );
    let text = |name: &str| tokens[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

#[test]
fn tokens_are_granted_refreshed_and_taken_back() {
    let google = google();
    let (access, refresh) = consent(&google);
    let profile = |token: &str| ask(&google, "GET", "/gmail/v1/users/me/profile", token, "");
    let (status, _, answer) = profile(&access);
    assert_eq!((status, &answer["emailAddress"]), (200, &json!(USER)));
    assert_eq!(profile("made-up").0, 401);
    google.control("access", &json!({"seconds": 0})).unwrap();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&{CLIENT}");
    let (status, _, short) = ask(&google, "POST", "/token", "", &form);
    assert_eq!(status, 200);
    assert!(short["refresh_token"].is_null());
    assert_eq!(
        profile(short["access_token"].as_str().unwrap()).0,
        401,
        "its time is over"
    );
    assert_eq!(
        ask(&google, "POST", "/token", "", "grant_type=refresh_token").0,
        401
    );
    google
        .control("revoke", &json!({ "address": USER }))
        .unwrap();
    assert_eq!(profile(&access).0, 401);
    assert_eq!(ask(&google, "POST", "/token", "", &form).0, 400);
}

#[test]
fn mail_is_served_and_fails_on_demand() {
    let google = google();
    let (access, _) = consent(&google);
    let get = |path: &str| {
        ask(
            &google,
            "GET",
            &format!("/gmail/v1/users/me/{path}"),
            &access,
            "",
        )
    };
    let start = get("profile").2["historyId"].as_str().unwrap().to_owned();
    let made = google
        .control(
            "message",
            &json!({"address": USER, "subject": "Hello", "from": "b@example.com"}),
        )
        .unwrap();
    let id = made["ids"][0].as_str().unwrap();
    let (status, _, message) = get(&format!(
        "messages/{id}?format=metadata&metadataHeaders=subject"
    ));
    assert_eq!(status, 200);
    assert_eq!(message["labelIds"], json!(["INBOX", "UNREAD"]));
    let subject = json!([{"name": "Subject", "value": "Hello"}]);
    assert_eq!(message["payload"]["headers"], subject);
    let read = json!({"address": USER, "id": id, "remove": ["UNREAD"]});
    google.control("modify", &read).unwrap();
    google
        .control("delete", &json!({"address": USER, "id": id}))
        .unwrap();
    assert_eq!(get(&format!("messages/{id}")).0, 404);
    let history = format!("history?startHistoryId={start}");
    let (_, _, walk) = get(&history);
    let kinds: Vec<bool> = ["messagesAdded", "labelsRemoved", "messagesDeleted"]
        .iter()
        .zip(walk["history"].as_array().unwrap())
        .map(|(kind, record)| record[kind].is_array())
        .collect();
    assert_eq!(kinds, [true; 3], "{walk}");
    for (status, reason) in [
        (429, "rateLimitExceeded"),
        (403, "userRateLimitExceeded"),
        (500, "backendError"),
    ] {
        let fault = json!({"place": "history", "count": 1, "status": status, "reason": reason});
        google.control("fail", &fault).unwrap();
        let (found, _, error) = get(&history);
        assert_eq!(found, status);
        assert_eq!(error["error"]["errors"][0]["reason"], reason);
        assert_eq!(get(&history).0, 200, "once");
    }
    google
        .control("latency", &json!({"place": "labels", "millis": 50}))
        .unwrap();
    let began = Instant::now();
    assert_eq!(get("labels").2["labels"].as_array().unwrap().len(), 13);
    assert!(began.elapsed() >= Duration::from_millis(50));
    google
        .control("expire", &json!({ "address": USER }))
        .unwrap();
    let (status, _, error) = get(&history);
    assert_eq!(
        (status, &error["error"]["status"]),
        (404, &json!("NOT_FOUND"))
    );
}

#[test]
fn changes_are_pushed_until_they_are_acknowledged() {
    let google = google();
    let (access, _) = consent(&google);
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap();
    let (sender, pushed) = mpsc::channel();
    // Refuses every message once.
    thread::spawn(move || {
        let mut refused = std::collections::HashSet::new();
        for stream in endpoint.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut length, mut token) = (0, String::new());
            for line in reader.by_ref().lines() {
                let line = line.unwrap();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
                if let Some(value) = line.strip_prefix("authorization: Bearer ") {
                    value.clone_into(&mut token);
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let id = body["message"]["messageId"].as_str().unwrap().to_owned();
            let status = if refused.insert(id) { 503 } else { 204 };
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            reader.into_inner().write_all(answer.as_bytes()).unwrap();
            if status == 204 && sender.send((token, body)).is_err() {
                return;
            }
        }
    });
    let push = json!({"endpoint": format!("http://{address}/push")});
    google.control("push", &push).unwrap();
    let watch = json!({"topicName": "projects/p/topics/t", "labelIds": ["INBOX"]}).to_string();
    let (status, _, watched) = ask(&google, "POST", "/gmail/v1/users/me/watch", &access, &watch);
    assert_eq!(status, 200);
    assert!(watched["expiration"].is_string());
    google
        .control("message", &json!({ "address": USER }))
        .unwrap();
    let mut last = Value::Null;
    for _ in 0..2 {
        let (token, body) = pushed.recv_timeout(PATIENCE).unwrap();
        assert_eq!(token.split('.').count(), 3);
        let data = STANDARD
            .decode(body["message"]["data"].as_str().unwrap())
            .unwrap();
        last = serde_json::from_slice(&data).unwrap();
        assert_eq!(last["emailAddress"], USER);
    }
    assert!(!last["historyId"].is_null());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = google.control("state", &json!({})).unwrap();
        if state["acknowledged"] == 2 && state["waiting"] == 0 {
            assert_eq!(state["attempts"], 4);
            break;
        }
        assert!(Instant::now() < deadline, "{state}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn keys_rotate_and_the_one_before_stays_or_goes() {
    let google = google();
    let kids = || {
        let (_, head, set) = ask(&google, "GET", "/certs", "", "");
        assert!(head.contains("max-age="), "{head}");
        let keys = set["keys"].as_array().unwrap().clone();
        let kids = keys
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned());
        kids.collect::<Vec<_>>()
    };
    assert_eq!(kids(), ["stand-in-0"]);
    google.control("keys", &json!({"rotate": true})).unwrap();
    assert_eq!(kids(), ["stand-in-1", "stand-in-0"]);
    google
        .control("keys", &json!({"rotate": true, "keep": false}))
        .unwrap();
    assert_eq!(kids(), ["stand-in-2"]);
    assert!(google.control("no such", &json!({})).is_err());
}

#[test]
fn it_listens_on_this_machine_only() {
    assert!(Google::start("0.0.0.0:0".parse().unwrap()).is_err());
}

#[test]
fn held_requests_wait_and_the_journal_says_when_what_happened() {
    let google = google();
    let (access, refresh) = consent(&google);
    let hold = |on: bool| {
        google
            .control("hold", &json!({"place": "history", "on": on}))
            .unwrap();
    };
    let calls = |count: &str| {
        let state = google.control("state", &json!({})).unwrap();
        state[count]["history"].as_u64()
    };
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&{CLIENT}");
    assert_eq!(ask(&google, "POST", "/token", "", &form).0, 200);
    hold(true);
    thread::scope(|scope| {
        let path = "/gmail/v1/users/me/history?startHistoryId=1";
        let asked = scope.spawn(|| ask(&google, "GET", path, &access, ""));
        let deadline = Instant::now() + PATIENCE;
        while calls("requests") != Some(1) {
            assert!(Instant::now() < deadline, "the request did not come");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(calls("answered"), Some(0));
        // Others are not held.
        let profile = ask(&google, "GET", "/gmail/v1/users/me/profile", &access, "");
        assert_eq!(profile.0, 200);
        hold(false);
        assert_eq!(asked.join().unwrap().0, 404, "an id from long ago");
    });
    let entries = google.take_journal();
    let seen: Vec<(&str, &str)> = entries
        .calls
        .iter()
        .map(|call| (call.place, call.address.as_str()))
        .collect();
    let expected = [
        ("auth", ""),
        ("token", ""),
        ("token", ""),
        ("token", USER),
        ("profile", USER),
        ("history", USER),
    ];
    assert_eq!(seen, expected);
    assert!(entries.calls.iter().all(|call| call.begun <= call.ended));
}
