//! Reads an event stream as `EventSource` does: the head of the answer, its chunks, the events within. No IO.

use memchr::{memchr, memmem};

/// The longest head, line of a chunk's size, or event that is taken, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// The head of the answer.
    Head {
        /// The status.
        status: u16,
        /// Whether the body is an event stream.
        event_stream: bool,
    },
    /// After how many milliseconds to come back.
    Retry(u64),
    /// Where the stream is now.
    Id(String),
    /// An event; its id came before it as an [`Item::Id`], if it has one.
    Event {
        /// `message` where the stream does not say.
        name: String,
        /// Its own id, if it has one.
        id: Option<String>,
        /// Its data.
        data: String,
    },
}

/// Why a stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamError {
    /// It is not HTTP/1.1, or not as it should be.
    #[error("an answer that is not HTTP/1.1")]
    Http,
    /// Something has no end.
    #[error("an event, or a line, without an end")]
    Endless,
    /// An event is no text.
    #[error("an event that is not text")]
    Text,
    /// The body has come to its end, in good order.
    #[error("the server ended the stream")]
    Ended,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    framing: Framing,
    /// What came and is not yet whole: of the head, or of a chunk's frame.
    raw: Vec<u8>,
    /// What came of the body and is no whole event yet.
    text: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Framing {
    #[default]
    Head,
    /// The body ends with the connection.
    Plain,
    ChunkSize,
    /// So many bytes of a chunk are to come, then the end of its line.
    Chunk(usize),
}

impl Reader {
    /// Takes bytes as they come; adds what they complete to `items`.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is then over.
    pub(crate) fn feed(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), StreamError> {
        self.raw.extend_from_slice(bytes);
        let ended = self.unframe(items);
        self.take_events(items)?;
        if self.raw.len() > BYTES_MAX || self.text.len() > BYTES_MAX {
            return Err(StreamError::Endless);
        }
        ended
    }

    /// Moves what is whole from `raw` to `text`.
    fn unframe(&mut self, items: &mut Vec<Item>) -> Result<(), StreamError> {
        let mut at = 0;
        let result = loop {
            let rest = &self.raw[at..];
            match self.framing {
                Framing::Head => {
                    let Some(end) = memmem::find(rest, b"\r\n\r\n") else {
                        break Ok(());
                    };
                    match parse_head(&rest[..end]) {
                        Some((head, chunked)) => {
                            items.push(head);
                            self.framing = match chunked {
                                true => Framing::ChunkSize,
                                false => Framing::Plain,
                            };
                            at += end + 4;
                        }
                        None => break Err(StreamError::Http),
                    }
                }
                Framing::Plain => {
                    self.text.extend_from_slice(rest);
                    at = self.raw.len();
                    break Ok(());
                }
                Framing::ChunkSize => {
                    let Some(end) = memchr(b'\n', rest) else {
                        break Ok(());
                    };
                    match parse_size(&rest[..end]) {
                        Some(0) => break Err(StreamError::Ended),
                        Some(size) => self.framing = Framing::Chunk(size),
                        None => break Err(StreamError::Http),
                    }
                    at += end + 1;
                }
                // The line's end after a chunk is two bytes.
                Framing::Chunk(size) if rest.len() < size + 2 => break Ok(()),
                Framing::Chunk(size) => {
                    self.text.extend_from_slice(&rest[..size]);
                    at += size + 2;
                    self.framing = Framing::ChunkSize;
                }
            }
        };
        self.raw.drain(..at);
        result
    }

    fn take_events(&mut self, items: &mut Vec<Item>) -> Result<(), StreamError> {
        let mut at = 0;
        while let Some(end) = memmem::find(&self.text[at..], b"\n\n") {
            let block = &self.text[at..at + end];
            let block = str::from_utf8(block).map_err(|_| StreamError::Text)?;
            parse_block(block, items);
            at += end + 2;
        }
        self.text.drain(..at);
        Ok(())
    }
}

fn parse_head(head: &[u8]) -> Option<(Item, bool)> {
    let head = str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let mut head = (status.parse().ok()?, false);
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-type") {
            head.1 = value.starts_with("text/event-stream");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        }
    }
    let (status, event_stream) = head;
    let head = Item::Head {
        status,
        event_stream,
    };
    Some((head, chunked))
}

fn parse_size(line: &[u8]) -> Option<usize> {
    let line = str::from_utf8(line).ok()?.trim();
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).ok()?;
    (size <= BYTES_MAX).then_some(size)
}

fn parse_block(block: &str, items: &mut Vec<Item>) {
    let (mut name, mut id, mut data) = (String::new(), None, None::<String>);
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut data) {
            ("event", _) => value.clone_into(&mut name),
            ("id", _) => id = Some(value.to_owned()),
            ("retry", _) => items.extend(value.parse().ok().map(Item::Retry)),
            ("data", None) => data = Some(value.to_owned()),
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            _ => {}
        }
    }
    items.extend(id.clone().map(Item::Id));
    if let Some(data) = data {
        if name.is_empty() {
            "message".clone_into(&mut name);
        }
        items.push(Item::Event { name, id, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
        18\r\nretry: 900\n\nid: e-1.7\nda\r\n1e;x=y\r\nta: one\ndata: two\n\n: alive\n\nev\r\n\
        13\r\nent: b\ndata: {}\n\nid\r\n8\r\n: e-1.9\n\r\n1\r\n\n\r\n0\r\n\r\n";

    fn expected() -> Vec<Item> {
        let event = |name: &str, id: Option<&str>, data: &str| Item::Event {
            name: name.to_owned(),
            id: id.map(str::to_owned),
            data: data.to_owned(),
        };
        vec![
            Item::Head {
                status: 200,
                event_stream: true,
            },
            Item::Retry(900),
            Item::Id("e-1.7".to_owned()),
            event("message", Some("e-1.7"), "one\ntwo"),
            event("b", None, "{}"),
            Item::Id("e-1.9".to_owned()),
        ]
    }

    #[test]
    fn a_stream_is_read_the_same_however_it_is_cut() {
        for size in [1, 2, 3, 7, 64, ANSWER.len()] {
            let (mut reader, mut items, mut ended) = (Reader::default(), Vec::new(), false);
            for piece in ANSWER.chunks(size) {
                if !ended {
                    ended = reader.feed(piece, &mut items) == Err(StreamError::Ended);
                }
            }
            assert!(ended, "in pieces of {size}");
            assert_eq!(items, expected(), "in pieces of {size}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_head() {
        let mut items = Vec::new();
        let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        Reader::default().feed(answer, &mut items).unwrap();
        let refusal = Item::Head {
            status: 401,
            event_stream: false,
        };
        assert_eq!(items, [refusal]);
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let read = |answer: &[u8]| Reader::default().feed(answer, &mut Vec::new());
        assert_eq!(read(b"SSH-2.0\r\n\r\n"), Err(StreamError::Http));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n";
        assert_eq!(read(chunked), Err(StreamError::Http));
        let head = b"HTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(
            read(&[head, &[0xff; 4][..], b"\n\n"].concat()),
            Err(StreamError::Text)
        );
        let endless = [&head[..], &vec![b'a'; BYTES_MAX + 1]].concat();
        assert_eq!(read(&endless), Err(StreamError::Endless));
    }
}
