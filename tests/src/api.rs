//! The server API: publish, broadcast, history, info.

use std::io;
use std::net::SocketAddr;
use std::thread;

use serde_json::{Value, json};

use crate::http::{Http, Response};

/// Publications asked for in one history request.
const HISTORY_PAGE: usize = 500;

/// Connections over which [`publish_many`] publishes.
const PUBLISHERS: u64 = 4;

/// Where a publication landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number in the channel, from 1.
    pub offset: u64,
    /// The log's epoch.
    pub epoch: String,
    /// True when the idempotency key had been used before.
    pub duplicate: bool,
}

/// One publication of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Its number in the channel.
    pub offset: u64,
    /// Its unique id.
    pub id: String,
    /// Time of the commit, milliseconds since 1970.
    pub time: u64,
    /// What was published.
    pub data: Value,
}

/// A channel's publications up to its head.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// In order.
    pub publications: Vec<Publication>,
    /// The number of the last publication that the channel ever had.
    pub head: u64,
    /// The log's epoch.
    pub epoch: String,
}

/// Why there is no result.
#[derive(Debug)]
pub enum Refusal {
    /// The connection broke or was never made: what became of the request is not known.
    Broken(io::Error),
    /// An HTTP status other than 200.
    Status(u16, String),
    /// An error of the API.
    Api {
        /// Its code.
        code: u64,
        /// Its sentence.
        message: String,
    },
}

/// A client of one node's API, on one kept-alive connection.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    key: Option<String>,
    http: Option<Http>,
}

impl Api {
    /// A client without a key, as `--dev` allows.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            key: None,
            http: None,
        }
    }

    /// A client with an API key.
    pub fn with_key(address: SocketAddr, key: &str) -> Self {
        Self {
            address,
            key: Some(key.to_owned()),
            http: None,
        }
    }

    /// Publishes `data` into `channel`.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn try_publish(&mut self, channel: &str, data: Value) -> Result<Published, Refusal> {
        self.try_publish_request(&json!({ "channel": channel, "data": data }))
    }

    /// Publishes with a whole request of the caller's.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn try_publish_request(&mut self, request: &Value) -> Result<Published, Refusal> {
        self.call("publish", request)
            .map(|result| parse_published(&result))
    }

    /// Publishes where nothing stands in the way.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, data: Value) -> Published {
        match self.try_publish(channel, data) {
            Ok(published) => published,
            Err(refusal) => panic!("publish into {channel} was refused: {refusal:?}"),
        }
    }

    /// Publishes with an idempotency key where nothing stands in the way.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn publish_once(&mut self, channel: &str, data: Value, key: &str) -> Published {
        let request = json!({ "channel": channel, "data": data, "idempotency_key": key });
        match self.try_publish_request(&request) {
            Ok(published) => published,
            Err(refusal) => panic!("publish into {channel} was refused: {refusal:?}"),
        }
    }

    /// All that the channel still has, page by page, up to the head that the first page tells.
    ///
    /// # Panics
    /// When a page is refused, or when the pages do not reach the head.
    #[track_caller]
    pub fn history(&mut self, channel: &str) -> History {
        let position = self.history_page(&json!({ "channel": channel, "limit": 0 }));
        let mut all = History {
            publications: Vec::new(),
            ..position
        };
        while all.publications.last().map_or(0, |last| last.offset) < all.head {
            let mut request = json!({ "channel": channel, "limit": HISTORY_PAGE });
            if let Some(last) = all.publications.last() {
                request["since"] = json!({ "offset": last.offset, "epoch": all.epoch });
            }
            let page = self.history_page(&request);
            assert_eq!(
                page.epoch, all.epoch,
                "the epoch changed while {channel} was read"
            );
            assert!(
                !page.publications.is_empty(),
                "{channel} ends before {}",
                all.head
            );
            all.publications.extend(page.publications);
        }
        all.publications
            .retain(|publication| publication.offset <= all.head);
        all
    }

    /// One page of history with a whole request of the caller's.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn history_page(&mut self, request: &Value) -> History {
        match self.call("history", request) {
            Ok(result) => parse_history(&result),
            Err(refusal) => panic!("history {request} was refused: {refusal:?}"),
        }
    }

    /// Calls a method and gives its `result`.
    ///
    /// # Errors
    /// Any [`Refusal`].
    pub fn call(&mut self, method: &str, request: &Value) -> Result<Value, Refusal> {
        let response = self
            .post(
                &format!("/api/{method}"),
                "application/json",
                request.to_string().as_bytes(),
            )
            .map_err(Refusal::Broken)?;
        if response.status != 200 {
            return Err(Refusal::Status(response.status, response.text()));
        }
        let mut answer = response.json();
        if let Some(error) = answer.get("error") {
            return Err(Refusal::Api {
                code: error["code"].as_u64().unwrap_or(0),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(answer["result"].take())
    }

    /// Posts raw bytes, with the key when there is one.
    ///
    /// # Errors
    /// When the connection breaks; the next call makes a new one.
    pub fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> io::Result<Response> {
        let mut http = match self.http.take() {
            Some(http) => http,
            None => Http::connect(self.address)?,
        };
        let mut headers = vec![("content-type", content_type)];
        if let Some(key) = &self.key {
            headers.push(("x-api-key", key));
        }
        let response = http.request("POST", path, &headers, body)?;
        if response.header("connection") != Some("close") {
            self.http = Some(http);
        }
        Ok(response)
    }

    /// A sample of `/metrics`, by its name and labels: `connections`, `healed_publications_total{cause="gap"}`.
    ///
    /// # Panics
    /// When the node does not answer, or has no such sample.
    #[track_caller]
    pub fn metric(&self, sample: &str) -> f64 {
        let text = match self.get("/metrics") {
            Ok(response) => response.text(),
            Err(error) => panic!("/metrics: {error}"),
        };
        let value = text.lines().find_map(|line| {
            let rest = line.strip_prefix("fanfare_")?.strip_prefix(sample)?;
            rest.strip_prefix(' ')?.parse().ok()
        });
        match value {
            Some(value) => value,
            None => panic!("no sample {sample} in {text}"),
        }
    }

    /// Gets a path.
    ///
    /// # Errors
    /// When nobody listens or the connection breaks.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        Http::once(self.address, "GET", path, &[], &[])
    }
}

/// Publishes so many times into a channel, over several connections at once; `data` is given the number of each, from 0.
///
/// # Panics
/// When one is refused.
pub fn publish_many(
    address: SocketAddr,
    channel: &str,
    count: u64,
    data: impl Fn(u64) -> Value + Sync,
) {
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let data = &data;
            scope.spawn(move || {
                let mut api = Api::new(address);
                for number in (publisher..count).step_by(PUBLISHERS as usize) {
                    api.publish(channel, data(number));
                }
            });
        }
    });
}

fn parse_published(result: &Value) -> Published {
    Published {
        offset: number(result, "offset"),
        epoch: text(result, "epoch"),
        duplicate: result["duplicate"].as_bool().unwrap_or(false),
    }
}

fn parse_history(result: &Value) -> History {
    let publications = result["publications"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|publication| Publication {
            offset: number(publication, "offset"),
            id: text(publication, "id"),
            time: number(publication, "time"),
            data: publication["data"].clone(),
        })
        .collect();
    History {
        publications,
        // The head of a channel that never had a publication is left out like any zero.
        head: result["offset"].as_u64().unwrap_or(0),
        epoch: text(result, "epoch"),
    }
}

fn number(value: &Value, field: &str) -> u64 {
    match value[field].as_u64() {
        Some(number) => number,
        None => panic!("no number `{field}` in {value}"),
    }
}

fn text(value: &Value, field: &str) -> String {
    match value[field].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => panic!("no text `{field}` in {value}"),
    }
}
