//! Frames, and bytes that are none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use fanfare_tests::api::Api;
use fanfare_tests::servers;
use fanfare_tests::wait::patience;
use fanfare_tests::ws::{Client, End};
use serde_json::json;

use super::Answer::Close;
use super::{
    Bystander, CLOSE_NOT_UTF8, CLOSE_PROTOCOL_ERROR, CLOSE_TOO_BIG, CLOSE_UNSUPPORTED, run,
};

/// More than a frame or the data of a publication may have.
const TOO_MANY_BYTES: usize = 8 * 1024 * 1024;

#[test]
fn frames_that_break_the_rules_of_websocket() {
    let mut node = servers::start(servers::dev());
    let address = node.address();
    let raw = |bytes: &[u8]| {
        let mut client = Client::connect(address);
        client.send_raw(bytes);
        client
    };
    let binary = {
        let mut client = Client::connect(address);
        client.send_binary(&[0xde, 0xad, 0xbe, 0xef]);
        client
    };
    let protocol_error = || Close(CLOSE_PROTOCOL_ERROR);
    let cases = vec![
        (
            "no UTF-8",
            raw(&frame(TEXT, &[0xff, 0xfe, 0xfd])),
            Close(CLOSE_NOT_UTF8),
        ),
        (
            "half a character",
            raw(&frame(TEXT, "ü".as_bytes().split_at(1).0)),
            Close(CLOSE_NOT_UTF8),
        ),
        ("binary garbage", binary, Close(CLOSE_UNSUPPORTED)),
        ("no mask", raw(&[TEXT, 2, b'{', b'}']), protocol_error()),
        (
            "an unknown opcode",
            raw(&frame(0x83, b"{}")),
            protocol_error(),
        ),
        ("a reserved bit", raw(&frame(0xc1, b"{}")), protocol_error()),
        (
            "a ping of 126 bytes",
            raw(&frame(0x89, &[0; 126])),
            protocol_error(),
        ),
        (
            "a ping in pieces",
            raw(&frame(0x09, b"x")),
            protocol_error(),
        ),
        (
            "a continuation of nothing",
            raw(&frame(0x80, b"{}")),
            protocol_error(),
        ),
        (
            "a frame of 2^62 bytes",
            raw(&header_of(TEXT, 1 << 62)),
            Close(CLOSE_TOO_BIG),
        ),
        (
            "a frame that is too long",
            raw(&header_of(TEXT, TOO_MANY_BYTES as u64)),
            Close(CLOSE_TOO_BIG),
        ),
    ];
    run(cases, &mut node);
}

#[test]
fn messages_without_an_end() {
    let mut node = servers::start(servers::dev());
    let mut bystander = Bystander::new(&node);
    let mut client = Client::connect(node.address());
    let text = "x".repeat(TOO_MANY_BYTES);
    client.send_command("publish", json!({ "channel": "c", "data": text }));
    // The server may close while the client still writes; the system then throws the close code away.
    match client.end() {
        End::Close(code, _) => assert_eq!(code, CLOSE_TOO_BIG),
        End::Broken => {}
    }
    bystander.check("one frame");

    let mut client = Client::connect(node.address());
    let piece = vec![b'x'; 64 * 1024];
    client.send_raw(&frame(0x01, &piece));
    for _ in 0..TOO_MANY_BYTES / piece.len() {
        client.send_raw(&frame(0x00, &piece));
    }
    match client.end() {
        End::Close(code, _) => assert_eq!(code, CLOSE_TOO_BIG),
        End::Broken => {}
    }
    bystander.check("many frames of one message");
    assert_eq!(Api::new(node.address()).history("c").head, 0);
    assert!(node.ended().is_none(), "{}", node.stderr());
}

#[test]
fn a_message_in_pieces_and_with_pings_between_is_good() {
    let node = servers::start(servers::dev());
    let mut client = Client::connect(node.address());
    let text = br#"{"id":900,"subscribe":{"channel":"in-pieces"}}"#;
    let (head, tail) = text.split_at(20);
    client.send_raw(&frame(0x01, head));
    client.send_raw(&frame(0x89, b"are you there"));
    client.send_raw(&frame(0x80, tail));
    let reply = client.answer().unwrap();
    assert_eq!(reply["id"], 900, "{reply}");
    assert!(reply.get("subscribe").is_some(), "{reply}");
}

#[test]
fn bytes_that_are_no_http() {
    let mut node = servers::start(servers::dev());
    let mut bystander = Bystander::new(&node);
    let garbage: [(&str, &[u8]); 4] = [
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ),
        ("zeros", &[0; 512]),
        ("no version", b"GET /\r\n\r\n"),
        ("a header without an end", &[b'x'; 256 * 1024]),
    ];
    for (case, bytes) in garbage {
        is_sent_away(node.address(), case, bytes);
        bystander.check(case);
    }
    // Handshakes that ask for what is not there.
    for path in ["/connection/nothing", "/connection"] {
        let response = Api::new(node.address()).get(path).unwrap();
        assert_eq!(response.status, 404, "{path}");
    }
    let plain = Api::new(node.address())
        .get("/connection/websocket")
        .unwrap();
    assert!((400..500).contains(&plain.status), "{}", plain.status);
    bystander.check("a plain GET of the WebSocket's path");
    assert!(node.ended().is_none(), "{}", node.stderr());
}

/// The server ends a connection that sends `bytes`, with or without a word.
#[track_caller]
fn is_sent_away(address: SocketAddr, case: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    // It may close before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{case}");
    }
}

/// First byte of a whole text frame.
const TEXT: u8 = 0x81;

/// The mask that all frames here use.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header_of(first, payload.len() as u64);
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ MASK[index % 4]),
    );
    bytes
}

/// The header of a masked frame, with its mask.
fn header_of(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}
