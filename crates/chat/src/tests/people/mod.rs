//! Conversations, users and accounts on the real database, as two nodes that share it.

mod accounts;
mod conversations;
mod users;

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::Request};
use fanfare_backend::sqlite::SqliteLog;
use fanfare_bench::local::TempDir;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    hub::HistoryQuery,
    memory::{bus::LocalBus, state::MemoryStates},
    port::{Direction, Transaction, tables::Step},
    state::WhenAway,
};
use fanfare_wire::{ChannelName, Seq};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    Chat, ChatConfig, SignUp,
    caller::{Credential, INSERT_TOKEN, token_values},
    http,
    id::Id,
};

const ALICE: &str = "xoxp-dev-alice";
const BOB: &str = "xoxp-dev-bob";
const BOT: &str = "xoxb-dev-bot";
/// Somebody of another workspace.
const EVE: &str = "xoxp-of-another-workspace";
const EVE_ID: &str = "U0EVE000000";

const INSERT_TEAM: &str = "INSERT INTO chat_teams (id, domain, name, created) VALUES ('T0OTHER0000', 'other', 'Other', 0)";
const INSERT_EVE: &str = "INSERT INTO chat_users (id, team, name, real_name, is_admin, deleted, away, created, updated) \
    VALUES ('U0EVE000000', 'T0OTHER0000', 'eve', 'Eve', 1, 0, 0, 0, 0)";

/// Two nodes.
pub(crate) struct House {
    pub(crate) nodes: [Arc<Chat>; 2],
    // Gone last.
    _dir: TempDir,
}

impl House {
    /// Two nodes that have what their configuration gives them.
    pub(crate) async fn empty(config: impl Fn() -> ChatConfig) -> Self {
        let dir = TempDir::new().unwrap();
        let log = Arc::new(SqliteLog::open(dir.path()).unwrap());
        let states = MemoryStates::new();
        let node = || {
            let engine = EngineConfig {
                shards: 1,
                retention: Vec::new(),
                retention_interval: Duration::from_secs(3600),
                stall_seconds: 60,
                about: Arc::new(|| "{}".into()),
                metrics: Arc::new(Metrics::default()),
            };
            let state = Arc::new(states.join());
            let (tables, log) = (Arc::clone(&log), Arc::clone(&log));
            let forms = fanfare_gateway::forms(&[], true);
            let engine =
                Engine::start(engine, log, Arc::new(LocalBus), tables, state, forms).unwrap();
            Chat::start(config(), engine)
        };
        let house = Self {
            nodes: [node(), node()],
            _dir: dir,
        };
        for node in &house.nodes {
            while node.check_ready().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        house
    }

    /// The demo workspace, and another one with a user who manages it.
    async fn build() -> Self {
        let house = Self::empty(config_of_a_try).await;
        let (team, eve) = (Id::known("T0OTHER0000"), Id::known(EVE_ID));
        let token = token_values(EVE, Credential::User, (&team, &eve, None), None);
        house
            .rows(vec![
                Step::some(INSERT_TEAM, Vec::new()),
                Step::some(INSERT_EVE, Vec::new()),
                Step::some(INSERT_TOKEN, token),
            ])
            .await;
        house
    }

    /// Changes rows behind the app's back.
    async fn rows(&self, steps: Vec<Step>) {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        self.nodes[0].engine.transact(transaction).await.unwrap();
    }

    /// Calls a method on one node after the other: what it answers, or its error.
    async fn ask(&self, token: &str, method: &str, args: &Value) -> Result<Value, String> {
        let request = Request::builder()
            .method("POST")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(args.to_string()))
            .unwrap();
        let node = Arc::clone(&self.nodes[usize::from(method.len().is_multiple_of(2))]);
        let answer = http::run(node, method, request).await;
        let answer = answer.map_err(|failure| failure.code.into_owned())?;
        Ok(Value::Object(answer.fields))
    }

    /// Calls a method that must succeed.
    async fn call(&self, token: &str, method: &str, args: Value) -> Value {
        let answer = self.ask(token, method, &args).await;
        answer.unwrap_or_else(|error| panic!("{method} {args}: {error}"))
    }

    /// Calls a method that must not succeed: with what it answers.
    async fn refused(&self, token: &str, method: &str, args: Value) -> String {
        match self.ask(token, method, &args).await {
            Ok(answer) => panic!("{method} {args}: {answer}"),
            Err(error) => error,
        }
    }

    /// What a channel of the log holds.
    async fn log(&self, namespace: &str, id: &str) -> Vec<Value> {
        self.log_of(&format!("{namespace}:{id}")).await
    }

    async fn log_of(&self, channel: &str) -> Vec<Value> {
        let query = HistoryQuery {
            channel: ChannelName::parse(channel).unwrap(),
            since: Some((None, Seq(0))),
            limit: 300,
            direction: Direction::Forward,
        };
        let page = self.nodes[0].engine.history(query).await.unwrap();
        let data = page.publications.iter().map(|it| it.data.as_bytes());
        data.map(|data| serde_json::from_slice(data).unwrap())
            .collect()
    }

    /// The types of the last events of a channel of the log, with their subtypes.
    async fn kinds(&self, namespace: &str, id: &str, count: usize) -> Vec<String> {
        let log = self.log(namespace, id).await;
        let kind = |event: &Value| {
            let kind = event["subtype"].as_str().or(event["type"].as_str());
            kind.unwrap_or_default().to_owned()
        };
        let kinds: Vec<String> = log.iter().map(kind).collect();
        kinds[kinds.len().saturating_sub(count)..].to_vec()
    }

    /// A new channel; its id.
    async fn channel(&self, token: &str, name: &str, is_private: bool) -> String {
        let args = json!({ "name": name, "is_private": is_private });
        let answer = self.call(token, "conversations.create", args).await;
        answer["channel"]["id"].as_str().unwrap().to_owned()
    }
}

fn config_of_a_try() -> ChatConfig {
    ChatConfig {
        open: true,
        sign_up: SignUp::Invite,
        create_workspaces: false,
        public_url: None,
        oidc: None,
        limits_when_away: WhenAway::Local,
        signer: None,
    }
}
