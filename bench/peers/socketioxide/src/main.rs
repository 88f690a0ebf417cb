//! socketioxide behind the same questions as Fanfare's Socket.IO gateway: `subscribe` a channel, and
//! `POST /api/publish {"channel","data"}`. Prints where it listens.

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on(
            "subscribe",
            async |socket: SocketRef, Data::<String>(channel), ack: AckSender| {
                socket.join(channel);
                ack.send(&json!({ "ok": true })).ok();
            },
        );
    });
    let router = Router::new()
        .route("/api/publish", post(publish))
        .with_state(io)
        .layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

async fn publish(State(io): State<SocketIo>, Json(message): Json<Value>) -> Json<Value> {
    let channel = message["channel"].as_str().unwrap_or_default().to_owned();
    let sent = io.to(channel).emit("message", &message["data"]).await;
    Json(json!({ "ok": sent.is_ok() }))
}
