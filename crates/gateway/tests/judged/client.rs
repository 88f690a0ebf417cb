//! A client of the Centrifuge protocol, in JSON over a WebSocket, that never comes back by itself.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use serde_json::{Value, json};
use tungstenite::{Message, protocol::WebSocket};

use crate::scene::PATIENCE;

pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    id: u32,
    replies: VecDeque<Value>,
    pushes: VecDeque<Value>,
}

impl Client {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{address}/connection/websocket");
        let (socket, _) = tungstenite::client(url, stream).unwrap();
        Self {
            socket,
            id: 0,
            replies: VecDeque::new(),
            pushes: VecDeque::new(),
        }
    }

    /// Gives a command and its reply.
    #[track_caller]
    pub(crate) fn command(&mut self, method: &str, request: Value) -> Value {
        let id = self.send(method, request);
        self.reply(id)
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) -> Value {
        self.command("subscribe", json!({"channel": channel}))
    }

    /// Gives a command.
    pub(crate) fn send(&mut self, method: &str, request: Value) -> u32 {
        self.id += 1;
        self.send_text(json!({"id": self.id, method: request}).to_string());
        self.id
    }

    pub(crate) fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// The reply to a command.
    #[track_caller]
    pub(crate) fn reply(&mut self, id: u32) -> Value {
        self.until(|client| {
            let at = client.replies.iter().position(|reply| reply["id"] == id)?;
            client.replies.remove(at)
        })
    }

    /// The next push of a kind in a channel.
    #[track_caller]
    pub(crate) fn push(&mut self, channel: &str, kind: &str) -> Value {
        let wanted = |push: &Value| push["channel"] == channel && push.get(kind).is_some();
        self.until(|client| {
            let at = client.pushes.iter().position(wanted)?;
            Some(client.pushes.remove(at)?[kind].take())
        })
    }

    /// The ids of the replies that nobody has asked for yet, in their order, once there are so many.
    #[track_caller]
    pub(crate) fn ids(&mut self, count: usize) -> Vec<u64> {
        self.until(|client| (client.replies.len() >= count).then_some(()));
        let replies = self.replies.drain(..);
        replies.map(|it| it["id"].as_u64().unwrap()).collect()
    }

    #[track_caller]
    fn until<T>(&mut self, look: impl Fn(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            // Pings come all the time.
            assert!(Instant::now() < deadline, "{:?}", self.replies);
            self.read();
        }
    }

    #[track_caller]
    fn read(&mut self) {
        let message = self.socket.read().unwrap();
        let Message::Text(text) = message else {
            panic!("{message:?}");
        };
        for line in text.as_str().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if value.as_object().is_some_and(serde_json::Map::is_empty) {
                self.send_text("{}".to_owned());
            } else if let Some(push) = value.get("push") {
                self.pushes.push_back(push.clone());
            } else {
                self.replies.push_back(value);
            }
        }
    }
}

/// The code of an error; 0 if it is none.
pub(crate) fn code(reply: &Value) -> u64 {
    reply["error"]["code"].as_u64().unwrap_or(0)
}
