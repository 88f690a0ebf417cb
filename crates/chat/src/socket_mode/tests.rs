//! Socket Mode on the real database, over real sockets, on two nodes that share the database and the state.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use fanfare_backend::sqlite::SqliteLog;
use fanfare_bench::local::TempDir;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    memory::{bus::LocalBus, state::MemoryStates},
    port::{Transaction, tables::Step},
    state::WhenAway,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

use super::{SOCKETS_OF_APP_MAX, Timing, deliveries::WINDOW};
use crate::{Chat, ChatConfig, Demo, SignUp, args::Args, id::Id, method::Call, unix_seconds};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes.
struct House {
    nodes: [Arc<Chat>; 2],
    addresses: Vec<String>,
    // Gone last.
    _dir: TempDir,
}

fn timing() -> Timing {
    Timing {
        acknowledge: Duration::from_millis(300),
        ping: Duration::from_millis(100),
        beat: Duration::from_millis(50),
        ..Timing::default()
    }
}

impl House {
    async fn build(timing: Timing) -> Self {
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
            let forms = fanfare_gateway::forms(&[], true);
            let engine =
                Engine::start(config, log, Arc::new(LocalBus), tables, state, forms).unwrap();
            let config = ChatConfig {
                open: true,
                sign_up: SignUp::Invite,
                create_workspaces: false,
                public_url: None,
                oidc: None,
                limits_when_away: WhenAway::Local,
                signer: None,
            };
            Chat::start_with(config, engine, timing)
        };
        let nodes = [node(), node()];
        let mut addresses = Vec::new();
        for node in &nodes {
            while node.check_ready().is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            let router = super::router(node);
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        Self {
            nodes,
            addresses,
            _dir: dir,
        }
    }

    /// A ticket of the demo's app, drawn at a node.
    async fn ticket(&self, node: usize) -> String {
        let caller = self.nodes[node].caller_of("xapp-dev").await.unwrap();
        self.nodes[node].draw_ticket(&caller).await.unwrap()
    }

    /// Shows a ticket to a node.
    async fn show(&self, node: usize, ticket: &str) -> Result<Socket, u16> {
        let address = &self.addresses[node];
        let stream = TcpStream::connect(address).await.unwrap();
        let url = self.nodes[node].socket_url(Some(address), ticket).unwrap();
        match client_async(url, stream).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// An open socket of the demo's app.
    async fn socket(&self, node: usize) -> Socket {
        let ticket = self.ticket(1 - node).await;
        let mut socket = self.show(node, &ticket).await.unwrap();
        let hello = socket.next().await;
        assert_eq!(hello["type"], "hello");
        assert_eq!(hello["connection_info"]["app_id"], Demo::APP);
        socket
    }

    async fn post(&self, node: usize, text: &str) {
        let chat = &self.nodes[node];
        let uri = format!(
            "/?channel={}&text={}",
            Demo::GENERAL,
            text.replace(' ', "+")
        );
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        let args = Args::read(request).await.unwrap();
        let caller = chat.caller_of("xoxp-dev-alice").await.unwrap();
        let call = Call::new(Some(caller), args);
        let run = chat.methods["chat.postMessage"].run;
        run(Arc::clone(chat), call).await.unwrap();
    }

    async fn write(&self, sql: &'static str, params: Vec<fanfare_engine::port::tables::Value>) {
        let transaction = Transaction {
            steps: vec![Step::some(sql, params)],
            ..Transaction::default()
        };
        self.nodes[0].engine.transact(transaction).await.unwrap();
    }

    /// Waits until the app has acknowledged everything, as its row says.
    async fn settled(&self) {
        let channel = Id::known(Demo::APP).channel(crate::APPS).unwrap();
        let (_, head) = self.nodes[0].engine.head(&channel).await.unwrap();
        let sql = "SELECT 1 FROM chat_app_readers WHERE app = $1 AND acknowledged = $2";
        let seq = i64::try_from(head.seq.0).unwrap();
        let wait = async {
            let params = || vec![Demo::APP.into(), seq.into()];
            while self.nodes[0]
                .engine
                .query(sql, params())
                .await
                .unwrap()
                .is_empty()
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("all is acknowledged");
    }
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// The next text.
    async fn next(&mut self) -> Value {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("a frame") {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(text.as_str()).unwrap();
                }
                Some(Ok(Message::Close(_))) | None => return json!({ "type": "closed" }),
                Some(Ok(_)) => {}
                Some(Err(error)) => return json!({ "type": "broken", "error": error.to_string() }),
            }
        }
    }

    /// The next event: its text, and its envelope.
    async fn event(&mut self) -> (String, Value) {
        let envelope = self.next().await;
        assert_eq!(envelope["type"], "events_api", "{envelope}");
        let text = envelope["payload"]["event"]["text"]
            .as_str()
            .unwrap_or_default();
        (text.to_owned(), envelope)
    }

    async fn acknowledge(&mut self, envelope: &Value) {
        let said = json!({ "envelope_id": envelope["envelope_id"] }).to_string();
        self.0.send(Message::text(said)).await.unwrap();
    }

    async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_does_not_come_again_and_the_rest_does_on_any_node() {
    let house = House::build(timing()).await;
    house.post(0, "before anybody listens").await;
    let mut socket = house.socket(0).await;
    house.post(1, "one").await;
    let (text, envelope) = socket.event().await;
    assert_eq!(text, "one");
    assert_eq!(envelope["retry_attempt"], 0);
    assert_eq!(envelope["payload"]["event"]["channel_type"], "channel");
    socket.acknowledge(&envelope).await;
    house.settled().await;
    house.post(0, "two").await;
    let (text, first) = socket.event().await;
    assert_eq!(text, "two");
    // Without a word: the other node goes on with what was not acknowledged.
    drop(socket);
    let mut socket = house.socket(1).await;
    let (text, again) = socket.event().await;
    assert_eq!(
        (text.as_str(), &again["envelope_id"]),
        ("two", &first["envelope_id"])
    );
    assert_eq!(again["payload"]["event_id"], first["payload"]["event_id"]);
    socket.acknowledge(&again).await;
    house.settled().await;
    socket.close().await;
    house.post(0, "while nobody listens").await;
    let mut socket = house.socket(0).await;
    let (text, _) = socket.event().await;
    assert_eq!(text, "while nobody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_acknowledgement_in_time_another_socket_gets_it() {
    let house = House::build(timing()).await;
    let mut sockets = [house.socket(0).await, house.socket(0).await];
    house.post(0, "hi").await;
    let (first, second) = sockets.split_at_mut(1);
    let (one, other) = (&mut first[0], &mut second[0]);
    // Whichever of them was given it first.
    let (has_one, envelope) = tokio::select! {
        (_, envelope) = one.event() => (true, envelope),
        (_, envelope) = other.event() => (false, envelope),
    };
    assert_eq!(envelope["retry_attempt"], 0);
    let (holder, other) = if has_one { (one, other) } else { (other, one) };
    let (_, again) = other.event().await;
    assert_eq!(again["envelope_id"], envelope["envelope_id"]);
    assert_eq!(
        (&again["retry_attempt"], &again["retry_reason"]),
        (&json!(1), &json!("timeout"))
    );
    // The late acknowledgement of the first counts as well.
    holder.acknowledge(&envelope).await;
    house.settled().await;
    let sockets = &house.nodes[0].sockets;
    let counted = [
        &sockets.counters.sent,
        &sockets.counters.repeated,
        &sockets.counters.acknowledged,
    ]
    .map(|count| count.load(Relaxed));
    assert_eq!((sockets.open(), counted), (2, [1, 1, 1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_sign_of_life_is_replaced() {
    let house = House::build(timing()).await;
    let mut socket = house.socket(0).await;
    house.post(0, "one").await;
    let (_, envelope) = socket.event().await;
    socket.acknowledge(&envelope).await;
    house.settled().await;
    // As if a third node had claimed the app and died at once.
    let app = Id::known(Demo::APP);
    house.nodes[1]
        .claim(&app, "dead", None)
        .await
        .unwrap()
        .unwrap();
    house.post(1, "two").await;
    loop {
        let (text, envelope) = socket.event().await;
        assert_eq!(text, "two");
        let holder = house.nodes[0].holder(&app).await.unwrap().unwrap();
        if holder.name != "dead" {
            socket.acknowledge(&envelope).await;
            break;
        }
    }
    house.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_socket_is_told_and_the_others_when_it_goes() {
    let house = House::build(timing()).await;
    let mut old = house.socket(0).await;
    let mut new = house.socket(1).await;
    house.post(0, "one").await;
    let (text, envelope) = new.event().await;
    assert_eq!(text, "one");
    new.acknowledge(&envelope).await;
    house.settled().await;
    new.close().await;
    house.post(1, "two").await;
    // It may have been given the first one before the other was known.
    while old.event().await.0 != "two" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_socket_and_a_forged_one_none() {
    let house = House::build(timing()).await;
    let ticket = house.ticket(0).await;
    assert!(house.show(1, &ticket).await.is_ok());
    for node in [0, 1] {
        assert_eq!(house.show(node, &ticket).await.err(), Some(403), "used");
    }
    for forged in ["", "x", "xapp-dev", "%00", &ticket[1..], &"x".repeat(5000)] {
        assert_eq!(house.show(0, forged).await.err(), Some(403), "{forged}");
    }
    let late = house.ticket(0).await;
    house
        .write(
            "UPDATE chat_tickets SET expires = $1",
            vec![unix_seconds().into()],
        )
        .await;
    assert_eq!(house.show(0, &late).await.err(), Some(403), "late");
    for token in ["xoxp-dev-alice", "xoxb-dev-bot"] {
        let caller = house.nodes[0].caller_of(token).await.unwrap();
        assert!(!crate::method::Who::App.admits(&caller));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_taken_back_ends_its_sockets_and_tickets() {
    let house = House::build(timing()).await;
    let mut socket = house.socket(0).await;
    let ticket = house.ticket(0).await;
    house
        .write(
            "DELETE FROM chat_tokens WHERE kind = $1",
            vec!["app".into()],
        )
        .await;
    assert_eq!(socket.next().await["reason"], "link_disabled");
    assert_eq!(socket.next().await["type"], "closed");
    assert_eq!(house.show(0, &ticket).await.err(), Some(403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_hears_nothing_of_where_it_is_not() {
    let house = House::build(timing()).await;
    let mut socket = house.socket(0).await;
    socket.close().await;
    house
        .post(0, "said while it was there, to be told later")
        .await;
    let kick = "DELETE FROM chat_members WHERE user_id = $1";
    house.write(kick, vec![Demo::BOT_USER.into()]).await;
    house.post(0, "said behind its back").await;
    socket = house.socket(0).await;
    let join = "INSERT INTO chat_members (conversation, user_id, joined, last_read, is_open) VALUES ($1, $2, 0, 0, 1)";
    // What it was not there for stays unsaid, also when it comes back; what was there is acknowledged by nobody.
    house.settled().await;
    house
        .write(join, vec![Demo::GENERAL.into(), Demo::BOT_USER.into()])
        .await;
    house.post(0, "welcome back").await;
    let (text, _) = socket.event().await;
    assert_eq!(text, "welcome back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_has_so_many_sockets_on_all_nodes_together() {
    let house = House::build(timing()).await;
    let mut sockets = Vec::new();
    for at in 0..SOCKETS_OF_APP_MAX {
        sockets.push(house.socket(at % 2).await);
    }
    let ticket = house.ticket(0).await;
    let mut late = house.show(0, &ticket).await.unwrap();
    assert_eq!(late.next().await["reason"], "too_many_websockets");
    assert_eq!(late.next().await["type"], "closed");
    sockets.remove(0).close().await;
    // The place is free as soon as the server has seen it go.
    loop {
        let ticket = house.ticket(0).await;
        let mut socket = house.show(0, &ticket).await.unwrap();
        if socket.next().await["type"] == "hello" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_socket_is_warned_then_asked_to_go_then_closed() {
    let notice = Duration::from_millis(200);
    let house = House::build(Timing {
        age: Duration::from_secs(1),
        notice,
        ..timing()
    })
    .await;
    let mut socket = house.socket(0).await;
    assert_eq!(socket.next().await["reason"], "warning");
    assert_eq!(socket.next().await["reason"], "refresh_requested");
    // Nothing new goes to it: it waits for another one.
    house.post(0, "for the next").await;
    assert_eq!(socket.next().await["type"], "closed");
    let (text, _) = house.socket(0).await.event().await;
    assert_eq!(text, "for the next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_sends_its_sockets_elsewhere() {
    let house = House::build(timing()).await;
    let mut socket = house.socket(0).await;
    house.post(0, "hi").await;
    let (_, envelope) = socket.event().await;
    house.nodes[0].farewell();
    assert_eq!(socket.next().await["reason"], "refresh_requested");
    let ticket = house.ticket(0).await;
    assert_eq!(house.show(0, &ticket).await.err(), Some(503));
    // What it was sent it may acknowledge still.
    socket.acknowledge(&envelope).await;
    house.settled().await;
    let mut other = house.show(1, &ticket).await.unwrap();
    assert_eq!(other.next().await["type"], "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_socket_is_closed() {
    let house = House::build(Timing {
        silence: Duration::from_millis(300),
        ..timing()
    })
    .await;
    let mut idle = house.socket(0).await;
    assert_eq!(house.nodes[0].sockets.open(), 1);
    // Nobody reads, so nobody answers pings.
    while house.nodes[0].sockets.open() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(
        idle.next().await["type"].as_str(),
        Some("closed" | "broken")
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_comes_in_order_in_portions_that_are_bounded() {
    let house = House::build(Timing {
        acknowledge: PATIENCE * 3,
        ..timing()
    })
    .await;
    house.socket(0).await.close().await;
    let count = WINDOW * 2 + 7;
    for number in 0..count {
        house.post(number % 2, &number.to_string()).await;
    }
    let mut socket = house.socket(1).await;
    let mut envelopes = Vec::new();
    for number in 0..WINDOW {
        let (text, envelope) = socket.event().await;
        assert_eq!(text, number.to_string());
        envelopes.push(envelope);
    }
    // In any order.
    envelopes.reverse();
    for envelope in &envelopes {
        socket.acknowledge(envelope).await;
    }
    for number in WINDOW..count {
        let (text, envelope) = socket.event().await;
        assert_eq!(text, number.to_string());
        socket.acknowledge(&envelope).await;
    }
    house.settled().await;
}
