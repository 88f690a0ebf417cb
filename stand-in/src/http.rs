//! HTTP/1.1, as little as it takes: a server with a thread for each connection, and a client for one request.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

/// Connections at one time; more are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// Longest head and body of a request.
const HEAD_BYTES_MAX: u64 = 64 << 10;
const BODY_BYTES_MAX: u64 = 1 << 20;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(60);

/// What was asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// Without the query, decoded.
    pub path: String,
    /// Decoded names and values of the query, in order.
    pub query: Vec<(String, String)>,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json; charset=UTF-8".to_owned())],
            body: body.to_string().into_bytes(),
        }
    }

    /// Nothing but a status.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

impl Request {
    /// A header; its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A parameter of the query, the first of its name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// All parameters of a name.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.query.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The fields of a form in the body.
    #[must_use]
    pub fn form(&self) -> Vec<(String, String)> {
        parse_pairs(&String::from_utf8_lossy(&self.body))
    }

    /// The bearer token.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }
}

/// The value of a name.
pub(crate) fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
    Some(value)
}

/// Serves until told to end.
pub(crate) fn serve(
    listener: TcpListener,
    ended: Arc<AtomicBool>,
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) {
    let (answer, open) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for stream in listener.incoming() {
            if ended.load(Relaxed) {
                return;
            }
            let Ok(stream) = stream else { continue };
            if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Relaxed);
                continue;
            }
            let (answer, open, ended) =
                (Arc::clone(&answer), Arc::clone(&open), Arc::clone(&ended));
            thread::spawn(move || {
                // A connection that breaks has nobody who would like to know.
                let _ = converse(stream, &*answer, &ended);
                open.fetch_sub(1, Relaxed);
            });
        }
    });
}

fn converse(
    stream: TcpStream,
    answer: &(impl Fn(&Request) -> Answer + ?Sized),
    ended: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        if ended.load(Relaxed) {
            return Ok(());
        }
        let Answer {
            status,
            headers,
            body,
        } = answer(&request);
        let mut head = format!(
            "HTTP/1.1 {status} {status}\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut whole = head.into_bytes();
        // What 204 has is no body, not even an empty one.
        whole.extend_from_slice(&body);
        writer.write_all(&whole)?;
        if request.header("connection") == Some("close") {
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_ascii_uppercase(),
        path: decode(path, false),
        query: parse_pairs(query),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let pair = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.push(pair);
    }
    let length = request.header("content-length").map_or(Ok(0), str::parse);
    let length: u64 = length.map_err(|_| io::ErrorKind::InvalidData)?;
    if length > BODY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    reader
        .by_ref()
        .take(length)
        .read_to_end(&mut request.body)?;
    Ok(Some(request))
}

/// Posts one request and gives the status of the answer.
pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
    timeout: Duration,
) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    // Who refuses may do so before it has read everything.
    let sent = stream.write_all(&whole);
    let mut line = String::new();
    let read = BufReader::new(stream)
        .take(HEAD_BYTES_MAX)
        .read_line(&mut line);
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    match (status, read, sent) {
        (Some(status), ..) => Ok(status),
        (None, Err(error), _) | (None, _, Err(error)) => Err(error),
        (None, Ok(_), Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn parse_pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let hex = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', _) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes a value as part of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let pairs = parse_pairs("a=b%20c+d&labelIds=INBOX&labelIds=x&flag&%zz=1");
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let expected = [
            ("a", "b c d"),
            ("labelIds", "INBOX"),
            ("labelIds", "x"),
            ("flag", ""),
            ("%zz", "1"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(decode(&encode("ä b&c/+"), true), "ä b&c/+");
        assert_eq!(decode("a+b", false), "a+b");
    }
}
