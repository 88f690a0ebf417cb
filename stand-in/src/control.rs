//! What a test does to the stand-in: `POST /control/WHAT` with JSON, or the same in the process.
//!
//! | what | fields | does |
//! | --- | --- | --- |
//! | `mailbox` | `address` | makes a mailbox; says its `historyId` |
//! | `message` | `address`, `from`, `subject`, `snippet`, `labels`, `threadId`, `count` | messages come; says their `ids` |
//! | `modify` | `address`, `id`, `add`, `remove` | labels change |
//! | `delete` | `address`, `id` | a message is deleted for good |
//! | `label` | `address`, `name` | a label of the user's own; says its `id` |
//! | `expire` | `address` | the mailbox forgets its history |
//! | `fail` | `place`, `count`, `status`, `reason` | the next requests there fail: `history`, `messages`, `watch`, `token`, `certs`, `any`, … |
//! | `latency` | `place`, `millis` | requests there take so long |
//! | `hold` | `place`, `on` | requests there wait until `on` is false again |
//! | `keys` | `rotate`, `keep`, `seconds` | tokens are signed with the next key; for how long keys may be kept |
//! | `access` | `seconds`, `lapse` | how long access tokens hold that are made from now on; all that were made lapse |
//! | `consent` | `denied`, `verified`, `audience`, `renewals` | what people and Google do at a consent: scopes that are denied, whether addresses are verified, for whom tokens of identity are; how many refreshes bring another refresh token. What is not said is as usual |
//! | `revoke` | `address` | all tokens of somebody are taken back |
//! | `push` | `endpoint`, `audience`, `serviceAccount`, `wrapped`, `duplicatesPercent`, `reorder` | where and how messages are pushed |
//! | `publish` | `data`, `attributes` | a message of any text is pushed |
//! | `state` | | counts: of messages pushed, and by place of requests and answers |

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    World, gmail::texts, journal::Calls, lock, mailbox::Draft, oauth::Conduct, pubsub::PushConfig,
};

/// Most messages of one call.
const COUNT_MAX: u64 = 10_000;

impl World {
    pub(crate) fn control(&self, what: &str, asked: &Value) -> Result<Value, String> {
        match what {
            "mailbox" => {
                let id = self.with_mailbox(text(asked, "address")?, |it| it.history_id());
                Ok(json!({"historyId": id.to_string()}))
            }
            "message" => self.message(asked),
            "modify" => {
                let (id, add, remove) = (
                    text(asked, "id")?,
                    texts(&asked["add"]),
                    texts(&asked["remove"]),
                );
                let there =
                    self.with_mailbox(text(asked, "address")?, |it| it.modify(id, &add, &remove));
                found(there)
            }
            "delete" => {
                let id = text(asked, "id")?;
                found(self.with_mailbox(text(asked, "address")?, |it| it.delete(id)))
            }
            "label" => {
                let name = text(asked, "name")?;
                let id = self.with_mailbox(text(asked, "address")?, |it| it.label(name));
                Ok(json!({ "id": id }))
            }
            "expire" => {
                self.with_mailbox(text(asked, "address")?, |it| it.expire());
                Ok(json!({}))
            }
            "fail" => {
                let status = asked["status"].as_u64().unwrap_or(503);
                let status = u16::try_from(status).map_err(|_| "status is no status")?;
                let (place, reason) = (text(asked, "place")?, asked["reason"].as_str());
                let count = asked["count"].as_u64().unwrap_or(1);
                self.faults
                    .fail(place, count, status, reason.unwrap_or_default());
                Ok(json!({}))
            }
            "latency" => {
                let millis = asked["millis"].as_u64().ok_or("millis is missing")?;
                self.faults
                    .slow(text(asked, "place")?, Duration::from_millis(millis));
                Ok(json!({}))
            }
            "hold" => {
                let on = asked["on"].as_bool().ok_or("on is missing")?;
                self.faults.hold(text(asked, "place")?, on);
                Ok(json!({}))
            }
            "keys" => Ok(self.keys(asked)),
            "access" => {
                let mut oauth = lock(&self.oauth);
                if let Some(seconds) = asked["seconds"].as_i64() {
                    oauth.set_access_seconds(seconds);
                }
                if asked["lapse"].as_bool() == Some(true) {
                    oauth.lapse();
                }
                drop(oauth);
                Ok(json!({}))
            }
            "consent" => {
                let usual = Conduct::default();
                lock(&self.oauth).set_conduct(Conduct {
                    denied: texts(&asked["denied"]),
                    verified: asked["verified"].as_bool().unwrap_or(usual.verified),
                    audience: asked["audience"].as_str().map(str::to_owned),
                    renewals: asked["renewals"].as_u64().unwrap_or(usual.renewals),
                });
                Ok(json!({}))
            }
            "revoke" => {
                lock(&self.oauth).revoke(text(asked, "address")?);
                Ok(json!({}))
            }
            "push" => {
                self.configure_push(asked);
                Ok(json!({}))
            }
            "publish" => {
                let attributes = asked["attributes"].as_object().into_iter().flatten();
                let attributes: BTreeMap<String, String> = attributes
                    .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                    .collect();
                let id = self
                    .push
                    .publish(text(asked, "data")?.as_bytes(), attributes);
                Ok(json!({"messageId": id.to_string()}))
            }
            "state" => {
                let pushed = self.push.counts();
                let mailboxes: Vec<String> = lock(&self.mailboxes).keys().cloned().collect();
                let counts = self.journal.counts();
                let of = |count: fn(&Calls) -> u64| -> serde_json::Map<String, Value> {
                    let by_place = counts.iter();
                    by_place
                        .map(|(place, calls)| ((*place).to_owned(), count(calls).into()))
                        .collect()
                };
                Ok(json!({
                    "mailboxes": mailboxes,
                    "requests": of(|calls| calls.begun),
                    "answered": of(|calls| calls.answered),
                    "published": pushed.published,
                    "attempts": pushed.attempts,
                    "acknowledged": pushed.acknowledged,
                    "duplicates": pushed.duplicates,
                    "waiting": pushed.waiting,
                    "lastStatus": pushed.last_status,
                }))
            }
            _ => Err(format!("there is nothing called {what} to do")),
        }
    }

    fn message(&self, asked: &Value) -> Result<Value, String> {
        let or_empty = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        let count = asked["count"].as_u64().unwrap_or(1).min(COUNT_MAX);
        let draft = Draft {
            from: or_empty("from"),
            subject: or_empty("subject"),
            snippet: or_empty("snippet"),
            thread_id: asked["threadId"].as_str().map(str::to_owned),
            labels: texts(&asked["labels"]),
        };
        let address = text(asked, "address")?;
        // One after the other: each change is told.
        let add = |_| self.with_mailbox(address, |mailbox| mailbox.add(draft.clone()));
        let ids: Vec<String> = (0..count).map(add).collect();
        let last = self.with_mailbox(address, |mailbox| mailbox.history_id());
        Ok(json!({"ids": ids, "historyId": last.to_string()}))
    }

    fn keys(&self, asked: &Value) -> Value {
        let mut oauth = lock(&self.oauth);
        if let Some(seconds) = asked["seconds"].as_u64() {
            oauth.set_keys_seconds(seconds);
        }
        if asked["rotate"].as_bool() == Some(true) {
            oauth.rotate(asked["keep"].as_bool().unwrap_or(true));
        }
        let key = oauth.key();
        let kid = oauth.signer().kid().to_owned();
        drop(oauth);
        if let Some(config) = self.push.config() {
            self.push.configure(PushConfig { key, ..config });
        }
        json!({ "kid": kid })
    }

    fn configure_push(&self, asked: &Value) {
        let mut config = self.push.config().unwrap_or_default();
        config.key = lock(&self.oauth).key();
        let set = |field: &mut String, name: &str| {
            if let Some(value) = asked[name].as_str() {
                value.clone_into(field);
            }
        };
        set(&mut config.endpoint, "endpoint");
        set(&mut config.audience, "audience");
        set(&mut config.service_account, "serviceAccount");
        config.wrapped = asked["wrapped"].as_bool().unwrap_or(config.wrapped);
        config.reorder = asked["reorder"].as_bool().unwrap_or(config.reorder);
        let percent = asked["duplicatesPercent"].as_u64();
        config.duplicates_percent = percent.unwrap_or(config.duplicates_percent);
        self.push.configure(config);
    }
}

fn text<'a>(asked: &'a Value, name: &str) -> Result<&'a str, String> {
    asked[name]
        .as_str()
        .ok_or_else(|| format!("{name} is missing"))
}

fn found(there: bool) -> Result<Value, String> {
    match there {
        true => Ok(json!({})),
        false => Err("there is no such message".to_owned()),
    }
}
