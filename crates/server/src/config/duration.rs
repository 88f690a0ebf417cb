//! Durations as people write them: `500ms`, `1s`, `5m`, `1h`, `7d`.

use std::time::Duration;

/// How a duration is written, for error messages.
pub(super) const DURATION_FORMAT: &str =
    "write a whole number with ms, s, m, h or d behind it, such as 500ms, 60s or 7d";

/// Parses a duration; `None` if it is not one, or longer than fits.
#[must_use]
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(
                parse_duration(text),
                millis.map(Duration::from_millis),
                "{text:?}"
            );
        };
        check("500ms", Some(500));
        check("0s", Some(0));
        check("1s", Some(1_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("7d", Some(604_800_000));
        for wrong in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1S",
            "1w",
            "1ss",
            "٣s",
            "99999999999999999999s",
        ] {
            check(wrong, None);
        }
        check("9999999999999999d", None);
    }
}
