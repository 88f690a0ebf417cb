//! Numbers as texts: compared as they are written, to the last digit, without being converted.

use std::cmp::Ordering;

/// A decimal number, borrowed from its text: an optional sign, digits, and perhaps a point and more digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// Without zeros before it; empty for zero.
    whole: &'a str,
    /// Without zeros behind it.
    fraction: &'a str,
}

impl<'a> Decimal<'a> {
    /// Reads a text; `None` if it is no such number.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (unsigned, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: text.starts_with('-') && !is_zero,
            whole,
            fraction,
        })
    }

    fn cmp_size(&self, other: &Self) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len());
        // Digits of a fraction count from the left, so a longer one with the same beginning is more.
        whole
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.cmp_size(other),
            (true, true) => other.cmp_size(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_to_the_last_digit() {
        let ascending = [
            "-10",
            "-9.5",
            "-9.49",
            "-0.001",
            "0",
            "0.001",
            "0.01",
            "0.1",
            "0.1000000000000000000000000001",
            "1",
            "9",
            "10",
            "10.05",
            "10.5",
            "9007199254740993",
            "9007199254740994",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                let ordering = Decimal::parse(one).cmp(&Decimal::parse(other));
                assert_eq!(ordering, at.cmp(&other_at), "{one} {other}");
            }
        }
        for (one, other) in [("1", "01.00"), ("0", "-0.0"), ("+3", "3"), ("2.50", "2.5")] {
            assert_eq!(Decimal::parse(one), Decimal::parse(other), "{one} {other}");
            assert!(Decimal::parse(one).is_some());
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "", "-", "+", ".", "1.", ".5", "1e5", "0x1", " 1", "1 ", "1,5", "--1", "1.-5", "NaN",
            "٣",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
