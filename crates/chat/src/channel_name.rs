//! Names of channels: Slack's rules.

use crate::failure::Failure;

/// Longest name, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 80;

/// Checks a name: small letters of any script, digits, `-` and `_`, and not marks alone.
///
/// # Errors
/// `invalid_name_required`, `invalid_name_maxlength`, `invalid_name_specials`, `invalid_name_punctuation`.
pub(crate) fn check(name: Option<String>) -> Result<String, Failure> {
    let name = name.ok_or_else(|| Failure::new("invalid_name_required"))?;
    let name = name.strip_prefix('#').unwrap_or(&name).trim();
    let is_mark = |letter: char| matches!(letter, '-' | '_');
    let fits = |letter: char| {
        is_mark(letter) || letter.is_numeric() || (letter.is_alphabetic() && !letter.is_uppercase())
    };
    let problem = if name.is_empty() {
        "invalid_name_required"
    } else if name.chars().count() > NAME_CHARS_MAX {
        "invalid_name_maxlength"
    } else if name.chars().all(|letter| letter.is_ascii_punctuation()) {
        "invalid_name_punctuation"
    } else if !name.chars().all(fits) {
        "invalid_name_specials"
    } else {
        return Ok(name.to_owned());
    };
    Err(Failure::new(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_slacks() {
        let code = |name: &str| check(Some(name.to_owned())).map_err(|it| it.code);
        for good in [
            "general",
            "team-42",
            "a_b",
            "größe",
            "雑談",
            &"a".repeat(80),
        ] {
            assert_eq!(code(good).unwrap(), good);
        }
        assert_eq!(code("#random").unwrap(), "random");
        for (bad, problem) in [
            ("", "invalid_name_required"),
            (" ", "invalid_name_required"),
            (&*"a".repeat(81), "invalid_name_maxlength"),
            ("--_", "invalid_name_punctuation"),
            ("General", "invalid_name_specials"),
            ("two words", "invalid_name_specials"),
            ("a.b", "invalid_name_specials"),
            ("<b>", "invalid_name_specials"),
        ] {
            assert_eq!(code(bad).unwrap_err(), problem, "{bad}");
        }
        assert!(check(None).unwrap_err().is("invalid_name_required"));
    }
}
