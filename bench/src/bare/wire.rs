//! What the yardstick reads and says: HTTP requests, masked frames, and the few replies. Sans-IO: bytes in, bytes out.

use std::io::Write;

use memchr::memmem;
use ring::digest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::target::{PUBLISH_PATH, WEBSOCKET_PATH};
use crate::token::base64_url;

/// The largest request, head and body, in bytes.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// What a WebSocket key is hashed with (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Where the counters are told.
const METRICS_PATH: &str = "/metrics";

/// What somebody asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// To become a WebSocket; with the answer to its key.
    Upgrade(String),
    /// To publish this body.
    Publish(&'a [u8]),
    /// The counters.
    Metrics,
    /// Anything else.
    Unknown,
}

/// A request that cannot be understood; the connection is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Takes the request at the beginning of `bytes` and its length, or `None` when more must come.
pub(super) fn request(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(Malformed);
    };
    let mut length = 0;
    let mut key = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Malformed)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().map_err(|_| Malformed)?;
        } else if name.eq_ignore_ascii_case("sec-websocket-key") {
            key = Some(value);
        }
    }
    if length > REQUEST_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(body) = bytes.get(end + 4..end + 4 + length) else {
        return Ok(None);
    };
    let request = match (method, path, key) {
        ("GET", WEBSOCKET_PATH, Some(key)) => Request::Upgrade(accept(key)),
        ("POST", PUBLISH_PATH, _) => Request::Publish(body),
        ("GET", METRICS_PATH, _) => Request::Metrics,
        _ => Request::Unknown,
    };
    Ok(Some((request, end + 4 + length)))
}

/// The answer to a WebSocket key.
fn accept(key: &str) -> String {
    let text = format!("{key}{GUID}");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    // The usual alphabet, and 20 bytes leave room for one `=`.
    let mut text = base64_url(hash.as_ref())
        .replace('-', "+")
        .replace('_', "/");
    text.push('=');
    text
}

/// The response that makes a connection a WebSocket.
pub(super) fn upgraded(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// A whole response.
pub(super) fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What is published.
#[derive(Debug, Deserialize)]
pub(super) struct Publish<'a> {
    /// Where to.
    pub(super) channel: &'a str,
    /// Any JSON; goes out as it came.
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

/// A command of the Centrifuge protocol; all but the two are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Command<'a> {
    /// Its number, for the reply.
    #[serde(default)]
    pub(super) id: u64,
    /// The first command of a connection.
    pub(super) connect: Option<IgnoredAny>,
    /// Everything of a channel from now on.
    #[serde(borrow)]
    pub(super) subscribe: Option<Subscribe<'a>>,
}

/// What is subscribed to.
#[derive(Debug, Deserialize)]
pub(super) struct Subscribe<'a> {
    /// The channel.
    pub(super) channel: &'a str,
}

/// A frame of a client: what it carries, unmasked, and its whole length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFrame {
    /// Its kind, as on the wire: 1 is text, 8 is the end.
    pub(super) opcode: u8,
    /// What it carries.
    pub(super) payload: Vec<u8>,
    /// Its length with the header.
    pub(super) length: usize,
}

/// Takes the frame at the beginning of `bytes`, or `None` when more must come.
pub(super) fn client_frame(bytes: &[u8]) -> Result<Option<ClientFrame>, Malformed> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    // Unmasked, or in several frames: the generator sends neither.
    if second & 0x80 == 0 || first & 0x80 == 0 {
        return Err(Malformed);
    }
    let (head, length) = match second & 0x7F {
        126 => match bytes.get(2..4).and_then(|field| field.try_into().ok()) {
            Some(field) => (4, usize::from(u16::from_be_bytes(field))),
            None => return Ok(None),
        },
        127 => return Err(Malformed),
        short => (2, usize::from(short)),
    };
    let Some(mask) = bytes.get(head..head + 4) else {
        return Ok(None);
    };
    let Some(payload) = bytes.get(head + 4..head + 4 + length) else {
        return Ok(None);
    };
    let unmasked = payload.iter().zip(mask.iter().cycle());
    Ok(Some(ClientFrame {
        opcode: first & 0x0F,
        payload: unmasked.map(|(byte, mask)| byte ^ mask).collect(),
        length: head + 4 + length,
    }))
}

/// Appends one text frame of what `write` writes.
pub(super) fn text_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // Room for the longest header that is used for short texts; a longer one moves the text, which is rare.
    let begin = out.len();
    out.extend_from_slice(&[0x81, 126, 0, 0]);
    write(out);
    let length = out.len() - begin - 4;
    match length {
        0..=125 => {
            out[begin + 1] = length as u8;
            out.drain(begin + 2..begin + 4);
        }
        126..=0xFFFF => {
            out[begin + 2..begin + 4].copy_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            let mut head = vec![0x81, 127];
            head.extend_from_slice(&(length as u64).to_be_bytes());
            out.splice(begin..begin + 4, head);
        }
    }
}

/// Appends the frame of one publication: byte for byte what a Centrifuge server says.
pub(super) fn publication(
    out: &mut Vec<u8>,
    channel: &str,
    data: &RawValue,
    offset: u64,
    time_ms: u64,
) {
    text_frame(out, |out| {
        // Writing to a vector does not fail.
        let _ = write!(
            out,
            r#"{{"push":{{"channel":"{channel}","pub":{{"data":{},"offset":{offset},"time":{time_ms}}}}}}}"#,
            data.get()
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{self, Opcode};

    #[test]
    fn a_request_is_taken_once_it_is_whole() {
        let text =
            b"POST /api/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /metrics HTTP/1.1\r\n\r\n";
        for cut in 0..text.len() - 27 {
            assert_eq!(request(&text[..cut]), Ok(None), "{cut}");
        }
        let (first, length) = request(text).unwrap().unwrap();
        assert_eq!(first, Request::Publish(b"abc"));
        let (second, _) = request(&text[length..]).unwrap().unwrap();
        assert_eq!(second, Request::Metrics);
        assert_eq!(request(b"x\r\n\r\n"), Err(Malformed));
        let long = b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n";
        assert_eq!(request(long), Err(Malformed));
    }

    #[test]
    fn the_generator_accepts_the_answer_to_its_handshake() {
        let asked = websocket::handshake_request("h", WEBSOCKET_PATH);
        let (Request::Upgrade(accept), length) = request(&asked).unwrap().unwrap() else {
            panic!("not an upgrade");
        };
        assert_eq!(length, asked.len());
        let answer = upgraded(&accept);
        assert_eq!(websocket::handshake_answer(&answer), Ok(Some(answer.len())));
    }

    #[test]
    fn frames_of_any_size_are_what_the_generator_reads() {
        for size in [0, 125, 126, 300, 0xFFFF, 0x1_0000] {
            let mut out = b"before".to_vec();
            let text = vec![b'x'; size];
            text_frame(&mut out, |out| out.extend_from_slice(&text));
            let (frame, length) = websocket::decode(&out[6..]).unwrap().unwrap();
            assert_eq!(
                (frame.opcode, frame.payload, length),
                (Opcode::Text, &text[..], out.len() - 6)
            );
        }
    }

    #[test]
    fn frames_of_the_generator_are_read() {
        for size in [0, 5, 125, 126, 1_000] {
            let text = vec![b'y'; size];
            let mut bytes = Vec::new();
            websocket::encode(&mut bytes, Opcode::Text, &text);
            for cut in 0..bytes.len() {
                assert_eq!(client_frame(&bytes[..cut]), Ok(None));
            }
            let frame = client_frame(&bytes).unwrap().unwrap();
            assert_eq!(
                (frame.opcode, frame.payload, frame.length),
                (1, text, bytes.len())
            );
        }
        assert_eq!(client_frame(&[0x81, 0x05]), Err(Malformed));
    }

    #[test]
    fn a_publication_is_what_a_server_says() {
        let publish: Publish<'_> =
            serde_json::from_str(r#"{"channel":"bench:x:0","data":{"n":2},"idempotency_key":"k"}"#)
                .unwrap();
        let mut out = Vec::new();
        publication(
            &mut out,
            publish.channel,
            publish.data,
            1,
            1_795_291_596_828,
        );
        let expected = r#"{"push":{"channel":"bench:x:0","pub":{"data":{"n":2},"offset":1,"time":1795291596828}}}"#;
        assert_eq!(&out[2..], expected.as_bytes());
    }
}
