//! Messages that are posted later.

use std::sync::Arc;

use fanfare_engine::port::tables::Step;
use serde_json::json;
use tokio::task::JoinSet;

use super::house::{ALICE, BOB, BOT, GENERAL, House};
use crate::{Demo, unix_seconds};

impl House {
    async fn later(&self, token: &str, text: &str, seconds: i64) -> String {
        let args = json!({ "channel": GENERAL, "text": text, "post_at": unix_seconds() + seconds });
        let answer = self.call(token, "chat.scheduleMessage", args).await;
        answer["scheduled_message_id"].as_str().unwrap().to_owned()
    }

    async fn waiting(&self, token: &str) -> Vec<String> {
        let answer = self
            .call(token, "chat.scheduledMessages.list", json!({}))
            .await;
        let messages = answer["scheduled_messages"].as_array().unwrap().iter();
        messages
            .map(|it| it["text"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_posted_once_whoever_tries() {
    let house = Arc::new(House::build().await);
    for number in 0..30 {
        house
            .later(BOB, &format!("m{number:02}"), 1_000 + number)
            .await;
    }
    house.later(BOT, "by a bot", 2_000).await;
    house.later(BOB, "not yet", 5_000).await;
    let mut posting = JoinSet::new();
    for node in [0, 1, 0, 1] {
        let node = Arc::clone(&house.nodes[node]);
        posting.spawn(async move { node.post_due(unix_seconds() + 3_000).await.unwrap() });
    }
    posting.join_all().await;
    let log = house.log(crate::CONVERSATIONS, GENERAL).await;
    let texts: Vec<&str> = log
        .iter()
        .map(|(_, event)| event["text"].as_str().unwrap())
        .collect();
    let mut expected: Vec<String> = (0..30).map(|number| format!("m{number:02}")).collect();
    expected.push("by a bot".to_owned());
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    let (_, last) = log
        .iter()
        .find(|(_, event)| event["text"] == "by a bot")
        .unwrap();
    assert_eq!(
        (&last["bot_id"], &last["user"]),
        (&json!(Demo::BOT), &json!(Demo::BOT_USER))
    );
    assert!(last["client_msg_id"].as_str().unwrap().starts_with('Q'));
    assert_eq!(house.waiting(BOB).await, ["not yet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_left_or_changed_their_mind_posts_nothing() {
    let house = House::build().await;
    let id = house.later(BOB, "taken back", 100).await;
    house.later(BOB, "has left", 100).await;
    house.later(BOT, "is closed", 100).await;
    let args = |channel: &str| json!({ "channel": channel, "scheduled_message_id": id });
    let of_another = house
        .refused(ALICE, "chat.deleteScheduledMessage", args(GENERAL))
        .await;
    assert_eq!(of_another, "invalid_scheduled_message_id");
    house
        .call(BOB, "chat.deleteScheduledMessage", args(GENERAL))
        .await;
    let again = house
        .refused(BOB, "chat.deleteScheduledMessage", args(GENERAL))
        .await;
    assert_eq!(again, "invalid_scheduled_message_id");
    assert_eq!(house.waiting(ALICE).await, [""; 0], "others' are not seen");
    house
        .rows(vec![
            Step::some(
                "DELETE FROM chat_members WHERE user_id = $1",
                vec![Demo::BOB.into()],
            ),
            Step::some(
                "UPDATE chat_users SET deleted = 1 WHERE id = $1",
                vec![Demo::BOT_USER.into()],
            ),
        ])
        .await;
    house.nodes[1].post_due(unix_seconds() + 200).await.unwrap();
    assert!(house.log(crate::CONVERSATIONS, GENERAL).await.is_empty());
    let rows = house.nodes[0]
        .engine
        .query("SELECT COUNT(*) FROM chat_scheduled", Vec::new());
    assert_eq!(rows.await.unwrap()[0].int(0), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn times_have_bounds_and_so_has_their_number() {
    let house = House::build().await;
    let now = unix_seconds();
    for (post_at, error) in [
        (json!(now - 1), "time_in_past"),
        (json!(-5), "time_in_past"),
        (json!(now + 121 * 24 * 3_600), "time_too_far"),
        (json!(i64::MAX), "time_too_far"),
        (json!("soon"), "invalid_time"),
        (json!(1.5), "invalid_time"),
    ] {
        let args = json!({ "channel": GENERAL, "text": "x", "post_at": post_at });
        assert_eq!(
            house.refused(BOB, "chat.scheduleMessage", args).await,
            error,
            "{post_at}"
        );
    }
    let row = |number: i64| {
        let sql = "INSERT INTO chat_scheduled (id, conversation, user_id, post_at, due, text, broadcast, created) \
            VALUES ($1, $2, $3, $4, $4, 'x', 0, 0)";
        let id = format!("Q{number:010}");
        Step::some(
            sql,
            vec![
                id.into(),
                GENERAL.into(),
                Demo::BOB.into(),
                (now + 9_000).into(),
            ],
        )
    };
    for part in 0..6 {
        house
            .rows((part * 50..part * 50 + 50).map(row).collect())
            .await;
    }
    let args = json!({ "channel": GENERAL, "text": "x", "post_at": now + 100 });
    let one_more = house.refused(BOB, "chat.scheduleMessage", args).await;
    assert_eq!(one_more, "restricted_too_many");
    let mut args = json!({ "limit": 25 });
    let mut count = 0;
    loop {
        let page = house
            .call(BOB, "chat.scheduledMessages.list", args.clone())
            .await;
        count += page["scheduled_messages"].as_array().unwrap().len();
        args["cursor"] = page["response_metadata"]["next_cursor"].clone();
        if args["cursor"] == "" {
            break;
        }
    }
    assert_eq!(count, 300);
}
