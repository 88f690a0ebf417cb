//! A tiny Centrifuge server in this process that delivers correctly, or breaks one promise on purpose.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// The answer to the one key that the generator uses (RFC 6455, section 1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The first subscriber of each channel does not get offset 5.
    DropOne,
    /// The first subscriber of each channel does not get this offset and what follows.
    DropFrom(u64),
    /// The first subscriber of each channel gets offset 6 before 5.
    SwapTwo,
    /// The first subscriber of each channel gets offset 5 twice.
    Duplicate,
    /// The first subscriber of each channel gets another message under offset 5.
    OtherContent,
    /// Publications have no offset.
    Unnumbered,
    /// Offset 5 of each channel is acknowledged as 6.
    WrongAck,
    /// Each 7th publish is committed, answered with 503, and found again by its key.
    FailAfterCommit,
    /// The same, but the key is ignored.
    FailAfterCommitWithoutKey,
    /// Each 7th publish is acknowledged and not committed.
    AckWithoutCommit,
    /// Publishing is refused.
    Refuse,
    /// Connections are closed after offset 5; coming back is served from the position.
    CloseAndRecover,
    /// The same, but coming back skips what was missed.
    CloseAndSkip,
    /// Several publications share a frame, and frames are written in pieces.
    Pieces,
    /// Every publish is answered with 503, and not committed.
    Busy,
}

/// The server; it lives until the process ends.
pub(crate) struct Fake {
    port: u16,
}

#[derive(Default)]
struct State {
    channels: HashMap<String, Channel>,
    keys: HashMap<String, u64>,
    requests: u64,
    publishes: u64,
}

#[derive(Default)]
struct Channel {
    log: Vec<Value>,
    subscribers: Vec<Subscriber>,
    /// How many have ever subscribed.
    count: usize,
}

struct Subscriber {
    stream: TcpStream,
    number: usize,
    held: Option<String>,
}

impl Fake {
    /// Starts it on a free port.
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&state));
                // The generator goes away when it has seen enough.
                thread::spawn(move || drop(serve(stream, &state, fault)));
            }
        });
        Self { port }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, fault: Fault) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let head = take_until(&mut stream, &mut bytes, b"\r\n\r\n")?;
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        if head.starts_with("get /connection/websocket ") {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes())?;
            return websocket(stream, bytes, state, fault);
        }
        let asks_history = head.starts_with("post /api/history ");
        assert!(
            asks_history || head.starts_with("post /api/publish "),
            "{head}"
        );
        let length = head
            .split("content-length:")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let body = take(&mut stream, &mut bytes, length.trim().parse().unwrap())?;
        let body: Value = serde_json::from_slice(&body).unwrap();
        let mut state = state.lock().unwrap();
        if asks_history {
            let answer = history(&state, &body).to_string();
            drop(state);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
            // It was asked to close.
            return Ok(());
        }
        state.requests += 1;
        let failing = matches!(
            fault,
            Fault::FailAfterCommit | Fault::FailAfterCommitWithoutKey
        );
        let fails = failing && state.requests.is_multiple_of(7) || fault == Fault::Busy;
        let answer = match fault {
            Fault::Busy => Value::Null,
            _ => publish(&mut state, &body, fault),
        };
        drop(state);
        let (status, answer) = if fails {
            ("503 Service Unavailable", json!({}))
        } else {
            ("200 OK", answer)
        };
        let answer = answer.to_string();
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )?;
    }
}

fn history(state: &State, body: &Value) -> Value {
    let after = body["since"]["offset"].as_u64().unwrap() as usize;
    let limit = body["limit"].as_u64().unwrap() as usize;
    let channel = state.channels.get(body["channel"].as_str().unwrap());
    let log = channel.map_or(&[][..], |channel| &channel.log);
    let rows = log.iter().enumerate().skip(after).take(limit);
    let rows = rows.map(|(index, data)| json!({"offset": index + 1, "data": data}));
    let rows: Vec<Value> = rows.collect();
    json!({"result": {"publications": rows, "offset": log.len(), "epoch": "e"}})
}

fn publish(state: &mut State, body: &Value, fault: Fault) -> Value {
    if fault == Fault::Refuse {
        return json!({"error": {"code": 103, "message": "permission denied"}});
    }
    state.publishes += 1;
    if fault == Fault::AckWithoutCommit && state.publishes.is_multiple_of(7) {
        return json!({"result": {}});
    }
    let key = body["idempotency_key"].as_str().map(str::to_owned);
    if let Some(key) = key.filter(|_| fault != Fault::FailAfterCommitWithoutKey) {
        if let Some(offset) = state.keys.get(&key) {
            return json!({"result": {"offset": offset, "epoch": "e", "duplicate": true}});
        }
        let head = state
            .channels
            .get(body["channel"].as_str().unwrap())
            .map_or(0, |channel| channel.log.len());
        state.keys.insert(key, head as u64 + 1);
    }
    let name = body["channel"].as_str().unwrap();
    let channel = state.channels.entry(name.to_owned()).or_default();
    channel.log.push(body["data"].clone());
    let offset = channel.log.len() as u64;
    channel
        .subscribers
        .retain_mut(|subscriber| deliver(subscriber, name, offset, &body["data"], fault).is_ok());
    let told = if fault == Fault::WrongAck && offset == 5 {
        6
    } else {
        offset
    };
    json!({"result": {"offset": told, "epoch": "e"}})
}

/// Hands one publication to one subscriber; an error ends the subscription.
fn deliver(
    to: &mut Subscriber,
    channel: &str,
    offset: u64,
    data: &Value,
    fault: Fault,
) -> io::Result<()> {
    let mut data = data.clone();
    let first = to.number == 0;
    if fault == Fault::OtherContent && first && offset == 5 {
        data["n"] = json!(999_999);
    }
    let text = if fault == Fault::Unnumbered {
        json!({"push": {"channel": channel, "pub": {"data": data}}})
    } else {
        json!({"push": {"channel": channel, "pub": {"data": data, "offset": offset}}})
    };
    let text = text.to_string();
    match fault {
        Fault::DropOne if first && offset == 5 => Ok(()),
        Fault::DropFrom(last) if first && offset >= last => Ok(()),
        Fault::SwapTwo if first && offset == 5 => {
            to.held = Some(text);
            Ok(())
        }
        Fault::SwapTwo if first && offset == 6 => {
            let held = to.held.take().unwrap_or_default();
            send(&mut to.stream, &text)?;
            send(&mut to.stream, &held)
        }
        Fault::Duplicate if first && offset == 5 => {
            send(&mut to.stream, &text)?;
            send(&mut to.stream, &text)
        }
        // Those who came back have a higher number.
        Fault::CloseAndRecover | Fault::CloseAndSkip if offset == 6 && first => {
            to.stream.write_all(&[0x88, 2, 0x0B, 0xB9])?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Fault::Pieces => match to.held.take() {
            None if offset % 2 == 1 => {
                to.held = Some(text);
                Ok(())
            }
            held => {
                let both = held.map_or(text.clone(), |held| format!("{held}\n{text}"));
                for piece in frame(&both).chunks(61) {
                    to.stream.write_all(piece)?;
                    thread::yield_now();
                }
                Ok(())
            }
        },
        _ => send(&mut to.stream, &text),
    }
}

fn websocket(
    mut stream: TcpStream,
    mut bytes: Vec<u8>,
    state: &Mutex<State>,
    fault: Fault,
) -> io::Result<()> {
    loop {
        let text = take_frame(&mut stream, &mut bytes)?;
        for line in text.lines() {
            let command: Value = serde_json::from_str(line).unwrap();
            let id = &command["id"];
            if command.get("connect").is_some() {
                let answer = json!({"id": id, "connect": {"client": "c", "version": "fake", "ping": 25, "pong": true}});
                send(&mut stream, &format!("{answer}\n{{}}"))?;
            } else if let Some(wanted) = command.get("subscribe") {
                subscribe(&stream, id, wanted, state, fault)?;
            } else if let Some(wanted) = command.get("publish") {
                let answer = publish(&mut state.lock().unwrap(), wanted, fault);
                let answer = match answer.get("error") {
                    Some(error) => json!({"id": id, "error": error}),
                    None => json!({"id": id, "publish": {}}),
                };
                send(&mut stream, &answer.to_string())?;
            } else {
                assert_eq!(line, "{}", "neither a command that is known nor a pong");
            }
        }
    }
}

fn subscribe(
    stream: &TcpStream,
    id: &Value,
    wanted: &Value,
    state: &Mutex<State>,
    fault: Fault,
) -> io::Result<()> {
    let mut state = state.lock().unwrap();
    let name = wanted["channel"].as_str().unwrap();
    let channel = state.channels.entry(name.to_owned()).or_default();
    let head = channel.log.len() as u64;
    let mut subscriber = Subscriber {
        stream: stream.try_clone()?,
        number: channel.count,
        held: None,
    };
    let recovers = wanted["recover"] == true && fault != Fault::CloseAndSkip;
    let from = if recovers {
        wanted["offset"].as_u64().unwrap()
    } else {
        head
    };
    let result = json!({"recoverable": true, "epoch": "e", "offset": from, "recovered": recovers});
    send(
        &mut subscriber.stream,
        &json!({"id": id, "subscribe": result}).to_string(),
    )?;
    channel.count += 1;
    // A channel of a test has three subscribers; whoever comes later has come back.
    for offset in from + 1..=head {
        deliver(
            &mut subscriber,
            name,
            offset,
            &channel.log[offset as usize - 1],
            Fault::None,
        )?;
    }
    channel.subscribers.push(subscriber);
    Ok(())
}

fn send(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(&frame(text))
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..=125 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// One masked text frame of the client.
fn take_frame(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<String> {
    let head = take(stream, bytes, 2)?;
    assert_eq!(
        (head[0], head[1] & 0x80),
        (0x81, 0x80),
        "not a masked text frame"
    );
    let length = match head[1] & 0x7F {
        126 => {
            let field = take(stream, bytes, 2)?;
            usize::from(u16::from_be_bytes([field[0], field[1]]))
        }
        127 => panic!("a frame that large is not expected"),
        short => usize::from(short),
    };
    let mask = take(stream, bytes, 4)?;
    let masked = take(stream, bytes, length)?;
    let plain = masked
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    Ok(String::from_utf8(plain.collect()).unwrap())
}

fn take(stream: &mut TcpStream, bytes: &mut Vec<u8>, count: usize) -> io::Result<Vec<u8>> {
    while bytes.len() < count {
        fill(stream, bytes)?;
    }
    Ok(bytes.drain(..count).collect())
}

fn take_until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> io::Result<Vec<u8>> {
    loop {
        if let Some(place) = bytes.windows(end.len()).position(|window| window == end) {
            return Ok(bytes.drain(..place + end.len()).collect());
        }
        fill(stream, bytes)?;
    }
}

fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let count = stream.read(&mut buffer)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.extend_from_slice(&buffer[..count]);
    Ok(())
}
