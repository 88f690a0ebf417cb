//! Search on both databases: what is found, and what must never be.

mod house;

use std::sync::Arc;

use fanfare_backend::{postgres::PostgresLog, sqlite::SqliteLog};
use fanfare_bench::local::{Postgres, TempDir};
use fanfare_engine::port::{Log, Tables, tables::Value as Sql};
use serde_json::{Value, json};

use self::house::{
    ALICE, BOB, BOT, BURY, DELETE, DIRECT, EDIT, ELSEWHERE, EVE, GENERAL, House, INSERT_AT,
    INSERT_MEMBER, LEAVE, OPEN, REACT, REMOVE, SECRET, UNREACT,
};
use super::{Marks, Order, Part, Query, mark, statement::Way};
use crate::{Demo, ts::Ts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_finds_what_it_should_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    all(Arc::new(SqliteLog::open(dir.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_finds_what_it_should_and_nothing_else() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.create_database("chat").unwrap();
    let log = Arc::new(PostgresLog::connect(&url, "n").await.unwrap());
    let house = all(log).await;
    both_ways_find_the_same(&house).await;
}

async fn all(log: Arc<impl Log + Tables>) -> House {
    let house = House::build(log).await;
    only_what_one_may_read(&house).await;
    only_what_there_is_now(&house).await;
    the_language(&house).await;
    whatever_is_typed(&house).await;
    pages_and_order(&house).await;
    the_boot_shows_what_one_is_in(&house).await;
    house
}

async fn only_what_one_may_read(house: &House) {
    house.post(BOB, SECRET, "kumquat in secret").await;
    house.post(BOB, OPEN, "kumquat in the open").await;
    house.post(BOB, DIRECT, "kumquat for alice").await;
    house.post(EVE, ELSEWHERE, "kumquat elsewhere").await;
    // At once, by the author and by others.
    let bobs = [
        "kumquat in secret",
        "kumquat in the open",
        "kumquat for alice",
    ];
    assert_eq!(house.finds(BOB, "kumquat").await, bobs);
    assert_eq!(house.finds(ALICE, "kumquat").await, bobs[1..]);
    assert_eq!(house.finds(BOT, "kumquat").await, bobs[1..2]);
    assert_eq!(house.finds(EVE, "kumquat").await, ["kumquat elsewhere"]);
    // However it is asked for.
    for query in [
        "in:<#C0SECRET000>",
        "in:#secret",
        "in:secret kumquat",
        "secret",
        "kumquat -open -alice",
        "from:bob in:<#C0SECRET000>",
        "in:<#C0ELSEWHERE>",
        "from:<@U0EVE000000>",
        "elsewhere",
    ] {
        assert_eq!(house.finds(ALICE, query).await, [""; 0], "{query}");
    }
    assert_eq!(house.finds(BOT, "in:<#D0DIRECT000>").await, [""; 0]);
    assert_eq!(house.finds(EVE, "from:bob").await, [""; 0]);
    assert_eq!(house.finds(EVE, "in:#general").await, ["kumquat elsewhere"]);
    // From the moment at which one is let in, to the moment at which one is put out.
    let alice = || vec![SECRET.into(), Demo::ALICE.into()];
    house.row(INSERT_MEMBER, alice()).await;
    assert_eq!(house.finds(ALICE, "kumquat secret").await, bobs[..1]);
    house.row(LEAVE, alice()).await;
    assert_eq!(house.finds(ALICE, "kumquat secret").await, [""; 0]);
    assert!(
        house
            .call("xapp-dev", "search.messages", json!({ "query": "kumquat" }))
            .await
            .is_err()
    );
    let nobody = house
        .call(
            "xoxp-nobody",
            "search.messages",
            json!({ "query": "kumquat" }),
        )
        .await;
    assert_eq!(nobody.unwrap_err(), "invalid_auth");
}

async fn only_what_there_is_now(house: &House) {
    let ts = house.post(ALICE, GENERAL, "mango first").await;
    let at = |more: &[&str]| {
        let more = more.iter().map(|text| Sql::from(*text));
        [GENERAL.into(), ts.into()]
            .into_iter()
            .chain(more)
            .collect::<Vec<_>>()
    };
    assert_eq!(house.finds(BOB, "first mango").await, ["mango first"]);
    house.row(EDIT, at(&["mango second"])).await;
    assert_eq!(house.finds(BOB, "mango first").await, [""; 0]);
    assert_eq!(house.finds(BOB, "mango second").await, ["mango second"]);
    for (name, count) in [("tada", 1), ("eyes", 1)] {
        house.row(REACT, at(&[name])).await;
        assert_eq!(house.finds(BOB, "mango has:reaction").await.len(), count);
    }
    house.row(UNREACT, at(&["tada"])).await;
    house.row(EDIT, at(&["mango third"])).await;
    assert_eq!(
        house.finds(BOB, "mango has:reaction").await,
        ["mango third"]
    );
    house.row(UNREACT, at(&["eyes"])).await;
    assert_eq!(house.finds(BOB, "mango has:reaction").await, [""; 0]);
    assert_eq!(
        house.finds(BOB, "mango -has:reaction").await,
        ["mango third"]
    );
    house.row(BURY, at(&[])).await;
    assert_eq!(house.finds(ALICE, "mango").await, [""; 0]);
    let ts = house.post(ALICE, GENERAL, "papaya").await;
    house.row(DELETE, vec![GENERAL.into(), ts.into()]).await;
    assert_eq!(house.finds(ALICE, "papaya").await, [""; 0]);
    house
        .row(REACT, vec![GENERAL.into(), ts.into(), "late".into()])
        .await;
    assert_eq!(house.finds(ALICE, "has:reaction").await, [""; 0]);
    let ts = house.post(ALICE, GENERAL, "guava").await;
    house.row(REMOVE, vec![GENERAL.into(), ts.into()]).await;
    assert_eq!(house.finds(ALICE, "guava").await, [""; 0]);
}

async fn the_language(house: &House) {
    let day = |day: i64| 1_700_000_000_000_000 + day * 86_400_000_000;
    for (at, text) in [
        (day(0), "plum tart, baked"),
        // The same moment in two conversations.
        (day(1), "tart plum"),
        (day(400), "Plüm HTTPS://example.com/tart?x=1"),
    ] {
        house
            .row(
                INSERT_AT,
                vec![GENERAL.into(), at.into(), Demo::BOB.into(), text.into()],
            )
            .await;
    }
    house
        .row(
            INSERT_AT,
            vec![
                DIRECT.into(),
                day(1).into(),
                Demo::ALICE.into(),
                "plum for two".into(),
            ],
        )
        .await;
    let parent = house.post(ALICE, GENERAL, "plums?").await;
    house
        .say(
            BOB,
            json!({ "channel": GENERAL, "text": "don't plum", "thread_ts": parent.to_string() }),
        )
        .await;
    let (baked, tart, two, link, plums, dont) = (
        "plum tart, baked",
        "tart plum",
        "plum for two",
        "Plüm HTTPS://example.com/tart?x=1",
        "plums?",
        "don't plum",
    );
    for (query, expected) in [
        ("plum ", vec![baked, two, tart, link, dont]),
        ("plum", vec![baked, two, tart, link, plums, dont]),
        ("PLÜM tart ", vec![baked, tart, link]),
        ("\"plum tart\"", vec![baked]),
        ("\"tart plum", vec![tart]),
        ("plum -tart ", vec![two, dont]),
        ("plum -\"plum tart\" -has:link in:general", vec![tart, dont]),
        ("don't", vec![dont]),
        ("plum example.com", vec![link]),
        ("\"don plum\"", vec![]),
        ("plum from:alice", vec![two]),
        (
            "plum from:alice from:@bob in:<#C0GENERAL00|general>",
            vec![baked, tart, link, dont],
        ),
        ("-from:me plu", vec![baked, tart, link, dont]),
        ("plum from:<@U0BOB000000> -in:#general", vec![]),
        ("plum from:nobody", vec![]),
        ("plum -from:nobody in:@bob", vec![two]),
        ("in:@bob from:me", vec![two]),
        ("plum in:#nowhere", vec![]),
        ("has:link from:bob", vec![link]),
        ("is:thread plum", vec![plums, dont]),
        ("plum on:2023-11-14", vec![baked]),
        ("plum before:2023-11-15", vec![baked]),
        ("plum after:2023-11-15 before:2025", vec![link]),
        ("tart during:2023", vec![baked, tart]),
        ("on:today is:thread plum", vec![plums, dont]),
    ] {
        let mut found = house.finds(ALICE, query).await;
        let mut expected: Vec<&str> = expected;
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
}

async fn whatever_is_typed(house: &House) {
    for query in [
        "'",
        "\"",
        "\\",
        "a:*",
        "a & | !",
        "(",
        "NEAR(a b)",
        "a AND",
        "NOT a",
        "^a",
        "words:a",
        "{words}:a",
        "'a' <-> 'b'",
        "a''b",
        "-",
        "--a",
        "*",
        "🎉",
        "²x½",
        "ａｂ",
        "\u{301}",
        "e\u{301}",
        "in:' from:\" has:*",
        "from:😀 in:#\"x",
        "ﬁ ß İ",
        "a-b_c/d",
    ] {
        house.finds(ALICE, query).await;
    }
    let long = "x".repeat(100_000);
    house.finds(ALICE, &long).await;
    let many: String = (0..500)
        .map(|number| format!("\"a.b\" -c{number} "))
        .collect();
    house.finds(ALICE, &many).await;
    assert_eq!(
        house
            .call(ALICE, "search.messages", json!({}))
            .await
            .unwrap_err(),
        "no_query"
    );
    for args in [
        json!({ "query": "a", "sort": "x" }),
        json!({ "query": "a", "sort_dir": "x" }),
        json!({ "query": "a", "count": "x" }),
    ] {
        assert_eq!(
            house
                .call(ALICE, "search.messages", args)
                .await
                .unwrap_err(),
            "invalid_arguments"
        );
    }
    let nothing = house
        .search(ALICE, json!({ "query": " \" ", "count": -5, "page": 0 }))
        .await;
    assert_eq!(
        (&nothing["total"], &nothing["matches"]),
        (&json!(0), &json!([]))
    );
}

async fn pages_and_order(house: &House) {
    for number in 0..25 {
        let text = match number {
            7 => "lime lime lime".to_owned(),
            _ => format!("lime number {number} with other words that say nothing of it"),
        };
        house.post(ALICE, GENERAL, &text).await;
    }
    let best = house
        .search(
            BOB,
            json!({ "query": "lime", "count": 3, "highlight": true }),
        )
        .await;
    assert_eq!(best["total"], 25);
    assert_eq!(
        best["paging"],
        json!({ "count": 3, "total": 25, "page": 1, "pages": 9 })
    );
    let first = &best["matches"][0];
    assert_eq!(
        first["text"],
        "\u{e000}lime\u{e001} \u{e000}lime\u{e001} \u{e000}lime\u{e001}"
    );
    assert_eq!(
        (&first["user"], &first["username"]),
        (&json!(Demo::ALICE), &json!("alice"))
    );
    assert_eq!(first["channel"]["name"], "general");
    let link = first["permalink"].as_str().unwrap();
    let ts = first["ts"].as_str().unwrap().replace('.', "");
    assert!(
        link.ends_with(&format!("/chat/#/{GENERAL}/p{ts}")),
        "{link}"
    );
    let mut texts = Vec::new();
    for page in 1..=4 {
        let args = json!({ "query": "lime", "sort": "timestamp", "count": 10, "page": page });
        let answer = house.search(BOB, args).await;
        assert_eq!(answer["total"], 25, "a page behind the last says it too");
        texts.extend(
            answer["matches"]
                .as_array()
                .unwrap()
                .iter()
                .map(|found| found["text"].clone()),
        );
    }
    let mut oldest_first = house.finds(BOB, "lime").await;
    oldest_first.reverse();
    assert_eq!(texts, oldest_first);
}

/// The index and the walk are two ways to one answer.
async fn both_ways_find_the_same(house: &House) {
    let caller = house.chat.caller_of(ALICE).await.unwrap();
    for text in [
        "plum",
        "lime -number",
        "plum before:2024",
        "in:general",
        "words that nothing",
        "kumquat",
        "\"tart plum\"",
    ] {
        let query = Query::read(text, Ts::now());
        let mut marks = Marks::default();
        marks.need(vec![mark::team(&caller.team)]);
        for order in [Order::Score, Order::NewestFirst, Order::OldestFirst] {
            let part = Part {
                order,
                limit: 10,
                offset: 2,
            };
            let asked = house.chat.asked(&caller, &query, &marks);
            let index = house
                .chat
                .find_by(Way::Index, asked.clone(), part)
                .await
                .unwrap();
            let walk = house.chat.find_by(Way::Walk, asked, part).await.unwrap();
            assert!(index.total > 0 || text == "kumquat", "{text}");
            assert_eq!(format!("{index:?}"), format!("{walk:?}"), "{text}");
        }
    }
}

async fn the_boot_shows_what_one_is_in(house: &House) {
    let boot = async |token| house.call(token, "client.boot", json!({})).await.unwrap();
    let channel = |boot: &Value, id: &str| {
        let channels = boot["channels"].as_array().unwrap();
        channels.iter().find(|channel| channel["id"] == id).cloned()
    };
    let before = boot(ALICE).await;
    assert_eq!(
        (&before["self"]["id"], &before["team"]["id"]),
        (&json!(Demo::ALICE), &json!(Demo::TEAM))
    );
    assert_eq!(
        before["users"].as_array().unwrap().len(),
        3,
        "nobody of another workspace"
    );
    let ids: Vec<&str> = before["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [GENERAL, DIRECT]);
    house
        .call(ALICE, "conversations.history", json!({ "channel": SECRET }))
        .await
        .unwrap_err();
    assert_eq!(
        channel(&boot(EVE).await, ELSEWHERE).unwrap()["is_member"],
        true
    );
    let hello = house.post(BOB, GENERAL, "hello").await;
    house.post(BOB, GENERAL, "hello <@U0ALICE0000>").await;
    let last = house.post(BOB, DIRECT, "you there?").await;
    let after = boot(ALICE).await;
    let (general, direct) = (
        channel(&after, GENERAL).unwrap(),
        channel(&after, DIRECT).unwrap(),
    );
    let count = |view: &Value, name: &str| view[name].as_i64().unwrap();
    assert_eq!(
        count(&general, "unread_count_display")
            - count(&channel(&before, GENERAL).unwrap(), "unread_count_display"),
        2
    );
    assert_eq!(general["mention_count_display"], 1);
    assert_eq!(direct["latest"]["ts"], last.to_string());
    assert_eq!(
        direct["mention_count_display"],
        direct["unread_count_display"]
    );
    let offset = |view: &Value| view["position"]["offset"].as_i64().unwrap();
    assert_eq!(
        offset(&general),
        offset(&channel(&before, GENERAL).unwrap()) + 2
    );
    let history = house
        .call(
            ALICE,
            "conversations.history",
            json!({ "channel": GENERAL }),
        )
        .await
        .unwrap();
    assert_eq!(history["position"], general["position"]);
    house.row(DELETE, vec![GENERAL.into(), hello.into()]).await;
    let deleted = channel(&boot(ALICE).await, GENERAL).unwrap();
    assert_eq!(
        count(&general, "unread_count_display") - count(&deleted, "unread_count_display"),
        1
    );
    let fresh = boot(BOT).await;
    assert!(channel(&fresh, DIRECT).is_none() && channel(&fresh, SECRET).is_none());
}
