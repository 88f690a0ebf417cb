//! Cuts the answers of a Redis into whole frames and knows the messages of Pub/Sub among them (RESP2 and RESP3).

use memchr::memmem;

/// Values within values that are followed; Redis itself nests no deeper than a few.
const DEPTH_MAX: usize = 16;

/// A frame larger than this is not waited for: the rest of the connection then passes unread.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Bytes of one connection on their way to becoming frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Something came that is no RESP; nothing is read from here on.
    unreadable: bool,
}

/// One whole frame, or bytes that could not be read as one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its bytes, as they came.
    pub(super) bytes: Vec<u8>,
    /// Whether it brings a published message to a subscriber.
    pub(super) is_message: bool,
}

impl Frames {
    /// Adds what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole frame.
    pub(super) fn take(&mut self) -> Option<Piece> {
        if self.bytes.is_empty() {
            return None;
        }
        let whole = match frame_length(&self.bytes, 0) {
            Ok(Some(length)) if !self.unreadable => length,
            Ok(None) if !self.unreadable && self.bytes.len() < FRAME_BYTES_MAX => return None,
            _ => {
                self.unreadable = true;
                self.bytes.len()
            }
        };
        let rest = self.bytes.split_off(whole);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        let is_message = !self.unreadable && is_message(&bytes);
        Some(Piece { bytes, is_message })
    }
}

/// The length of the value at the beginning of `bytes`: `None` while it is not whole, an error when it is none.
fn frame_length(bytes: &[u8], depth: usize) -> Result<Option<usize>, Unreadable> {
    let Some((&kind, _)) = bytes.split_first() else {
        return Ok(None);
    };
    if depth > DEPTH_MAX {
        return Err(Unreadable);
    }
    let Some(end) = memmem::find(bytes, b"\r\n") else {
        return Ok(None);
    };
    let line = &bytes[1..end];
    let after = end + 2;
    match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Ok(Some(after)),
        b'$' | b'=' | b'!' => match count(line)? {
            None => Ok(Some(after)),
            Some(length) => {
                let whole = after + length + 2;
                Ok((bytes.len() >= whole).then_some(whole))
            }
        },
        b'*' | b'~' | b'>' => values_length(bytes, after, count(line)?.unwrap_or(0), depth),
        b'%' => values_length(bytes, after, 2 * count(line)?.unwrap_or(0), depth),
        // Attributes stand before the value that they describe.
        b'|' => values_length(bytes, after, 2 * count(line)?.unwrap_or(0) + 1, depth),
        _ => Err(Unreadable),
    }
}

fn values_length(
    bytes: &[u8],
    begin: usize,
    values: usize,
    depth: usize,
) -> Result<Option<usize>, Unreadable> {
    let mut at = begin;
    for _ in 0..values {
        match frame_length(&bytes[at..], depth + 1)? {
            Some(length) => at += length,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// A count or length; `None` for the -1 that means nothing at all.
fn count(line: &[u8]) -> Result<Option<usize>, Unreadable> {
    let text = str::from_utf8(line).map_err(|_| Unreadable)?;
    if text == "-1" {
        return Ok(None);
    }
    match text.parse() {
        Ok(count) if count <= FRAME_BYTES_MAX => Ok(Some(count)),
        _ => Err(Unreadable),
    }
}

struct Unreadable;

/// `["message", topic, payload]` or its kin for shards, as an array or a push.
fn is_message(frame: &[u8]) -> bool {
    let begins = [
        b"$7\r\nmessage\r\n".as_slice(),
        b"$8\r\nsmessage\r\n".as_slice(),
    ];
    matches!(frame, [b'*' | b'>', b'3', b'\r', b'\n', rest @ ..]
        if begins.iter().any(|begin| rest.starts_with(begin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$6\r\nx\r\n\r\nz\r\n";

    fn pieces(bytes: &[u8], size: usize) -> Vec<Piece> {
        let mut frames = Frames::default();
        let mut pieces = Vec::new();
        for chunk in bytes.chunks(size) {
            frames.feed(chunk);
            while let Some(piece) = frames.take() {
                pieces.push(piece);
            }
        }
        pieces
    }

    #[test]
    fn frames_are_the_same_in_whatever_pieces_they_come() {
        let frames: [&[u8]; 9] = [
            b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n",
            b"+OK\r\n",
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
            MESSAGE,
            b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$0\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*2\r\n*1\r\n:1\r\n=7\r\ntxt:abc\r\n",
            b"|1\r\n+ttl\r\n:9\r\n-ERR no\r\n",
        ];
        let bytes = frames.concat();
        for size in [1, 2, 3, 7, 1_000] {
            let pieces = pieces(&bytes, size);
            let found: Vec<&[u8]> = pieces.iter().map(|piece| &piece.bytes[..]).collect();
            assert_eq!(found, frames, "in pieces of {size}");
            let messages: Vec<bool> = pieces.iter().map(|piece| piece.is_message).collect();
            let expected = [false, false, false, true, true, false, false, false, false];
            assert_eq!(messages, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_passes_as_it_came() {
        let mut bytes = MESSAGE.to_vec();
        bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
        bytes.extend(MESSAGE);
        let pieces = pieces(&bytes, 1_000);
        assert!(pieces[0].is_message && pieces.iter().filter(|one| one.is_message).count() == 1);
        let all: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        assert_eq!(all, bytes);
    }
}
