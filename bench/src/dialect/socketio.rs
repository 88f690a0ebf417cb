//! Socket.IO 4 (its protocol 5) over WebSocket, the namespace `/` only.

use memchr::memmem;

use super::{Heard, excerpt, name};
use crate::link::Outbox;

/// What the events begin with that carry what was published.
const MESSAGE: &[u8] = br#"42["message","#;

/// One packet from the server. The first character is the kind of Engine.IO, the second that of Socket.IO.
pub(super) fn hear<'a>(
    channel: &str,
    packet: &'a [u8],
    out: &mut Outbox,
) -> Result<Heard<'a>, String> {
    match packet {
        _ if packet.starts_with(MESSAGE) => Ok(Heard::Message(packet)),
        // Another event; Fanfare's `fanfare:position`, for one.
        [b'4', b'2', ..] => Ok(Heard::Nothing),
        // Opened: ask for the namespace.
        [b'0', ..] => {
            out.text(b"40");
            Ok(Heard::Nothing)
        }
        // In the namespace: subscribe, acknowledgement 0.
        [b'4', b'0', ..] => {
            out.text(format!(r#"420["subscribe",{}]"#, name(channel)).as_bytes());
            Ok(Heard::Nothing)
        }
        [b'4', b'3', ..] => match memmem::find(packet, b"\"error\"") {
            Some(_) => Err(format!("subscribe was refused: {}", excerpt(packet))),
            None => Ok(Heard::Subscribed),
        },
        // A ping.
        [b'2', ..] => {
            out.text(b"3");
            Ok(Heard::Nothing)
        }
        [b'6', ..] => Ok(Heard::Nothing),
        _ => Err(format!(
            "a packet that was not expected: {}",
            excerpt(packet)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_led_to_its_channel() {
        let mut out = Outbox::default();
        let mut say = |packet: &'static [u8]| {
            let before = out.waiting();
            let heard = hear("a\"b", packet, &mut out).unwrap();
            (heard, out.waiting() - before)
        };
        let masked = |length: usize| length + 6;
        assert_eq!(
            say(br#"0{"sid":"x","pingInterval":25000}"#),
            (Heard::Nothing, masked(2))
        );
        assert_eq!(
            say(br#"40{"sid":"y"}"#),
            (Heard::Nothing, masked(r#"420["subscribe","a\"b"]"#.len()))
        );
        assert_eq!(say(br#"430[{"offset":3}]"#), (Heard::Subscribed, 0));
        assert_eq!(say(b"2"), (Heard::Nothing, masked(1)));
        let position = br#"42["fanfare:position","e.1.c"]"#;
        assert_eq!(say(position), (Heard::Nothing, 0));
        let message = br#"42["message",{"at":1}]"#;
        assert_eq!(say(message), (Heard::Message(message), 0));
    }

    #[test]
    fn a_refusal_is_told() {
        let mut out = Outbox::default();
        let refused = hear("c", br#"430[{"error":{"code":103}}]"#, &mut out);
        assert!(refused.unwrap_err().contains("103"));
        assert!(hear("c", br#"44{"message":"no"}"#, &mut out).is_err());
        assert!(hear("c", b"", &mut out).is_err());
    }
}
