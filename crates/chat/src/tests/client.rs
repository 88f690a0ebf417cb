//! A client as a page is one: it loads what is there, and applies the publications that come after.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::house::{ALICE, House};

/// What a client has of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Client {
    /// Up to where in the log.
    pub(super) offset: u64,
    /// All messages, replies too, by their `ts`.
    pub(super) messages: BTreeMap<String, Map<String, Value>>,
}

/// What only events have of a message that is posted.
const OF_EVENTS: [&str; 4] = ["channel", "channel_type", "event_ts", "parent"];
/// What a parent says of its thread.
const OF_THREADS: [&str; 5] = [
    "thread_ts",
    "reply_count",
    "reply_users_count",
    "reply_users",
    "latest_reply",
];

impl Client {
    /// Loads history and all threads, page by page, while anything may happen. Two answers about one message are the same if `is_quiet`.
    pub(super) async fn load(house: &House, channel: &str, is_quiet: bool) -> Self {
        let mut client = Self::default();
        let history = house.pages(
            channel,
            "conversations.history",
            json!({}),
            &mut client.offset,
        );
        let parents = history.await;
        let mut later = 0;
        for parent in &parents {
            client.know(parent, is_quiet);
        }
        for parent in parents {
            if parent["reply_count"].as_i64() > Some(0) {
                let thread = json!({ "ts": parent["ts"] });
                let replies = house.pages(channel, "conversations.replies", thread, &mut later);
                for reply in replies.await {
                    client.know(&reply, is_quiet);
                }
            }
        }
        assert!(later == 0 || later >= client.offset);
        client
    }

    fn know(&mut self, message: &Value, is_quiet: bool) {
        let mut message = message.as_object().unwrap().clone();
        sort_reactions(&mut message);
        let ts = message["ts"].as_str().unwrap().to_owned();
        let before = self.messages.insert(ts, message.clone());
        if is_quiet {
            assert!(before.is_none_or(|before| before == message));
        }
    }

    /// Applies a publication.
    pub(super) fn apply(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match (event["type"].as_str().unwrap(), event["subtype"].as_str()) {
            ("message", Some("message_changed")) => {
                let mut message = event["message"].as_object().unwrap().clone();
                sort_reactions(&mut message);
                let known = self.messages.get_mut(&text(&message["ts"]));
                known.into_iter().for_each(|it| *it = message.clone());
            }
            ("message", Some("message_deleted")) => {
                self.messages.remove(&text(&event["deleted_ts"]));
            }
            ("message", _) => {
                let mut message = event.as_object().unwrap().clone();
                message.retain(|name, _| !OF_EVENTS.contains(&name.as_str()));
                let ts = text(&event["ts"]);
                assert_eq!(event["ts"], event["event_ts"]);
                self.messages.entry(ts).or_insert(message);
            }
            (kind @ ("reaction_added" | "reaction_removed"), _) => {
                let (name, user) = (text(&event["reaction"]), text(&event["user"]));
                if let Some(message) = self.messages.get_mut(&text(&event["item"]["ts"])) {
                    react(message, &name, &user, kind == "reaction_added");
                }
            }
            _ => {}
        }
        let parent = &event["parent"];
        if let Some(message) = self.messages.get_mut(&text(&parent["ts"])) {
            message.retain(|name, _| !OF_THREADS.contains(&name.as_str()));
            if parent["reply_count"].as_i64() > Some(0) {
                let fields = parent.as_object().unwrap().clone();
                let fields = fields.into_iter().filter(|(name, _)| name != "ts");
                message.extend(fields);
                message.insert("thread_ts".to_owned(), parent["ts"].clone());
            }
        }
    }

    /// Applies everything that has come after what it has; each twice, which is as if it came once.
    pub(super) fn catch_up(&mut self, log: &[(u64, Value)]) {
        for (offset, event) in log {
            if *offset > self.offset {
                self.apply(event);
                let once = self.clone();
                self.apply(event);
                assert_eq!(*self, once, "twice: {event}");
            }
        }
        self.offset = log.last().map_or(0, |(offset, _)| *offset);
    }
}

/// The order among reactions says nothing.
fn sort_reactions(message: &mut Map<String, Value>) {
    let Some(reactions) = message.get_mut("reactions").and_then(Value::as_array_mut) else {
        return;
    };
    for reaction in reactions.iter_mut() {
        let users = reaction["users"].as_array_mut().unwrap();
        users.sort_by_key(ToString::to_string);
        assert_eq!(
            reaction["count"],
            json!(reaction["users"].as_array().unwrap().len())
        );
    }
    reactions.sort_by_key(|reaction| reaction["name"].to_string());
}

fn react(message: &mut Map<String, Value>, name: &str, user: &str, is_added: bool) {
    let reactions = message.remove("reactions").unwrap_or_else(|| json!([]));
    let mut users: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for reaction in reactions.as_array().unwrap() {
        let of_name = reaction["users"].as_array().unwrap().clone();
        users.insert(reaction["name"].as_str().unwrap().to_owned(), of_name);
    }
    let of_name = users.entry(name.to_owned()).or_default();
    of_name.retain(|it| it != user);
    if is_added {
        of_name.push(user.into());
    }
    users.retain(|_, users| !users.is_empty());
    let reactions: Vec<Value> = users
        .into_iter()
        .map(|(name, users)| json!({ "name": name, "count": users.len(), "users": users }))
        .collect();
    if !reactions.is_empty() {
        message.insert("reactions".to_owned(), reactions.into());
        sort_reactions(message);
    }
}

impl House {
    /// All pages of a method that lists messages of a channel; nothing for what is not there (any more). `offset` is set to where
    /// the log stood before the first.
    async fn pages(
        &self,
        channel: &str,
        method: &str,
        mut args: Value,
        offset: &mut u64,
    ) -> Vec<Value> {
        args["channel"] = channel.into();
        args["limit"] = 7.into();
        args["include_all_metadata"] = true.into();
        let mut all = Vec::new();
        loop {
            let Ok(mut page) = self.on(1, ALICE, method, &args).await else {
                assert_eq!(method, "conversations.replies");
                return all;
            };
            if args["cursor"].is_null() {
                *offset = page["position"]["offset"].as_u64().unwrap();
            }
            all.append(page["messages"].as_array_mut().unwrap());
            let cursor = page["response_metadata"]["next_cursor"].take();
            assert_eq!(page["has_more"], json!(cursor != ""));
            if cursor == "" {
                return all;
            }
            args["cursor"] = cursor;
        }
    }
}
