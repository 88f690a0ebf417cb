//! A client of the server-sent events stream that keeps what `EventSource` hides: ids, event names, the status.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Http, Response, is_timeout};
use crate::wait::deadline;

/// How long one look at the socket lasts when the question is whether anything has come.
const GLANCE: Duration = Duration::from_millis(20);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `message` where the stream does not say.
    pub name: String,
    /// The id that came with it, if any.
    pub id: Option<String>,
    /// Its data.
    pub data: Value,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    http: Http,
    text: String,
    events: VecDeque<Event>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    ended: bool,
}

impl Stream {
    /// Opens `/events` for some channels, from now on or behind a `Last-Event-ID`.
    ///
    /// # Panics
    /// When the server does not answer with an event stream.
    #[track_caller]
    pub fn open(address: SocketAddr, channels: &[&str], last_event_id: Option<&str>) -> Self {
        let mut path = String::from("/events");
        for (index, channel) in channels.iter().enumerate() {
            path.push(if index == 0 { '?' } else { '&' });
            path.push_str(&format!("channel={}", channel.replace(':', "%3A")));
        }
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(id) = last_event_id {
            headers.push(("last-event-id", id));
        }
        Self::open_path(address, &path, &headers)
    }

    /// Opens a path of the caller's.
    ///
    /// # Panics
    /// When the server does not answer with an event stream.
    #[track_caller]
    pub fn open_path(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let opened = || -> io::Result<(Http, Response)> {
            let mut http = Http::connect(address)?;
            http.send("GET", path, headers, &[])?;
            let head = http.read_head()?;
            Ok((http, head))
        };
        let (http, head) = match opened() {
            Ok(opened) => opened,
            Err(error) => panic!("GET {path}: {error}"),
        };
        assert_eq!(head.status, 200, "GET {path}: {:?}", head.headers);
        let content_type = head.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("text/event-stream"),
            "GET {path}: {content_type}"
        );
        Self {
            http,
            text: String::new(),
            events: VecDeque::new(),
            last_id: None,
            retry_ms: None,
            ended: false,
        }
    }

    /// The next event of any name.
    ///
    /// # Panics
    /// When the stream ends or patience does before it comes.
    #[track_caller]
    pub fn event(&mut self) -> Event {
        let deadline = deadline();
        loop {
            if let Some(event) = self.events.pop_front() {
                if event.id.is_some() {
                    self.last_id.clone_from(&event.id);
                }
                return event;
            }
            assert!(!self.ended, "waited for an event: the stream ended");
            assert!(Instant::now() < deadline, "waited in vain for an event");
            self.read_until(deadline);
        }
    }

    /// The event that is first among what has come, without waiting for one.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next event, which must be of this name; gives its data.
    ///
    /// # Panics
    /// When another comes, or none.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> Value {
        let event = self.event();
        assert_eq!(event.name, name, "{event:?}");
        event.data
    }

    /// The id to come back with: that of the last event taken which had one.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Reads to the end of the stream.
    ///
    /// # Panics
    /// When patience is at its end.
    #[track_caller]
    pub fn end(&mut self) {
        let deadline = deadline();
        while !self.ended {
            assert!(
                Instant::now() < deadline,
                "the server did not end the stream"
            );
            self.read_until(deadline);
        }
    }

    /// The last `retry` that the stream told, in milliseconds; taken, so that the next one is seen to be new.
    pub fn take_retry_ms(&mut self) -> Option<u64> {
        self.retry_ms.take()
    }

    /// True while the server has not ended the stream, after a short look at it.
    pub fn is_open(&mut self) -> bool {
        self.read_until(Instant::now() + GLANCE);
        !self.ended
    }

    fn read_until(&mut self, deadline: Instant) {
        if self.ended {
            return;
        }
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let chunk = self
            .http
            .set_read_timeout(left)
            .and_then(|()| self.http.read_chunk());
        match chunk {
            Ok(Some(chunk)) => {
                self.text.push_str(&String::from_utf8_lossy(&chunk));
                self.take_events();
            }
            Ok(None) => {
                self.ended = true;
                // A browser takes the fields of an event that has no end, too.
                let rest = std::mem::take(&mut self.text);
                self.take_retry(&rest);
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => self.ended = true,
        }
    }

    fn take_retry(&mut self, text: &str) {
        let mut told = text.lines().filter_map(|line| line.strip_prefix("retry:"));
        if let Some(retry) = told.next_back() {
            self.retry_ms = retry.trim().parse().ok();
        }
    }

    fn take_events(&mut self) {
        while let Some(end) = self.text.find("\n\n") {
            let block: String = self.text.drain(..end + 2).collect();
            self.take_retry(&block);
            if let Some(event) = parse_event(&block) {
                self.events.push_back(event);
            }
        }
    }
}

/// None for a block of comments.
fn parse_event(block: &str) -> Option<Event> {
    let mut name = String::from("message");
    let mut id = None;
    let mut data: Option<String> = None;
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "id" => id = Some(value.to_owned()),
            "data" => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
    let data = data?;
    match serde_json::from_str(&data) {
        Ok(data) => Some(Event { name, id, data }),
        Err(error) => panic!("the data of an event is no JSON ({error}): {data}"),
    }
}
