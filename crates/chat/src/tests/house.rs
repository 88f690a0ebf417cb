//! Two nodes, and calls as they come over HTTP.

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

use crate::{Chat, ChatConfig, Demo, http, id::Id};

pub(super) const ALICE: &str = "xoxp-dev-alice";
pub(super) const BOB: &str = "xoxp-dev-bob";
pub(super) const BOT: &str = "xoxb-dev-bot";
pub(super) const GENERAL: &str = Demo::GENERAL;
/// A private channel of bob's.
pub(super) const SECRET: &str = "C0SECRET000";
/// A public channel that only bob is a member of.
pub(super) const OPEN: &str = "C0OPEN00000";

const INSERT_CHANNEL: &str = "INSERT INTO chat_conversations (id, team, kind, name, topic, topic_by, topic_at, purpose, purpose_by, \
    purpose_at, creator, created, archived, members, last_ts, last_message) \
    VALUES ($1, $2, $3, $4, '', '', 0, '', '', 0, $5, 0, 0, 1, 0, 0)";

const INSERT_MEMBER: &str = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) VALUES ($1, $2, 0, 0, 1)";

/// Two nodes.
pub(super) struct House {
    pub(super) nodes: [Arc<Chat>; 2],
    // Gone last.
    _dir: TempDir,
}

impl House {
    /// The demo workspace, and two channels of bob's.
    pub(super) async fn build() -> Self {
        let dir = TempDir::new().unwrap();
        let log = Arc::new(SqliteLog::open(dir.path()).unwrap());
        let states = MemoryStates::new();
        let node = || {
            let config = EngineConfig {
                shards: 1,
                retention: Vec::new(),
                retention_interval: Duration::from_secs(3600),
                stall_seconds: 60,
                about: Arc::new(|| "{}".into()),
                metrics: Arc::new(Metrics::default()),
            };
            let state = Arc::new(states.join());
            let (tables, log) = (Arc::clone(&log), Arc::clone(&log));
            let forms = fanfare_gateway::forms(&[crate::CONVERSATIONS], true);
            let engine =
                Engine::start(config, log, Arc::new(LocalBus), tables, state, forms).unwrap();
            let config = ChatConfig {
                open: true,
                sign_up: crate::SignUp::Open,
                create_workspaces: false,
                public_url: None,
                oidc: None,
                limits_when_away: WhenAway::Local,
                signer: None,
            };
            Chat::start(config, engine)
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
        house.channel(SECRET, "private").await;
        house.channel(OPEN, "public").await;
        house
    }

    async fn channel(&self, id: &str, kind: &str) {
        let channel = [id, Demo::TEAM, kind, &id.to_lowercase(), Demo::BOB];
        let channel = channel.into_iter().map(Into::into).collect();
        let steps = vec![Step::some(INSERT_CHANNEL, channel), joining(id, Demo::BOB)];
        self.rows(steps).await;
    }

    /// Has a user become a member, without a word.
    pub(super) async fn join(&self, channel: &str, user: &str) {
        self.rows(vec![joining(channel, user)]).await;
    }

    /// Changes rows behind the app's back.
    pub(super) async fn rows(&self, steps: Vec<Step>) {
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        self.nodes[0].engine.transact(transaction).await.unwrap();
    }

    /// Calls a method on a node: what it answers, with `ok`, or `Err` with its error.
    pub(super) async fn on(
        &self,
        node: usize,
        token: &str,
        method: &str,
        args: &Value,
    ) -> Result<Value, String> {
        let request = Request::builder()
            .method("POST")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(args.to_string()))
            .unwrap();
        let node = Arc::clone(&self.nodes[node % 2]);
        let answer = http::run(node, method, request).await;
        let answer = answer.map_err(|failure| failure.code.into_owned())?;
        Ok(Value::Object(answer.fields))
    }

    /// Calls a method that must succeed.
    pub(super) async fn call(&self, token: &str, method: &str, args: Value) -> Value {
        let answer = self.on(0, token, method, &args).await;
        answer.unwrap_or_else(|error| panic!("{method} {args}: {error}"))
    }

    /// Calls a method that must not succeed: with what it answers.
    pub(super) async fn refused(&self, token: &str, method: &str, args: Value) -> String {
        match self.on(1, token, method, &args).await {
            Ok(answer) => panic!("{method} {args}: {answer}"),
            Err(error) => error,
        }
    }

    /// Posts into the channel of all; what it is called.
    pub(super) async fn post(&self, token: &str, text: &str) -> String {
        let args = json!({ "channel": GENERAL, "text": text });
        let answer = self.call(token, "chat.postMessage", args).await;
        answer["ts"].as_str().unwrap().to_owned()
    }

    /// What a channel of the log holds, with the number of each.
    pub(super) async fn log(&self, namespace: &str, id: &str) -> Vec<(u64, Value)> {
        let channel: ChannelName = Id::known(id).channel(namespace).unwrap();
        let mut all: Vec<(u64, Value)> = Vec::new();
        loop {
            let since = all.last().map_or(Seq(0), |(seq, _)| Seq(*seq));
            let page = self.nodes[0].engine.history(HistoryQuery {
                channel: channel.clone(),
                since: Some((None, since)),
                limit: 500,
                direction: Direction::Forward,
            });
            let page = page.await.unwrap();
            if page.publications.is_empty() {
                return all;
            }
            all.extend(page.publications.into_iter().map(|publication| {
                let data = serde_json::from_slice(publication.data.as_bytes()).unwrap();
                (publication.seq.0, data)
            }));
        }
    }

    /// The last event of a channel of the log.
    pub(super) async fn last(&self, namespace: &str, id: &str) -> Value {
        self.log(namespace, id).await.pop().unwrap().1
    }
}

fn joining(channel: &str, user: &str) -> Step {
    Step::some(INSERT_MEMBER, vec![channel.into(), user.into()])
}
