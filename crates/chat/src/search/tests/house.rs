//! A node with two workspaces, on either database.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request};
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::LocalBus, state::MemoryStates},
    port::{
        Log, Tables, Transaction,
        tables::{Step, Value as Sql},
    },
    state::WhenAway,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Chat, ChatConfig, Demo, SignUp,
    caller::{Credential, INSERT_TOKEN, token_values},
    http,
    id::Id,
    ts::Ts,
};

pub(super) const ALICE: &str = "xoxp-dev-alice";
pub(super) const BOB: &str = "xoxp-dev-bob";
pub(super) const BOT: &str = "xoxb-dev-bot";
/// Somebody of another workspace.
pub(super) const EVE: &str = "xoxp-of-another-workspace";
pub(super) const GENERAL: &str = Demo::GENERAL;
/// A private channel of bob's.
pub(super) const SECRET: &str = "C0SECRET000";
/// A public channel that only bob is a member of.
pub(super) const OPEN: &str = "C0OPEN00000";
/// Of alice and bob.
pub(super) const DIRECT: &str = "D0DIRECT000";
/// Of the other workspace: public there.
pub(super) const ELSEWHERE: &str = "C0ELSEWHERE";

pub(super) const INSERT_TEAM: &str = "INSERT INTO chat_teams (id, domain, name, created) VALUES ('T0OTHER0000', 'other', 'Other', 0)";
pub(super) const INSERT_EVE: &str = "INSERT INTO chat_users (id, team, name, real_name, is_admin, deleted, away, created, updated) \
    VALUES ('U0EVE000000', 'T0OTHER0000', 'eve', 'Eve', 1, 0, 0, 0, 0)";
pub(super) const INSERT_CHANNEL: &str = "INSERT INTO chat_conversations (id, team, kind, name, direct_key, topic, topic_by, topic_at, purpose, purpose_by, \
    purpose_at, creator, created, archived, members, last_ts, last_message) \
    VALUES ($1, $2, $3, $4, $5, '', '', 0, '', '', 0, $6, 0, 0, 1, 0, 0)";
pub(super) const INSERT_MEMBER: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) VALUES ($1, $2, 0, 0, 1)";
pub(super) const LEAVE: &str = "DELETE FROM chat_members WHERE conversation = $1 AND user_id = $2";
pub(super) const EDIT: &str =
    "UPDATE chat_messages SET text = $3 WHERE conversation = $1 AND ts = $2";
pub(super) const DELETE: &str =
    "UPDATE chat_messages SET deleted = 1, text = '' WHERE conversation = $1 AND ts = $2";
pub(super) const BURY: &str =
    "UPDATE chat_messages SET subtype = 'tombstone' WHERE conversation = $1 AND ts = $2";
pub(super) const REMOVE: &str = "DELETE FROM chat_messages WHERE conversation = $1 AND ts = $2";
pub(super) const REACT: &str = "INSERT INTO chat_reactions (conversation, ts, name, user_id, event_ts) VALUES ($1, $2, $3, 'U0BOB000000', 1)";
pub(super) const UNREACT: &str =
    "DELETE FROM chat_reactions WHERE conversation = $1 AND ts = $2 AND name = $3";
pub(super) const INSERT_AT: &str = "INSERT INTO chat_messages (conversation, ts, user_id, text, shown, reply_count, deleted) \
    VALUES ($1, $2, $3, $4, 1, 0, 0)";

/// A node with two workspaces.
pub(super) struct House {
    pub(super) chat: Arc<Chat>,
}

impl House {
    pub(super) async fn build(log: Arc<impl Log + Tables>) -> Self {
        let config = EngineConfig {
            shards: 1,
            retention: Vec::new(),
            retention_interval: Duration::from_secs(3600),
            stall_seconds: 60,
            about: Arc::new(|| "{}".into()),
            metrics: Arc::new(Metrics::default()),
        };
        let state = Arc::new(MemoryStates::new().join());
        let (tables, log) = (Arc::clone(&log), log);
        let forms = fanfare_gateway::forms(&[], false);
        let engine = Engine::start(config, log, Arc::new(LocalBus), tables, state, forms).unwrap();
        let config = ChatConfig {
            open: true,
            sign_up: SignUp::Open,
            create_workspaces: true,
            public_url: None,
            oidc: None,
            limits_when_away: WhenAway::Local,
            signer: None,
        };
        let house = Self {
            chat: Chat::start(config, engine),
        };
        while house.chat.check_ready().is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        let (team, eve) = (Id::known("T0OTHER0000"), Id::known("U0EVE000000"));
        let token = token_values(EVE, Credential::User, (&team, &eve, None), None);
        let channel = |id: &str, team: &str, kind: &str, name: Option<&str>, users: &[&str]| {
            let key = name.is_none().then(|| users.join(","));
            let params = vec![
                id.into(),
                team.into(),
                kind.into(),
                name.into(),
                key.into(),
                users[0].into(),
            ];
            let members = users
                .iter()
                .map(|user| Step::some(INSERT_MEMBER, vec![id.into(), (*user).into()]));
            let mut steps = vec![Step::some(INSERT_CHANNEL, params)];
            steps.extend(members);
            steps
        };
        let mut steps = vec![
            Step::some(INSERT_TEAM, Vec::new()),
            Step::some(INSERT_EVE, Vec::new()),
            Step::some(INSERT_TOKEN, token),
        ];
        steps.extend(channel(
            SECRET,
            Demo::TEAM,
            "private",
            Some("secret"),
            &[Demo::BOB],
        ));
        steps.extend(channel(
            OPEN,
            Demo::TEAM,
            "public",
            Some("open"),
            &[Demo::BOB],
        ));
        steps.extend(channel(
            DIRECT,
            Demo::TEAM,
            "im",
            None,
            &[Demo::ALICE, Demo::BOB],
        ));
        steps.extend(channel(
            ELSEWHERE,
            "T0OTHER0000",
            "public",
            Some("general"),
            &["U0EVE000000"],
        ));
        house.rows(steps).await;
        house
    }

    /// Changes rows behind the app's back.
    pub(super) async fn rows(&self, steps: Vec<Step>) {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        self.chat.engine.transact(transaction).await.unwrap();
    }

    pub(super) async fn row(&self, sql: &'static str, params: Vec<Sql>) {
        self.rows(vec![Step::some(sql, params)]).await;
    }

    pub(super) async fn call(
        &self,
        token: &str,
        method: &str,
        args: Value,
    ) -> Result<Value, String> {
        let request = Request::builder()
            .method("POST")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(args.to_string()))
            .unwrap();
        let answer = http::run(Arc::clone(&self.chat), method, request).await;
        let answer = answer.map_err(|failure| failure.code.into_owned())?;
        Ok(Value::Object(answer.fields))
    }

    pub(super) async fn say(&self, token: &str, args: Value) -> Ts {
        let answer = self.call(token, "chat.postMessage", args).await.unwrap();
        Ts::parse(answer["ts"].as_str().unwrap()).unwrap()
    }

    pub(super) async fn post(&self, token: &str, channel: &str, text: &str) -> Ts {
        self.say(token, json!({ "channel": channel, "text": text }))
            .await
    }

    pub(super) async fn search(&self, token: &str, args: Value) -> Value {
        let answer = self.call(token, "search.messages", args.clone()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{args}: {error}"));
        answer["messages"].clone()
    }

    /// The texts that somebody finds, the oldest first.
    pub(super) async fn finds(&self, token: &str, query: &str) -> Vec<String> {
        let args = json!({ "query": query, "sort": "timestamp", "sort_dir": "asc", "count": 100 });
        let messages = self.search(token, args).await;
        let matches = messages["matches"].as_array().unwrap();
        assert_eq!(messages["total"], matches.len(), "{query}");
        let text = |found: &Value| found["text"].as_str().unwrap().to_owned();
        matches.iter().map(text).collect()
    }
}
