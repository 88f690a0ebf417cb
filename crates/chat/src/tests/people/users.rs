//! Users, and who may follow what.

use serde_json::json;

use super::{ALICE, BOB, BOT, EVE, EVE_ID, House};
use crate::{Demo, id::Id};

#[tokio::test(flavor = "multi_thread")]
async fn users_are_those_of_the_workspace() {
    let house = House::build().await;
    let bob = house
        .call(ALICE, "users.info", json!({ "user": Demo::BOB }))
        .await;
    assert_eq!(bob["user"]["name"], "bob");
    assert_eq!(bob["user"]["is_admin"], false);
    let list = house.call(BOT, "users.list", json!({})).await;
    let members = list["members"].as_array().unwrap();
    let names: Vec<_> = members.iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["alice", "bob", "bot"]);
    assert_eq!(members[2]["is_bot"], true);
    let own = house.call(BOB, "users.profile.get", json!({})).await;
    assert_eq!(own["profile"]["real_name"], "Bob");
    let bot = house
        .call(BOB, "bots.info", json!({ "bot": Demo::BOT }))
        .await;
    assert_eq!(bot["bot"]["user_id"], Demo::BOT_USER);
    let team = house.call(BOB, "team.info", json!({})).await;
    assert_eq!(team["team"]["name"], "Demo");
    for (token, method, args, error) in [
        (
            ALICE,
            "users.info",
            json!({ "user": EVE_ID }),
            "user_not_found",
        ),
        (
            EVE,
            "users.info",
            json!({ "user": Demo::BOB }),
            "user_not_found",
        ),
        (
            EVE,
            "users.getPresence",
            json!({ "user": Demo::BOB }),
            "user_not_found",
        ),
        (
            EVE,
            "users.profile.get",
            json!({ "user": Demo::BOB }),
            "user_not_found",
        ),
        (
            EVE,
            "bots.info",
            json!({ "bot": Demo::BOT }),
            "bot_not_found",
        ),
        (
            EVE,
            "team.info",
            json!({ "team": Demo::TEAM }),
            "team_not_found",
        ),
        (
            EVE,
            "users.lookupByEmail",
            json!({ "email": "a@example.com" }),
            "users_not_found",
        ),
        (
            "xapp-dev",
            "users.list",
            json!({}),
            "not_allowed_token_type",
        ),
        ("xoxp-nobody", "users.list", json!({}), "invalid_auth"),
    ] {
        assert_eq!(house.refused(token, method, args).await, error, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn being_away_is_told_once() {
    let house = House::build().await;
    let away = json!({ "presence": "away" });
    house.call(BOB, "users.setPresence", away.clone()).await;
    house.call(BOB, "users.setPresence", away).await;
    let log = house.log("chat.team", Demo::TEAM).await;
    assert_eq!(log.len(), 1);
    assert_eq!(
        (&log[0]["user"], &log[0]["presence"]),
        (&json!(Demo::BOB), &json!("away"))
    );
    let own = house.call(BOB, "users.getPresence", json!({})).await;
    assert_eq!(own["manual_away"], true);
    let other = house
        .call(ALICE, "users.getPresence", json!({ "user": Demo::BOB }))
        .await;
    assert_eq!(
        (&other["presence"], other.get("manual_away")),
        (&json!("away"), None)
    );
    assert_eq!(
        house
            .refused(BOB, "users.setPresence", json!({ "presence": "gone" }))
            .await,
        "invalid_presence"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_may_follow_what_one_is_in() {
    let house = House::build().await;
    let secret = house.channel(BOB, "secret", true).await;
    let public = house.channel(BOB, "open", false).await;
    let may = async |user: &str, namespace: &str, id: &str| {
        let channel = Id::known(id).channel(namespace).unwrap();
        house.nodes[1].may_follow(user, &channel).await.unwrap()
    };
    for (user, namespace, id, expected) in [
        (Demo::BOB, "chat", &*secret, true),
        (Demo::BOB, "chat", &*public, true),
        (Demo::ALICE, "chat", &*secret, false),
        // Whoever may read it by asking does not follow it without having joined.
        (Demo::ALICE, "chat", &*public, false),
        (EVE_ID, "chat", &*public, false),
        ("", "chat", &*public, false),
        (Demo::BOB, "chat", "nothing", false),
        (Demo::BOB, "chat.user", Demo::BOB, true),
        (Demo::ALICE, "chat.user", Demo::BOB, false),
        (Demo::BOB, "chat.team", Demo::TEAM, true),
        (EVE_ID, "chat.team", Demo::TEAM, false),
        (Demo::BOT_USER, "chat.app", Demo::APP, false),
        (Demo::BOB, "watch", &*secret, false),
    ] {
        assert_eq!(
            may(user, namespace, id).await,
            expected,
            "{user} {namespace}:{id}"
        );
    }
    let users = json!({ "channel": secret, "users": Demo::ALICE });
    house.call(BOB, "conversations.invite", users).await;
    assert!(may(Demo::ALICE, "chat", &secret).await);
    let kick = json!({ "channel": secret, "user": Demo::ALICE });
    house.call(BOB, "conversations.kick", kick).await;
    assert!(!may(Demo::ALICE, "chat", &secret).await);
}
