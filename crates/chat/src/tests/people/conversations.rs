//! Channels, who is in them, and who knows of them.

use serde_json::{Value, json};

use super::{ALICE, BOB, BOT, EVE, EVE_ID, House};
use crate::Demo;

fn ids(answer: &Value) -> Vec<&str> {
    let all = answer["channels"].as_array().unwrap();
    all.iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_is_told_and_counted() {
    let house = House::build().await;
    let id = house.channel(ALICE, "plans", false).await;
    let channel = json!({ "channel": id });
    let teams = house.kinds("chat.team", Demo::TEAM, 1).await;
    assert_eq!(teams, ["channel_created"]);
    assert_eq!(
        house.kinds("chat.user", Demo::ALICE, 1).await,
        ["channel_joined"]
    );
    // Public: found and joined by whoever is in the workspace; twice is once.
    let joined = house.call(BOB, "conversations.join", channel.clone()).await;
    assert_eq!(joined["channel"]["num_members"], 2);
    assert_eq!(joined["channel"]["is_member"], true);
    let again = house.call(BOB, "conversations.join", channel.clone()).await;
    assert_eq!(again["warning"], "already_in_channel");
    let told = house.log("chat.user", Demo::BOB).await;
    let told = told.last().unwrap();
    assert_eq!(told["type"], "channel_joined");
    assert_eq!(told["channel"], joined["channel"]);
    let log = house.log("chat", &id).await;
    let [.., came, said] = &log[..] else {
        panic!("{log:?}")
    };
    assert_eq!(came["type"], "member_joined_channel");
    assert_eq!(
        (&came["user"], &came["num_members"]),
        (&json!(Demo::BOB), &json!(2))
    );
    assert_eq!(said["subtype"], "channel_join");
    // What was told is what the history has.
    let history = house
        .call(BOB, "conversations.history", channel.clone())
        .await;
    let first = &history["messages"][0];
    for field in ["ts", "text", "user", "subtype", "type"] {
        assert_eq!(first[field], said[field], "{field}");
    }
    // The bot's app is told that the bot has come.
    let users = json!({ "channel": id, "users": Demo::BOT_USER });
    house.call(BOB, "conversations.invite", users).await;
    let apps = house.log("chat.app", Demo::APP).await;
    let told = &apps.last().unwrap()["events"][0];
    assert_eq!(told["type"], "member_joined_channel");
    assert_eq!(
        (&told["user"], &told["channel"]),
        (&json!(Demo::BOT_USER), &json!(id))
    );
    assert_eq!(told["inviter"], Demo::BOB);
    let members = house
        .call(BOT, "conversations.members", channel.clone())
        .await;
    assert_eq!(
        members["members"],
        json!([Demo::ALICE, Demo::BOB, Demo::BOT_USER])
    );
    // Gone, by itself and not.
    let kick = json!({ "channel": id, "user": Demo::BOT_USER });
    assert_eq!(
        house.refused(BOB, "conversations.kick", kick.clone()).await,
        "restricted_action"
    );
    house.call(ALICE, "conversations.kick", kick.clone()).await;
    assert_eq!(
        house.refused(ALICE, "conversations.kick", kick).await,
        "not_in_channel"
    );
    house
        .call(BOB, "conversations.leave", channel.clone())
        .await;
    let nothing = house
        .call(BOB, "conversations.leave", channel.clone())
        .await;
    assert_eq!(nothing["not_in_channel"], true);
    assert_eq!(
        house.kinds("chat", &id, 2).await,
        ["member_left_channel", "channel_leave"]
    );
    assert_eq!(
        house.kinds("chat.user", Demo::BOB, 1).await,
        ["channel_left"]
    );
    let info = house.call(ALICE, "conversations.info", channel).await;
    assert_eq!(info["channel"]["num_members"], 1);
    assert_eq!(
        info["channel"]["position"]["offset"],
        house.log("chat", &id).await.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_channel_is_unknown_to_who_is_not_in_it() {
    let house = House::build().await;
    let id = house.channel(BOB, "secret", true).await;
    let public = house.channel(BOB, "open", false).await;
    let channel = || json!({ "channel": id });
    // Alice manages the workspace, the bot is in it, and eve manages another one.
    for outsider in [ALICE, BOT, EVE] {
        for (method, args) in [
            ("conversations.info", channel()),
            ("conversations.join", channel()),
            ("conversations.leave", channel()),
            ("conversations.members", channel()),
            ("conversations.archive", channel()),
            ("conversations.unarchive", channel()),
            ("conversations.history", channel()),
            ("conversations.close", channel()),
            ("conversations.open", channel()),
            ("conversations.typing", channel()),
            (
                "conversations.setTopic",
                json!({ "channel": id, "topic": "x" }),
            ),
            (
                "conversations.setPurpose",
                json!({ "channel": id, "purpose": "x" }),
            ),
            (
                "conversations.rename",
                json!({ "channel": id, "name": "x" }),
            ),
            (
                "conversations.invite",
                json!({ "channel": id, "users": EVE_ID }),
            ),
            (
                "conversations.kick",
                json!({ "channel": id, "user": Demo::BOB }),
            ),
        ] {
            assert_eq!(
                house.refused(outsider, method, args).await,
                "channel_not_found",
                "{method}"
            );
        }
        let types = json!({ "types": "public_channel,private_channel,im,mpim" });
        let list = house
            .call(outsider, "conversations.list", types.clone())
            .await;
        assert!(!ids(&list).contains(&&*id));
        assert_eq!(ids(&list).contains(&&*public), outsider != EVE);
        let mut of_bob = types;
        of_bob["user"] = Demo::BOB.into();
        if outsider == EVE {
            assert_eq!(
                house.refused(EVE, "users.conversations", of_bob).await,
                "user_not_found"
            );
        } else {
            let list = house.call(outsider, "users.conversations", of_bob).await;
            assert!(!ids(&list).contains(&&*id) && ids(&list).contains(&&*public));
        }
    }
    // Another workspace's public channel does not exist either.
    for method in [
        "conversations.info",
        "conversations.join",
        "conversations.members",
    ] {
        let answer = house
            .refused(EVE, method, json!({ "channel": public }))
            .await;
        assert_eq!(answer, "channel_not_found");
    }
    for event in house.log("chat.team", Demo::TEAM).await {
        assert!(!event.to_string().contains(&id), "{event}");
    }
    // Whoever is invited is in; whoever was kicked is out again, of all of it.
    let users = json!({ "channel": id, "users": Demo::ALICE });
    house.call(BOB, "conversations.invite", users).await;
    assert_eq!(
        house.kinds("chat.user", Demo::ALICE, 1).await,
        ["group_joined"]
    );
    house.call(ALICE, "conversations.history", channel()).await;
    let kick = json!({ "channel": id, "user": Demo::ALICE });
    house.call(BOB, "conversations.kick", kick).await;
    for method in ["conversations.info", "conversations.history"] {
        assert_eq!(
            house.refused(ALICE, method, channel()).await,
            "channel_not_found"
        );
    }
    assert_eq!(
        house.kinds("chat.user", Demo::ALICE, 1).await,
        ["group_left"]
    );
    assert_eq!(
        house.refused(BOB, "conversations.leave", channel()).await,
        "last_member"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn general_stays_and_archives_are_quiet() {
    let house = House::build().await;
    let general = || json!({ "channel": Demo::GENERAL });
    for (method, args, error) in [
        ("conversations.leave", general(), "cant_leave_general"),
        ("conversations.archive", general(), "cant_archive_general"),
        (
            "conversations.kick",
            json!({ "channel": Demo::GENERAL, "user": Demo::BOB }),
            "cant_kick_from_general",
        ),
        ("conversations.unarchive", general(), "not_archived"),
        (
            "conversations.close",
            general(),
            "method_not_supported_for_channel_type",
        ),
    ] {
        assert_eq!(house.refused(ALICE, method, args).await, error, "{method}");
    }
    let id = house.channel(BOB, "old", false).await;
    let channel = || json!({ "channel": id });
    house.call(BOB, "conversations.archive", channel()).await;
    assert_eq!(house.kinds("chat", &id, 1).await, ["channel_archive"]);
    assert_eq!(
        house.kinds("chat.team", Demo::TEAM, 1).await,
        ["channel_archive"]
    );
    for (token, method, args, error) in [
        (BOB, "conversations.archive", channel(), "already_archived"),
        (ALICE, "conversations.join", channel(), "is_archived"),
        (
            BOB,
            "conversations.setTopic",
            json!({ "channel": id, "topic": "x" }),
            "is_archived",
        ),
        (
            BOB,
            "conversations.rename",
            json!({ "channel": id, "name": "x" }),
            "is_archived",
        ),
        (
            BOB,
            "conversations.invite",
            json!({ "channel": id, "users": Demo::ALICE }),
            "is_archived",
        ),
        (
            BOB,
            "chat.postMessage",
            json!({ "channel": id, "text": "x" }),
            "is_archived",
        ),
        (
            ALICE,
            "conversations.unarchive",
            channel(),
            "not_in_channel",
        ),
    ] {
        assert_eq!(house.refused(token, method, args).await, error, "{method}");
    }
    let list = house
        .call(
            BOB,
            "conversations.list",
            json!({ "exclude_archived": true }),
        )
        .await;
    assert!(!ids(&list).contains(&&*id));
    let list = house.call(BOB, "conversations.list", json!({})).await;
    assert!(ids(&list).contains(&&*id));
    house.call(BOB, "conversations.unarchive", channel()).await;
    house.call(ALICE, "conversations.join", channel()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_topics() {
    let house = House::build().await;
    let id = house.channel(BOB, "plans", false).await;
    let other = house.channel(ALICE, "others", false).await;
    for (token, method, args, error) in [
        (
            BOB,
            "conversations.create",
            json!({ "name": "general" }),
            "name_taken",
        ),
        (
            BOB,
            "conversations.create",
            json!({ "name": "A" }),
            "invalid_name_specials",
        ),
        (
            BOB,
            "conversations.create",
            json!({}),
            "invalid_name_required",
        ),
        (
            BOB,
            "conversations.rename",
            json!({ "channel": id, "name": "others" }),
            "name_taken",
        ),
        (
            BOB,
            "conversations.rename",
            json!({ "channel": Demo::GENERAL, "name": "x" }),
            "not_authorized",
        ),
        (
            BOB,
            "conversations.rename",
            json!({ "channel": other, "name": "x" }),
            "not_in_channel",
        ),
        (
            BOB,
            "conversations.setTopic",
            json!({ "channel": id, "topic": "x".repeat(251) }),
            "too_long",
        ),
        (
            BOB,
            "conversations.list",
            json!({ "types": "secret" }),
            "invalid_types",
        ),
        (
            BOB,
            "conversations.list",
            json!({ "cursor": "x" }),
            "invalid_cursor",
        ),
        (
            BOB,
            "conversations.info",
            json!({ "channel": "plans" }),
            "channel_not_found",
        ),
        (BOB, "conversations.info", json!({}), "invalid_arguments"),
    ] {
        assert_eq!(house.refused(token, method, args).await, error, "{method}");
    }
    let args = json!({ "channel": id, "name": "plans-2" });
    let renamed = house.call(BOB, "conversations.rename", args).await;
    assert_eq!(renamed["channel"]["name"], "plans-2");
    let log = house.log("chat", &id).await;
    let told = log.last().unwrap();
    assert_eq!(
        (&told["old_name"], &told["name"]),
        (&json!("plans"), &json!("plans-2"))
    );
    assert_eq!(
        house.kinds("chat.team", Demo::TEAM, 1).await,
        ["channel_rename"]
    );
    let args = json!({ "channel": id, "topic": "<script>alert(1)</script>" });
    let set = house.call(BOB, "conversations.setTopic", args).await;
    assert_eq!(set["channel"]["topic"]["value"], set["topic"]);
    assert_eq!(set["channel"]["topic"]["creator"], Demo::BOB);
    let args = json!({ "channel": id, "purpose": "" });
    house.call(BOB, "conversations.setPurpose", args).await;
    assert_eq!(
        house.kinds("chat", &id, 2).await,
        ["channel_topic", "channel_purpose"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_invited_who_cannot_be() {
    let house = House::build().await;
    let id = house.channel(BOB, "team", true).await;
    for (users, error) in [
        (json!(""), "no_user"),
        (json!("nobody"), "user_not_found"),
        (json!(EVE_ID), "user_not_found"),
        (json!(Demo::BOB), "cant_invite_self"),
        (json!([Demo::ALICE, EVE_ID]), "user_not_found"),
    ] {
        let args = json!({ "channel": id, "users": users });
        assert_eq!(
            house.refused(BOB, "conversations.invite", args).await,
            error
        );
    }
    let members = json!({ "channel": id });
    let now = house
        .call(BOB, "conversations.members", members.clone())
        .await;
    assert_eq!(now["members"], json!([Demo::BOB]));
    let args = json!({ "channel": id, "users": [Demo::ALICE, EVE_ID], "force": true });
    let done = house.call(BOB, "conversations.invite", args).await;
    assert_eq!(done["errors"][0]["error"], "user_not_found");
    let args = json!({ "channel": id, "users": Demo::ALICE });
    assert_eq!(
        house.refused(BOB, "conversations.invite", args).await,
        "already_in_channel"
    );
    let now = house.call(BOB, "conversations.members", members).await;
    assert_eq!(now["members"], json!([Demo::ALICE, Demo::BOB]));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let house = House::build().await;
    for number in 0..5 {
        house.channel(BOB, &format!("c{number}"), number == 4).await;
    }
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let args =
            json!({ "limit": 2, "cursor": cursor, "types": "public_channel,private_channel" });
        let page = house.call(BOB, "conversations.list", args).await;
        found.extend(ids(&page).into_iter().map(str::to_owned));
        let next = &page["response_metadata"]["next_cursor"];
        next.as_str().unwrap().clone_into(&mut cursor);
        if cursor.is_empty() {
            break;
        }
        assert_eq!(ids(&page).len(), 2);
    }
    assert_eq!(found.len(), 6);
    assert!(found.is_sorted());
    let args = json!({ "channel": Demo::GENERAL, "limit": 2 });
    let page = house.call(BOB, "conversations.members", args).await;
    assert_eq!(page["members"], json!([Demo::ALICE, Demo::BOB]));
    let args = json!({ "channel": Demo::GENERAL, "limit": 2, "cursor": page["response_metadata"]["next_cursor"] });
    let page = house.call(BOB, "conversations.members", args).await;
    assert_eq!(page["members"], json!([Demo::BOT_USER]));
    assert_eq!(page["response_metadata"]["next_cursor"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_conversations_are_there_once() {
    let house = House::build().await;
    let with_bob = json!({ "users": Demo::BOB, "return_im": true });
    let opened = house
        .call(ALICE, "conversations.open", with_bob.clone())
        .await;
    let id = opened["channel"]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with('D'));
    assert_eq!(opened["channel"]["user"], Demo::BOB);
    let again = house
        .call(BOB, "conversations.open", json!({ "users": Demo::ALICE }))
        .await;
    assert_eq!(
        (&again["channel"]["id"], &again["already_open"]),
        (&json!(id), &json!(true))
    );
    for user in [Demo::ALICE, Demo::BOB] {
        assert_eq!(house.kinds("chat.user", user, 1).await, ["im_created"]);
    }
    // Closed for one only, and there again when it is wanted.
    let channel = || json!({ "channel": id });
    house.call(BOB, "conversations.close", channel()).await;
    let twice = house.call(BOB, "conversations.close", channel()).await;
    assert_eq!(twice["already_closed"], true);
    assert_eq!(house.kinds("chat.user", Demo::BOB, 1).await, ["im_close"]);
    assert_eq!(
        house.kinds("chat.user", Demo::ALICE, 1).await,
        ["im_created"]
    );
    house.call(BOB, "conversations.open", channel()).await;
    assert_eq!(house.kinds("chat.user", Demo::BOB, 1).await, ["im_open"]);
    // Or as soon as somebody says something in it.
    house.call(BOB, "conversations.close", channel()).await;
    let said = json!({ "channel": id, "text": "hello?" });
    house.call(ALICE, "chat.postMessage", said).await;
    assert_eq!(
        house.kinds("chat.user", Demo::BOB, 2).await,
        ["im_close", "im_open"]
    );
    let info = house.call(BOB, "conversations.info", channel()).await;
    assert_eq!(
        (
            &info["channel"]["is_open"],
            &info["channel"]["unread_count_display"]
        ),
        (&json!(true), &json!(1))
    );
    // Nobody else knows of it, and nobody else gets in.
    for (token, method, args, error) in [
        (BOT, "conversations.info", channel(), "channel_not_found"),
        (BOT, "conversations.open", channel(), "channel_not_found"),
        (BOT, "conversations.history", channel(), "channel_not_found"),
        (
            ALICE,
            "conversations.invite",
            json!({ "channel": id, "users": Demo::BOT_USER }),
            "method_not_supported_for_channel_type",
        ),
        (
            ALICE,
            "conversations.leave",
            channel(),
            "method_not_supported_for_channel_type",
        ),
        (
            ALICE,
            "conversations.open",
            json!({ "users": EVE_ID }),
            "user_not_found",
        ),
        (
            ALICE,
            "conversations.open",
            json!({}),
            "users_list_not_supplied",
        ),
    ] {
        assert_eq!(house.refused(token, method, args).await, error, "{method}");
    }
    let few = json!({ "users": [Demo::BOB, Demo::BOT_USER], "return_im": true });
    let group = house.call(ALICE, "conversations.open", few).await;
    assert_eq!(group["channel"]["is_mpim"], true);
    assert_eq!(
        group["channel"]["members"],
        json!([Demo::ALICE, Demo::BOB, Demo::BOT_USER])
    );
    assert_eq!(house.kinds("chat.user", Demo::BOB, 1).await, ["mpim_open"]);
    let types = json!({ "types": "im,mpim" });
    let list = house.call(BOB, "users.conversations", types).await;
    assert_eq!(list["channels"].as_array().unwrap().len(), 2);
}
