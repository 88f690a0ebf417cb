//! Who gets in, by whom, and for how long.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::atomic::Ordering::Relaxed,
};

use fanfare_gateway::{
    access::{Capabilities, Terms},
    commands,
    token::{ConnectionClaims, SubscriptionClaims},
};
use serde_json::json;

use crate::{
    client::{Client, code},
    scene::{KEY, PATIENCE, Scene, claims, name, signer, token, wait_for},
};

const INTERNAL: u64 = 100;
const DENIED: u64 = 103;
const ROOM: &str = "chat:room";

#[test]
fn members_read_everything_and_others_nothing() {
    let scene = Scene::start(1);
    for number in 0..3 {
        scene.publish(0, ROOM, &number.to_string());
    }
    scene.app.add("ann", ROOM);
    let mut ann = scene.client(0, "ann");
    let mut bob = scene.client(0, "bob");
    let mut nobody = Client::open(scene.address(0));
    assert_eq!(code(&nobody.command("connect", json!({}))), 0);
    let of_room = || json!({"channel": ROOM, "limit": 10});
    // The namespace's classes let everybody; they do not count.
    for client in [&mut ann, &mut bob, &mut nobody] {
        for method in ["history", "presence", "publish"] {
            let request = json!({"channel": ROOM, "limit": 10, "data": 1});
            assert_eq!(code(&client.command(method, request)), DENIED, "{method}");
        }
    }
    for client in [&mut bob, &mut nobody] {
        assert_eq!(code(&client.subscribe(ROOM)), DENIED);
    }
    let from = json!({"channel": ROOM, "recover": true, "offset": 1, "epoch": "e1"});
    let reply = ann.command("subscribe", from);
    let result = &reply["subscribe"];
    assert_eq!(result["recovered"], true, "{reply}");
    assert_eq!(result["recoverable"], true, "{reply}");
    assert!(
        result.get("expires").is_none(),
        "only the server renews it: {reply}"
    );
    for number in 1..3 {
        assert_eq!(ann.push(ROOM, "pub")["data"], number);
    }
    let history = ann.command("history", of_room());
    let publications = history["history"]["publications"].as_array().unwrap();
    assert_eq!(publications.len(), 3, "{history}");
    let presence = ann.command("presence", of_room());
    let members = presence["presence"]["presence"].as_object().unwrap();
    assert_eq!(members.len(), 1, "{presence}");
    // Its subscribers publish where the namespace's class lets subscribers.
    ann.command("publish", json!({"channel": ROOM, "data": 3}));
    assert_eq!(ann.push(ROOM, "pub")["data"], 3);
    ann.command("unsubscribe", json!({"channel": ROOM}));
    assert_eq!(code(&ann.command("history", of_room())), DENIED);
    // Other namespaces are what they were.
    assert_eq!(code(&bob.subscribe("other:1")), 0);
}

#[test]
fn nothing_else_lets_anybody_in() {
    let scene = Scene::start(1);
    let caps = json!([
        {"channels": [ROOM], "allow": ["sub", "pub", "hst", "prs"]},
        {"channels": ["*"], "match": "wildcard", "allow": ["sub", "pub", "hst", "prs"]},
    ]);
    let mut bob = scene.client_with(
        0,
        ConnectionClaims {
            caps: serde_json::from_value::<Capabilities>(caps).unwrap(),
            channels: vec![name(ROOM)],
            ..claims("bob")
        },
    );
    assert_eq!(scene.app.asked(), 0, "a connect asks no judge");
    let granted = signer().sign_subscription(&SubscriptionClaims {
        sub: "bob".to_owned(),
        channel: name(ROOM),
        exp: None,
        iat: None,
        expire_at: None,
        terms: Terms::default(),
    });
    let with_token = json!({"channel": ROOM, "token": granted.unwrap()});
    for request in [json!({"channel": ROOM}), with_token.clone()] {
        assert_eq!(code(&bob.command("subscribe", request)), DENIED);
    }
    assert_eq!(scene.app.asked(), 2);
    assert_eq!(code(&bob.command("sub_refresh", with_token)), DENIED);
    for method in ["history", "presence", "publish"] {
        let request = json!({"channel": ROOM, "data": 1});
        assert_eq!(code(&bob.command(method, request)), DENIED, "{method}");
    }
    // Names that are for users, and personal channels.
    for limited in ["chat:#bob", "chat:x#bob,ann"] {
        assert_eq!(code(&bob.subscribe(limited)), DENIED, "{limited}");
    }
    // The application's servers.
    let head = format!("POST /api/subscribe HTTP/1.1\r\nX-API-Key: {KEY}");
    let body = json!({"user": "bob", "channel": ROOM}).to_string();
    let (_, answer) = scene.http(
        0,
        &format!("{head}\r\nContent-Type: application/json"),
        &body,
    );
    assert!(answer.contains("103"), "{answer}");
    // Nor what is in the log all the same; the message behind it shows that it was read.
    let mut subscribing = commands::unsubscribe_draft("bob", &name("other:1")).unwrap();
    let text =
        json!({"clients": {"whose": {"user": "bob"}, "act": {"subscribe": {"channel": ROOM}}}});
    subscribing.data = fanfare_wire::Json::parse(text.to_string().as_bytes()).unwrap();
    scene.commit(0, subscribing);
    assert_eq!(code(&bob.subscribe("other:1")), 0);
    scene.commit(
        0,
        commands::unsubscribe_draft("bob", &name("other:1")).unwrap(),
    );
    bob.push("other:1", "unsubscribe");
    assert_eq!(
        code(&bob.command("history", json!({"channel": ROOM}))),
        DENIED
    );
    // Event streams.
    let bearer = token(&claims("ann"));
    scene.app.add("ann", ROOM);
    let head = format!("GET /events?channel={ROOM} HTTP/1.1\r\nAuthorization: Bearer {bearer}");
    let (status, _) = scene.http(0, &head, "");
    assert_eq!(status, 403);
}

#[test]
fn a_yes_holds_for_its_seconds() {
    let scene = Scene::start(1);
    scene.app.seconds.store(1, Relaxed);
    for user in ["ann", "bob"] {
        scene.app.add(user, ROOM);
    }
    let mut ann = scene.client(0, "ann");
    let mut bob = scene.client(0, "bob");
    for client in [&mut ann, &mut bob] {
        assert_eq!(code(&client.subscribe(ROOM)), 0);
    }
    // They are asked about again, and stay.
    wait_for(|| scene.app.asked() >= 6);
    scene.publish(0, ROOM, "1");
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.push(ROOM, "pub")["data"], 1);
    }
    // Nobody has told the nodes.
    scene.app.remove("ann", ROOM);
    assert_eq!(ann.push(ROOM, "unsubscribe")["code"], 2000);
    scene.publish(0, ROOM, "2");
    assert_eq!(bob.push(ROOM, "pub")["data"], 2);
}

#[test]
fn a_judge_that_cannot_say_lets_nobody_in_and_puts_nobody_out_at_once() {
    let scene = Scene::start(1);
    scene.app.seconds.store(1, Relaxed);
    scene.app.add("ann", ROOM);
    scene.app.add("ann", "chat:other");
    let mut ann = scene.client(0, "ann");
    assert_eq!(code(&ann.subscribe(ROOM)), 0);
    scene.app.away(true);
    let refused = ann.subscribe("chat:other");
    assert_eq!(code(&refused), INTERNAL, "{refused}");
    assert_eq!(refused["error"]["temporary"], true, "{refused}");
    let asked = scene.app.asked();
    wait_for(|| scene.app.asked() > asked);
    scene.publish(0, ROOM, "1");
    assert_eq!(ann.push(ROOM, "pub")["data"], 1);
    scene.app.away(false);
    assert_eq!(code(&ann.subscribe("chat:other")), 0);
}

#[test]
fn many_in_one_frame_are_asked_about_in_their_order() {
    const COUNT: usize = 500;
    let scene = Scene::start(1);
    let channels: Vec<String> = (0..COUNT).map(|it| format!("chat:{it}")).collect();
    for channel in &channels {
        scene.app.add("ann", channel);
    }
    let mut ann = scene.client(0, "ann");
    let subscribe = |(id, channel): (usize, &String)| {
        json!({"id": id + 10, "subscribe": {"channel": channel}}).to_string()
    };
    let frame: Vec<String> = channels.iter().enumerate().map(subscribe).collect();
    ann.send_text(frame.join("\n"));
    // Whoever's place in the log is known first is answered first.
    let mut ids = ann.ids(COUNT);
    ids.sort_unstable();
    let expected: Vec<u64> = (10..10 + COUNT as u64).collect();
    assert_eq!(ids, expected);
    assert_eq!(scene.app.asked_about(), channels);
    for channel in [&channels[0], &channels[COUNT - 1]] {
        scene.publish(0, channel, "7");
        assert_eq!(ann.push(channel, "pub")["data"], 7);
    }
}

#[test]
fn streams_and_protobuf_are_judged_as_well() {
    let scene = Scene::start(1);
    scene.app.add("ann", ROOM);
    let connect = json!({"id": 1, "connect": {"token": token(&claims("ann"))}});
    let subscribe = |id: u32, channel: &str| json!({"id": id, "subscribe": {"channel": channel}});
    let body = [connect, subscribe(2, "chat:other"), subscribe(3, ROOM)]
        .map(|it| it.to_string())
        .join("\n");
    let mut stream = TcpStream::connect(scene.address(0)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request = format!(
        "POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    let mut expect = |words: &str| {
        let mut buffer = [0; 4096];
        while !said.contains(words) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "{said}");
            said.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    };
    expect(r#""id":2,"error":{"code":103"#);
    expect(r#""id":3,"subscribe""#);
    scene.publish(0, ROOM, r#""over the stream""#);
    expect("over the stream");
    // Only listening is not being asked about.
    let subs = json!({"token": token(&claims("ann")), "subs": {ROOM: {}}}).to_string();
    let mut listener = TcpStream::connect(scene.address(0)).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = subs.len();
    let request = format!(
        "POST /connection/uni_http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{subs}"
    );
    listener.write_all(request.as_bytes()).unwrap();
    let mut said = String::new();
    let mut buffer = [0; 4096];
    while !said.contains(r#""unsubscribe":{"code":103"#) {
        let read = listener.read(&mut buffer).unwrap();
        assert!(read > 0, "{said}");
        said.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert_eq!(protobuf(&scene), ["connect", "error", "subscribe"]);
}

/// What the replies to a connect and two subscribes are that came in one frame of Protobuf.
fn protobuf(scene: &Scene) -> Vec<&'static str> {
    use tungstenite::{ClientRequestBuilder, Message};
    let field = |tag: u8, bytes: &[u8]| {
        // Lengths of two bytes are enough.
        let length = bytes.len();
        let mut out = vec![
            tag << 3 | 2,
            (length & 0x7f) as u8 | 0x80,
            (length >> 7) as u8,
        ];
        out.extend_from_slice(bytes);
        out
    };
    let command = |id: u8, tag: u8, request: &[u8]| {
        let command = [&[8, id][..], &field(tag, request)].concat();
        // Without its tag: a message that is delimited by its length.
        field(0, &command)[1..].to_vec()
    };
    let frame = [
        command(1, 4, &field(1, token(&claims("ann")).as_bytes())),
        command(2, 5, &field(1, b"chat:other")),
        command(3, 5, &field(1, ROOM.as_bytes())),
    ]
    .concat();
    let address = scene.address(0);
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://{address}/connection/websocket?format=protobuf");
    let request =
        ClientRequestBuilder::new(url.parse().unwrap()).with_sub_protocol("centrifuge-protobuf");
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    socket.send(Message::binary(frame)).unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        let Message::Binary(bytes) = socket.read().unwrap() else {
            continue;
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (length, reply) = varint(rest);
            let (reply, behind) = reply.split_at(length);
            rest = behind;
            // The number of the command stands first, then what the reply is.
            if reply[0] == 8 {
                kinds.push(match reply[2] >> 3 {
                    2 => "error",
                    5 => "connect",
                    6 => "subscribe",
                    other => panic!("field {other} of {reply:?}"),
                });
            }
        }
    }
    kinds
}

fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let digits = bytes[..=end].iter().rev();
    let value = digits.fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
    (value, &bytes[end + 1..])
}
