//! Attempts to get where one may not.

use serde_json::{Value, json};

use super::house::{ALICE, BOB, BOT, GENERAL, House, OPEN, SECRET};
use crate::{Demo, unix_seconds};

/// Every method of a message, with what it is called with for one in a channel.
fn all(channel: &str, ts: &str) -> Vec<(&'static str, Value)> {
    let later = unix_seconds() + 1_000;
    let methods = [
        ("chat.postMessage", json!({ "text": "x" })),
        ("chat.postMessage", json!({ "text": "x", "thread_ts": ts })),
        ("chat.meMessage", json!({ "text": "x" })),
        (
            "chat.postEphemeral",
            json!({ "text": "x", "user": Demo::BOB }),
        ),
        (
            "chat.scheduleMessage",
            json!({ "text": "x", "post_at": later }),
        ),
        ("chat.update", json!({ "text": "x", "ts": ts })),
        ("chat.delete", json!({ "ts": ts })),
        ("reactions.add", json!({ "name": "+1", "timestamp": ts })),
        ("reactions.remove", json!({ "name": "+1", "timestamp": ts })),
        ("conversations.mark", json!({ "ts": ts })),
        // From here on: reading.
        ("reactions.get", json!({ "timestamp": ts })),
        ("chat.getPermalink", json!({ "message_ts": ts })),
        ("conversations.history", json!({})),
        ("conversations.replies", json!({ "ts": ts })),
        ("chat.scheduledMessages.list", json!({})),
        (
            "chat.deleteScheduledMessage",
            json!({ "scheduled_message_id": "Q0123456789" }),
        ),
    ];
    let with = |(method, mut args): (&'static str, Value)| {
        args["channel"] = channel.into();
        (method, args)
    };
    methods.into_iter().map(with).collect()
}

impl House {
    async fn say(&self, channel: &str, more: Value) -> String {
        let mut args = more;
        args["channel"] = channel.into();
        let answer = self.call(BOB, "chat.postMessage", args).await;
        answer["ts"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_channels_are_not_there() {
    let house = House::build().await;
    let ts = house.say(SECRET, json!({ "text": "the secret" })).await;
    house
        .say(SECRET, json!({ "text": "re", "thread_ts": ts }))
        .await;
    let add = json!({ "channel": SECRET, "timestamp": ts, "name": "eyes" });
    house.call(BOB, "reactions.add", add).await;
    let before = house.log(crate::CONVERSATIONS, SECRET).await;
    // Not even for who manages the workspace; and as if there were none.
    for token in [ALICE, BOT] {
        for channel in [
            SECRET,
            "C0NOTTHERE0",
            "D0NOTTHERE0",
            "c0secret000",
            "C0SECRET000'--",
            "U0BOB000000",
        ] {
            for (method, args) in all(channel, &ts) {
                let answer = house.refused(token, method, args).await;
                assert_eq!(answer, "channel_not_found", "{method} {channel}");
            }
        }
    }
    let list = json!({ "user": Demo::BOB });
    let list = house.call(ALICE, "reactions.list", list).await;
    assert_eq!(list["items"], json!([]));
    assert_eq!(house.log(crate::CONVERSATIONS, SECRET).await, before);
    // Until one is let in.
    house.join(SECRET, Demo::ALICE).await;
    let args = json!({ "channel": SECRET });
    let page = house.call(ALICE, "conversations.history", args).await;
    assert_eq!(page["messages"][0]["text"], "the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_reads_public_channels_and_does_nothing_there() {
    let house = House::build().await;
    let ts = house.say(OPEN, json!({ "text": "open" })).await;
    for (method, args) in &all(OPEN, &ts)[..10] {
        let answer = house.refused(ALICE, method, args.clone()).await;
        assert_eq!(answer, "not_in_channel", "{method}");
    }
    let args = json!({ "channel": OPEN });
    let page = house.call(ALICE, "conversations.history", args).await;
    assert_eq!(page["messages"][0]["text"], "open");
    assert_eq!(house.log(crate::CONVERSATIONS, OPEN).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_not_reached_through_another_channel() {
    let house = House::build().await;
    let ts = house.say(SECRET, json!({ "text": "the secret" })).await;
    for (method, args) in all(GENERAL, &ts) {
        let expected = match method {
            "conversations.replies" => "thread_not_found",
            "chat.postMessage" if !args["thread_ts"].is_null() => "thread_not_found",
            "chat.update" | "chat.delete" | "reactions.add" | "reactions.remove"
            | "reactions.get" | "chat.getPermalink" => "message_not_found",
            _ => continue,
        };
        assert_eq!(
            house.refused(ALICE, method, args).await,
            expected,
            "{method}"
        );
    }
    let page = house.call(
        ALICE,
        "conversations.history",
        json!({ "channel": GENERAL }),
    );
    assert_eq!(page.await["messages"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_said_stays_as_they_said_it() {
    let house = House::build().await;
    let ts = house.post(ALICE, "mine").await;
    for token in [BOB, BOT] {
        let update = json!({ "channel": GENERAL, "ts": ts, "text": "forged" });
        assert_eq!(
            house.refused(token, "chat.update", update).await,
            "cant_update_message"
        );
        let delete = json!({ "channel": GENERAL, "ts": ts });
        assert_eq!(
            house.refused(token, "chat.delete", delete).await,
            "cant_delete_message"
        );
    }
    let theirs = house.post(BOB, "theirs").await;
    let update = json!({ "channel": GENERAL, "ts": theirs, "text": "forged" });
    let answer = house.refused(ALICE, "chat.update", update).await;
    assert_eq!(
        answer, "cant_update_message",
        "not by who manages the workspace either"
    );
    // Fields that the server sets cannot be given.
    let forged = json!({ "text": "x", "user": Demo::ALICE, "ts": ts, "subtype": "channel_join", "bot_id": "B0BOT000000",
        "edited": { "user": Demo::ALICE }, "team": "T0OTHER0000", "parent_user_id": Demo::ALICE });
    let posted = house.say(GENERAL, forged).await;
    let event = house.last(crate::CONVERSATIONS, GENERAL).await;
    assert_ne!(posted, ts);
    assert_eq!(
        (&event["user"], &event["team"]),
        (&json!(Demo::BOB), &json!(Demo::TEAM))
    );
    for field in ["subtype", "bot_id", "edited", "parent_user_id"] {
        assert_eq!(event[field], Value::Null, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn script_stays_text() {
    let house = House::build().await;
    let script = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u{2028}\"'\\";
    let ts = house.post(BOB, script).await;
    let update = json!({ "channel": GENERAL, "ts": ts, "text": script, "attachments": [{ "text": script }] });
    house.call(BOB, "chat.update", update).await;
    let event = house.last(crate::CONVERSATIONS, GENERAL).await;
    assert_eq!(event["message"]["text"], script);
    let page = house.call(
        ALICE,
        "conversations.history",
        json!({ "channel": GENERAL }),
    );
    let page = page.await;
    assert_eq!(page["messages"][0]["text"], script);
    assert_eq!(page["messages"][0]["attachments"][0]["text"], script);
    let name = json!({ "channel": GENERAL, "timestamp": ts, "name": "<script>" });
    assert_eq!(
        house.refused(BOB, "reactions.add", name).await,
        "invalid_name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused_whole() {
    let house = House::build().await;
    let ts = house.post(BOB, "short").await;
    let long = "a".repeat(40_001);
    let heavy = json!([{ "text": "b".repeat(130 << 10) }]);
    for (method, more, error) in [
        ("chat.postMessage", json!({ "text": long }), "msg_too_long"),
        (
            "chat.postMessage",
            json!({ "text": "x", "blocks": heavy }),
            "msg_too_long",
        ),
        ("chat.postMessage", json!({ "text": " " }), "no_text"),
        (
            "chat.postMessage",
            json!({ "text": "x", "thread_ts": "1" }),
            "invalid_thread_ts",
        ),
        (
            "chat.postMessage",
            json!({ "text": "x", "blocks": "{}" }),
            "invalid_blocks",
        ),
        (
            "chat.update",
            json!({ "ts": ts, "text": long }),
            "msg_too_long",
        ),
        (
            "chat.update",
            json!({ "ts": ts, "attachments": heavy }),
            "msg_too_long",
        ),
        ("chat.update", json!({ "ts": ts }), "no_text"),
        ("chat.update", json!({ "ts": ts, "text": "  " }), "no_text"),
        (
            "chat.update",
            json!({ "ts": "1.0", "text": "x" }),
            "message_not_found",
        ),
        ("chat.meMessage", json!({ "text": "" }), "no_text"),
        ("chat.delete", json!({}), "invalid_arguments"),
    ] {
        let mut args = more;
        args["channel"] = GENERAL.into();
        assert_eq!(house.refused(BOB, method, args).await, error, "{method}");
    }
    assert_eq!(house.log(crate::CONVERSATIONS, GENERAL).await.len(), 1);
    // As much as there may be, edited too.
    let most = "é".repeat(40_000);
    let more = json!([{ "text": "b".repeat(100 << 10) }]);
    let update = json!({ "channel": GENERAL, "ts": ts, "text": most, "attachments": more });
    house.call(BOB, "chat.update", update.clone()).await;
    house.call(BOB, "chat.update", update).await;
}
