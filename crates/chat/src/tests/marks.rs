//! What is unread, and how it is read.

use serde_json::{Value, json};

use super::house::{ALICE, BOB, BOT, GENERAL, House, OPEN, SECRET};
use crate::{
    Demo,
    id::Id,
    ts::Ts,
    unread::{COUNT_MAX, Unread},
};

impl House {
    /// How much a user has not read of the channel of all: in all, and what calls the user. Counted in both ways.
    async fn unread(&self, user: &str) -> (i64, i64) {
        let [node, _] = &self.nodes;
        let (user, id) = (Id::known(user), Id::known(GENERAL));
        let caller = node.caller_of(BOB).await.unwrap();
        let conversation = node.conversation(&caller, &id).await.unwrap();
        let unread = node.unread(&conversation, &user).await.unwrap();
        let all = node.all_unread(&user).await.unwrap();
        assert_eq!(all.get(&id), Some(&unread));
        (unread.count, unread.mentions)
    }

    async fn mark(&self, token: &str, ts: &str) {
        let args = json!({ "channel": GENERAL, "ts": ts });
        self.call(token, "conversations.mark", args).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_say_is_unread_until_it_is_marked_or_answered() {
    let house = House::build().await;
    assert_eq!(house.unread(Demo::BOB).await, (0, 0));
    let first = house.post(ALICE, "hello <@U0BOB000000>").await;
    house.post(BOT, "<!here> all").await;
    let third = house.post(ALICE, "and <@U0ALICE0000>").await;
    assert_eq!(house.unread(Demo::BOB).await, (3, 2));
    assert_eq!(house.unread(Demo::ALICE).await, (0, 0), "her own come last");
    assert_eq!(house.unread(Demo::BOT_USER).await, (1, 0));

    let reply =
        json!({ "channel": GENERAL, "text": "re <@U0BOB000000> <!channel>", "thread_ts": first });
    house.call(ALICE, "chat.postMessage", reply).await;
    let reply = json!({ "channel": GENERAL, "text": "re", "thread_ts": first });
    house.call(ALICE, "chat.postMessage", reply).await;
    assert_eq!(house.unread(Demo::BOB).await, (3, 3), "replies call only");
    assert_eq!(house.unread(Demo::ALICE).await.1, 0, "nobody calls oneself");

    house.mark(BOB, &first).await;
    assert_eq!(house.unread(Demo::BOB).await, (2, 2));
    let event = house.last(crate::USERS, Demo::BOB).await;
    let expected = [
        ("type", json!("channel_marked")),
        ("channel", json!(GENERAL)),
        ("ts", json!(first)),
        ("unread_count", json!(2)),
        ("unread_count_display", json!(2)),
        ("mention_count_display", json!(2)),
    ];
    for (field, value) in expected {
        assert_eq!(event[field], value, "{field}");
    }
    house.post(BOB, "here").await;
    assert_eq!(house.unread(Demo::BOB).await, (0, 0));
    assert_eq!(house.log(crate::USERS, Demo::BOB).await.len(), 1);
    // It does not come back.
    house.mark(BOB, &third).await;
    house.mark(BOB, "0000000000.000000").await;
    assert_eq!(house.unread(Demo::BOB).await, (0, 0));
    assert_eq!(house.log(crate::USERS, Demo::BOB).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_that_are_read_are_gone() {
    let house = House::build().await;
    let count = async || {
        let sql = "SELECT COUNT(*) FROM chat_mentions WHERE user_id = $1";
        let rows = house.nodes[0].engine.query(sql, vec![Demo::BOB.into()]);
        rows.await.unwrap()[0].int(0).unwrap()
    };
    for _ in 0..3 {
        house.post(ALICE, "<@U0BOB000000>").await;
    }
    let last = house.post(ALICE, "<@U0BOB000000>").await;
    assert_eq!(count().await, 4);
    house.mark(BOB, &last).await;
    assert_eq!(count().await, 0);
    house.post(ALICE, "<@U0BOB000000>").await;
    house.post(BOB, "yes").await;
    assert_eq!(count().await, 0);

    // Nor does anything stay of who has left.
    let open = json!({ "channel": OPEN, "text": "<@U0BOB000000>" });
    house.join(OPEN, Demo::ALICE).await;
    house.call(ALICE, "chat.postMessage", open).await;
    assert_eq!(count().await, 1);
    let leave = json!({ "channel": OPEN });
    house.call(BOB, "conversations.leave", leave).await;
    assert_eq!(count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_ends() {
    let house = House::build().await;
    // Rows as they are, without a thousand calls.
    let sql = "INSERT INTO chat_messages (conversation, ts, user_id, text, shown, reply_count, deleted) \
        VALUES ($1, $2, $3, '', 1, 0, 0)";
    for part in 0..30_i64 {
        let steps = (0..50).map(|at| {
            let ts = (part * 50 + at + 1).into();
            fanfare_engine::port::tables::Step::some(
                sql,
                vec![GENERAL.into(), ts, Demo::ALICE.into()],
            )
        });
        house.rows(steps.collect()).await;
    }
    assert_eq!(house.unread(Demo::BOB).await, (COUNT_MAX, 0));
    let unread = Unread {
        count: COUNT_MAX,
        mentions: 0,
    };
    let mut fields = serde_json::Map::new();
    unread.extend(&mut fields);
    assert_eq!(fields["unread_count_display"], Value::from(COUNT_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_are_ones_own_and_of_what_was_said() {
    let house = House::build().await;
    let ts = house.post(ALICE, "one").await;
    let future = json!({ "channel": GENERAL, "ts": "9999999999.000000" });
    house.call(BOB, "conversations.mark", future).await;
    assert_eq!(house.last(crate::USERS, Demo::BOB).await["ts"], json!(ts));
    house.post(ALICE, "two").await;
    assert_eq!(house.unread(Demo::BOB).await, (1, 0));

    for (channel, ts, error) in [
        (SECRET, ts.as_str(), "channel_not_found"),
        ("C0NOTTHERE0", &ts, "channel_not_found"),
        (OPEN, &ts, "not_in_channel"),
        (GENERAL, "1", "invalid_timestamp"),
        (GENERAL, "", "invalid_arguments"),
    ] {
        let args = json!({ "channel": channel, "ts": ts });
        let answer = house.refused(ALICE, "conversations.mark", args).await;
        assert_eq!(answer, error, "{channel} {ts}");
    }
    assert!(Ts::parse(&ts).is_some());
}
