//! A client of the Centrifuge transports that are the body of a response: it shows each line or event, and answers nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::http::{Http, Response};

/// One stream.
#[derive(Debug)]
pub struct Stream {
    http: Http,
    address: SocketAddr,
    /// Status and headers of the response.
    pub head: Response,
    unread: String,
    messages: VecDeque<Value>,
    command_id: u32,
    session: String,
}

impl Stream {
    /// Opens a stream by a POST with this body, and reads the head of the answer.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn post(address: SocketAddr, path: &str, body: &str) -> Self {
        Self::open(address, "POST", path, &[], body)
    }

    /// The same by a GET.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn get(address: SocketAddr, path: &str) -> Self {
        Self::open(address, "GET", path, &[], "")
    }

    /// Opens a stream by any request.
    ///
    /// # Panics
    /// When nobody answers.
    #[track_caller]
    pub fn open(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let mut http = Http::connect(address).expect("a node that listens");
        http.send(method, path, headers, body.as_bytes()).unwrap();
        let head = http.read_head().expect("an answer");
        Self {
            http,
            address,
            head,
            unread: String::new(),
            messages: VecDeque::new(),
            command_id: 1,
            session: String::new(),
        }
    }

    /// A client of `/connection/http_stream` that is connected.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let connect = json!({ "id": 1, "connect": {} }).to_string();
        let mut stream = Self::post(address, "/connection/http_stream", &connect);
        let reply = stream.message();
        let session = reply["connect"]["session"].as_str();
        stream.session = session
            .unwrap_or_else(|| panic!("no session: {reply}"))
            .to_owned();
        stream
    }

    /// What commands name.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The next object that is no ping.
    ///
    /// # Panics
    /// When the stream ends before.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        match self.until_end() {
            Some(message) => message,
            None => panic!("the stream ended"),
        }
    }

    /// The next object that is no ping; none when the stream has ended.
    ///
    /// # Panics
    /// When what comes is no JSON.
    #[track_caller]
    pub fn until_end(&mut self) -> Option<Value> {
        loop {
            match self.messages.pop_front() {
                Some(ping) if ping == json!({}) => {}
                Some(message) => return Some(message),
                None => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Option<()> {
        let chunk = self.http.read_chunk().expect("a whole stream")?;
        self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some(end) = self.unread.find('\n') {
            let line: String = self.unread.drain(..=end).collect();
            let text = line.trim_end();
            let text = text.strip_prefix("data: ").unwrap_or(text);
            if !text.is_empty() && !text.starts_with("retry:") {
                let parsed = serde_json::from_str(text);
                let message = parsed.unwrap_or_else(|error| panic!("{error}: {text}"));
                self.messages.push_back(message);
            }
        }
        Some(())
    }

    /// Posts a command to a node, which need not be the stream's, and gives its number.
    ///
    /// # Panics
    /// When it is not taken.
    #[track_caller]
    pub fn command(&mut self, through: SocketAddr, method: &str, request: Value) -> u32 {
        self.command_id += 1;
        let command = json!({ "id": self.command_id, method: request });
        let response = emulate(through, &self.session, &command.to_string());
        assert_eq!(response.status, 204, "{}", response.text());
        self.command_id
    }

    /// Posts a command to the stream's own node, and gives the reply.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn asked(&mut self, method: &str, request: Value) -> Value {
        let id = self.command(self.address, method, request);
        self.reply(id)
    }

    /// The reply to a command; pushes before it are passed over.
    ///
    /// # Panics
    /// When the stream ends before.
    #[track_caller]
    pub fn reply(&mut self, id: u32) -> Value {
        loop {
            let message = self.message();
            if message["id"] == id {
                return message;
            }
        }
    }
}

/// Posts commands for a session.
///
/// # Panics
/// When nobody answers.
#[track_caller]
pub fn emulate(address: SocketAddr, session: &str, data: &str) -> Response {
    let body = json!({ "session": session, "node": "any", "data": data }).to_string();
    let headers = [("content-type", "application/json")];
    Http::once(address, "POST", "/emulation", &headers, body.as_bytes()).expect("an answer")
}
