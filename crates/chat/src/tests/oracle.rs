//! The oracle: whoever has loaded at any time, and applies what is published since, has what is loaded afresh.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    client::Client,
    house::{ALICE, BOB, BOT, GENERAL, House, OPEN},
};

/// What somebody does. Numbers name messages that were posted, whatever has become of them.
#[derive(Debug, Clone)]
enum Act {
    Post,
    Me,
    Reply(usize, bool),
    Edit(usize),
    Delete(usize),
    React(usize, usize),
    Unreact(usize, usize),
    Topic,
    Come,
    Go,
}

const USERS: [&str; 3] = [ALICE, BOB, BOT];
const EMOJI: [&str; 3] = ["+1", "heart", "wave::skin-tone-2"];
const TEXTS: [&str; 4] = [
    "<script>alert(1)</script> \"quoted\" \\ \u{1}",
    "<@U0BOB000000> and <!channel>",
    "é🦀",
    "plain",
];
/// What is refused because of what was done before.
const REFUSED: [&str; 7] = [
    "not_in_channel",
    "message_not_found",
    "thread_not_found",
    "cant_update_message",
    "cant_delete_message",
    "already_reacted",
    "no_reaction",
];

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    // Few messages, so that much happens to each.
    let at = || 0..12_usize;
    let act = prop_oneof![
        3 => Just(Act::Post),
        1 => Just(Act::Me),
        6 => (at(), any::<bool>()).prop_map(|(at, shown)| Act::Reply(at, shown)),
        3 => at().prop_map(Act::Edit),
        4 => at().prop_map(Act::Delete),
        5 => (at(), 0..3_usize).prop_map(|(at, name)| Act::React(at, name)),
        3 => (at(), 0..3_usize).prop_map(|(at, name)| Act::Unreact(at, name)),
        1 => Just(Act::Topic),
        2 => Just(Act::Come),
        1 => Just(Act::Go),
    ];
    prop::collection::vec((0..3_usize, act), 10..50)
}

/// Does one thing on a node; the `ts` of what was posted.
async fn play(
    house: &House,
    channel: &str,
    number: usize,
    (user, act): &(usize, Act),
    posted: &[String],
) -> Option<String> {
    let ts = |at: &usize| match posted.len() {
        0 => "1.000001".to_owned(),
        len => posted[at % len].clone(),
    };
    let text = TEXTS[number % TEXTS.len()];
    let (method, more) = match act {
        Act::Post => (
            "chat.postMessage",
            json!({ "text": text, "client_msg_id": format!("key-{number}"),
                "metadata": { "event_type": "t", "event_payload": { "n": number } } }),
        ),
        Act::Me => ("chat.meMessage", json!({ "text": text })),
        Act::Reply(at, shown) => (
            "chat.postMessage",
            json!({ "text": text, "thread_ts": ts(at), "reply_broadcast": shown }),
        ),
        Act::Edit(at) => (
            "chat.update",
            json!({ "ts": ts(at), "text": format!("edit {number}"),
                "attachments": [{ "text": number }] }),
        ),
        Act::Delete(at) => ("chat.delete", json!({ "ts": ts(at) })),
        Act::React(at, name) => (
            "reactions.add",
            json!({ "timestamp": ts(at), "name": EMOJI[*name] }),
        ),
        Act::Unreact(at, name) => (
            "reactions.remove",
            json!({ "timestamp": ts(at), "name": EMOJI[*name] }),
        ),
        Act::Topic => (
            "conversations.setTopic",
            json!({ "topic": format!("topic {number}") }),
        ),
        Act::Come => ("conversations.join", json!({})),
        Act::Go => ("conversations.leave", json!({})),
    };
    let mut args = more;
    args["channel"] = channel.into();
    match house.on(number, USERS[*user], method, &args).await {
        Ok(answer) => {
            let is_post = matches!(act, Act::Post | Act::Me | Act::Reply(..));
            is_post.then(|| answer["ts"].as_str().unwrap().to_owned())
        }
        Err(error) => {
            assert!(
                REFUSED.contains(&error.as_str()),
                "{method} {args}: {error}"
            );
            None
        }
    }
}

/// Clients load at `loads` and while everything else happens.
async fn check(acts: &[(usize, Act)], loads: &[usize]) {
    let house = Arc::new(House::build().await);
    for user in [0, 2] {
        play(&house, OPEN, 0, &(user, Act::Come), &[]).await;
    }
    let clients = Arc::new(Mutex::new(vec![Client::default()]));
    let mut loading = JoinSet::new();
    let mut posted = Vec::new();
    for (number, act) in acts.iter().enumerate() {
        if loads.contains(&number) {
            let (house, clients) = (Arc::clone(&house), Arc::clone(&clients));
            loading.spawn(async move {
                let client = Client::load(&house, OPEN, false).await;
                clients.lock().unwrap().push(client);
            });
        }
        posted.extend(play(&house, OPEN, number, act, &posted).await);
    }
    while let Some(loaded) = loading.join_next().await {
        loaded.unwrap();
    }
    let log = house.log(crate::CONVERSATIONS, OPEN).await;
    check_order(&log);
    let fresh = Client::load(&house, OPEN, true).await;
    let counted = loads.iter().filter(|at| **at < acts.len()).count();
    let clients = std::mem::take(&mut *clients.lock().unwrap());
    assert_eq!(clients.len(), counted + 1);
    for mut client in clients {
        let from = client.offset;
        client.catch_up(&log);
        assert_eq!(client, fresh, "from {from} of {log:#?}");
    }
}

/// `ts` goes on with the numbers of the log.
fn check_order(log: &[(u64, Value)]) {
    for (at, (offset, _)) in log.iter().enumerate() {
        assert_eq!(*offset, u64::try_from(at).unwrap() + 1);
    }
    let ts: Vec<&str> = log
        .iter()
        .map(|(_, event)| event["event_ts"].as_str().unwrap())
        .collect();
    assert!(ts.is_sorted_by(|one, next| one < next), "{ts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn who_resumes_has_what_is_loaded_afresh(
        acts in acts(),
        loads in prop::collection::btree_set(0..50_usize, 0..5),
    ) {
        let loads: Vec<usize> = loads.into_iter().collect();
        Runtime::new().unwrap().block_on(check(&acts, &loads));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_sent_again_anywhere_is_posted_once() {
    let house = Arc::new(House::build().await);
    let mut sending = JoinSet::new();
    for number in 0..40 {
        let house = Arc::clone(&house);
        sending.spawn(async move {
            let args = json!({ "channel": GENERAL, "text": "once", "client_msg_id": "k" });
            let answer = house
                .on(number, BOB, "chat.postMessage", &args)
                .await
                .unwrap();
            (answer["ts"].clone(), answer["duplicate"] == true)
        });
    }
    let answers = sending.join_all().await;
    let (first, _) = &answers[0];
    assert!(answers.iter().all(|(ts, _)| ts == first));
    assert_eq!(
        answers
            .iter()
            .filter(|(_, is_duplicate)| !is_duplicate)
            .count(),
        1
    );
    let log = house.log(crate::CONVERSATIONS, GENERAL).await;
    assert_eq!(log.len(), 1);
    assert_eq!(&log[0].1["ts"], first);
    // Another user's key is another key, and what was deleted is not posted again.
    let args = json!({ "channel": GENERAL, "text": "once", "client_msg_id": "k" });
    let other = house.call(ALICE, "chat.postMessage", args.clone()).await;
    assert_ne!(&other["ts"], first);
    let gone = json!({ "channel": GENERAL, "ts": first });
    house.call(BOB, "chat.delete", gone).await;
    let again = house.call(BOB, "chat.postMessage", args).await;
    assert_eq!((&again["ts"], &again["duplicate"]), (first, &json!(true)));
    assert_eq!(house.log(crate::CONVERSATIONS, GENERAL).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_two_nodes_do_at_once_leaves_one_truth() {
    let house = Arc::new(House::build().await);
    for round in 0..10 {
        let ts = house.post(BOB, "one").await;
        let mut doing = JoinSet::new();
        for number in 0..12_usize {
            let (house, ts) = (Arc::clone(&house), ts.clone());
            doing.spawn(async move {
                let act = match number % 4 {
                    0 => Act::Edit(0),
                    1 => Act::React(0, number % 3),
                    2 if round % 2 == 0 => Act::Reply(0, number % 3 == 0),
                    _ => Act::Delete(0),
                };
                play(&house, GENERAL, number, &(1, act), &[ts]).await
            });
        }
        doing.join_all().await;
    }
    let log = house.log(crate::CONVERSATIONS, GENERAL).await;
    check_order(&log);
    let mut client = Client::default();
    client.catch_up(&log);
    assert_eq!(client, Client::load(&house, GENERAL, true).await);
}
