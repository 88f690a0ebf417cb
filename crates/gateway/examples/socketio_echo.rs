//! A Socket.IO app that gives everything back, in memory alone: `cargo run -p fanfare-gateway --example socketio_echo`.
//!
//! It is what the official test suites of Socket.IO and Engine.IO want to talk to (`make socketio-suites`): at
//! `localhost:3000`, with a quick heartbeat, echoing Socket.IO in the namespaces `/` and `/custom` and plain Engine.IO at
//! `/engine.io/`.

use std::{borrow::Cow, error::Error, future::pending, sync::Arc, time::Duration};

use axum::Router;
use bytes::Bytes;
use fanfare_engine::{
    Engine, EngineConfig, Metrics,
    hub::Context,
    memory::{bus::LocalBus, log::MemoryLog, state::MemoryState, tables::NoTables},
    port::BoxFuture,
};
use fanfare_gateway::{
    AllowedOrigins, Gateway, GatewayConfig, NodeIdentity,
    access::{Access, ChannelOptions, ChannelRules},
    forms, listener,
    socketio::{
        Args, Broken, Client, Events, Heartbeat, Messages, Namespace, SocketIoConfig, engine_io,
    },
};
use fanfare_wire::{Epoch, engineio};
use tokio::net::TcpListener;
use uuid::Uuid;

/// Where the suites look for it.
const ADDRESS: &str = "127.0.0.1:3000";

/// Gives back what comes in a namespace.
struct Echo(&'static str);

impl Namespace for Echo {
    fn name(&self) -> &str {
        self.0
    }

    fn serve(self: Arc<Self>, client: Client, mut events: Events) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let auth = Args::none().with_json(&client.handshake().auth);
            if client.accept().await.is_err() || client.emit("auth", auth).is_err() {
                return;
            }
            while let Some(incoming) = events.recv().await {
                let args = Args::from(incoming.args).with_attachments(incoming.attachments);
                let sent = match (&*incoming.event, incoming.ack) {
                    ("message", _) => client.emit("message-back", args),
                    ("message-with-ack", Some(ack)) => ack.send(args),
                    _ => Ok(()),
                };
                if sent.is_err() {
                    return;
                }
            }
        })
    }
}

/// Gives back what comes over Engine.IO.
struct PlainEcho;

impl Messages for PlainEcho {
    fn on_text(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Broken> {
        engineio::put_message(cx.out, |out| out.extend_from_slice(text.as_bytes()));
        Ok(())
    }

    fn on_binary(&mut self, bytes: Cow<'_, [u8]>, cx: &mut Context<'_>) -> Result<(), Broken> {
        engineio::put_binary(&bytes, cx.out);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS).await?;
    let namespaces = ["/", "/custom"];
    let epoch = Epoch::parse("echo").ok_or("no epoch")?;
    let engine = Engine::start(
        engine_config(),
        Arc::new(MemoryLog::new(epoch, || 0)),
        Arc::new(LocalBus),
        Arc::new(NoTables),
        Arc::new(MemoryState::alone()),
        forms(&namespaces, false),
    )?;
    let apps = namespaces.map(|name| Arc::new(Echo(name)) as Arc<dyn Namespace>);
    let gateway = Gateway::new(gateway_config(apps.to_vec()), engine);
    let plain = engine_io("/engine.io", &gateway, || Box::new(PlainEcho));
    let router: Router = gateway.router(plain);
    println!("listening on http://{ADDRESS}");
    let accept_errors = gateway.accept_errors();
    listener::serve(listener, router, accept_errors, pending(), Duration::ZERO).await;
    Ok(())
}

fn engine_config() -> EngineConfig {
    EngineConfig {
        shards: 1,
        retention: Vec::new(),
        retention_interval: Duration::from_secs(3600),
        stall_seconds: 60,
        about: Arc::new(|| Bytes::from_static(b"{}")),
        metrics: Arc::new(Metrics::default()),
    }
}

fn gateway_config(apps: Vec<Arc<dyn Namespace>>) -> GatewayConfig {
    let anyone = ChannelOptions {
        subscribe: Access::ANYONE,
        publish: Access::ANYONE,
        history: Access::ANYONE,
        ..ChannelOptions::default()
    };
    GatewayConfig {
        node: NodeIdentity {
            name: "echo".to_owned(),
            uid: Uuid::new_v4(),
            version: env!("CARGO_PKG_VERSION"),
            address: None,
            owners: false,
        },
        api_key: None,
        tokens: None,
        open: true,
        anonymous: false,
        rules: ChannelRules {
            outside: anyone,
            namespaces: Default::default(),
            unknown: None,
        },
        origins: AllowedOrigins::Any,
        message_bytes_max: 64 << 10,
        connections_max: 1000,
        connections_per_second: 0,
        connections_burst: 0,
        subscriptions_max: 128,
        pings: Default::default(),
        socketio: SocketIoConfig {
            heartbeat: Heartbeat {
                interval: Duration::from_millis(300),
                timeout: Duration::from_millis(200),
                max_payload: 1_000_000,
            },
            recovery: false,
            apps,
        },
        proxies: fanfare_gateway::proxy::ProxyConfig::default(),
        judges: Vec::new(),
        counters: Box::new(Vec::new),
        families: Box::new(Vec::new),
    }
}
