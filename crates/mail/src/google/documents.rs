//! Gmail's documents, and what of them we take.

use std::collections::BTreeMap;

use fanfare_wire::Millis;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::model::{Change, ChangeKind, HistoryPage, Label, MessagePage, Record, Watch};
use crate::message::{HistoryId, Message};

/// Longest sender that is taken, in characters; the rest is left out.
pub const FROM_CHARS_MAX: usize = 500;
/// Longest subject.
pub const SUBJECT_CHARS_MAX: usize = 1000;
/// Longest snippet. Gmail's are of about 200 characters.
pub const SNIPPET_CHARS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub(super) history_id: HistoryId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct History {
    #[serde(default)]
    history: Vec<HistoryRecord>,
    next_page_token: Option<String>,
    history_id: HistoryId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryRecord {
    id: HistoryId,
    #[serde(default)]
    messages_added: Vec<Entry>,
    #[serde(default)]
    messages_deleted: Vec<Entry>,
    #[serde(default)]
    labels_added: Vec<Entry>,
    #[serde(default)]
    labels_removed: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    message: Named,
    #[serde(default)]
    label_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    id: String,
    #[serde(default)]
    thread_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Messages {
    #[serde(default)]
    messages: Vec<Named>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OneMessage {
    id: String,
    thread_id: String,
    #[serde(default)]
    label_ids: Vec<String>,
    #[serde(default)]
    snippet: String,
    history_id: HistoryId,
    #[serde(deserialize_with = "millis")]
    internal_date: Millis,
    #[serde(default)]
    payload: Payload,
}

#[derive(Deserialize, Default)]
struct Payload {
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
pub(super) struct Labels {
    #[serde(default)]
    labels: Vec<OneLabel>,
}

#[derive(Deserialize)]
struct OneLabel {
    id: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WatchAnswer {
    history_id: HistoryId,
    #[serde(deserialize_with = "millis")]
    expiration: Millis,
}

impl From<History> for HistoryPage {
    fn from(page: History) -> Self {
        Self {
            records: page.history.into_iter().map(Record::from).collect(),
            next: page.next_page_token.filter(|next| !next.is_empty()),
            history_id: page.history_id,
        }
    }
}

impl From<HistoryRecord> for Record {
    fn from(record: HistoryRecord) -> Self {
        let change = |entry: Entry, kind: fn(Vec<String>) -> ChangeKind| Change {
            message: entry.message.id,
            thread: entry.message.thread_id,
            kind: kind(entry.label_ids),
        };
        let each = |entries: Vec<Entry>, kind: fn(Vec<String>) -> ChangeKind| {
            entries.into_iter().map(move |entry| change(entry, kind))
        };
        let added = each(record.messages_added, |_| ChangeKind::Added);
        let changes = added
            .chain(each(record.labels_added, ChangeKind::LabelsAdded))
            .chain(each(record.labels_removed, ChangeKind::LabelsRemoved))
            .chain(each(record.messages_deleted, |_| ChangeKind::Deleted));
        Self {
            id: record.id,
            changes: changes.collect(),
        }
    }
}

impl From<Messages> for MessagePage {
    fn from(page: Messages) -> Self {
        Self {
            ids: page.messages.into_iter().map(|named| named.id).collect(),
            next: page.next_page_token.filter(|next| !next.is_empty()),
        }
    }
}

impl From<OneMessage> for Message {
    fn from(it: OneMessage) -> Self {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for Header { name, value } in it.payload.headers {
            // The first counts, if there are several.
            headers.entry(name.to_ascii_lowercase()).or_insert(value);
        }
        let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        Self {
            from: shown(header("from"), FROM_CHARS_MAX),
            subject: shown(header("subject"), SUBJECT_CHARS_MAX),
            snippet: shown(&unescaped(&it.snippet), SNIPPET_CHARS_MAX),
            id: it.id,
            thread_id: it.thread_id,
            labels: it.label_ids.into_iter().collect(),
            date: it.internal_date,
            version: it.history_id,
        }
    }
}

impl From<Labels> for Vec<Label> {
    fn from(labels: Labels) -> Self {
        let label = |OneLabel { id, name }| Label { id, name };
        labels.labels.into_iter().map(label).collect()
    }
}

impl From<WatchAnswer> for Watch {
    fn from(answer: WatchAnswer) -> Self {
        Self {
            history_id: answer.history_id,
            expires: answer.expiration,
        }
    }
}

/// Gmail writes numbers of 64 bits as text.
fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse().map_err(|_| D::Error::custom("no number")),
    }
}

/// One line of at most so many characters, without control characters: databases do not take all of them.
fn shown(text: &str, chars_max: usize) -> String {
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(chars_max).map(plain).collect()
}

/// Gmail writes snippets for HTML.
fn unescaped(text: &str) -> String {
    const ENTITIES: [(&str, char); 6] = [
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&#39;", '\''),
        ("&nbsp;", ' '),
        ("&amp;", '&'),
    ];
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity));
        let (length, char) = entity.map_or((1, '&'), |(entity, char)| (entity.len(), *char));
        plain.push(char);
        rest = &rest[length..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_hold_several_changes_or_none() {
        let page: History = serde_json::from_str(
            r#"{"historyId":"90","nextPageToken":"","history":[
                {"id":"7","messages":[{"id":"a","threadId":"t"}]},
                {"id":"8","messages":[{"id":"a","threadId":"t"},{"id":"b","threadId":"t"}],
                 "messagesDeleted":[{"message":{"id":"b","threadId":"t"}}],
                 "labelsRemoved":[{"message":{"id":"a","threadId":"t","labelIds":["INBOX"]},"labelIds":["UNREAD"]}],
                 "labelsAdded":[{"message":{"id":"a","threadId":"t"},"labelIds":["STARRED","Label_1"]}],
                 "messagesAdded":[{"message":{"id":"b","threadId":"t","labelIds":["INBOX"]}}]}]}"#,
        )
        .unwrap();
        let page = HistoryPage::from(page);
        assert_eq!((page.history_id, page.next), (HistoryId(90), None));
        assert!(page.records[0].changes.is_empty());
        let changes = &page.records[1].changes;
        let told: Vec<_> = changes
            .iter()
            .map(|it| (it.message.as_str(), &it.kind))
            .collect();
        let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            told,
            [
                ("b", &ChangeKind::Added),
                (
                    "a",
                    &ChangeKind::LabelsAdded(labels(&["STARRED", "Label_1"]))
                ),
                ("a", &ChangeKind::LabelsRemoved(labels(&["UNREAD"]))),
                ("b", &ChangeKind::Deleted),
            ]
        );
        let empty: History = serde_json::from_str(r#"{"historyId":"90"}"#).unwrap();
        assert!(HistoryPage::from(empty).records.is_empty());
    }

    #[test]
    fn a_message_may_lack_almost_everything() {
        let bare = r#"{"id":"a","threadId":"t","historyId":"5","internalDate":"1700000000000"}"#;
        let message: OneMessage = serde_json::from_str(bare).unwrap();
        let message = Message::from(message);
        assert_eq!((message.from.as_str(), message.subject.as_str()), ("", ""));
        assert!(message.labels.is_empty());
        assert_eq!(
            (message.date, message.version),
            (1_700_000_000_000, HistoryId(5))
        );
        let cased = r#"{"id":"a","threadId":"t","historyId":5,"internalDate":17,"payload":{"headers":[
            {"name":"SUBJECT","value":"first"},{"name":"Subject","value":"second"},{"name":"from","value":"f"}]}}"#;
        let message: OneMessage = serde_json::from_str(cased).unwrap();
        let message = Message::from(message);
        assert_eq!(
            (message.from.as_str(), message.subject.as_str()),
            ("f", "first")
        );
        for broken in [
            r#"{"id":"a","threadId":"t","historyId":"5"}"#,
            r#"{"id":"a","threadId":"t","historyId":"5","internalDate":"soon"}"#,
            r#"{"threadId":"t","historyId":"5","internalDate":"1"}"#,
        ] {
            assert!(
                serde_json::from_str::<OneMessage>(broken).is_err(),
                "{broken}"
            );
        }
    }

    #[test]
    fn texts_are_cut_and_made_plain() {
        assert_eq!(shown("a\u{0}b\r\nc\td", 100), "a b  c d");
        assert_eq!(shown("äöü", 2), "äö");
        for (escaped, plain) in [
            ("", ""),
            ("no", "no"),
            ("a &amp; b", "a & b"),
            ("&lt;b&gt; &quot;q&quot; &#39;s&#39;", "<b> \"q\" 's'"),
            ("&amp;lt;", "&lt;"),
            ("& &unknown; &", "& &unknown; &"),
        ] {
            assert_eq!(unescaped(escaped), plain);
        }
    }
}
