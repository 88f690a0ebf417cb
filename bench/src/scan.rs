//! Reads what a delivery says without parsing it into a tree: one walk over the keys that matter, in any order.
//!
//! Servers order their fields differently, and data may hold any text, so the walk follows the structure: a word inside of
//! a string or of a deeper object is never mistaken for a field. Values that do not matter are stepped over unread.

use memchr::memchr2;

/// Objects within objects that are followed when stepping over a value.
const DEPTH_MAX: usize = 128;

/// One object of a frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// `{}`: to be answered in kind.
    Ping,
    /// A publication of a channel.
    Publication(Publication<'a>),
    /// The answer to a command: rare, to be parsed in full.
    Reply,
    /// Another push (joined, left, unsubscribed …): rare, to be parsed in full.
    Push,
}

/// What matters of a publication.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Publication<'a> {
    /// The channel's name as it stands in the JSON text.
    pub(crate) channel: &'a [u8],
    /// `offset`; 0 when the server does not number.
    pub(crate) offset: u64,
    /// What the data says of itself.
    pub(crate) data: Data,
    /// The data as it stands in the JSON text.
    pub(crate) raw: &'a [u8],
}

/// What the generator put into the data of a publication.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    /// `at`: intended time of sending, nanoseconds of [`crate::clock`].
    pub(crate) at: Option<u64>,
    /// `n`: number of the message within the run.
    pub(crate) n: Option<u64>,
}

/// Reads one object; `None` when it is not well formed as far as it was read.
pub(crate) fn message(text: &[u8]) -> Option<Message<'_>> {
    let mut cursor = Cursor { text, at: 0 };
    let mut message = Message::Ping;
    cursor.object(|cursor, key| {
        if key != b"push" {
            message = Message::Reply;
            return cursor.skip();
        }
        message = push(cursor)?;
        Some(())
    })?;
    cursor.space();
    (cursor.at == text.len()).then_some(message)
}

/// Reads the data of a publication.
pub(crate) fn data(text: &[u8]) -> Option<Data> {
    Cursor { text, at: 0 }.data()
}

fn push<'a>(cursor: &mut Cursor<'a>) -> Option<Message<'a>> {
    let mut publication = Publication::default();
    let mut is_publication = false;
    cursor.object(|cursor, key| match key {
        b"channel" => {
            publication.channel = cursor.string()?;
            Some(())
        }
        b"pub" => {
            is_publication = true;
            cursor.object(|cursor, key| match key {
                b"offset" => {
                    publication.offset = cursor.number()?;
                    Some(())
                }
                b"data" => {
                    cursor.space();
                    let begin = cursor.at;
                    publication.data = cursor.data()?;
                    let text: &'a [u8] = cursor.text;
                    publication.raw = &text[begin..cursor.at];
                    Some(())
                }
                _ => cursor.skip(),
            })
        }
        _ => cursor.skip(),
    })?;
    Some(if is_publication {
        Message::Publication(publication)
    } else {
        Message::Push
    })
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.space();
        if self.peek()? == byte {
            self.at += 1;
            Some(())
        } else {
            None
        }
    }

    /// Walks over the members of an object; `member` must take each value.
    fn object(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            self.space();
            member(self, key)?;
            self.space();
            self.at += 1;
            match self.text.get(self.at - 1)? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// The text of a string, escapes left as they are.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let begin = self.at;
        loop {
            let text: &'a [u8] = self.text;
            self.at += memchr2(b'"', b'\\', &text[self.at..])?;
            if text[self.at] == b'"' {
                self.at += 1;
                return Some(&text[begin..self.at - 1]);
            }
            // The backslash and what it escapes; the digits of \uXXXX are ordinary text.
            self.at += 2;
            if self.at > text.len() {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<u64> {
        self.space();
        let begin = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > begin).then_some(value)
    }

    /// `at` and `n` of an object; of anything else, nothing.
    fn data(&mut self) -> Option<Data> {
        let mut data = Data::default();
        self.space();
        if self.peek()? != b'{' {
            self.skip()?;
            return Some(data);
        }
        self.object(|cursor, key| {
            let field = match key {
                b"at" => &mut data.at,
                b"n" => &mut data.n,
                _ => return cursor.skip(),
            };
            let begin = cursor.at;
            *field = cursor.number();
            // Data of someone else may hold anything under these names.
            if !matches!(
                cursor.peek(),
                Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
            ) || field.is_none()
            {
                *field = None;
                cursor.at = begin;
                cursor.skip()?;
            }
            Some(())
        })?;
        Some(data)
    }

    /// Steps over any value.
    fn skip(&mut self) -> Option<()> {
        self.space();
        match self.peek()? {
            b'"' => {
                self.string()?;
                Some(())
            }
            b'{' | b'[' => self.skip_nested(),
            _ => {
                let rest = &self.text[self.at..];
                let length = rest
                    .iter()
                    .position(|byte| {
                        matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
                    })
                    .unwrap_or(rest.len());
                self.at += length;
                (length > 0).then_some(())
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return None;
                    }
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(text: &str) -> Publication<'_> {
        match message(text.as_bytes()) {
            Some(Message::Publication(publication)) => publication,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn fields_are_found_in_any_order() {
        let expected = Publication {
            channel: b"bench:r:7",
            offset: 42,
            data: Data {
                at: Some(123),
                n: Some(9),
            },
            raw: b"",
        };
        for text in [
            r#"{"push":{"channel":"bench:r:7","pub":{"data":{"at":123,"n":9,"pad":"xx"},"offset":42,"time":5}}}"#,
            r#"{"push":{"channel":"bench:r:7","pub":{"offset":42,"data":{"pad":"xx","n":9,"at":123}}}}"#,
            r#"{"push":{"pub":{"tags":{"offset":"1"},"offset":42,"info":{"offset":1,"at":2},"data":{"n":9,"at":123}},"channel":"bench:r:7"}}"#,
            r#" { "push" : { "channel" : "bench:r:7" , "pub" : { "offset" : 42 , "data" : { "at" : 123 , "n" : 9 } } } } "#,
        ] {
            let found = publication(text);
            assert_eq!(data(found.raw), Some(expected.data), "{text}");
            let found = Publication { raw: b"", ..found };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn text_that_looks_like_a_field_is_not_one() {
        let text = r#"{"push":{"channel":"c","pub":{"data":{"pad":"\",\"offset\":7,\"at\":8,\\","more":{"at":1,"offset":2,"x":["\"}",{"n":3}]},"at":5},"offset":6}}}"#;
        let found = publication(text);
        assert_eq!(
            (found.offset, found.data),
            (
                6,
                Data {
                    at: Some(5),
                    n: None
                }
            )
        );
        let found =
            publication(r#"{"push":{"channel":"a\"b","pub":{"data":"\"offset\":9","offset":1}}}"#);
        assert_eq!((found.channel, found.offset), (&br#"a\"b"#[..], 1));
        let found =
            publication(r#"{"push":{"channel":"c","pub":{"data":{"at":1.5,"n":"x"},"offset":1}}}"#);
        assert_eq!(found.data, Data::default());
        let found = publication(r#"{"push":{"channel":"c","pub":{"data":[{"at":1}]}}}"#);
        assert_eq!((found.offset, found.data), (0, Data::default()));
    }

    #[test]
    fn kinds_of_messages_are_told_apart() {
        assert_eq!(message(b"{}"), Some(Message::Ping));
        assert_eq!(
            message(br#"{"id":1,"connect":{"client":"x"}}"#),
            Some(Message::Reply)
        );
        assert_eq!(
            message(br#"{"push":{"channel":"c","join":{"info":{}}}}"#),
            Some(Message::Push)
        );
    }

    #[test]
    fn a_message_cut_anywhere_is_refused() {
        let text = br#"{"push":{"channel":"c","pub":{"data":{"at":1,"pad":"\\\"x","y":[1,{}]},"offset":6}}}"#;
        assert!(message(text).is_some());
        for cut in 0..text.len() {
            assert_eq!(message(&text[..cut]), None, "cut at {cut}");
        }
        for text in [
            "",
            "x",
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{}{}",
            r#"{"push":{"pub":{"offset":-1}}}"#,
        ] {
            assert_eq!(message(text.as_bytes()), None, "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(message(deep.as_bytes()), None);
    }
}
