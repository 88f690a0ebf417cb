//! The client's half of RFC 6455, as much as a load generator needs: opening handshake, masked frames out, plain frames
//! in. Sans-IO: bytes in, bytes out. It offers no extension, so it never has to inflate anything.

use memchr::memmem;

/// The largest frame and the largest message of several frames that is taken, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The largest answer to the opening handshake that is taken, in bytes.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// A fixed key, for the answer to it is then known without SHA-1. The key guards against caches, not against people.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a server must answer to [`KEY`] (the example of RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What frames are masked with. Fixed, for there is no script here whose bytes a proxy would have to be saved from.
const MASK: [u8; 4] = [0x5A, 0x0F, 0xC3, 0x96];

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// More of a message of several frames.
    Continuation,
    /// Text.
    Text,
    /// Bytes.
    Binary,
    /// The other side ends the connection.
    Close,
    /// To be answered with a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// One frame within the bytes it was read from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Whether it is the last one of its message.
    pub(crate) last: bool,
    /// Its kind.
    pub(crate) opcode: Opcode,
    /// What it carries.
    pub(crate) payload: &'a [u8],
}

/// What a server must not send.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WebSocketError {
    /// The handshake was answered with something else than 101.
    #[error("the WebSocket handshake was refused: {0}")]
    Refused(String),
    /// The handshake was answered by something that does not speak WebSocket.
    #[error("the answer to the WebSocket handshake is not one")]
    Handshake,
    /// A frame or message is larger than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is larger than is taken")]
    TooLarge(u64),
    /// A frame breaks the protocol.
    #[error("broken WebSocket frame: {0}")]
    Frame(&'static str),
}

/// The request that opens a connection.
pub(crate) fn handshake_request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Looks for the whole answer to the handshake at the beginning of `bytes`: its length, or `None` when more must come.
pub(crate) fn handshake_answer(bytes: &[u8]) -> Result<Option<usize>, WebSocketError> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        if bytes.len() > HANDSHAKE_BYTES_MAX {
            return Err(WebSocketError::Handshake);
        }
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| WebSocketError::Handshake)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 ") {
        return Err(WebSocketError::Handshake);
    }
    if status.split(' ').nth(1) != Some("101") {
        return Err(WebSocketError::Refused(status.chars().take(100).collect()));
    }
    let accepted = lines.any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
        })
    });
    if accepted {
        Ok(Some(end + 4))
    } else {
        Err(WebSocketError::Handshake)
    }
}

/// Takes the frame at the beginning of `bytes`: the frame and its whole length, or `None` when more must come.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WebSocketError> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(WebSocketError::Frame("a reserved bit is set"));
    }
    if second & 0x80 != 0 {
        return Err(WebSocketError::Frame("a server must not mask"));
    }
    let opcode = match first & 0x0F {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(WebSocketError::Frame("unknown opcode")),
    };
    let (head, length) = match second & 0x7F {
        126 => match bytes.get(2..4).and_then(|field| field.try_into().ok()) {
            Some(field) => (4, u64::from(u16::from_be_bytes(field))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|field| field.try_into().ok()) {
            Some(field) => (10, u64::from_be_bytes(field)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if length > MESSAGE_BYTES_MAX as u64 {
        return Err(WebSocketError::TooLarge(length));
    }
    let whole = head + length as usize;
    let Some(payload) = bytes.get(head..whole) else {
        return Ok(None);
    };
    let last = first & 0x80 != 0;
    if matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong) && (!last || length > 125) {
        return Err(WebSocketError::Frame(
            "a control frame must be short and whole",
        ));
    }
    Ok(Some((
        Frame {
            last,
            opcode,
            payload,
        },
        whole,
    )))
}

/// Appends one masked frame to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    out.push(0x80 | code);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let begin = out.len();
    out.extend_from_slice(payload);
    for chunk in out[begin..].chunks_mut(MASK.len()) {
        for (byte, mask) in chunk.iter_mut().zip(MASK) {
            *byte ^= mask;
        }
    }
}

/// Code and reason of a close frame; 1005 when it has none.
pub(crate) fn close_reason(payload: &[u8]) -> (u16, String) {
    match payload {
        [high, low, reason @ ..] => (
            u16::from_be_bytes([*high, *low]),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        _ => (1005, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=0xFFFF => {
                bytes.push(126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_frame_split_anywhere_is_not_taken_before_it_is_whole() {
        for size in [0, 1, 125, 126, 127, 300, 0xFFFF, 0x1_0000] {
            let payload: Vec<u8> = (0..size).map(|i: usize| i as u8).collect();
            let bytes = plain(0x81, &payload);
            for cut in
                (0..bytes.len()).filter(|cut| bytes.len() < 1_000 || *cut < 20 || cut % 997 == 0)
            {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{size} bytes cut at {cut}");
            }
            let (frame, used) = decode(&bytes).unwrap().unwrap();
            assert!(frame.last);
            assert_eq!(
                (frame.opcode, frame.payload, used),
                (Opcode::Text, &payload[..], bytes.len())
            );
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert!(decode(&[0x81, 0x80]).is_err());
        assert!(decode(&[0xC1, 0x00]).is_err());
        assert!(decode(&[0x83, 0x00]).is_err());
        assert!(decode(&plain(0x89, &[0; 126])).is_err());
        assert!(decode(&[0x09, 0x00]).is_err());
        assert!(matches!(
            decode(&[0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0]),
            Err(WebSocketError::TooLarge(_))
        ));
    }

    #[test]
    fn what_is_sent_is_masked_and_says_its_length() {
        for size in [0, 5, 125, 126, 0xFFFF, 0x1_0000] {
            let payload = vec![b'x'; size];
            let mut out = Vec::new();
            encode(&mut out, Opcode::Text, &payload);
            assert_eq!(out[0], 0x81);
            assert_ne!(out[1] & 0x80, 0);
            let body = out.len() - size;
            assert_eq!(out[body - 4..body], MASK);
            for (i, byte) in out[body..].iter().enumerate() {
                assert_eq!(byte ^ MASK[i % 4], b'x');
            }
            // Without its mask it is a frame as a server sends it.
            let mut unmasked = out[..body - 4].to_vec();
            unmasked[1] &= 0x7F;
            unmasked.extend(&payload);
            assert_eq!(unmasked, plain(0x81, &payload));
        }
    }

    #[test]
    fn the_handshake_is_accepted_only_with_the_right_answer() {
        let good = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x00";
        for cut in 0..good.len() - 2 {
            assert_eq!(handshake_answer(&good[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(handshake_answer(good), Ok(Some(good.len() - 2)));
        let refused = handshake_answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert!(matches!(refused, Err(WebSocketError::Refused(status)) if status.contains("503")));
        let other = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: AAAA\r\n\r\n";
        assert_eq!(handshake_answer(other), Err(WebSocketError::Handshake));
        assert_eq!(
            handshake_answer(&[b'x'; HANDSHAKE_BYTES_MAX + 1]),
            Err(WebSocketError::Handshake)
        );
    }

    #[test]
    fn close_frames_are_read() {
        assert_eq!(close_reason(b"\x0d\xacbad"), (3500, "bad".to_owned()));
        assert_eq!(close_reason(b""), (1005, String::new()));
    }
}
