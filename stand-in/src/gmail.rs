//! The Gmail API: watch, stop, history, messages, labels, profile.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::{
    World,
    faults::{error, error_in_words},
    http::{Answer, Request},
    lock,
    mailbox::{Change, Mailbox, Message, Record, SYSTEM_LABELS},
    unix_millis,
};

/// Entries of a page, if nothing is said.
const PAGE_DEFAULT: usize = 100;
/// Most entries of a page.
const PAGE_MAX: usize = 500;
/// What is not listed unless it is asked for.
const HIDDEN: [&str; 2] = ["SPAM", "TRASH"];

impl World {
    pub(crate) fn gmail(&self, request: &Request) -> Answer {
        let Some(rest) = request.path.strip_prefix("/gmail/v1/users/") else {
            return error(404, "");
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let token = request.bearer().unwrap_or_default();
        let Some(address) = lock(&self.oauth).address_of(token, unix_millis()) else {
            return error(401, "");
        };
        if parts[0] != "me" && parts[0] != address {
            return error(403, "insufficientPermissions");
        }
        self.with_mailbox(&address, |mailbox| {
            match (request.method.as_str(), &parts[1..]) {
                ("POST", ["watch"]) => watch(mailbox, request),
                ("POST", ["stop"]) => {
                    mailbox.stop();
                    Answer::empty(204)
                }
                ("GET", ["profile"]) => Answer::json(
                    200,
                    &json!({
                        "emailAddress": mailbox.address(),
                        "messagesTotal": mailbox.messages().count(),
                        "threadsTotal": mailbox.messages().count(),
                        "historyId": mailbox.history_id().to_string(),
                    }),
                ),
                ("GET", ["labels"]) => labels(mailbox),
                ("GET", ["history"]) => history(mailbox, request),
                ("GET", ["messages"]) => messages(mailbox, request),
                ("GET", ["messages", id]) => match mailbox.message(id) {
                    Some(message) => Answer::json(200, &show(message, request)),
                    None => error(404, ""),
                },
                ("POST", ["messages", id, "modify"]) => modify(mailbox, id, request),
                ("POST", ["messages", id, "trash"]) => relabel(mailbox, id, &["TRASH"], &["INBOX"]),
                ("POST", ["messages", id, "untrash"]) => relabel(mailbox, id, &[], &["TRASH"]),
                ("DELETE", ["messages", id]) => match mailbox.delete(id) {
                    true => Answer::empty(204),
                    false => error(404, ""),
                },
                _ => error(404, ""),
            }
        })
    }
}

fn watch(mailbox: &mut Mailbox, request: &Request) -> Answer {
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let topic = asked["topicName"].as_str();
    let Some(topic) = topic.filter(|topic| topic.starts_with("projects/")) else {
        return error(400, "");
    };
    let labels = texts(&asked["labelIds"]);
    let Ok(expires) = mailbox.watch(topic, labels, unix_millis()) else {
        return error_in_words(
            400,
            "failedPrecondition",
            "Only one user push notification client allowed per developer (call /stop then try again)",
        );
    };
    let id = mailbox.history_id().to_string();
    Answer::json(
        200,
        &json!({"historyId": id, "expiration": expires.to_string()}),
    )
}

fn labels(mailbox: &Mailbox) -> Answer {
    let system = SYSTEM_LABELS.map(|id| json!({"id": id, "name": id, "type": "system"}));
    let own = mailbox.user_labels().iter();
    let own = own.map(|(id, name)| json!({"id": id, "name": name, "type": "user"}));
    let all: Vec<Value> = system.into_iter().chain(own).collect();
    Answer::json(200, &json!({ "labels": all }))
}

fn history(mailbox: &Mailbox, request: &Request) -> Answer {
    let start = request.parameter("startHistoryId").map(str::parse::<u64>);
    let Some(Ok(start)) = start else {
        return error(400, "");
    };
    let after = match request.parameter("pageToken") {
        Some(token) => match parse_token(token) {
            Some(after) => after.max(start),
            None => return error(400, ""),
        },
        None => start,
    };
    // A walk that has begun in time is led to its end.
    if mailbox.history(start).is_err() {
        return error(404, "");
    }
    let Ok(records) = mailbox.history(after) else {
        return error(404, "");
    };
    let types: Vec<&str> = request.parameters("historyTypes").collect();
    let label = request.parameter("labelId");
    let wanted = |record: &&Record| {
        (types.is_empty() || types.contains(&type_of(&record.change)))
            && label.is_none_or(|label| concerns(record, label))
    };
    let limit = page_size(request);
    let mut page: Vec<&Record> = records.filter(wanted).take(limit + 1).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let mut answer = Map::new();
    if !page.is_empty() {
        answer.insert(
            "history".to_owned(),
            page.iter().map(|it| show_record(it)).collect(),
        );
    }
    if let Some(last) = page.last().filter(|_| more) {
        answer.insert("nextPageToken".to_owned(), json!(token(last.id)));
    }
    answer.insert(
        "historyId".to_owned(),
        json!(mailbox.history_id().to_string()),
    );
    Answer::json(200, &answer.into())
}

fn messages(mailbox: &Mailbox, request: &Request) -> Answer {
    let labels: Vec<&str> = request.parameters("labelIds").collect();
    let hidden_too = request.parameter("includeSpamTrash") == Some("true");
    let wanted = |message: &&Message| {
        let asked_for = labels.iter().all(|&label| message.labels.contains(label));
        let is_hidden = |&label: &&str| message.labels.contains(label) && !labels.contains(&label);
        asked_for && (hidden_too || !HIDDEN.iter().any(is_hidden))
    };
    let skip = match request.parameter("pageToken").map(parse_token) {
        Some(Some(before)) => before,
        Some(None) => return error(400, ""),
        None => u64::MAX,
    };
    let number = |message: &Message| u64::from_str_radix(&message.id, 16).unwrap_or(0);
    let limit = page_size(request);
    let newest_first = mailbox.messages().rev().filter(wanted);
    let mut page: Vec<&Message> = newest_first
        .filter(|message| number(message) < skip)
        .take(limit + 1)
        .collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let mut answer = Map::new();
    if !page.is_empty() {
        let ids = page
            .iter()
            .map(|it| json!({"id": it.id, "threadId": it.thread_id}));
        answer.insert("messages".to_owned(), ids.collect());
    }
    if let Some(last) = page.last().filter(|_| more) {
        answer.insert("nextPageToken".to_owned(), json!(token(number(last))));
    }
    let count = mailbox.messages().filter(wanted).count();
    answer.insert("resultSizeEstimate".to_owned(), json!(count));
    Answer::json(200, &answer.into())
}

fn modify(mailbox: &mut Mailbox, id: &str, request: &Request) -> Answer {
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let (add, remove) = (
        texts(&asked["addLabelIds"]),
        texts(&asked["removeLabelIds"]),
    );
    changed(mailbox, id, &add, &remove)
}

fn relabel(mailbox: &mut Mailbox, id: &str, add: &[&str], remove: &[&str]) -> Answer {
    let owned = |labels: &[&str]| {
        labels
            .iter()
            .map(|&label| label.to_owned())
            .collect::<Vec<_>>()
    };
    changed(mailbox, id, &owned(add), &owned(remove))
}

fn changed(mailbox: &mut Mailbox, id: &str, add: &[String], remove: &[String]) -> Answer {
    mailbox.modify(id, add, remove);
    match mailbox.message(id) {
        Some(message) => Answer::json(
            200,
            &json!({"id": message.id, "threadId": message.thread_id, "labelIds": message.labels}),
        ),
        None => error(404, ""),
    }
}

/// A message in the format that is asked for. There is no body in any: the model has none.
fn show(message: &Message, request: &Request) -> Value {
    let mut shown = json!({
        "id": message.id,
        "threadId": message.thread_id,
        "labelIds": message.labels,
        "snippet": escaped(&message.snippet),
        "sizeEstimate": 1000 + message.snippet.len(),
        "historyId": message.history_id.to_string(),
        "internalDate": message.internal_date.to_string(),
    });
    let format = request.parameter("format").unwrap_or("full");
    if format != "minimal" {
        let wanted: Vec<&str> = request.parameters("metadataHeaders").collect();
        let is_wanted = |name: &str| {
            wanted.is_empty()
                || format != "metadata"
                || wanted
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let headers = message.headers.iter().filter(|(name, _)| is_wanted(name));
        let headers: Vec<Value> = headers
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        shown["payload"] = json!({"mimeType": "text/plain", "headers": headers});
    }
    shown
}

/// Gmail writes snippets for HTML.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}

fn show_record(record: &Record) -> Value {
    let short = json!({"id": record.message_id, "threadId": record.thread_id});
    let long = json!({
        "id": record.message_id,
        "threadId": record.thread_id,
        "labelIds": record.labels,
    });
    let (name, entry) = match &record.change {
        Change::Added => ("messagesAdded", json!({ "message": long })),
        Change::Deleted => ("messagesDeleted", json!({ "message": long })),
        Change::LabelsAdded(labels) => {
            ("labelsAdded", json!({"message": long, "labelIds": labels}))
        }
        Change::LabelsRemoved(labels) => (
            "labelsRemoved",
            json!({"message": long, "labelIds": labels}),
        ),
    };
    json!({"id": record.id.to_string(), "messages": [short], name: [entry]})
}

fn type_of(change: &Change) -> &'static str {
    match change {
        Change::Added => "messageAdded",
        Change::Deleted => "messageDeleted",
        Change::LabelsAdded(_) => "labelAdded",
        Change::LabelsRemoved(_) => "labelRemoved",
    }
}

fn concerns(record: &Record, label: &str) -> bool {
    let removed = match &record.change {
        Change::LabelsRemoved(labels) => labels.iter().any(|removed| removed == label),
        _ => false,
    };
    removed || record.labels.contains(label)
}

fn page_size(request: &Request) -> usize {
    let asked = request
        .parameter("maxResults")
        .and_then(|it| it.parse().ok());
    asked.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
}

/// Nobody is to guess what is in it.
fn token(place: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("p{place}"))
}

fn parse_token(token: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    std::str::from_utf8(&bytes)
        .ok()?
        .strip_prefix('p')?
        .parse()
        .ok()
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::find, mailbox::Draft};

    fn get(
        mailbox: &Mailbox,
        query: &[(&str, &str)],
        serve: fn(&Mailbox, &Request) -> Answer,
    ) -> (u16, Value) {
        let query = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let request = Request {
            query: query.collect(),
            ..Request::default()
        };
        assert_eq!(find(&request.query, "no such"), None);
        let answer = serve(mailbox, &request);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn history_comes_in_pages_to_its_end() {
        let mut mailbox = Mailbox::new("a@example.com");
        let start = mailbox.history_id().to_string();
        let (status, none) = get(&mailbox, &[("startHistoryId", &start)], history);
        assert_eq!((status, none["history"].is_null()), (200, true));
        for _ in 0..7 {
            mailbox.add(Draft::default());
        }
        let mut token: Option<String> = None;
        let mut seen = 0;
        loop {
            let mut query = vec![("startHistoryId", start.as_str()), ("maxResults", "3")];
            if let Some(token) = &token {
                query.push(("pageToken", token));
            }
            let (_, page) = get(&mailbox, &query, history);
            seen += page["history"].as_array().unwrap().len();
            assert_eq!(page["historyId"], mailbox.history_id().to_string());
            match page["nextPageToken"].as_str() {
                Some(next) => token = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen, 7);
        let only = [
            ("startHistoryId", start.as_str()),
            ("historyTypes", "labelAdded"),
        ];
        assert!(get(&mailbox, &only, history).1["history"].is_null());
        assert_eq!(get(&mailbox, &[("startHistoryId", "1")], history).0, 404);
        assert_eq!(get(&mailbox, &[("startHistoryId", "x")], history).0, 400);
        assert_eq!(get(&mailbox, &[], history).0, 400);
    }

    #[test]
    fn messages_are_listed_newest_first_and_hidden_ones_on_demand() {
        let mut mailbox = Mailbox::new("a@example.com");
        let ids: Vec<String> = (0..5).map(|_| mailbox.add(Draft::default())).collect();
        mailbox.modify(&ids[1], &["TRASH".to_owned()], &["INBOX".to_owned()]);
        let list = |query: &[(&str, &str)]| {
            let (_, page) = get(&mailbox, query, messages);
            let ids = page["messages"].as_array().cloned().unwrap_or_default();
            let ids = ids.iter().map(|it| it["id"].as_str().unwrap().to_owned());
            (
                ids.collect::<Vec<_>>(),
                page["nextPageToken"].as_str().map(str::to_owned),
            )
        };
        let (first, next) = list(&[("maxResults", "2")]);
        assert_eq!(first, [ids[4].clone(), ids[3].clone()]);
        let (rest, end) = list(&[("pageToken", &next.unwrap())]);
        assert_eq!((rest, end), (vec![ids[2].clone(), ids[0].clone()], None));
        assert_eq!(list(&[("labelIds", "TRASH")]).0, [ids[1].clone()]);
        assert_eq!(list(&[("includeSpamTrash", "true")]).0.len(), 5);
    }
}
