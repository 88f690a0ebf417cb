//! Single publishes through a node of one's choice, and questions to it, on connections of their own.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::clock;
use crate::history::{Event, Recorder, content_hash};
use crate::protocol::{ApiError, quoted};
use crate::publish::response;
use crate::target::PUBLISH_PATH;

/// Numbers of the messages published here begin with this one, far above those of any schedule.
const FIRST: u64 = 1 << 40;

/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What a publish came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Committed, under this number of this epoch.
    Acknowledged {
        /// The number.
        offset: u64,
        /// The epoch.
        epoch: String,
        /// An earlier try had been committed.
        duplicate: bool,
    },
    /// Not committed, and never will be.
    Refused(String),
    /// Nobody knows: it may be asked again with the same key.
    Unknown(String),
}

/// One message, to be sent once or more.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    op: u64,
    channel: usize,
    body: String,
}

/// Publishes messages one by one and writes them into the history.
#[derive(Debug)]
pub(crate) struct Probe {
    recorder: Recorder,
    channels: Arc<Vec<String>>,
    run: String,
    next: u64,
    /// By message: where it went, and whether it was acknowledged.
    sent: Vec<(usize, bool)>,
}

impl Probe {
    /// A probe for the channels of a run.
    pub(crate) fn new(recorder: Recorder, channels: Arc<Vec<String>>, run: &str) -> Self {
        Self {
            recorder,
            channels,
            run: run.to_owned(),
            next: 0,
            sent: Vec::new(),
        }
    }

    /// A new message to a channel, not sent yet.
    pub(crate) fn message(&mut self, channel: usize) -> Message {
        let op = FIRST + self.next;
        self.next += 1;
        let now = clock::now();
        let data = format!(r#"{{"at":{now},"n":{op},"pad":"probe"}}"#);
        let key = format!("{}-{op}", self.run);
        let body = format!(
            r#"{{"channel":{},"data":{data},"idempotency_key":{}}}"#,
            quoted(&self.channels[channel]),
            quoted(&key)
        );
        self.sent.push((channel, false));
        self.recorder.record(Event::Invoke {
            t: now,
            op,
            at: now,
            k: channel as u32,
            h: content_hash(data.as_bytes()),
            p: u32::MAX,
            pipe: None,
            key: Some(key.into()),
        });
        Message { op, channel, body }
    }

    /// Publishes a new message to `channel` through the node at `address`.
    pub(crate) fn publish(
        &mut self,
        address: SocketAddr,
        channel: usize,
        patience: Duration,
    ) -> (Message, Told) {
        let message = self.message(channel);
        let told = post(address, &message, patience);
        self.note(&message, &told);
        (message, told)
    }

    /// Sends a message again whose outcome is not known, with the same key.
    pub(crate) fn again(
        &mut self,
        address: SocketAddr,
        message: &Message,
        patience: Duration,
    ) -> Told {
        self.recorder.record(Event::Retry {
            t: clock::now(),
            op: message.op,
            p: u32::MAX,
        });
        let told = post(address, message, patience);
        self.note(message, &told);
        told
    }

    /// Writes down what a message came to.
    pub(crate) fn note(&mut self, message: &Message, told: &Told) {
        let (t, op) = (clock::now(), message.op);
        match told {
            Told::Acknowledged {
                offset,
                epoch,
                duplicate,
            } => {
                self.sent[(op - FIRST) as usize].1 = true;
                self.recorder.record(Event::Ok {
                    t,
                    op,
                    g: Some(epoch.clone().into()),
                    s: Some(*offset),
                    duplicate: *duplicate,
                });
            }
            Told::Refused(why) => self.recorder.record(Event::Fail {
                t,
                op,
                why: why.clone().into(),
            }),
            // Written once, when it has been given up.
            Told::Unknown(_) => {}
        }
    }

    /// A message will not be sent again, and its outcome is not known.
    pub(crate) fn give_up(&self, message: &Message, why: &str) {
        self.recorder.record(Event::Info {
            t: clock::now(),
            op: message.op,
            why: why.to_owned().into(),
        });
    }

    /// Adds the acknowledged messages to the counts of their channels.
    pub(crate) fn add_to_channels(&self, counts: &mut [u64]) {
        for (channel, acknowledged) in &self.sent {
            counts[*channel] += u64::from(*acknowledged);
        }
    }
}

impl Message {
    /// The channel that it is for.
    pub(crate) fn channel(&self) -> usize {
        self.channel
    }
}

/// Sends a message and waits for what it came to.
pub(crate) fn post(address: SocketAddr, message: &Message, patience: Duration) -> Told {
    match exchange(address, "POST", PUBLISH_PATH, &message.body, patience) {
        Ok((200, body)) => read_answer(&body),
        Ok((status @ 400..=499, _)) if status != 408 && status != 429 => {
            Told::Refused(format!("status {status}"))
        }
        Ok((status, _)) => Told::Unknown(format!("status {status}")),
        Err(error) => Told::Unknown(error.to_string()),
    }
}

/// The value of a metric of the node at `address`, by its full name.
pub(crate) fn metric(address: SocketAddr, name: &str) -> io::Result<f64> {
    let (_, body) = exchange(address, "GET", "/metrics", "", ASK_TIMEOUT)?;
    let text = String::from_utf8_lossy(&body).into_owned();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("there is no metric {name}")))
}

/// One request on a connection of its own: status and body.
pub(crate) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut bytes = Vec::new();
    let mut scratch = [0; 16 << 10];
    loop {
        if let Some((response, _)) = response::parse(&bytes).map_err(io::Error::other)? {
            return Ok((response.status, response.body.to_vec()));
        }
        match stream.read(&mut scratch)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&scratch[..count]),
        }
    }
}

#[derive(Deserialize)]
struct Body {
    result: Option<Place>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct Place {
    offset: u64,
    epoch: String,
    #[serde(default)]
    duplicate: bool,
}

fn read_answer(body: &[u8]) -> Told {
    match serde_json::from_slice(body) {
        Ok(Body {
            result: Some(place),
            ..
        }) => Told::Acknowledged {
            offset: place.offset,
            epoch: place.epoch,
            duplicate: place.duplicate,
        },
        Ok(Body {
            error: Some(error), ..
        }) if !error.is_temporary() => Told::Refused(format!("{} {}", error.code, error.message)),
        Ok(Body {
            error: Some(error), ..
        }) => Told::Unknown(format!("{} {}", error.code, error.message)),
        _ => Told::Unknown("an answer that cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let told = read_answer(br#"{"result":{"offset":3,"epoch":"e","duplicate":true}}"#);
        let expected = Told::Acknowledged {
            offset: 3,
            epoch: "e".to_owned(),
            duplicate: true,
        };
        assert_eq!(told, expected);
        let refused = read_answer(br#"{"error":{"code":103,"message":"no"}}"#);
        assert_eq!(refused, Told::Refused("103 no".to_owned()));
        let unknown = read_answer(br#"{"error":{"code":100,"message":"log"}}"#);
        assert!(matches!(unknown, Told::Unknown(_)));
        assert!(matches!(read_answer(b"<html>"), Told::Unknown(_)));
    }
}
