//! How much of a message is kept. Gmail's own bounds are wider, and nobody can rely on them.

use std::collections::BTreeSet;

use fanfare_wire::shortened;

use crate::message::Message;

/// Longest header `From`, in bytes; the rest is cut off.
pub const FROM_BYTES_MAX: usize = 512;
/// Longest header `Subject`, in bytes; the rest is cut off.
pub const SUBJECT_BYTES_MAX: usize = 1024;
/// Longest beginning of the text, in bytes; the rest is cut off.
pub const SNIPPET_BYTES_MAX: usize = 1024;
/// Longest id of a message, a thread or a label, in bytes. Gmail's are of 16 to 30. What is longer is left out.
pub const ID_BYTES_MAX: usize = 128;
/// Most labels of a message; more are left out, the last ones first. A row and its event with that many fit into one
/// transaction, however their characters must be written.
pub const LABELS_MAX: usize = 200;

/// A message within the bounds.
pub(crate) fn bounded(message: Message) -> Message {
    Message {
        from: cut(message.from, FROM_BYTES_MAX),
        subject: cut(message.subject, SUBJECT_BYTES_MAX),
        snippet: cut(message.snippet, SNIPPET_BYTES_MAX),
        thread_id: cut(message.thread_id, ID_BYTES_MAX),
        labels: bounded_labels(message.labels),
        ..message
    }
}

/// Labels within the bounds.
pub(crate) fn bounded_labels(labels: BTreeSet<String>) -> BTreeSet<String> {
    let sound = labels.into_iter().filter(|label| is_id(label));
    sound.take(LABELS_MAX).collect()
}

/// Whether a text can be an id of Gmail.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && !text.contains('\0')
}

/// At most so many bytes of a text, without NUL, which databases do not keep.
fn cut(text: String, bytes_max: usize) -> String {
    let mut text = match text.contains('\0') {
        true => text.replace('\0', " "),
        false => text,
    };
    text.truncate(shortened(&text, bytes_max).len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::HistoryId;

    #[test]
    fn what_is_kept_of_a_message_is_bounded() {
        let many = (0..LABELS_MAX + 9).map(|number| format!("Label_{number:04}"));
        let odd = ["a\0b".to_owned(), "x".repeat(ID_BYTES_MAX + 1)];
        let message = bounded(Message {
            id: "1".to_owned(),
            thread_id: "1".to_owned(),
            from: "ä".repeat(FROM_BYTES_MAX),
            subject: format!("a\0{}", "x".repeat(SUBJECT_BYTES_MAX)),
            snippet: "short".to_owned(),
            labels: many.chain(odd).collect(),
            date: 1,
            version: HistoryId(1),
        });
        assert_eq!(message.from.len(), FROM_BYTES_MAX);
        assert!(message.from.chars().all(|it| it == 'ä'));
        assert_eq!(message.subject.len(), SUBJECT_BYTES_MAX);
        assert!(message.subject.starts_with("a x"));
        assert_eq!(message.snippet, "short");
        assert_eq!(message.labels.len(), LABELS_MAX);
        assert!(
            message
                .labels
                .iter()
                .all(|label| label.starts_with("Label_"))
        );
        let odd_one = cut(format!("{}ä", "x".repeat(9)), 10);
        assert_eq!(odd_one.len(), 9, "no half character");
    }
}
