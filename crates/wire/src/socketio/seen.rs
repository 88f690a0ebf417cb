//! How far a client has read, in a text that it carries for the server.
//!
//! With connection state recovery a client keeps the last argument of each event, if that is a string, and hands it back
//! when it reconnects. So the server keeps nothing: the text says it all, and it is good on every node. It reads
//! `<epoch> <seq> <channel> <seq> <channel>…`; a channel with `-` in place of a number is one that the client is in
//! without a position to come back to, and a number with `+` behind it one in which it is told who joins and leaves.

use crate::{ChannelName, Epoch, Seq, put};

/// Channels that a client can carry.
pub const CHANNELS_MAX: usize = 64;
/// Longest text that is read, in bytes.
pub const SEEN_BYTES_MAX: usize = 20 << 10;

/// The channels that a client is in, and what it has read of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The log's epoch.
    pub epoch: Epoch,
    /// In no order; `None` where it can only go on live.
    pub channels: Vec<(ChannelName, Option<Seq>)>,
    /// Those of them in which the client was told who joins and leaves.
    pub joins: Vec<ChannelName>,
}

impl Seen {
    /// Reads a text from a client. `None` if the server never wrote such a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > SEEN_BYTES_MAX {
            return None;
        }
        let mut words = text.split(' ');
        let epoch = Epoch::parse(words.next()?)?;
        let mut channels: Vec<(ChannelName, Option<Seq>)> = Vec::new();
        let mut joins = Vec::new();
        while let Some(seq) = words.next() {
            let (seq, is_told) = match seq.strip_suffix('+') {
                Some(seq) => (seq, true),
                None => (seq, false),
            };
            let seq = match seq {
                "-" if !is_told => None,
                // Digits only: `parse` would take a sign.
                seq if seq.starts_with('+') => return None,
                seq => Some(Seq(seq.parse().ok()?)),
            };
            let name = ChannelName::parse(words.next()?).ok()?;
            let known = channels.iter().any(|(known, _)| *known == name);
            if known || channels.len() == CHANNELS_MAX {
                return None;
            }
            if is_told {
                joins.push(name.clone());
            }
            channels.push((name, seq));
        }
        Some(Self {
            epoch,
            channels,
            joins,
        })
    }
}

/// Appends the text as a JSON string. Nothing in it has to be escaped. Of each channel: its name, what was read of it, and
/// whether the client is told who joins and leaves.
pub fn put_seen<'a>(
    epoch: &Epoch,
    channels: impl Iterator<Item = (&'a ChannelName, Option<Seq>, bool)>,
    out: &mut Vec<u8>,
) {
    put(out, format_args!("\"{epoch}"));
    for (name, seq, is_told) in channels {
        match seq {
            Some(seq) if is_told => put(out, format_args!(" {seq}+ {name}")),
            Some(seq) => put(out, format_args!(" {seq} {name}")),
            None => put(out, format_args!(" - {name}")),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(seen: &Seen) -> String {
        let mut out = Vec::new();
        let channels = seen.channels.iter();
        let channels = channels.map(|(name, seq)| (name, *seq, seen.joins.contains(name)));
        put_seen(&seen.epoch, channels, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn what_the_server_never_wrote_is_not_read() {
        for bad in [
            "",
            "-",
            "e1 ",
            "e1 1",
            "e1 1 a 2",
            "e1 -1 a",
            "e1 +1 a",
            "e1 -+ a",
            "e1 + a",
            "e1 1 a 2 a",
            "e1  1 a",
            "hello there",
        ] {
            assert_eq!(Seen::parse(bad), None, "{bad:?}");
        }
        let many: String = (0..=CHANNELS_MAX).map(|at| format!(" 1 c{at}")).collect();
        assert_eq!(Seen::parse(&format!("e1{many}")), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_is_refused(text in ".{0,64}") {
            let _ = Seen::parse(&text);
        }

        #[test]
        fn what_was_written_is_read(
            channels in prop::collection::btree_map(
                "[!#-\\[\\]-~]{1,255}",
                any::<(Option<u64>, bool)>(),
                0..=CHANNELS_MAX,
            ),
        ) {
            let mut seen = Seen {
                epoch: Epoch::parse("e7").unwrap(),
                channels: Vec::new(),
                joins: Vec::new(),
            };
            for (name, (seq, is_told)) in channels {
                let name = ChannelName::parse(&name).unwrap();
                if is_told && seq.is_some() {
                    seen.joins.push(name.clone());
                }
                seen.channels.push((name, seq.map(Seq)));
            }
            prop_assert_eq!(Seen::parse(&written(&seen)), Some(seen));
        }
    }
}
