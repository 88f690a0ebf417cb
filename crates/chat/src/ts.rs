//! `ts`: what a message is called within its conversation, and when it was said.
//!
//! Slack's form: seconds since 1970, a point, and exactly six decimals. Here it is the microsecond that the conversation's row gave to a
//! publication: always greater than the one before it, whatever clocks do, and in the order of commits.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use fanfare_engine::port::tables::Value;

/// Microseconds since 1970, one for each publication of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ts(pub(crate) i64);

const MICROS: i64 = 1_000_000;
/// Digits of the seconds at most: up to the year 33,658.
const SECONDS_DIGITS_MAX: usize = 12;
const DECIMALS: usize = 6;

impl Ts {
    /// Before everything: what has never been read is read up to here.
    pub(crate) const ZERO: Self = Self(0);
    /// Behind everything.
    pub(crate) const MAX: Self = Self(i64::MAX);

    /// What this node's clock says.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// Reads one; `None` if it is not seconds, a point and six decimals.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (seconds, micros) = text.split_once('.')?;
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=SECONDS_DIGITS_MAX).contains(&seconds.len()) && micros.len() == DECIMALS;
        if !(fits && is_number(seconds) && is_number(micros)) {
            return None;
        }
        let (seconds, micros): (i64, i64) = (seconds.parse().ok()?, micros.parse().ok()?);
        Some(Self(seconds * MICROS + micros))
    }

    /// Reads a bound of a range, which may have fewer decimals or none, as Slack takes it.
    pub(crate) fn parse_bound(text: &str) -> Option<Self> {
        let (seconds, micros) = text.split_once('.').unwrap_or((text, ""));
        if micros.len() > DECIMALS {
            return None;
        }
        Self::parse(&format!("{seconds}.{micros:0<DECIMALS$}"))
    }

    /// Whole seconds since 1970.
    pub(crate) fn seconds(self) -> i64 {
        self.0.div_euclid(MICROS)
    }
}

impl fmt::Display for Ts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(MICROS), self.0.rem_euclid(MICROS));
        write!(f, "{seconds:010}.{micros:06}")
    }
}

impl From<Ts> for Value {
    fn from(ts: Ts) -> Self {
        Self::Int(ts.0)
    }
}

impl From<Ts> for serde_json::Value {
    fn from(ts: Ts) -> Self {
        Self::String(ts.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_sorts_as_text(one in 0..4_000_000_000_000_000_i64, other in 0..4_000_000_000_000_000_i64) {
            let (one, other) = (Ts(one), Ts(other));
            prop_assert_eq!(Ts::parse(&one.to_string()), Some(one));
            prop_assert_eq!(Ts::parse_bound(&one.to_string()), Some(one));
            prop_assert_eq!(one.cmp(&other), one.to_string().cmp(&other.to_string()));
        }
    }

    #[test]
    fn anything_else_is_no_ts() {
        assert_eq!(Ts::ZERO.to_string(), "0000000000.000000");
        assert_eq!(Ts(1_503_435_956_000_247).to_string(), "1503435956.000247");
        for bad in [
            "",
            ".",
            "1.5",
            "1503435956",
            "1503435956.00024",
            "1503435956.0002470",
            "-503435956.000247",
            "1e9.000000",
            "９.000000",
        ] {
            assert_eq!(Ts::parse(bad), None, "{bad}");
        }
        assert_eq!(
            Ts::parse_bound("1503435956"),
            Some(Ts(1_503_435_956_000_000))
        );
        assert_eq!(
            Ts::parse_bound("1503435956.5"),
            Some(Ts(1_503_435_956_500_000))
        );
        assert_eq!(Ts::parse_bound("0"), Some(Ts::ZERO));
        assert_eq!(Ts::parse_bound("x"), None);
        assert_eq!(Ts::parse_bound("1.0000000"), None);
    }
}
