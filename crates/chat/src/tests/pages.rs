//! History, page by page.

use serde_json::{Value, json};

use super::house::{BOB, GENERAL, House};

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_both_ways_and_gives_long_messages_few_at_a_time() {
    let house = House::build().await;
    let mut all = Vec::new();
    for number in 0..7 {
        all.push(house.post(BOB, &format!("m{number}")).await);
    }
    let names = |page: &Value| {
        let texts = page["messages"].as_array().unwrap().iter();
        texts
            .map(|it| it["text"].as_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (args, expected, has_more) in [
        (json!({ "limit": 3 }), "m6 m5 m4", true),
        (json!({ "limit": 0 }), "m6 m5 m4 m3 m2 m1 m0", false),
        (json!({ "limit": 3, "oldest": all[1] }), "m6 m5 m4", true),
        (
            json!({ "limit": 5, "oldest": all[1] }),
            "m6 m5 m4 m3 m2",
            false,
        ),
        (
            json!({ "limit": 3, "oldest": all[1], "forward": true }),
            "m4 m3 m2",
            true,
        ),
        (
            json!({ "limit": 9, "oldest": all[4], "forward": true }),
            "m6 m5",
            false,
        ),
        (
            json!({ "limit": 1, "latest": all[3], "inclusive": true }),
            "m3",
            true,
        ),
        (json!({ "latest": all[3], "oldest": all[1] }), "m2", false),
        (
            json!({ "latest": all[3], "oldest": all[1], "inclusive": true }),
            "m3 m2 m1",
            false,
        ),
        (json!({ "oldest": all[6] }), "", false),
    ] {
        let page = house.history(args.clone()).await;
        assert_eq!(
            (names(&page).as_str(), &page["has_more"]),
            (expected, &json!(has_more)),
            "{args}"
        );
    }
    let mut args = json!({ "limit": 2, "oldest": all[0], "forward": true });
    let mut seen = Vec::new();
    loop {
        let page = house.history(args.clone()).await;
        seen.push(names(&page));
        if page["has_more"] == false {
            break;
        }
        args["cursor"] = page["response_metadata"]["next_cursor"].clone();
    }
    assert_eq!(seen, ["m2 m1", "m4 m3", "m6 m5"]);

    for (field, value, error) in [
        ("oldest", "x", "invalid_ts_oldest"),
        ("latest", "1.2.3", "invalid_ts_latest"),
        ("limit", "-1", "invalid_limit"),
        ("limit", "1001", "invalid_limit"),
        ("limit", "many", "invalid_arguments"),
        ("cursor", "bmV4dA==", "invalid_cursor"),
        ("cursor", "%", "invalid_cursor"),
        ("cursor", "cmVhY3RlZDox", "invalid_cursor"),
    ] {
        let args = json!({ "channel": GENERAL, field: value });
        assert_eq!(
            house.refused(BOB, "conversations.history", args).await,
            error,
            "{field} {value}"
        );
    }
    let args = json!({ "channel": GENERAL, "ts": "1.000001" });
    assert_eq!(
        house.refused(BOB, "conversations.replies", args).await,
        "thread_not_found"
    );

    let long = "é".repeat(40_000);
    for _ in 0..30 {
        house.post(BOB, &long).await;
    }
    let page = house.history(json!({})).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 25);
    assert_eq!(page["has_more"], true);
    let args = json!({ "cursor": page["response_metadata"]["next_cursor"] });
    let page = house.history(args).await;
    assert_eq!(
        (
            page["messages"].as_array().unwrap().len(),
            &page["has_more"]
        ),
        (12, &json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_whole_for_who_asks() {
    let house = House::build().await;
    let metadata = json!({ "event_type": "t", "event_payload": { "a": 1 } });
    let args = json!({ "channel": GENERAL, "text": "x", "metadata": metadata });
    house.call(BOB, "chat.postMessage", args).await;
    let page = house.history(json!({ "include_all_metadata": true })).await;
    assert_eq!(page["messages"][0]["metadata"], metadata);
    let page = house.history(json!({})).await;
    assert_eq!(
        page["messages"][0]["metadata"],
        json!({ "event_type": "t" })
    );
}
