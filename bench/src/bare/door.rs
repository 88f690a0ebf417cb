//! One connection: a publisher's requests, or a WebSocket that has joined a channel.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use crate::bare::wire::{self, Command, Malformed, Publish, Request};

/// Bytes of one read.
const SCRATCH_BYTES: usize = 64 << 10;

/// What a connection wants done with the channels.
pub(super) trait Channels {
    /// Takes a publication and returns its number.
    fn publish(&mut self, publish: &Publish<'_>) -> u64;

    /// Lets the connection join a channel; the number of the channel's latest publication.
    fn subscribe(&mut self, channel: &str) -> u64;

    /// The counters as text.
    fn metrics(&self) -> String;
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its socket.
    pub(super) stream: TcpStream,
    /// The channel that it has joined, and its place there.
    pub(super) seat: Option<(usize, usize)>,
    is_websocket: bool,
    /// What was read and is not whole yet.
    unfinished: Vec<u8>,
}

impl Connection {
    /// One that was just accepted.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            seat: None,
            is_websocket: false,
            unfinished: Vec::new(),
        }
    }

    /// Reads all there is and answers it; `false` when the connection is over.
    pub(super) fn serve(&mut self, channels: &mut impl Channels) -> bool {
        let mut scratch = [0; SCRATCH_BYTES];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return false,
                Ok(count) => {
                    if !self.take(&scratch[..count], channels) {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], channels: &mut impl Channels) -> bool {
        let mut waiting = std::mem::take(&mut self.unfinished);
        waiting.extend_from_slice(bytes);
        let mut out = Vec::new();
        let taken = self.answer(&waiting, channels, &mut out);
        if !out.is_empty()
            && !self
                .stream
                .write(&out)
                .is_ok_and(|count| count == out.len())
        {
            // Answers are short, and the generator reads them: one that does not fit is one that nobody takes.
            return false;
        }
        match taken {
            Ok(taken) => {
                waiting.drain(..taken);
                if !waiting.is_empty() {
                    self.unfinished = waiting;
                }
                true
            }
            Err(Malformed) => false,
        }
    }

    /// Takes whole requests and frames from the beginning of `bytes`; returns how many bytes they were.
    fn answer(
        &mut self,
        bytes: &[u8],
        channels: &mut impl Channels,
        out: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.is_websocket {
                let Some(frame) = wire::client_frame(rest)? else {
                    break;
                };
                used += frame.length;
                match frame.opcode {
                    1 => commands(&frame.payload, channels, out)?,
                    8 => return Err(Malformed),
                    _ => {}
                }
            } else {
                let Some((request, length)) = wire::request(rest)? else {
                    break;
                };
                used += length;
                self.is_websocket = matches!(request, Request::Upgrade(_));
                reply(request, channels, out);
            }
        }
        Ok(used)
    }
}

fn reply(request: Request<'_>, channels: &mut impl Channels, out: &mut Vec<u8>) {
    let json = "application/json";
    let answer = match request {
        Request::Upgrade(accept) => wire::upgraded(&accept),
        Request::Metrics => wire::response("200 OK", "text/plain", &channels.metrics()),
        Request::Unknown => wire::response("404 Not Found", "text/plain", "not here"),
        Request::Publish(body) => match serde_json::from_slice::<Publish<'_>>(body) {
            Ok(publish) => {
                let offset = channels.publish(&publish);
                let body = format!(r#"{{"result":{{"offset":{offset},"epoch":"bare"}}}}"#);
                wire::response("200 OK", json, &body)
            }
            Err(_) => {
                let body = r#"{"error":{"code":107,"message":"bad request"}}"#;
                wire::response("400 Bad Request", json, body)
            }
        },
    };
    out.extend_from_slice(&answer);
}

/// Answers the commands of one message, one to a line.
fn commands(text: &[u8], channels: &mut impl Channels, out: &mut Vec<u8>) -> Result<(), Malformed> {
    for line in text.split(|&byte| byte == b'\n') {
        let command: Command<'_> = serde_json::from_slice(line).map_err(|_| Malformed)?;
        let id = command.id;
        if command.connect.is_some() {
            wire::text_frame(out, |out| {
                // Writing to a vector does not fail.
                let _ = write!(
                    out,
                    r#"{{"id":{id},"connect":{{"client":"bare","version":"bare"}}}}"#
                );
            });
        }
        if let Some(subscribe) = command.subscribe {
            let head = channels.subscribe(subscribe.channel);
            wire::text_frame(out, |out| {
                let _ = write!(
                    out,
                    r#"{{"id":{id},"subscribe":{{"recoverable":true,"epoch":"bare","offset":{head},"positioned":true}}}}"#
                );
            });
        }
    }
    Ok(())
}
