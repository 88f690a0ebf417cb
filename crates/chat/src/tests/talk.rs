//! What is said, changed, taken back and reacted to.

use serde_json::{Value, json};

use super::house::{ALICE, BOB, BOT, GENERAL, House};
use crate::Demo;

/// What an object must hold.
fn holds(object: &Value, expected: &Value) {
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&object[field], value, "{field} of {object}");
    }
}

impl House {
    pub(super) async fn history(&self, more: Value) -> Value {
        let mut args = more;
        args["channel"] = GENERAL.into();
        self.call(BOB, "conversations.history", args).await
    }

    async fn reply(&self, token: &str, thread: &str, shown: bool) -> String {
        let args = json!({ "channel": GENERAL, "text": "re", "thread_ts": thread, "reply_broadcast": shown });
        let answer = self.call(token, "chat.postMessage", args).await;
        answer["ts"].as_str().unwrap().to_owned()
    }

    async fn event(&self) -> Value {
        self.last(crate::CONVERSATIONS, GENERAL).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_told_whole() {
    let house = House::build().await;
    let args = json!({ "channel": GENERAL, "text": "old", "blocks": [{ "type": "divider" }],
        "attachments": [{ "text": "a" }], "client_msg_id": "k" });
    let posted = house.call(BOB, "chat.postMessage", args).await;
    let ts = posted["ts"].as_str().unwrap();
    house.reply(ALICE, ts, false).await;
    let args = json!({ "channel": GENERAL, "ts": ts, "text": "new <@U0ALICE0000>" });
    let answer = house.call(BOB, "chat.update", args).await;
    holds(
        &answer,
        &json!({ "channel": GENERAL, "ts": ts, "text": "new <@U0ALICE0000>" }),
    );

    let event = house.event().await;
    holds(
        &event,
        &json!({ "type": "message", "subtype": "message_changed", "hidden": true, "channel": GENERAL,
        "channel_type": "channel", "ts": event["event_ts"] }),
    );
    holds(
        &event["message"],
        &json!({ "type": "message", "text": "new <@U0ALICE0000>", "ts": ts, "user": Demo::BOB,
        "attachments": [{ "text": "a" }], "reply_count": 1, "client_msg_id": "k",
        "edited": { "user": Demo::BOB, "ts": event["ts"] } }),
    );
    assert_eq!(
        event["message"]["blocks"],
        Value::Null,
        "a text alone takes their place"
    );
    holds(
        &event["previous_message"],
        &json!({ "text": "old", "blocks": [{ "type": "divider" }] }),
    );
    assert_eq!(
        house.history(json!({})).await["messages"][0],
        event["message"]
    );
    assert_eq!(answer["message"], event["message"]);

    let args = json!({ "channel": GENERAL, "ts": ts, "blocks": "[{\"type\":\"divider\"}]", "attachments": "[]" });
    let answer = house.call(BOB, "chat.update", args).await;
    holds(
        &answer["message"],
        &json!({ "text": "new <@U0ALICE0000>", "blocks": [{ "type": "divider" }] }),
    );
    assert_eq!(answer["message"]["attachments"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_and_what_has_replies_leaves_a_stone() {
    let house = House::build().await;
    let first = house.post(BOB, "secret one").await;
    let reply = house.reply(ALICE, &first, false).await;
    let shown = house.reply(BOB, &first, true).await;
    let alone = house.post(BOT, "alone").await;
    let texts = |page: &Value| {
        let messages = page["messages"].as_array().unwrap().iter();
        messages
            .map(|it| it["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        texts(&house.history(json!({})).await),
        ["alone", "re", "secret one"]
    );

    // Reply by reply: the parent is told with it.
    let of = |ts: &str| json!({ "channel": GENERAL, "ts": ts });
    house.call(BOB, "chat.delete", of(&shown)).await;
    let event = house.event().await;
    holds(
        &event,
        &json!({ "subtype": "message_deleted", "deleted_ts": shown, "hidden": true }),
    );
    let parent = json!({ "ts": first, "reply_count": 1, "reply_users_count": 1, "reply_users": [Demo::ALICE],
        "latest_reply": reply });
    assert_eq!(event["parent"], parent);
    assert_eq!(
        texts(&house.history(json!({})).await),
        ["alone", "secret one"]
    );

    // An admin takes back what others have said, and with it what others have thought of it.
    let add = json!({ "channel": GENERAL, "timestamp": first, "name": "+1" });
    house.call(BOT, "reactions.add", add).await;
    house.call(ALICE, "chat.delete", of(&first)).await;
    let count = "SELECT COUNT(*) FROM chat_reactions";
    let rows = house.nodes[0].engine.query(count, Vec::new()).await;
    assert_eq!(rows.unwrap()[0].int(0), Some(0));
    let event = house.event().await;
    assert_eq!(event["subtype"], "message_changed");
    holds(
        &event["message"],
        &json!({ "subtype": "tombstone", "text": "This message was deleted.", "hidden": true,
        "reply_count": 1 }),
    );
    let page = house.history(json!({})).await;
    assert_eq!(page["messages"][1], event["message"]);
    assert!(!page.to_string().contains("secret one"));
    let again = house.refused(BOB, "chat.delete", of(&first)).await;
    assert_eq!(again, "message_not_found");
    let args = json!({ "channel": GENERAL, "ts": first, "text": "back" });
    assert_eq!(
        house.refused(BOB, "chat.update", args).await,
        "message_not_found"
    );
    // One may go on in the thread.
    house.reply(BOT, &first, false).await;

    house.call(ALICE, "chat.delete", of(&alone)).await;
    let args = json!({ "channel": GENERAL, "text": "re", "thread_ts": alone });
    let answer = house.refused(BOB, "chat.postMessage", args).await;
    assert_eq!(answer, "thread_not_found");
    let rows = house.nodes[0].engine.query(
        "SELECT COUNT(*) FROM chat_messages WHERE text LIKE '%secret%' OR text LIKE '%alone%'",
        Vec::new(),
    );
    assert_eq!(
        rows.await.unwrap()[0].int(0),
        Some(0),
        "nothing of it is kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_follow_edits_and_deletions() {
    let house = House::build().await;
    let count = async || {
        let rows = house.nodes[0].engine.query(
            "SELECT user_id, COUNT(*) FROM chat_mentions GROUP BY user_id ORDER BY user_id",
            Vec::new(),
        );
        let rows = rows.await.unwrap();
        let users = rows.iter().map(|row| row.text(0).unwrap().to_owned());
        users.collect::<Vec<_>>().join(" ")
    };
    let ts = house
        .post(ALICE, "<@U0BOB000000> <@U0BOT000000> <@U0ALICE0000>")
        .await;
    assert_eq!(count().await, "U0BOB000000 U0BOT000000");
    let edit = |text: &str| json!({ "channel": GENERAL, "ts": ts, "text": text });
    house.call(ALICE, "chat.update", edit("<!channel>")).await;
    assert_eq!(count().await, "");
    let rows = house.nodes[0]
        .engine
        .query("SELECT COUNT(*) FROM chat_mentions", Vec::new());
    assert_eq!(rows.await.unwrap()[0].int(0), Some(1), "one for all");
    house
        .call(ALICE, "chat.update", edit("<@U0BOB000000>"))
        .await;
    assert_eq!(count().await, "U0BOB000000");
    let args = json!({ "channel": GENERAL, "ts": ts });
    house.call(ALICE, "chat.delete", args).await;
    assert_eq!(count().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_come_and_go() {
    let house = House::build().await;
    let ts = house.post(BOB, "one").await;
    let of = |name: &str| json!({ "channel": GENERAL, "timestamp": ts, "name": name });
    house.call(ALICE, "reactions.add", of("+1")).await;
    let event = house.event().await;
    holds(
        &event,
        &json!({ "type": "reaction_added", "user": Demo::ALICE, "reaction": "+1", "item_user": Demo::BOB,
        "item": { "type": "message", "channel": GENERAL, "ts": ts } }),
    );
    house.call(BOB, "reactions.add", of("+1")).await;
    house.call(BOB, "reactions.add", of("heart")).await;
    let reactions = json!([{ "name": "+1", "users": [Demo::ALICE, Demo::BOB], "count": 2 },
        { "name": "heart", "users": [Demo::BOB], "count": 1 }]);
    let got = house.call(ALICE, "reactions.get", of("")).await;
    assert_eq!(got["message"]["reactions"], reactions);
    assert_eq!(
        house.history(json!({})).await["messages"][0]["reactions"],
        reactions
    );
    let list = house
        .call(ALICE, "reactions.list", json!({ "user": Demo::BOB }))
        .await;
    assert_eq!(list["items"][0]["message"], got["message"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);

    for (token, method, name, error) in [
        (ALICE, "reactions.add", "+1", "already_reacted"),
        (ALICE, "reactions.remove", "heart", "no_reaction"),
        (ALICE, "reactions.add", "No", "invalid_name"),
        (ALICE, "reactions.add", "", "invalid_arguments"),
    ] {
        assert_eq!(
            house.refused(token, method, of(name)).await,
            error,
            "{name}"
        );
    }
    let args = json!({ "channel": GENERAL, "name": "+1" });
    assert_eq!(
        house.refused(ALICE, "reactions.add", args).await,
        "no_item_specified"
    );
    let args = json!({ "channel": GENERAL, "timestamp": "x", "name": "+1" });
    assert_eq!(
        house.refused(ALICE, "reactions.add", args).await,
        "bad_timestamp"
    );
    house.call(ALICE, "reactions.remove", of("+1")).await;
    assert_eq!(house.event().await["type"], "reaction_removed");

    for number in 0..23 {
        house
            .call(ALICE, "reactions.add", of(&format!("a{number}")))
            .await;
    }
    assert_eq!(
        house.refused(ALICE, "reactions.add", of("more")).await,
        "too_many_reactions"
    );
    for number in 0..22 {
        house
            .call(BOB, "reactions.add", of(&format!("b{number}")))
            .await;
        house
            .call(BOB, "reactions.remove", of(&format!("b{number}")))
            .await;
    }
    let got = house.call(ALICE, "reactions.get", of("")).await;
    assert_eq!(got["message"]["reactions"].as_array().unwrap().len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_not_more_names_than_are_shown() {
    let house = House::build().await;
    let ts = house.post(BOB, "one").await;
    let of = |name: String| json!({ "channel": GENERAL, "timestamp": ts, "name": name });
    for number in 0..50 {
        let token = [ALICE, BOB, BOT][number % 3];
        house
            .call(token, "reactions.add", of(format!("n{number}")))
            .await;
    }
    assert_eq!(
        house
            .refused(BOB, "reactions.add", of("more".to_owned()))
            .await,
        "too_many_emoji"
    );
    house.call(BOB, "reactions.add", of("n0".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_things_are_said_in_other_ways() {
    let house = House::build().await;
    let args = json!({ "channel": GENERAL, "text": "waves" });
    house.call(BOB, "chat.meMessage", args).await;
    holds(
        &house.event().await,
        &json!({ "subtype": "me_message", "text": "waves" }),
    );

    let before = house.event().await;
    let args = json!({ "channel": GENERAL, "text": "psst", "user": Demo::BOB });
    let answer = house.call(BOT, "chat.postEphemeral", args).await;
    let event = house.last(crate::USERS, Demo::BOB).await;
    holds(
        &event,
        &json!({ "type": "message", "subtype": "ephemeral", "is_ephemeral": true, "text": "psst",
        "channel": GENERAL, "user": Demo::BOT_USER, "bot_id": Demo::BOT, "ts": answer["message_ts"] }),
    );
    assert_eq!(house.event().await, before, "nobody else is told");
    for user in ["U0NOBODY000", "x"] {
        let args = json!({ "channel": GENERAL, "text": "psst", "user": user });
        assert_eq!(
            house.refused(BOT, "chat.postEphemeral", args).await,
            "user_not_in_channel"
        );
    }

    let ts = house.post(BOB, "here").await;
    let reply = house.reply(BOB, &ts, false).await;
    let digits = |ts: &str| ts.replace('.', "");
    for (message, expected) in [
        (&ts, format!("/chat/#/{GENERAL}/p{}", digits(&ts))),
        (
            &reply,
            format!("/chat/#/{GENERAL}/p{}?thread_ts={ts}", digits(&reply)),
        ),
    ] {
        let args = json!({ "channel": GENERAL, "message_ts": message });
        let answer = house.call(ALICE, "chat.getPermalink", args).await;
        assert_eq!(answer["permalink"], json!(expected));
    }
}
