//! Objects: compare-and-set, versions, times to live, news.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fanfare_wire::NewsBody;

use super::{LONG, Node, SHORT, StateNetwork, Told, change, json, new_key, told, until};
use crate::port::state::{Changed, Expected, Object, Tell};

/// Writers that race for one object.
const WRITERS: usize = 100;
/// Versions that they race for.
const ROUNDS: usize = 5;

/// Any JSON comes back as it was, with the version and the time that the change was answered with.
pub async fn a_value_comes_back_as_it_was(network: &dyn StateNetwork) {
    let (writer, reader) = (Node::join(network).await, Node::join(network).await);
    let values = [
        "null".to_owned(),
        r#"{"a":[1.50,"ü \u0000 \r\n","\"\\"]}"#.to_owned(),
        "1234567890123456789012345678901234567890".to_owned(),
        format!("\"{}\"", "x".repeat(100_000)),
    ];
    for value in values {
        let (key, _) = new_key("object");
        assert_eq!(reader.object(&key).await, None, "an object out of nothing");
        let wanted = change(Expected::Anything, Some(&value), LONG);
        let Changed::Done { version, at } = writer.change(&key, wanted).await else {
            panic!("a change that expects anything was refused")
        };
        let found = reader.object(&key).await;
        let expected = Object {
            value: json(&value),
            version,
            changed_at: at,
        };
        assert_eq!(found, Some(expected), "another object than was put");
        let version_ms = i64::try_from(version / 1000).unwrap_or(i64::MAX);
        assert!(
            (version_ms - at).abs() <= 1000,
            "version {version} does not begin with the server's time {at}"
        );
    }
}

/// A change happens if what was expected was there; otherwise nothing happens, and it is told what was there.
pub async fn a_change_happens_if_it_was_expected(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (key, _) = new_key("object");
    let on = |expected| change(expected, Some("1"), LONG);
    let none = Changed::Conflict { current: None };
    assert_eq!(node.change(&key, on(Expected::Version(7))).await, none);
    assert_eq!(node.object(&key).await, None, "a conflict made an object");

    let Changed::Done { version, .. } = node.change(&key, on(Expected::Nothing)).await else {
        panic!("nothing was expected and nothing was there, yet it was refused")
    };
    let current = node.object(&key).await;
    assert!(current.is_some());
    for wrong in [Expected::Nothing, Expected::Version(version - 1)] {
        let wanted = change(wrong, Some("2"), LONG);
        let answer = node.change(&key, wanted).await;
        let conflict = Changed::Conflict {
            current: current.clone(),
        };
        assert_eq!(answer, conflict, "expected {wrong:?}");
    }
    assert_eq!(node.object(&key).await, current, "a conflict changed it");

    let removal = change(Expected::Version(version), None, LONG);
    let removed = node.change(&key, removal).await;
    assert!(matches!(removed, Changed::Done { version: v, .. } if v > version));
    assert_eq!(node.object(&key).await, None, "it was removed");
    assert_eq!(
        node.change(&key, on(Expected::Version(version))).await,
        none
    );
    let again = node.change(&key, on(Expected::Nothing)).await;
    assert!(matches!(again, Changed::Done { .. }), "{again:?}");
}

/// Of many writers on several nodes that expect the same version exactly one wins it.
pub async fn one_writer_wins_each_version(network: &dyn StateNetwork) {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(network).await);
    }
    let (key, _) = new_key("object");
    let mut version = nodes[0].put(&key, "0", LONG).await;
    for round in 0..ROUNDS {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let state = Arc::clone(&nodes[writer % nodes.len()].state);
            let (key, value) = (key.clone(), format!("[{round},{writer}]"));
            let wanted = change(Expected::Version(version), Some(&value), LONG);
            writers.push(tokio::spawn(async move {
                let answer = state.change(&key, wanted).await;
                (value, answer)
            }));
        }
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        for writer in writers {
            let (value, answer) = writer.await.unwrap_or_else(|error| panic!("{error}"));
            let answer = answer.unwrap_or_else(|error| panic!("change failed: {error}"));
            match answer {
                Changed::Done { version, .. } => winners.push((version, json(&value))),
                Changed::Conflict { current } => losers.push(current),
            }
        }
        assert_eq!(winners.len(), 1, "one winner of version {version}");
        let (won, value) = winners.remove(0);
        assert!(won > version, "version {won} after {version}");
        for current in losers {
            let seen = current.map(|object| (object.version, object.value));
            assert_eq!(seen, Some((won, value.clone())), "what a loser was told");
        }
        version = won;
    }
}

/// A version is greater than all before it, whatever became of the object meanwhile.
pub async fn versions_only_grow(network: &dyn StateNetwork) {
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (key, _) = new_key("object");
    let mut last = 0;
    for round in 0..20 {
        let node = if round % 2 == 0 { &first } else { &second };
        let version = node.put(&key, "1", LONG).await;
        assert!(version > last, "{version} after {last}");
        last = version;
        if round % 5 == 4 {
            let removal = change(Expected::Anything, None, LONG);
            let Changed::Done { version, .. } = node.change(&key, removal).await else {
                panic!("a removal that expects anything was refused")
            };
            assert!(version > last, "a removal has a version of its own");
            last = version;
        }
    }
    let short = first.put(&key, "2", SHORT).await;
    assert!(short > last);
    let gone = || async { first.object(&key).await.is_none().then_some(()) };
    until("the end of an object", gone).await;
    let after = second.put(&key, "3", LONG).await;
    assert!(after > short, "{after} after {short} had expired");
}

/// An object ends with its time to live, and a change renews it.
pub async fn what_is_not_changed_ends(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let [(renewed, _), (shortened, _), (witness, _)] = ["a", "b", "c"].map(new_key);
    node.put(&renewed, "1", SHORT).await;
    node.put(&renewed, "2", LONG).await;
    node.put(&shortened, "1", LONG).await;
    node.put(&shortened, "2", SHORT).await;
    node.put(&witness, "1", SHORT).await;
    for key in [&witness, &shortened] {
        let gone = || async { node.object(key).await.is_none().then_some(()) };
        until("the end of an object", gone).await;
    }
    let left = node.object(&renewed).await.map(|object| object.value);
    assert_eq!(left, Some(json("2")), "a change renews the time to live");
}

/// Who was refused has not prolonged anything.
pub async fn a_conflict_renews_nothing(network: &dyn StateNetwork) {
    let node = Node::join(network).await;
    let (key, _) = new_key("object");
    let version = node.put(&key, "1", SHORT).await;
    let ended = || async {
        let wanted = change(Expected::Version(version + 1), Some("2"), LONG);
        match node.change(&key, wanted).await {
            Changed::Conflict { current: None } => Some(()),
            Changed::Conflict { current: Some(_) } => None,
            done => panic!("a change of another version: {done:?}"),
        }
    };
    until("the end of an object that others wanted to change", ended).await;
}

/// The channel is told of every change once, in the order of the versions, with what was written.
pub async fn change_and_news_are_one_step(network: &dyn StateNetwork) {
    const CHANGES: usize = 50;
    let (first, second) = (Node::join(network).await, Node::join(network).await);
    let (key, channel) = new_key("object");
    let mut news = Told::of(network, &channel).await;
    let mut writers = Vec::new();
    for writer in 0..4 {
        let node = if writer % 2 == 0 { &first } else { &second };
        let (state, key) = (Arc::clone(&node.state), key.clone());
        writers.push(tokio::spawn(async move {
            for number in 0..CHANGES {
                let value = format!(r#"{{"by":{writer},"n":{number}}}"#);
                let wanted = told(change(Expected::Anything, Some(&value), LONG));
                let answer = state.change(&key, wanted).await;
                assert!(matches!(answer, Ok(Changed::Done { .. })), "{answer:?}");
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap_or_else(|error| panic!("{error}"));
    }
    let mut last = 0;
    let mut values = BTreeSet::new();
    let mut latest = None;
    for _ in 0..4 * CHANGES {
        let (version, value) = parts(&news.next().await);
        assert!(
            version > last,
            "news of {version} came after those of {last}"
        );
        last = version;
        values.insert(value.clone());
        latest = Some(value);
    }
    assert_eq!(values.len(), 4 * CHANGES, "each change is told once");
    let found = first.object(&key).await;
    let found = found.map(|object| (object.version, text(object.value.as_bytes())));
    assert_eq!(Some(last), found.as_ref().map(|(version, _)| *version));
    assert_eq!(
        latest,
        found.map(|(_, value)| value),
        "the last that was told"
    );

    // A refusal is not told, and a removal is, with its tags.
    let refused = told(change(Expected::Nothing, Some("1"), LONG));
    let refused = first.change(&key, refused).await;
    assert!(matches!(refused, Changed::Conflict { .. }));
    let tags = json(r#"{"event":"gone"}"#);
    let mut removal = change(Expected::Version(last), None, LONG);
    removal.tell = Some(Tell {
        tags: Some(tags.clone()),
    });
    let removed = second.change(&key, removal).await;
    let Changed::Done { version, at } = removed else {
        panic!("{removed:?}")
    };
    let data = format!(r#"{{"version":{version},"at":{at},"value":null}}"#);
    let expected = NewsBody::Message {
        data: json(&data),
        info: None,
        tags: Some(tags),
    };
    news.expect(&expected).await;
}

/// What is put back does not change what is newer, not even if that is a removal, and nobody is told.
pub async fn what_is_put_back_never_hides_what_is_newer(network: &dyn StateNetwork) {
    let (owner, other) = (Node::join(network).await, Node::join(network).await);
    let (key, channel) = new_key("object");
    let mut news = Told::of(network, &channel).await;
    let old = owner.put(&key, "1", LONG).await;
    let old_object = owner.object(&key).await;
    let old_object = old_object.unwrap_or_else(|| panic!("what was put is not there"));
    let new = other.put(&key, "2", LONG).await;
    let put_back = |object: Object, ttl: Duration| {
        let (state, key) = (Arc::clone(&owner.state), key.clone());
        async move {
            let version = state.assert_object(&key, &object, ttl).await;
            version.unwrap_or_else(|error| panic!("assert_object failed: {error}"))
        }
    };
    assert_eq!(put_back(old_object.clone(), LONG).await, new);
    let found = owner.object(&key).await.map(|object| object.value);
    assert_eq!(found, Some(json("2")), "something older hides it");

    let removal = change(Expected::Version(new), None, LONG);
    let Changed::Done { version: gone, .. } = other.change(&key, removal).await else {
        panic!("a removal of the version that is there was refused")
    };
    assert!(gone > old);
    assert_eq!(put_back(old_object.clone(), LONG).await, gone);
    assert_eq!(owner.object(&key).await, None, "it was removed since");

    let newer = Object {
        version: gone + 1_000_000_000,
        ..old_object
    };
    assert_eq!(put_back(newer.clone(), LONG).await, newer.version);
    assert_eq!(other.object(&key).await, Some(newer.clone()));
    assert_eq!(put_back(newer.clone(), SHORT).await, newer.version);
    let after = other.put(&key, "4", LONG).await;
    assert!(
        after > newer.version,
        "versions grow from what was put back"
    );

    let data = told(change(Expected::Version(after), Some("5"), LONG));
    other.change(&key, data).await;
    assert_eq!(
        parts(&news.next().await).1,
        "5",
        "who puts back tells nobody"
    );
}

/// Version and value of the news of a change.
fn parts(news: &NewsBody) -> (u64, String) {
    let NewsBody::Message { data, .. } = news else {
        panic!("a change is told as a message, not as {news:?}")
    };
    let data = text(data.as_bytes());
    let parts = data
        .strip_prefix(r#"{"version":"#)
        .and_then(|rest| rest.strip_suffix('}'))
        .and_then(|rest| rest.split_once(r#","at":"#))
        .and_then(|(version, rest)| Some((version, rest.split_once(r#","value":"#)?)));
    let Some((version, (at, value))) = parts else {
        panic!("the news of a change are {data}")
    };
    assert!(at.parse::<i64>().is_ok(), "no time in {data}");
    let version = version.parse();
    (
        version.unwrap_or_else(|_| panic!("no version in {data}")),
        value.to_owned(),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
