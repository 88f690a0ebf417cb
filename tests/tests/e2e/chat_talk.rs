//! What is said in the chat, changed, taken back, reacted to, read and said later: on one node with the embedded database, and on two with PostgreSQL.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use fanfare_bench::local::NodeOptions;
use fanfare_tests::{http::Http, servers, wait::eventually};
use serde_json::{Value, json};

const ALICE: &str = "xoxp-dev-alice";
const BOB: &str = "xoxp-dev-bob";
const GENERAL: &str = "C0GENERAL00";

/// Nodes that are asked in turn.
struct Talk {
    addresses: Vec<SocketAddr>,
    calls: std::cell::Cell<usize>,
}

impl Talk {
    /// Calls a method for the channel of all.
    fn ask(&self, token: &str, method: &str, more: &Value) -> Value {
        let mut args = more.clone();
        args["channel"] = GENERAL.into();
        let number = self.calls.get();
        self.calls.set(number + 1);
        let address = self.addresses[number % self.addresses.len()];
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let (path, body) = (format!("/v1/{method}"), args.to_string());
        let answer = Http::once(address, "POST", &path, &headers, body.as_bytes());
        let answer = answer.unwrap();
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        answer.json()
    }

    fn call(&self, token: &str, method: &str, more: &Value) -> Value {
        let answer = self.ask(token, method, more);
        assert_eq!(answer["ok"], true, "{method} {more}: {answer}");
        answer
    }

    fn refused(&self, token: &str, method: &str, more: &Value) -> Value {
        self.ask(token, method, more)["error"].take()
    }

    fn history(&self, more: &Value) -> Vec<String> {
        let page = self.call(ALICE, "conversations.history", more);
        let messages = page["messages"].as_array().unwrap().iter();
        messages
            .map(|it| it["text"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn talk(addresses: Vec<SocketAddr>) {
    let talk = Talk {
        addresses,
        calls: std::cell::Cell::new(0),
    };
    eventually("the tables are there", || {
        let ready = |_| talk.ask(ALICE, "auth.test", &json!({}))["ok"] == true;
        (0..2).all(ready).then_some(())
    });
    let posted = json!({ "text": "one <@U0BOB000000>", "client_msg_id": "k" });
    let ts = talk.call(ALICE, "chat.postMessage", &posted)["ts"].clone();
    let again = talk.call(ALICE, "chat.postMessage", &posted);
    assert_eq!((&again["ts"], &again["duplicate"]), (&ts, &json!(true)));
    let update = json!({ "ts": ts, "text": "two <!here>", "attachments": [{ "text": "a" }] });
    let updated = talk.call(ALICE, "chat.update", &update);
    assert_eq!(updated["message"]["edited"]["user"], "U0ALICE0000");
    let update = json!({ "ts": ts, "text": "three <@U0BOB000000>" });
    talk.call(ALICE, "chat.update", &update);
    let forged = talk.refused(BOB, "chat.update", &update);
    assert_eq!(forged, "cant_update_message");

    let thumb = json!({ "timestamp": ts, "name": "+1" });
    talk.call(BOB, "reactions.add", &thumb);
    assert_eq!(
        talk.refused(BOB, "reactions.add", &thumb),
        "already_reacted"
    );
    assert_eq!(
        talk.refused(ALICE, "reactions.remove", &thumb),
        "no_reaction"
    );
    let got = talk.call(ALICE, "reactions.get", &thumb);
    let reactions = json!([{ "name": "+1", "count": 1, "users": ["U0BOB000000"] }]);
    assert_eq!(got["message"]["reactions"], reactions);
    let list = talk.call(ALICE, "reactions.list", &json!({ "user": "U0BOB000000" }));
    assert_eq!(list["items"][0]["message"], got["message"]);
    talk.call(BOB, "reactions.remove", &thumb);
    threads(&talk, &ts);
    later(&talk);
}

/// A thread comes and goes.
fn threads(talk: &Talk, ts: &Value) {
    let reply = json!({ "text": "re", "thread_ts": ts });
    let shown = json!({ "text": "re shown", "thread_ts": ts, "reply_broadcast": true });
    let first = talk.call(BOB, "chat.postMessage", &reply)["ts"].clone();
    talk.call(ALICE, "chat.postMessage", &shown);
    let page = talk.call(
        BOB,
        "conversations.replies",
        &json!({ "ts": ts, "limit": 1 }),
    );
    assert_eq!(
        (&page["messages"][1]["ts"], &page["has_more"]),
        (&first, &json!(true))
    );
    talk.call(BOB, "chat.delete", &json!({ "ts": first }));
    talk.call(ALICE, "chat.delete", &json!({ "ts": ts }));
    let page = talk.call(BOB, "conversations.replies", &json!({ "ts": ts }));
    let parent = &page["messages"][0];
    assert_eq!(
        (&parent["subtype"], &parent["reply_count"]),
        (&json!("tombstone"), &json!(1))
    );
    assert_eq!(parent["reply_users"], json!(["U0ALICE0000"]));
    let gone = talk.refused(ALICE, "chat.delete", &json!({ "ts": ts }));
    assert_eq!(gone, "message_not_found");
    let all = ["re shown", "This message was deleted."];
    assert_eq!(talk.history(&json!({})), all);
    assert_eq!(
        talk.history(&json!({ "limit": 1, "forward": true })),
        all[1..]
    );
    assert_eq!(talk.history(&json!({ "limit": 1 })), all[..1]);
}

/// What is posted later, to one only, and what is read.
fn later(talk: &Talk) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let text = json!({ "text": "never", "post_at": now + 3_600 });
    let never = talk.call(BOB, "chat.scheduleMessage", &text)["scheduled_message_id"].clone();
    let soon = json!({ "text": "later", "post_at": now + 2 });
    talk.call(BOB, "chat.scheduleMessage", &soon);
    let waiting = talk.call(BOB, "chat.scheduledMessages.list", &json!({}));
    assert_eq!(waiting["scheduled_messages"][1]["id"], never);
    let back = json!({ "scheduled_message_id": never });
    talk.call(BOB, "chat.deleteScheduledMessage", &back);
    let psst = json!({ "text": "psst", "user": "U0ALICE0000" });
    talk.call(BOB, "chat.postEphemeral", &psst);
    talk.call(BOB, "chat.meMessage", &json!({ "text": "waves" }));
    let history = eventually("it is posted", || {
        let history = talk.history(&json!({ "limit": 2 }));
        history.contains(&"later".to_owned()).then_some(history)
    });
    assert_eq!(history, ["later", "waves"]);
    let page = talk.call(ALICE, "conversations.history", &json!({ "limit": 1 }));
    let mark = json!({ "ts": page["messages"][0]["ts"] });
    talk.call(ALICE, "conversations.mark", &mark);
    let link = json!({ "message_ts": page["messages"][0]["ts"] });
    let link = talk.call(ALICE, "chat.getPermalink", &link);
    assert!(link["permalink"].as_str().unwrap().contains(GENERAL));
}

#[test]
fn on_one_node() {
    let node = servers::start(servers::dev());
    talk(vec![node.address()]);
}

#[test]
fn on_two_nodes() {
    let (redis, database) = (servers::redis(), servers::database());
    let start = |name: &str| {
        servers::start(NodeOptions {
            postgres: Some(database.clone()),
            redis: Some(redis.url()),
            name: Some(name.to_owned()),
            ..servers::dev()
        })
    };
    let nodes = ["one", "two"].map(start);
    talk(nodes.iter().map(|node| node.address()).collect());
}
