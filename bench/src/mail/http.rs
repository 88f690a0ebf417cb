//! HTTP for what happens once: a request on a connection of its own, with cookies and redirections left to the caller.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Names in small letters, and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, without the frames of chunks.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first header of this name, in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        let (_, value) = all.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// All headers of this name, in small letters.
    pub(crate) fn headers_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let of_name = self.headers.iter().filter(move |(known, _)| known == name);
        of_name.map(|(_, value)| value.as_str())
    }
}

/// Sends one request and reads the answer to its end.
///
/// # Errors
/// When nobody listens, the connection breaks or times out, or what comes is not HTTP/1.1.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    // Who refuses a body may do so before it has read all of it.
    let sent = stream.write_all(&[head.as_bytes(), body].concat());
    let mut bytes = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
    match (parse(&bytes), read, sent) {
        (Some(answer), ..) => Ok(answer),
        (None, Err(error), _) | (None, _, Err(error)) => Err(error),
        (None, Ok(_), Ok(())) => {
            let words = "an answer that is not HTTP/1.1, or was cut off";
            Err(io::Error::new(io::ErrorKind::InvalidData, words))
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = memmem::find(bytes, b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let mut answer = Answer {
        status: status.parse().ok()?,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
    };
    let rest = &bytes[end + 4..];
    let body = match (
        answer.header("transfer-encoding"),
        answer.header("content-length"),
    ) {
        (Some("chunked"), _) => dechunk(rest)?,
        (None, Some(length)) => rest.get(..length.parse().ok()?)?.to_vec(),
        _ => rest.to_vec(),
    };
    answer.body = body;
    Some(answer)
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = memmem::find(rest, b"\r\n")?;
        let size = str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = &rest[line + 2..];
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Writes a value as part of a query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_in_chunks_and_until_the_end_are_read() {
        let body = |head: &str, rest: &str| {
            let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n{rest}");
            parse(bytes.as_bytes()).map(|answer| String::from_utf8(answer.body).unwrap())
        };
        assert_eq!(body("Content-Length: 2\r\n", "abc").as_deref(), Some("ab"));
        assert_eq!(body("Content-Length: 4\r\n", "abc"), None, "cut off");
        let chunks = "3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(
            body("transfer-encoding: chunked\r\n", chunks).as_deref(),
            Some("abcde")
        );
        assert_eq!(body("transfer-encoding: chunked\r\n", "3\r\nabc\r\n"), None);
        assert_eq!(body("X: y\r\n", "all").as_deref(), Some("all"));
        assert_eq!(parse(b"HTTP/1.1 200"), None);
    }

    #[test]
    fn all_headers_of_a_name_are_found() {
        let answer =
            parse(b"HTTP/1.1 302 Found\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\n").unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(
            answer.headers_of("set-cookie").collect::<Vec<_>>(),
            ["a=1", "b=2"]
        );
    }

    #[test]
    fn queries_are_written_safely() {
        assert_eq!(encode("a+b@example.com ä"), "a%2Bb%40example.com%20%C3%A4");
    }
}
