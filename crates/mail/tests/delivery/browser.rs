//! A browser, as much of it as mail needs: it follows redirections, keeps cookies of one origin, and reads event streams.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::http::{HeaderMap, Method, Request};
use fanfare_ingress::https::{Answer, Client};
use http_body_util::Full;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::scene::{ANN, Node, PATIENCE, Scene, eventually};

/// A browser.
#[derive(Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
}

/// An event stream.
pub(crate) struct Stream {
    socket: TcpStream,
    pub(crate) status: u16,
    raw: Vec<u8>,
    /// What has come, without the head and the marks of chunks.
    pub(crate) text: String,
    ended: bool,
}

impl Browser {
    /// Goes to a URL without following where it leads. Cookies of all origins are in one jar: nobody else has some.
    pub(crate) async fn go(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie());
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let answer = Client::new().ask(request).await.unwrap();
        self.keep(&answer.headers);
        answer
    }

    pub(crate) async fn get(&mut self, node: &Node, path: &str) -> Answer {
        let url = format!("http://{}{path}", node.address);
        self.go(Method::GET, &url, &[], "").await
    }

    pub(crate) async fn post(&mut self, node: &Node, path: &str) -> Answer {
        let url = format!("http://{}{path}", node.address);
        // As a browser does for a page's own requests.
        let front = node.origin();
        let headers = [
            ("origin", front.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        self.go(Method::POST, &url, &headers, "").await
    }

    /// What a path answers, as JSON.
    pub(crate) async fn json(&mut self, node: &Node, path: &str) -> Value {
        let answer = self.get(node, path).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Begins a login, consents, and says where Google sends the browser back to.
    pub(crate) async fn consent(&mut self, node: &Node, address: &str) -> String {
        let path = format!("/mail/login?login_hint={address}");
        let begun = self.get(node, &path).await;
        assert_eq!(begun.status, 302, "{:?}", begun.body);
        let consented = self
            .go(Method::GET, begun.header("location").unwrap(), &[], "")
            .await;
        assert_eq!(consented.status, 302, "{:?}", consented.body);
        consented.header("location").unwrap().to_owned()
    }

    /// Signs in as somebody.
    pub(crate) async fn sign_in_as(&mut self, scene: &Scene, address: &str) {
        let node = &scene.nodes[0];
        eventually("the app is ready", || {
            let mut browser = self.clone();
            async move {
                let back = browser.consent(node, address).await;
                let answer = browser.go(Method::GET, &back, &[], "").await;
                (answer.header("location") == Some("/mail")).then_some(browser)
            }
        })
        .await
        .clone_into(self);
        eventually("the mailbox is live", || {
            let mut browser = self.clone();
            async move {
                let me = browser.json(node, "/mail/me").await;
                (me["state"] == "live").then_some(())
            }
        })
        .await;
    }

    pub(crate) async fn sign_in(scene: &Scene) -> Self {
        let mut browser = Self::default();
        browser.sign_in_as(scene, ANN).await;
        browser
    }

    /// Opens the event stream.
    pub(crate) async fn stream(&self, node: &Node, last_event_id: Option<&str>) -> Stream {
        let mut headers = format!("cookie: {}\r\n", self.cookie());
        if let Some(id) = last_event_id {
            headers.push_str(&format!("last-event-id: {id}\r\n"));
        }
        Stream::open(node.address, "/mail/events", &headers).await
    }

    pub(crate) fn cookie(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    fn keep(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all("set-cookie") {
            let text = cookie.to_str().unwrap();
            let (pair, attributes) = text.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            match attributes.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }
}

impl Stream {
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self {
            socket,
            status: 0,
            raw: Vec::new(),
            text: String::new(),
            ended: false,
        };
        let head = loop {
            if let Some(end) = stream.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break stream.raw.drain(..end + 4).collect::<Vec<u8>>();
            }
            stream.read().await;
            assert!(!stream.ended, "no head");
        };
        let head = String::from_utf8(head).unwrap();
        stream.status = head.split(' ').nth(1).unwrap().parse().unwrap();
        stream.take_chunks();
        stream
    }

    /// Reads on until some words are there.
    pub(crate) async fn until(&mut self, words: &str) {
        while !self.text.contains(words) {
            assert!(!self.ended, "it ended without {words}: {}", self.text);
            self.read().await;
            self.take_chunks();
        }
    }

    /// Reads on until its end.
    pub(crate) async fn end(mut self) -> String {
        while !self.ended {
            self.read().await;
            self.take_chunks();
        }
        self.text
    }

    /// The id that a browser would come back with.
    pub(crate) fn last_id(&self) -> String {
        let mut ids = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("id: "));
        ids.next_back().unwrap().to_owned()
    }

    /// How often some words came.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.text.matches(words).count()
    }

    async fn read(&mut self) {
        let reading = timeout(PATIENCE, self.socket.read_buf(&mut self.raw)).await;
        let read = reading.unwrap_or_else(|_| panic!("nothing more came: {}", self.text));
        self.ended |= matches!(read, Ok(0) | Err(_));
    }

    fn take_chunks(&mut self) {
        while let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let end = line + 2 + size + 2;
            if self.raw.len() < end {
                return;
            }
            let chunk: Vec<u8> = self.raw.drain(..end).collect();
            self.ended |= size == 0;
            self.text
                .push_str(std::str::from_utf8(&chunk[line + 2..end - 2]).unwrap());
        }
    }
}
