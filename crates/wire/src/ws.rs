//! Server side framing of RFC 6455, over byte slices.
//!
//! Frames from a server are not masked, so one frame serves every client; frames from a client are unmasked in place
//! where they were read, and nothing is copied unless a message comes in fragments.

use std::borrow::Cow;

use thiserror::Error;

/// Fragments of one message; more are taken for an attack.
pub const FRAGMENTS_MAX: u32 = 64;
/// The longest frame header that a server writes.
pub const HEADER_BYTES_MAX: usize = 10;

/// Close codes of RFC 6455 section 7.4.1 that this server sends.
pub mod close_code {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The server goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A kind of data that is not served.
    pub const UNSUPPORTED: u16 = 1003;
    /// Text that is not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// A message over the limit.
    pub const TOO_BIG: u16 = 1009;
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message, checked to be UTF-8.
    Text(Cow<'a, str>),
    /// A whole binary message.
    Binary(Cow<'a, [u8]>),
    /// A ping; answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// The peer closes, with its code if it gave one.
    Close(Option<u16>),
    /// A fragment was taken; the message is not whole yet.
    Fragment,
}

/// Why a client's bytes are no WebSocket frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The protocol is broken: reserved bits or opcodes, no mask, a bad control frame, or fragments out of place.
    #[error("websocket protocol error")]
    Protocol,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A message over the limit.
    #[error("message too big")]
    TooBig,
}

impl FrameError {
    /// The close code for it.
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => close_code::PROTOCOL,
            Self::NotUtf8 => close_code::NOT_UTF8,
            Self::TooBig => close_code::TOO_BIG,
        }
    }
}

/// Takes frames out of a client's bytes. Holds memory only while a message is in fragments.
#[derive(Debug, Default)]
pub struct Decoder {
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    text: bool,
    count: u32,
    payload: Vec<u8>,
}

struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    start: usize,
    end: usize,
}

impl Decoder {
    /// Takes the first frame of `bytes`, unmasking it in place. `None` if it is not whole yet; otherwise what it says
    /// and how many bytes it took.
    ///
    /// # Errors
    /// [`FrameError`]: close the connection with its code. A message longer than `bytes_max` is refused as soon as its
    /// header is there.
    pub fn next<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
        bytes_max: usize,
    ) -> Result<Option<(Incoming<'a>, usize)>, FrameError> {
        let gathered = self
            .fragments
            .as_ref()
            .map_or(0, |fragments| fragments.payload.len());
        let Some(header) = header(bytes, bytes_max.saturating_sub(gathered))? else {
            return Ok(None);
        };
        if bytes.len() < header.end {
            return Ok(None);
        }
        let payload = &mut bytes[header.start..header.end];
        unmask(payload, header.mask);
        let payload = &*payload;
        let incoming = match (header.opcode, header.fin) {
            (OPCODE_TEXT | OPCODE_BINARY, _) if self.fragments.is_some() => {
                return Err(FrameError::Protocol);
            }
            (OPCODE_TEXT, true) => Incoming::Text(Cow::Borrowed(text(payload)?)),
            (OPCODE_BINARY, true) => Incoming::Binary(Cow::Borrowed(payload)),
            (OPCODE_TEXT | OPCODE_BINARY, false) => {
                let text = header.opcode == OPCODE_TEXT;
                self.fragments = Some(Box::new(Fragments {
                    text,
                    count: 1,
                    payload: payload.to_vec(),
                }));
                Incoming::Fragment
            }
            (OPCODE_CONTINUATION, fin) => self.continuation(payload, fin)?,
            (OPCODE_PING, _) => Incoming::Ping(payload),
            (OPCODE_PONG, _) => Incoming::Pong,
            (OPCODE_CLOSE, _) => Incoming::Close(close_payload(payload)?),
            _ => return Err(FrameError::Protocol),
        };
        Ok(Some((incoming, header.end)))
    }

    fn continuation(&mut self, payload: &[u8], fin: bool) -> Result<Incoming<'static>, FrameError> {
        let mut fragments = self.fragments.take().ok_or(FrameError::Protocol)?;
        fragments.payload.extend_from_slice(payload);
        fragments.count += 1;
        if fragments.count > FRAGMENTS_MAX {
            return Err(FrameError::Protocol);
        }
        if !fin {
            self.fragments = Some(fragments);
            return Ok(Incoming::Fragment);
        }
        if fragments.text {
            let text = String::from_utf8(fragments.payload).map_err(|_| FrameError::NotUtf8)?;
            return Ok(Incoming::Text(Cow::Owned(text)));
        }
        Ok(Incoming::Binary(Cow::Owned(fragments.payload)))
    }
}

/// Appends a text frame.
pub fn text_frame(payload: &[u8], out: &mut Vec<u8>) {
    frame(OPCODE_TEXT, payload, out);
}

/// Appends a binary frame.
pub fn binary_frame(payload: &[u8], out: &mut Vec<u8>) {
    frame(OPCODE_BINARY, payload, out);
}

/// Appends a ping frame without a payload.
pub fn ping_frame(out: &mut Vec<u8>) {
    frame(OPCODE_PING, b"", out);
}

/// Appends a pong frame. `payload` comes from a ping, so it has at most 125 bytes.
pub fn pong_frame(payload: &[u8], out: &mut Vec<u8>) {
    frame(OPCODE_PONG, payload, out);
}

/// Appends a close frame. The reason is cut to what a control frame holds.
pub fn close_frame(code: u16, reason: &str, out: &mut Vec<u8>) {
    let mut payload = code.to_be_bytes().to_vec();
    let reason = reason.as_bytes();
    payload.extend_from_slice(&reason[..reason.len().min(CONTROL_BYTES_MAX - 2)]);
    frame(OPCODE_CLOSE, &payload, out);
}

/// Appends a text frame whose payload `write` appends.
pub fn text_frame_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    frame_with(OPCODE_TEXT, out, write);
}

/// Appends a binary frame whose payload `write` appends.
pub fn binary_frame_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    frame_with(OPCODE_BINARY, out, write);
}

/// What a server wrote, read again by a transport that is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// A text frame.
    Text(&'a [u8]),
    /// A binary frame.
    Binary(&'a [u8]),
    /// Any other frame.
    Control,
}

/// Takes the first frame of a server's bytes: what it says, and how many bytes it took. `None` at the end, or if the
/// bytes are not what a server writes.
#[must_use]
pub fn next_outgoing(bytes: &[u8]) -> Option<(Outgoing<'_>, usize)> {
    let &[first, second, ..] = bytes else {
        return None;
    };
    let (length, start): (usize, usize) = match second {
        126 => {
            let length = bytes.get(2..4)?;
            (usize::from(u16::from_be_bytes([length[0], length[1]])), 4)
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().ok()?;
            (usize::try_from(u64::from_be_bytes(length)).ok()?, 10)
        }
        length => (usize::from(length), 2),
    };
    let end = start.checked_add(length)?;
    let payload = bytes.get(start..end)?;
    let outgoing = match first & 0x0f {
        OPCODE_TEXT => Outgoing::Text(payload),
        OPCODE_BINARY => Outgoing::Binary(payload),
        _ => Outgoing::Control,
    };
    Some((outgoing, end))
}

const OPCODE_CONTINUATION: u8 = 0;
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;
const CONTROL_BYTES_MAX: usize = 125;

fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    put_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

fn frame_with(opcode: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // The length is not known yet: room for the longest header, then the payload moves up to a shorter one.
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_MAX]);
    let payload = out.len();
    write(out);
    let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
    put_header(opcode, out.len() - payload, &mut header);
    out[start..start + header.len()].copy_from_slice(&header);
    out.drain(start + header.len()..payload);
}

fn put_header(opcode: u8, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

fn header(bytes: &[u8], bytes_max: usize) -> Result<Option<Header>, FrameError> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    let masked = second & 0x80 != 0;
    let control = opcode >= OPCODE_CLOSE;
    let known = opcode <= OPCODE_BINARY || (OPCODE_CLOSE..=OPCODE_PONG).contains(&opcode);
    if first & 0x70 != 0 || !masked || !known || (control && !fin) {
        return Err(FrameError::Protocol);
    }
    let (length, at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (u64::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from_be_bytes(length), 10),
            None => return Ok(None),
        },
        length => (u64::from(length), 2),
    };
    if control && length > CONTROL_BYTES_MAX as u64 {
        return Err(FrameError::Protocol);
    }
    if !control && length > bytes_max as u64 {
        return Err(FrameError::TooBig);
    }
    let Some(mask) = bytes.get(at..at + 4).and_then(|mask| mask.try_into().ok()) else {
        return Ok(None);
    };
    let start = at + 4;
    // At most bytes_max, or 125.
    Ok(Some(Header {
        fin,
        opcode,
        mask,
        start,
        end: start + length as usize,
    }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask, mask].concat().try_into().unwrap_or_default());
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn text(payload: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(payload).map_err(|_| FrameError::NotUtf8)
}

fn close_payload(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::Protocol),
        [high, low, reason @ ..] => {
            text(reason)?;
            let code = u16::from_be_bytes([*high, *low]);
            let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if allowed {
                Ok(Some(code))
            } else {
                Err(FrameError::Protocol)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 250];
        let mut header = Vec::new();
        put_header(0, payload.len(), &mut header);
        header[0] = first;
        header[1] |= 0x80;
        header.extend_from_slice(&mask);
        let masked = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        header.into_iter().chain(masked).collect()
    }

    fn decode(frame: &[u8]) -> Result<Option<usize>, FrameError> {
        let mut bytes = frame.to_vec();
        Decoder::default()
            .next(&mut bytes, 1 << 20)
            .map(|next| next.map(|(_, taken)| taken))
    }

    #[test]
    fn a_message_of_any_length_is_taken_when_it_is_whole() {
        for length in [0, 1, 7, 8, 125, 126, 65535, 65536] {
            let payload: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
            let frame = masked(0x81, &payload);
            for end in (0..frame.len()).step_by(1 + length / 50) {
                assert_eq!(decode(&frame[..end]), Ok(None));
            }
            let mut bytes = [&frame[..], b"next"].concat();
            let mut decoder = Decoder::default();
            let expected = Incoming::Text(String::from_utf8(payload).unwrap().into());
            assert_eq!(
                decoder.next(&mut bytes, 1 << 20).unwrap(),
                Some((expected, frame.len()))
            );
        }
    }

    #[test]
    fn fragments_make_one_message_with_control_frames_between() {
        let mut decoder = Decoder::default();
        let mut next = |first, payload: &[u8]| {
            let mut bytes = masked(first, payload);
            match decoder
                .next(&mut bytes, 10)
                .map(|next| next.map(|(incoming, _)| incoming))?
            {
                Some(Incoming::Text(text)) => Ok(text.into_owned()),
                other => Ok::<_, FrameError>(format!("{other:?}")),
            }
        };
        assert_eq!(next(0x01, "hö".as_bytes()).unwrap(), "Some(Fragment)");
        assert_eq!(next(0x89, b"p").unwrap(), "Some(Ping([112]))");
        assert_eq!(next(0x00, b"l").unwrap(), "Some(Fragment)");
        assert_eq!(next(0x80, b"e").unwrap(), "höle");
        assert_eq!(next(0x80, b"e"), Err(FrameError::Protocol));
        assert_eq!(next(0x01, b"123456").unwrap(), "Some(Fragment)");
        assert_eq!(next(0x80, b"78901"), Err(FrameError::TooBig));
    }

    #[test]
    fn what_breaks_the_protocol_is_named() {
        assert_eq!(
            decode(&masked(0xc1, b"x")),
            Err(FrameError::Protocol),
            "reserved bit"
        );
        assert_eq!(
            decode(&masked(0x83, b"x")),
            Err(FrameError::Protocol),
            "reserved opcode"
        );
        assert_eq!(
            decode(&masked(0x09, b"x")),
            Err(FrameError::Protocol),
            "fragmented control"
        );
        assert_eq!(
            decode(&masked(0x89, &[0; 126])),
            Err(FrameError::Protocol),
            "long control"
        );
        assert_eq!(
            decode(&[0x81, 1, b'x']),
            Err(FrameError::Protocol),
            "no mask"
        );
        assert_eq!(decode(&masked(0x81, b"\xff")), Err(FrameError::NotUtf8));
        assert_eq!(
            decode(&masked(0x88, &[3])),
            Err(FrameError::Protocol),
            "half a close code"
        );
        assert_eq!(
            decode(&masked(0x88, &[3, 237])),
            Err(FrameError::Protocol),
            "close code 1005"
        );
        assert_eq!(
            decode(&masked(0x82, &vec![0; (1 << 20) + 1])[..14]),
            Err(FrameError::TooBig)
        );
    }

    #[test]
    fn what_a_server_wrote_can_be_read_again() {
        let mut frames = Vec::new();
        let payloads = [0, 125, 126, 70000].map(|length| vec![b'x'; length]);
        for payload in &payloads {
            text_frame(payload, &mut frames);
            binary_frame(payload, &mut frames);
        }
        close_frame(1000, "", &mut frames);
        let mut rest = &frames[..];
        for payload in &payloads {
            for expected in [Outgoing::Text(payload), Outgoing::Binary(payload)] {
                let (outgoing, taken) = next_outgoing(rest).unwrap();
                assert_eq!(outgoing, expected);
                rest = &rest[taken..];
            }
        }
        assert_eq!(next_outgoing(rest), Some((Outgoing::Control, rest.len())));
        for end in 0..rest.len() {
            assert_eq!(next_outgoing(&rest[..end]), None);
        }
    }

    #[test]
    fn a_frame_written_in_place_equals_one_made_of_its_payload() {
        for length in [0, 125, 126, 70000] {
            let payload = vec![b'x'; length];
            let mut expected = b"before".to_vec();
            text_frame(&payload, &mut expected);
            let mut out = b"before".to_vec();
            text_frame_with(&mut out, |out| out.extend_from_slice(&payload));
            assert_eq!(out, expected);
        }
    }
}
