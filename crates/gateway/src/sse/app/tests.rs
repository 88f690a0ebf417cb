use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use axum::body::BodyDataStream;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::LocalBus, log::MemoryLog, state::MemoryState, tables::NoTables},
};
use fanfare_wire::{Draft, Epoch, Json};
use futures_util::StreamExt;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::{
    AllowedOrigins, GatewayConfig, NodeIdentity,
    access::{ChannelOptions, ChannelRules},
    sessions::Revocation,
    unix_seconds,
};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn channel() -> ChannelName {
    ChannelName::parse("mail:ann").unwrap()
}

/// A gateway whose rules let nobody do anything.
async fn gateway(connections_max: usize) -> Arc<Gateway> {
    let config = EngineConfig {
        shards: 1,
        retention: Vec::new(),
        retention_interval: Duration::from_secs(3600),
        stall_seconds: 60,
        about: Arc::new(|| "{}".into()),
        metrics: Arc::new(Metrics::default()),
    };
    let log = Arc::new(MemoryLog::new(Epoch::parse("e7").unwrap(), || 5));
    let state = Arc::new(MemoryState::alone());
    let forms = crate::forms(&[], false);
    let bus = Arc::new(LocalBus);
    let engine = Engine::start(config, log, bus, Arc::new(NoTables), state, forms).unwrap();
    let nobody = ChannelOptions::default();
    let config = GatewayConfig {
        node: NodeIdentity {
            name: "n".to_owned(),
            uid: Uuid::nil(),
            version: "0",
            address: None,
            owners: false,
        },
        api_key: None,
        tokens: None,
        open: false,
        anonymous: false,
        rules: ChannelRules {
            outside: nobody,
            namespaces: Default::default(),
            unknown: None,
        },
        origins: AllowedOrigins::These(Vec::new()),
        message_bytes_max: 1000,
        connections_max,
        connections_per_second: 0,
        connections_burst: 0,
        subscriptions_max: 1,
        pings: Default::default(),
        socketio: Default::default(),
        proxies: crate::proxy::ProxyConfig::default(),
        judges: Vec::new(),
        counters: Box::new(Vec::new),
        families: Box::new(Vec::new),
    };
    let gateway = Gateway::new(config, engine);
    gateway.sessions().ready().await;
    gateway
}

async fn publish(gateway: &Gateway, event: &str, data: &str) {
    let data = Json::parse(data.as_bytes()).unwrap();
    let mut draft = Draft::new(channel(), Uuid::now_v7(), data);
    let tags = serde_json::json!({ "event": event }).to_string();
    draft.tags = Some(Json::parse(tags.as_bytes()).unwrap());
    gateway.engine.publish(draft).await.unwrap();
}

fn claims(left: i64) -> Arc<ConnectionClaims> {
    let now = unix_seconds();
    Arc::new(ConnectionClaims {
        sub: "ann".to_owned(),
        exp: Some(now + left),
        iat: Some(now),
        jti: Some("session-of-ann".to_owned()),
        ..ConnectionClaims::default()
    })
}

/// Says when it is dropped.
struct Guard(Arc<AtomicBool>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

struct Page {
    body: BodyDataStream,
    text: String,
    handle: StreamHandle,
    ended: Arc<AtomicBool>,
}

fn asking() -> StreamRequest {
    let mut request = Request::new(Body::empty());
    let accept = "text/event-stream".parse().unwrap();
    request.headers_mut().insert("accept", accept);
    StreamRequest::of(&request)
}

async fn open(gateway: &Arc<Gateway>, after: Option<&str>, left: i64) -> Result<Page, Response> {
    let ended = Arc::new(AtomicBool::new(false));
    let stream = AppStream {
        channel: channel(),
        claims: claims(left),
        last_event_id: after.map(str::to_owned),
        heartbeat: Heartbeat {
            event: "heartbeat",
            seconds: 1,
            data: |now| format!("{{\"now\":{now}}}"),
        },
        guard: Box::new(Guard(Arc::clone(&ended))),
    };
    let (response, handle) = gateway.open_stream(asking(), stream).await?;
    Ok(Page {
        body: response.into_body().into_data_stream(),
        text: String::new(),
        handle,
        ended,
    })
}

impl Page {
    async fn until(&mut self, words: &str) {
        let reading = async {
            while !self.text.contains(words) {
                let chunk = self.body.next().await.expect("the stream goes on").unwrap();
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        let read = timeout(PATIENCE, reading).await;
        read.unwrap_or_else(|_| panic!("{words} not in {}", self.text));
    }

    async fn end(mut self) -> String {
        let reading = async {
            while let Some(chunk) = self.body.next().await {
                self.text
                    .push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            }
            while !self.ended.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reading).await.expect("an end");
        self.text
    }
}

fn last_id(text: &str) -> &str {
    text.lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back()
        .unwrap()
}

#[tokio::test]
async fn a_stream_has_named_events_heartbeats_and_goes_on_from_its_last_id() {
    let gateway = gateway(10).await;
    let mut page = open(&gateway, None, 3600).await.unwrap();
    page.until("event: ready\n").await;
    publish(&gateway, "new_email", "{\"n\":1}").await;
    page.until("event: new_email\ndata: {\"n\":1}\n\n").await;
    page.until("event: heartbeat\ndata: {\"now\":").await;
    let id = last_id(&page.text).to_owned();
    drop(page);
    publish(&gateway, "email_delete", "{\"n\":2}").await;
    let mut page = open(&gateway, Some(&id), 3600).await.unwrap();
    page.until("event: email_delete\ndata: {\"n\":2}\n\n").await;
    assert!(!page.text.contains("\"n\":1"), "{}", page.text);
    assert!(!page.text.contains("event: reset"), "{}", page.text);
    let mut page = open(&gateway, Some("another-1-1"), 3600).await.unwrap();
    page.until("event: reset\n").await;
}

#[tokio::test]
async fn a_last_word_ends_it_and_the_guard_goes_with_it() {
    let gateway = gateway(10).await;
    let farewell = |data: &str| Farewell {
        event: "error",
        data: data.to_owned(),
        retry_ms: 7,
    };
    let mut page = open(&gateway, None, 3600).await.unwrap();
    page.until("event: ready\n").await;
    page.handle.close(farewell("{\"first\":1}"));
    page.handle.close(farewell("{\"second\":1}"));
    let text = page.end().await;
    assert!(
        text.ends_with("retry: 7\nevent: error\ndata: {\"first\":1}\n\n"),
        "{text}"
    );
    // Before the shard has seen it, too.
    let page = open(&gateway, None, 3600).await.unwrap();
    page.handle.close(farewell("{\"early\":1}"));
    assert!(page.end().await.contains("data: {\"early\":1}\n\n"));
    assert_eq!(gateway.door.seats_taken(), 0);
}

#[tokio::test]
async fn it_ends_with_the_session() {
    let gateway = gateway(10).await;
    let mut page = open(&gateway, None, 3600).await.unwrap();
    page.until("event: ready\n").await;
    let revocation = Revocation::Session {
        session: "session-of-ann".to_owned(),
        expires: None,
    };
    gateway.revoke(&revocation).await.unwrap();
    page.end().await;
    // Revoked since its cookie was looked at.
    let late = open(&gateway, None, 3600).await.unwrap();
    assert_eq!(late.end().await, "");
}

#[tokio::test]
async fn it_ends_when_the_session_expires() {
    let gateway = gateway(10).await;
    let mut page = open(&gateway, None, 2).await.unwrap();
    page.until("event: ready\n").await;
    page.end().await;
}

#[tokio::test]
async fn who_finds_no_seat_is_told_when_to_come_back() {
    let gateway = gateway(1).await;
    let mut page = open(&gateway, None, 3600).await.unwrap();
    page.until("event: ready\n").await;
    let Err(refused) = open(&gateway, None, 3600).await else {
        panic!("a second seat");
    };
    // A native EventSource would never come back after another status.
    assert_eq!(refused.status(), 200);
    let body = axum::body::to_bytes(refused.into_body(), 1000)
        .await
        .unwrap();
    assert!(body.starts_with(b"retry: "));
}
