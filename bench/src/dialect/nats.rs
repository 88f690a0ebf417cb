//! The text protocol of NATS: lines, and payloads of a length that the line before tells.

use std::fmt::Write as _;

use memchr::memmem;

use super::{Heard, Told, excerpt};
use crate::link::Outbox;
use crate::publish::response::Answer;

/// What a publisher says first. Acknowledged is what was sent before a ping that is answered: the server works in order.
pub(super) const INTRODUCTION: &[u8] =
    b"CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"fanfare-bench\",\"lang\":\"rust\",\"version\":\"1\"}\r\n";

/// The longest line, in bytes; `INFO` names the whole cluster.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The largest payload, in bytes.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What a subscriber says first. The answer to the ping confirms all of it.
pub(super) fn greeting(channel: &str) -> String {
    let introduction = String::from_utf8_lossy(INTRODUCTION);
    format!("{introduction}SUB {channel} 1\r\nPING\r\n")
}

/// Appends a publication and the ping whose answer acknowledges it.
pub(super) fn publish(out: &mut String, channel: &str, data: &str) {
    // Writing to a string does not fail.
    let _ = write!(out, "PUB {channel} {}\r\n{data}\r\nPING\r\n", data.len());
}

/// The line at the beginning of `bytes` without its end; `None` when more must come.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    match memmem::find(bytes, b"\r\n") {
        Some(end) => Ok(Some(&bytes[..end])),
        None if bytes.len() > LINE_BYTES_MAX => Err("a line without an end"),
        None => Ok(None),
    }
}

/// What a subscriber hears.
pub(super) fn hear<'a>(
    bytes: &'a [u8],
    out: &mut Outbox,
) -> Result<Option<(Heard<'a>, usize)>, String> {
    let Some(line) = line(bytes)? else {
        return Ok(None);
    };
    let begin = line.len() + 2;
    if line.starts_with(b"MSG ") {
        // MSG subject sid [reply] length
        let length = line.rsplit(|&byte| byte == b' ').next();
        let length: Option<usize> = length.and_then(|text| str::from_utf8(text).ok()?.parse().ok());
        let length = length
            .filter(|&length| length <= PAYLOAD_BYTES_MAX)
            .ok_or_else(|| format!("a message without a length: {}", excerpt(line)))?;
        return Ok(bytes
            .get(begin..begin + length + 2)
            .map(|payload| (Heard::Message(&payload[..length]), begin + length + 2)));
    }
    let heard = if line == b"PONG" {
        Heard::Subscribed
    } else if line == b"PING" {
        out.text(b"PONG\r\n");
        Heard::Nothing
    } else if line.starts_with(b"INFO ") || line == b"+OK" {
        Heard::Nothing
    } else {
        return Err(format!("the server said: {}", excerpt(line)));
    };
    Ok(Some((heard, begin)))
}

/// What a publisher hears.
pub(super) fn told(bytes: &[u8]) -> Result<Option<(Told, usize)>, &'static str> {
    let Some(line) = line(bytes)? else {
        return Ok(None);
    };
    let told = if line == b"PONG" {
        let acknowledged = Answer::Acknowledged {
            offset: None,
            epoch: String::new(),
            duplicate: false,
        };
        Told::Answer(acknowledged, false)
    } else if line == b"PING" {
        Told::Say(b"PONG\r\n")
    } else if line.starts_with(b"-ERR") {
        Told::Answer(Answer::Refused(excerpt(line)), true)
    } else {
        Told::Nothing
    };
    Ok(Some((told, line.len() + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_heard_in_whatever_pieces_they_come() {
        let mut out = Outbox::default();
        let text = b"INFO {\"server_id\":\"x\"}\r\nPONG\r\nMSG a.1 1 5\r\nhe\r\no\r\nMSG a.1 1 r 0\r\n\r\nPING\r\n";
        let expected = [
            Heard::Nothing,
            Heard::Subscribed,
            Heard::Message(b"he\r\no"),
            Heard::Message(b""),
            Heard::Nothing,
        ];
        let mut rest = &text[..];
        for heard in expected {
            let (found, length) = hear(rest, &mut out).unwrap().unwrap();
            assert_eq!(found, heard);
            for cut in 0..length {
                assert_eq!(
                    hear(&rest[..cut], &mut Outbox::default()),
                    Ok(None),
                    "{cut}"
                );
            }
            rest = &rest[length..];
        }
        assert!(rest.is_empty() && out.waiting() > 0, "the ping is answered");
        assert!(hear(b"-ERR 'no'\r\n", &mut out).is_err());
        assert!(hear(b"MSG a.1 1 x\r\n", &mut out).is_err());
        assert!(hear(&vec![b'x'; LINE_BYTES_MAX + 1], &mut out).is_err());
    }

    #[test]
    fn a_publish_is_acknowledged_by_the_pong_behind_it() {
        let mut out = String::new();
        publish(&mut out, "a.1", "{}");
        assert_eq!(out, "PUB a.1 2\r\n{}\r\nPING\r\n");
        let told = |text: &'static [u8]| told(text).unwrap().map(|(told, _)| told);
        assert!(matches!(told(b"INFO {}\r\n"), Some(Told::Nothing)));
        assert!(matches!(
            told(b"PONG\r\n"),
            Some(Told::Answer(Answer::Acknowledged { .. }, false))
        ));
        assert!(matches!(told(b"PING\r\n"), Some(Told::Say(b"PONG\r\n"))));
        assert!(matches!(
            told(b"-ERR 'x'\r\n"),
            Some(Told::Answer(Answer::Refused(_), true))
        ));
        assert!(told(b"PON").is_none());
    }
}
