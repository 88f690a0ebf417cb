//! The frames of the official client: what it sends is read as what it means, and what a server writes is what the client's
//! own encoder writes. `tests/browser/protobuf-vectors.mjs` makes them.

use std::collections::BTreeMap;

use fanfare_wire::{
    ChannelName, Epoch, Form, Json, NewsBody, Publication, Seq,
    centrifuge::{
        Answer, Codec, Command, ConnectResult, Dialect, Method, Payload, PresenceResult, Pushes,
        SubscribeResult, errors,
        protobuf::{Commands, ProtobufError},
        unsubscribes,
    },
    ws::{Outgoing, next_outgoing},
};
use uuid::{Uuid, uuid};

const PROTOBUF: Dialect = Dialect::websocket(Codec::Protobuf);
const PUSHES: Pushes = Pushes::websocket(Codec::Protobuf, false);
const PUSHES_WITH_JOINS: Pushes = Pushes::websocket(Codec::Protobuf, true);

const CLIENT: Uuid = uuid!("8d2a4c6e-0f1b-4a3c-9d5e-7b8091a2b3c4");
const CLIENT_NAME: &str = "8d2a4c6e-0f1b-4a3c-9d5e-7b8091a2b3c4";
const TIME: i64 = 1_795_292_131_872;

/// All frames by their names.
pub(crate) fn frames() -> BTreeMap<&'static str, Vec<u8>> {
    let lines = include_str!("official-client.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, digits) = line.split_once(' ').unwrap();
            let bytes = (0..digits.len()).step_by(2);
            let bytes = bytes.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
            (name, bytes.collect())
        })
        .collect()
}

/// The payload of the one frame that `write` appends.
pub(crate) fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    let Some((Outgoing::Binary(payload), taken)) = next_outgoing(&out) else {
        panic!("no binary frame: {out:x?}")
    };
    assert_eq!(taken, out.len(), "more than one frame");
    payload.to_vec()
}

fn commands(frame: &[u8]) -> Vec<Command<'_>> {
    Commands::of(frame).map(Result::unwrap).collect()
}

#[test]
fn what_the_official_client_sends_is_what_it_would_be_in_json() {
    let frames = frames();
    for (name, json) in [
        (
            "command-connect",
            vec![
                r#"{"id":15,"connect":{"token":"connection-token","data":{"lang":"en"},"name":"vectors","version":"1.2"}}"#,
            ],
        ),
        (
            "command-connect-subscribe",
            vec![
                r#"{"id":1,"connect":{"token":"connection-token","data":{"lang":"en"},"name":"vectors","version":"1.2"}}"#,
                r#"{"id":2,"subscribe":{"channel":"room:1","token":"subscription-token","recover":true,"offset":70000,"epoch":"g1dydLxPhQEApiJ6","join_leave":true,"flag":1,"data":[1],"positioned":true,"recoverable":true}}"#,
            ],
        ),
        (
            "command-subscribe",
            vec![
                r#"{"id":17,"subscribe":{"channel":"room:1","token":"subscription-token","recover":true,"offset":7,"epoch":"g1dydLxPhQEApiJ6","join_leave":true,"flag":1,"data":[1]}}"#,
            ],
        ),
        (
            "command-publish",
            vec![r#"{"id":3,"publish":{"channel":"room:1","data":{"text":"Zoë"}}}"#],
        ),
        (
            "command-publish-empty",
            vec![r#"{"id":8,"publish":{"channel":"room:2"}}"#],
        ),
        (
            "command-history-all",
            vec![r#"{"id":9,"history":{"channel":"room:1","limit":-1}}"#],
        ),
        (
            "command-history-since",
            vec![
                r#"{"id":10,"history":{"channel":"room:1","limit":10,"since":{"offset":300,"epoch":"g1dydLxPhQEApiJ6"},"reverse":true}}"#,
            ],
        ),
        (
            "command-presence",
            vec![r#"{"id":11,"presence":{"channel":"room:1"}}"#],
        ),
        (
            "command-presence-stats",
            vec![r#"{"id":12,"presence_stats":{"channel":"room:1"}}"#],
        ),
        (
            "command-rpc",
            vec![r#"{"id":13,"rpc":{"method":"method","data":{}}}"#],
        ),
        ("command-send", vec![r#"{"send":{"data":{"a":1}}}"#]),
        ("command-pong", vec!["{}"]),
        (
            "command-unsubscribe",
            vec![r#"{"id":14,"unsubscribe":{"channel":"room:1"}}"#],
        ),
        (
            "command-refresh",
            vec![r#"{"id":16,"refresh":{"token":"connection-token-2"}}"#],
        ),
        (
            "command-sub-refresh",
            vec![r#"{"id":18,"sub_refresh":{"channel":"room:1","token":"subscription-token-2"}}"#],
        ),
    ] {
        let json: Vec<_> = json
            .iter()
            .map(|line| Command::parse(line).unwrap())
            .collect();
        let protobuf = commands(&frames[name]);
        assert_eq!(format!("{protobuf:?}"), format!("{json:?}"), "{name}");
    }
}

#[test]
fn data_is_a_json_text_whatever_it_says() {
    let frames = frames();
    let data = |name: &str| -> Vec<String> {
        let commands = commands(&frames[name]);
        let data = commands.iter().map(|command| match &command.method {
            Method::Publish(request) => match request.data {
                Payload::Json(data) => data.get().to_owned(),
                Payload::Missing => "missing".to_owned(),
                Payload::NotJson => "no JSON".to_owned(),
            },
            other => panic!("{other:?}"),
        });
        data.collect()
    };
    assert_eq!(data("command-publish-three"), ["1", "\"two\"", "null"]);
    assert_eq!(data("command-publish-binary"), ["no JSON"]);
    assert_eq!(data("command-publish-empty"), ["missing"]);
}

#[test]
fn half_a_frame_is_none() {
    for (name, frame) in frames() {
        if !name.starts_with("command") {
            continue;
        }
        let whole = commands(&frame).len();
        for end in 1..frame.len() {
            let outcomes: Vec<_> = Commands::of(&frame[..end]).collect();
            let cut = outcomes.last().unwrap();
            let at_a_border = cut.is_ok() && outcomes.len() < whole;
            assert!(
                at_a_border || matches!(cut, Err(ProtobufError::Truncated)),
                "{name} {end}: {cut:?}"
            );
        }
    }
}

fn info() -> Json {
    let info = format!(r#"{{"user":"Zoë","client":"{CLIENT_NAME}","conn_info":{{"name":"z"}}}}"#);
    Json::parse(info.as_bytes()).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

fn publication(seq: u64) -> Publication {
    Publication {
        seq: Seq(seq),
        id: Uuid::nil(),
        time: TIME,
        data: json(r#"{"x":1}"#),
        info: None,
        tags: None,
    }
}

#[test]
fn replies_are_what_the_official_client_would_write() {
    let frames = frames();
    let check = |name: &str, id: u32, answer: Answer<'_>| {
        let reply = written(|out| PROTOBUF.reply(id, &answer, out));
        assert_eq!(reply, frames[name], "{name}");
    };
    let epoch = &Epoch::parse("g1dydLxPhQEApiJ6").unwrap();
    let connected = ConnectResult {
        client: CLIENT_NAME,
        version: "0.1.0",
        ttl: Some(3600),
        ping: 25,
        pong: true,
        session: None,
        time: TIME,
        node: "n1",
        data: None,
        subs: &[],
    };
    check("reply-connect", 1, Answer::Connect(connected));
    let subscribed = |offset, recoverable, recovered: Option<bool>, ttl| {
        Answer::Subscribe(SubscribeResult {
            epoch,
            offset: Seq(offset),
            positioned: true,
            recoverable,
            was_recovering: recovered.is_some(),
            recovered,
            oldest: None,
            ttl,
            data: None,
            delta: false,
        })
    };
    check("reply-subscribe", 2, subscribed(0, false, None, None));
    let recovered = subscribed(70_000, true, Some(true), Some(60));
    check("reply-subscribe-recovered", 2, recovered);
    check("reply-unsubscribe", 3, Answer::Unsubscribe);
    check("reply-publish", 4, Answer::Publish);
    check("reply-ping", 5, Answer::Ping);
    let mut tagged = publication(8);
    tagged.info = Some(info());
    tagged.tags = Some(json(r#"{"a":"b"}"#));
    let history = Answer::History {
        publications: &[publication(7), tagged],
        head: Seq(8),
        epoch,
    };
    check("reply-history", 6, history);
    let info = info();
    let presence = Answer::Presence {
        members: vec![(CLIENT, &info)],
        result: PresenceResult::default(),
    };
    check("reply-presence", 300, presence);
    let stats = Answer::PresenceStats {
        clients: 3,
        users: 2,
        degraded: false,
    };
    check("reply-presence-stats", 7, stats);
    let refreshed = Answer::Refresh {
        client: CLIENT_NAME,
        ttl: Some(60),
    };
    check("reply-refresh", 8, refreshed);
    check("reply-sub-refresh", 9, Answer::SubRefresh { ttl: Some(60) });
    check("reply-error", 10, errors::TOO_MANY_REQUESTS.into());
    assert_eq!(written(|out| PROTOBUF.ping(out)), frames["reply-pong"]);
}

#[test]
fn pushes_are_what_the_official_client_would_write() {
    let frames = frames();
    let channel = &ChannelName::parse("room:1").unwrap();
    let epoch = &Epoch::parse("g1dydLxPhQEApiJ6").unwrap();
    let check = |name: &str, write: &dyn Fn(&mut Vec<u8>)| {
        assert_eq!(written(write), frames[name], "{name}");
    };
    let mut tagged = publication(7);
    tagged.info = Some(info());
    tagged.tags = Some(json(r#"{"event":"typing","":""}"#));
    let mut long = publication(7);
    long.data = json(&format!("\"{}\"", "x".repeat(300)));
    let plain = publication(7);
    let message = &NewsBody::Message {
        data: json("[1]"),
        info: Some(info()),
        tags: None,
    };
    let forms: [&dyn Form; 2] = [&PUSHES, &PUSHES_WITH_JOINS];
    for form in forms {
        for (name, publication) in [
            ("reply-push-publication", &plain),
            ("reply-push-publication-tagged", &tagged),
            ("reply-push-publication-long", &long),
        ] {
            check(name, &|out| form.encode(channel, epoch, publication, out));
        }
        check("reply-push-message", &|out| {
            form.encode_news(channel, message, out)
        });
    }
    let join = &NewsBody::Join { info: info() };
    let leave = &NewsBody::Leave { info: info() };
    for (name, news) in [("reply-push-join", join), ("reply-push-leave", leave)] {
        check(name, &|out| {
            PUSHES_WITH_JOINS.encode_news(channel, news, out)
        });
        let mut out = Vec::new();
        PUSHES.encode_news(channel, news, &mut out);
        assert_eq!(out, b"", "{name} for one who did not ask");
    }
    check("reply-push-unsubscribe", &|out| {
        PROTOBUF.push_unsubscribe(channel, unsubscribes::INSUFFICIENT, out);
    });
}

#[test]
fn what_the_protocol_has_no_field_for_has_one_that_clients_pass_over() {
    use super::proto::{Field, Value, decode};
    let epoch = &Epoch::parse("e").unwrap();
    let own = |answer: Answer<'_>| -> Vec<Field> {
        let reply = written(|out| PROTOBUF.reply(1, &answer, out));
        let Some((_, Value::Bytes(result))) = decode(&reply[1..]).pop() else {
            panic!("{reply:x?}")
        };
        let mut fields = decode(&result);
        fields.retain(|(number, _)| *number > 1000);
        fields
    };
    let subscribed = |oldest| {
        own(Answer::Subscribe(SubscribeResult {
            epoch,
            offset: Seq(9),
            positioned: true,
            recoverable: true,
            was_recovering: true,
            recovered: Some(false),
            oldest,
            ttl: None,
            data: None,
            delta: false,
        }))
    };
    let one = Value::Varint(1);
    assert_eq!(
        subscribed(Some(Seq(4))),
        [(1001, one.clone()), (1002, Value::Varint(4))]
    );
    assert_eq!(subscribed(None), [(1003, one.clone())]);
    let busy = Answer::Error {
        error: errors::BUSY,
        retry_after_ms: Some(70),
    };
    assert_eq!(own(busy), [(1001, Value::Varint(70))]);
    let presence = Answer::Presence {
        members: Vec::new(),
        result: PresenceResult {
            total: Some(2000),
            degraded: true,
        },
    };
    assert_eq!(
        own(presence),
        [
            (1001, one.clone()),
            (1002, one.clone()),
            (1003, Value::Varint(2000))
        ]
    );
    let stats = Answer::PresenceStats {
        clients: 1,
        users: 1,
        degraded: true,
    };
    assert_eq!(own(stats), [(1001, one)]);
}
