//! Makes the identity of a new log.

use fanfare_wire::Epoch;
use uuid::Uuid;

const LENGTH: usize = 16;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random letters and digits; no two databases have the same.
pub(crate) fn random() -> String {
    let mut rest = Uuid::new_v4().as_u128();
    let mut digit = || {
        let digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
        char::from(digit)
    };
    (0..LENGTH).map(|_| digit()).collect()
}

/// Reads the one that a database keeps; the error is a sentence for its operator.
pub(crate) fn parse(text: &str) -> Result<Epoch, String> {
    Epoch::parse(text).ok_or_else(|| format!("the database has the invalid epoch {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_valid_and_differ() {
        let (one, other) = (random(), random());
        assert_eq!(one.len(), LENGTH);
        assert!(parse(&one).is_ok() && parse("").is_err());
        assert_ne!(one, other);
    }
}
