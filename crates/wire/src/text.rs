//! Texts within bounds.

/// As much of the beginning of a text as fits into so many bytes, without half a character at its end.
#[must_use]
pub fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_between_characters() {
        for (text, bytes_max, expected) in [
            ("", 0, ""),
            ("word", 4, "word"),
            ("word", 9, "word"),
            ("word", 3, "wor"),
            ("a€", 4, "a€"),
            ("a€", 3, "a"),
            ("a€", 2, "a"),
            ("€", 2, ""),
        ] {
            assert_eq!(
                shortened(text, bytes_max),
                expected,
                "{bytes_max} of {text}"
            );
        }
    }
}
