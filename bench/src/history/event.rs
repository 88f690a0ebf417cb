//! What a history is made of. `docs/history.md` describes it for readers in other languages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Version of the format. A reader refuses any other.
pub(crate) const HISTORY_VERSION: u32 = 1;

/// One line of a history: an object with one member, whose name says what happened.
///
/// Times (`t`) are nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share. Channels (`k`) are indexes
/// into the header's list. `s` is a number within a channel, `g` an epoch, `n` the number of a message within the run,
/// `h` the [`content_hash`] of its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Event<'a> {
    /// The first line.
    Header {
        /// [`HISTORY_VERSION`].
        version: u32,
        /// Name of the run.
        run: String,
        /// When the run began by the wall clock, in milliseconds since 1970.
        unix_ms: u64,
        /// The same moment by the clock of all other lines.
        t: u64,
        /// Names of the channels.
        channels: Vec<String>,
    },
    /// A publish is handed to a socket for the first time.
    Invoke {
        /// When.
        t: u64,
        /// Which publish: the number of its message.
        op: u64,
        /// When it was meant to be sent; latencies count from here.
        at: u64,
        /// Where to.
        k: u32,
        /// Hash of its data.
        h: u64,
        /// The connection it went to.
        p: u32,
        /// The connection promises order: publishes of the same `pipe` were sent one after the other on one connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pipe: Option<u32>,
        /// Its idempotency key.
        #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
        key: Option<Cow<'a, str>>,
    },
    /// A publish whose outcome is not known is sent once more.
    Retry {
        /// When.
        t: u64,
        /// Which publish.
        op: u64,
        /// The connection it went to.
        p: u32,
    },
    /// A publish was acknowledged.
    Ok {
        /// When the answer was read.
        t: u64,
        /// Which publish.
        op: u64,
        /// The epoch that the answer named, where it does.
        #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
        g: Option<Cow<'a, str>>,
        /// The number that the answer named, where it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        s: Option<u64>,
        /// The answer called it a duplicate of an earlier try.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    /// A publish was refused: it is not in the log and never will be.
    Fail {
        /// When the answer was read.
        t: u64,
        /// Which publish.
        op: u64,
        /// The refusal.
        #[serde(borrow)]
        why: Cow<'a, str>,
    },
    /// A publish was given up and its outcome is not known: it may be in the log or not.
    Info {
        /// When it was given up.
        t: u64,
        /// Which publish.
        op: u64,
        /// The latest failure.
        #[serde(borrow)]
        why: Cow<'a, str>,
    },
    /// A subscription was confirmed: for the first time, or again from the client's own position.
    Subscribe {
        /// When.
        t: u64,
        /// The client.
        c: u32,
        /// The channel.
        k: u32,
        /// The epoch.
        #[serde(borrow)]
        g: Cow<'a, str>,
        /// The position: the next publication is the one after it.
        s: u64,
        /// The client had asked to go on from a position of its own, and the server agreed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resumed: bool,
    },
    /// A client received a publication, in the epoch of its latest subscription.
    Receive {
        /// When its bytes were read.
        t: u64,
        /// The client.
        c: u32,
        /// The channel.
        k: u32,
        /// Its number; 0 when it had none.
        s: u64,
        /// The message that it says to be, if it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// Hash of its data.
        h: u64,
    },
    /// A client was told that its position is not one of this log; it goes on after another one.
    Reset {
        /// When.
        t: u64,
        /// The client.
        c: u32,
        /// The channel.
        k: u32,
        /// The epoch that it goes on in.
        #[serde(borrow)]
        g: Cow<'a, str>,
        /// The position that it goes on after.
        s: u64,
    },
    /// A client was told that retention has overtaken its position; it goes on after another one of the same epoch.
    Truncated {
        /// When.
        t: u64,
        /// The client.
        c: u32,
        /// The channel.
        k: u32,
        /// The position that it goes on after.
        s: u64,
    },
    /// A client lost its connection and means to come back.
    Lost {
        /// When.
        t: u64,
        /// The client.
        c: u32,
        /// What ended it.
        #[serde(borrow)]
        why: Cow<'a, str>,
    },
    /// A client was ended on purpose: nothing more is owed to it.
    Ended {
        /// When.
        t: u64,
        /// The client.
        c: u32,
        /// Why.
        #[serde(borrow)]
        why: Cow<'a, str>,
    },
    /// A reader asks the history API.
    Read {
        /// When.
        t: u64,
        /// Which read.
        r: u64,
        /// The channel.
        k: u32,
        /// Only what is after this number.
        s: u64,
        /// At most so many.
        limit: u64,
    },
    /// A reader was answered; without this line, it was not.
    Result {
        /// When.
        t: u64,
        /// Which read.
        r: u64,
        /// The epoch.
        #[serde(borrow)]
        g: Cow<'a, str>,
        /// The channel's head, as answered.
        head: u64,
        /// The oldest number that is still there, when the answer said that others were removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oldest: Option<u64>,
        /// Number, message and hash of each publication in the answer.
        rows: Vec<(u64, Option<u64>, u64)>,
    },
    /// A fault begins.
    FaultBegin {
        /// When.
        t: u64,
        /// Its name.
        #[serde(borrow)]
        name: Cow<'a, str>,
        /// The log becomes another one by it (its database is restored, promoted or copied): until the end of the fault
        /// commits may be lost, and the epoch changes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        new_epoch: bool,
    },
    /// A fault ends: from here on the system may heal.
    FaultEnd {
        /// When.
        t: u64,
        /// Its name.
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    /// The log of a channel as it stood after the run; its rows follow.
    Dump {
        /// When.
        t: u64,
        /// The channel.
        k: u32,
        /// The epoch.
        #[serde(borrow)]
        g: Cow<'a, str>,
        /// The last number given out.
        head: u64,
        /// The oldest number that is still there, when the answer said that others were removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oldest: Option<u64>,
    },
    /// A publication of the log.
    Row {
        /// The channel.
        k: u32,
        /// Its number.
        s: u64,
        /// The message that it says to be, if it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// Hash of its data.
        h: u64,
    },
    /// The last line: without it the file is not whole.
    End {
        /// When.
        t: u64,
        /// Lines of the file, this one included.
        lines: u64,
        /// How long threads of the run waited for the file, in nanoseconds over all of them.
        stalled: u64,
    },
}

/// Hash of the data of a publication, as the bytes stand on the wire: the upper 53 bits of FNV-1a with 64 bits, which
/// every reader of JSON can hold.
pub(crate) fn content_hash(data: &[u8]) -> u64 {
    let hash = data.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    hash >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_objects_with_one_member() {
        let event = Event::Receive {
            t: 5,
            c: 1,
            k: 2,
            s: 3,
            n: Some(4),
            h: 6,
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"receive":{"t":5,"c":1,"k":2,"s":3,"n":4,"h":6}}"#);
        assert_eq!(serde_json::from_str::<Event<'_>>(&line).unwrap(), event);
        let result = Event::Result {
            t: 1,
            r: 2,
            g: "e".into(),
            head: 4,
            oldest: None,
            rows: vec![(3, Some(1), 9), (4, None, 9)],
        };
        let line = serde_json::to_string(&result).unwrap();
        assert_eq!(
            line,
            r#"{"result":{"t":1,"r":2,"g":"e","head":4,"rows":[[3,1,9],[4,null,9]]}}"#
        );
        assert_eq!(serde_json::from_str::<Event<'_>>(&line).unwrap(), result);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            r#"{"receive":{"t":5,"c":1,"k":2,"s":3,"h":6,"more":1}}"#,
            r#"{"receive":{"t":5,"c":1,"k":2,"s":3}}"#,
            r#"{"other":{}}"#,
        ] {
            assert!(serde_json::from_str::<Event<'_>>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // FNV-1a of "a" is af63dc4c8601ec8c, of nothing the offset basis.
        assert_eq!(content_hash(b"a"), 0xAF63_DC4C_8601_EC8C >> 11);
        assert_eq!(content_hash(b""), 0xCBF2_9CE4_8422_2325 >> 11);
    }
}
