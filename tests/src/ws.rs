//! A client of the Centrifuge protocol, JSON over WebSocket, that shows everything the server does.
//!
//! It never reconnects and never hides anything: what came is kept in order of arrival until the test asks for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use crate::http::is_timeout;
use crate::wait::{deadline, patience};

/// Where nodes take WebSockets.
pub const PATH: &str = "/connection/websocket";

/// How long one look at the socket lasts when the question is whether anything has come.
const GLANCE: Duration = Duration::from_millis(20);

/// How the server ended the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A close frame with this code and reason.
    Close(u16, String),
    /// The connection broke without a close frame.
    Broken,
}

/// Does `work` in another thread; the connections are looked at meanwhile, so that they answer pings however long it takes.
pub fn meanwhile<'a, T: Send>(
    clients: impl IntoIterator<Item = &'a mut Client>,
    work: impl FnOnce() -> T + Send,
) -> T {
    let mut clients: Vec<_> = clients.into_iter().collect();
    thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            for client in &mut clients {
                client.glance();
            }
        }
        work.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<TcpStream>,
    command_id: u32,
    replies: VecDeque<Value>,
    pushes: VecDeque<Value>,
    end: Option<End>,
    /// Answer the server's pings; a test of what happens otherwise turns it off.
    pub answer_pings: bool,
}

impl Client {
    /// Opens a WebSocket and sends nothing on it.
    ///
    /// # Panics
    /// When the server does not take it.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        match Self::try_open(address) {
            Ok(client) => client,
            Err(error) => panic!("{address} takes no WebSocket: {error}"),
        }
    }

    /// The same, with these headers in the request.
    ///
    /// # Panics
    /// When the server does not take it.
    #[track_caller]
    pub fn open_with(address: SocketAddr, headers: &[(&str, &str)]) -> Self {
        let opened = TcpStream::connect_timeout(&address, patience())
            .and_then(|stream| Self::over_with(stream, address, headers));
        match opened {
            Ok(client) => client,
            Err(error) => panic!("{address} takes no WebSocket: {error}"),
        }
    }

    /// Opens a WebSocket and sends nothing on it.
    ///
    /// # Errors
    /// When nobody listens or the handshake fails.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience())?;
        Self::over(stream, address)
    }

    /// As [`try_open`](Self::try_open), over a connection of the caller's.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn over(stream: TcpStream, address: SocketAddr) -> io::Result<Self> {
        Self::over_with(stream, address, &[])
    }

    fn over_with(
        stream: TcpStream,
        address: SocketAddr,
        headers: &[(&str, &str)],
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        let url = format!("ws://{address}{PATH}");
        let mut request = ClientRequestBuilder::new(url.parse().map_err(io::Error::other)?);
        for (name, value) in headers {
            request = request.with_header(*name, *value);
        }
        let (socket, _) = tungstenite::client(request, stream).map_err(|error| match error {
            HandshakeError::Failure(error) => io::Error::other(error),
            HandshakeError::Interrupted(_) => io::ErrorKind::TimedOut.into(),
        })?;
        Ok(Self {
            socket,
            command_id: 0,
            replies: VecDeque::new(),
            pushes: VecDeque::new(),
            end: None,
            answer_pings: true,
        })
    }

    /// Opens a WebSocket and connects anonymously, as `--dev` allows.
    ///
    /// # Panics
    /// When either is refused.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        let reply = client.command("connect", json!({}));
        assert!(
            reply.get("connect").is_some(),
            "connect was refused: {reply}"
        );
        client
    }

    /// Sends a command and gives its reply, whole: `{"id":…,"subscribe":{…}}` or with `error`.
    ///
    /// # Panics
    /// When the connection ends or patience does before the reply.
    #[track_caller]
    pub fn command(&mut self, method: &str, request: Value) -> Value {
        let id = self.send_command(method, request);
        let deadline = deadline();
        loop {
            if let Some(index) = self.replies.iter().position(|reply| reply["id"] == id) {
                return self.replies.remove(index).unwrap_or_default();
            }
            if let Some(end) = &self.end {
                panic!("no reply to {method}: the connection ended: {end:?}");
            }
            assert!(Instant::now() < deadline, "no reply to {method}");
            self.read_until(deadline);
        }
    }

    /// Sends a command and does not wait for its reply. Gives its id.
    pub fn send_command(&mut self, method: &str, request: Value) -> u32 {
        self.command_id += 1;
        self.send_text(&json!({ "id": self.command_id, method: request }).to_string());
        self.command_id
    }

    /// Subscribes and gives the result.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) -> Value {
        self.subscribe_with(json!({ "channel": channel }))
    }

    /// Subscribes from a position and gives the result.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn subscribe_from(&mut self, channel: &str, offset: u64, epoch: &str) -> Value {
        self.subscribe_with(json!({
            "channel": channel, "recover": true, "offset": offset, "epoch": epoch,
        }))
    }

    #[track_caller]
    fn subscribe_with(&mut self, request: Value) -> Value {
        let reply = self.command("subscribe", request);
        match reply.get("subscribe") {
            Some(result) => result.clone(),
            None => panic!("subscribe was refused: {reply}"),
        }
    }

    /// The next publication of `channel`, whole: `{"data":…,"offset":…}`.
    ///
    /// # Panics
    /// When the connection ends or patience does before it comes.
    #[track_caller]
    pub fn publication(&mut self, channel: &str) -> Value {
        let deadline = deadline();
        loop {
            if let Some(publication) = self.take_publication(channel) {
                return publication;
            }
            if let Some(end) = &self.end {
                panic!("waited for a publication in {channel}: the connection ended: {end:?}");
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for a publication in {channel}"
            );
            self.read_until(deadline);
        }
    }

    /// The next push of a kind other than publications to `channel`: `unsubscribe`, `join` and so on.
    ///
    /// # Panics
    /// When the connection ends or patience does before it comes.
    #[track_caller]
    pub fn push(&mut self, channel: &str, kind: &str) -> Value {
        let deadline = deadline();
        loop {
            let wanted = |push: &Value| push["channel"] == channel && push.get(kind).is_some();
            if let Some(index) = self.pushes.iter().position(wanted) {
                let push = self.pushes.remove(index);
                return push.map(|mut push| push[kind].take()).unwrap_or_default();
            }
            if let Some(end) = &self.end {
                panic!("waited for {kind} in {channel}: the connection ended: {end:?}");
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {kind} in {channel}"
            );
            self.read_until(deadline);
        }
    }

    /// The publication of `channel` that is first among what has come, without waiting for one.
    pub fn take_publication(&mut self, channel: &str) -> Option<Value> {
        let of_channel = |push: &Value| push["channel"] == channel && push.get("pub").is_some();
        let index = self.pushes.iter().position(of_channel)?;
        self.pushes.remove(index).map(|mut push| push["pub"].take())
    }

    /// All pushes that have come and were not asked for, of any kind.
    pub fn pushes(&mut self) -> Vec<Value> {
        self.glance();
        self.pushes.drain(..).collect()
    }

    /// Waits for the server to end the connection.
    ///
    /// # Panics
    /// When patience is at its end.
    #[track_caller]
    pub fn end(&mut self) -> End {
        let deadline = deadline();
        loop {
            if let Some(end) = &self.end {
                return end.clone();
            }
            assert!(
                Instant::now() < deadline,
                "the server did not end the connection"
            );
            self.read_until(deadline);
        }
    }

    /// What the server said in any way: the first of an end or a reply.
    ///
    /// # Panics
    /// When patience is at its end.
    #[track_caller]
    pub fn answer(&mut self) -> Result<Value, End> {
        let deadline = deadline();
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Ok(reply);
            }
            if let Some(end) = &self.end {
                return Err(end.clone());
            }
            assert!(Instant::now() < deadline, "the server did not answer");
            self.read_until(deadline);
        }
    }

    /// The first reply that has come, whatever it answers, after a short look at the connection.
    pub fn reply_soon(&mut self) -> Option<Value> {
        self.glance();
        self.replies.pop_front()
    }

    /// True while the connection has not ended, after a short look at it.
    pub fn is_open(&mut self) -> bool {
        self.glance();
        self.end.is_none()
    }

    /// Sends a text frame as it is. A failure shows as the connection's end.
    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    /// Sends a binary frame. A failure shows as the connection's end.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Message::binary(bytes.to_vec()));
    }

    /// Writes bytes past the WebSocket layer. A failure shows as the connection's end.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        // The server may have closed already, having seen enough; the read side tells how.
        let _ = self.socket.get_mut().write_all(bytes);
    }

    fn send(&mut self, message: Message) {
        let _ = self.socket.send(message);
    }

    /// Says good-bye: a frame that closes the connection, without a code, as browsers send it.
    pub fn close(&mut self) {
        self.send(Message::Close(None));
    }

    /// Takes in what has come, without waiting for more.
    pub fn glance(&mut self) {
        self.read_until(Instant::now() + GLANCE);
    }

    /// Reads one frame, or until `deadline`.
    fn read_until(&mut self, deadline: Instant) {
        if self.end.is_some() {
            return;
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        if self.socket.get_ref().set_read_timeout(Some(left)).is_err() {
            self.end = Some(End::Broken);
            return;
        }
        match self.socket.read() {
            Ok(Message::Text(text)) => self.take_frame(text.as_str()),
            Ok(Message::Close(frame)) => {
                self.end = Some(frame.map_or(End::Broken, |frame| {
                    End::Close(frame.code.into(), frame.reason.as_str().to_owned())
                }));
            }
            Ok(Message::Binary(bytes)) => panic!("a binary frame on a JSON connection: {bytes:?}"),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Io(error)) if is_timeout(&error) => {}
            Err(_) => self.end = Some(End::Broken),
        }
    }

    fn take_frame(&mut self, text: &str) {
        for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
            let value: Value = match serde_json::from_str(line) {
                Ok(value) => value,
                Err(error) => panic!("the server sent no JSON ({error}): {line}"),
            };
            if value.as_object().is_some_and(serde_json::Map::is_empty) {
                if self.answer_pings {
                    self.send_text("{}");
                }
            } else if let Some(push) = value.get("push") {
                self.pushes.push_back(push.clone());
            } else {
                self.replies.push_back(value);
            }
        }
    }
}
