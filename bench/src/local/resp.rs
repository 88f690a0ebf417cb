//! One command to a server of Redis and its answer, for launchers that set servers up.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to connect and to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Most bytes or elements in one answer; no command that is sent here has longer ones.
const LENGTH_MAX: i64 = 16 << 20;

/// An answer of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A text, whatever its form; absent ones are empty.
    Text(String),
    /// A number.
    Number(i64),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    /// The elements, if it is a list.
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            _ => &[],
        }
    }
}

/// Sends one command over a connection of its own.
///
/// # Errors
/// When the server cannot be reached, does not answer in time, or refuses; a refusal is of the kind `Other`.
pub(crate) fn command(address: SocketAddr, words: &[&str]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = (line.get(..1).unwrap_or(""), line.get(1..).unwrap_or(""));
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Err(io::Error::other(rest.to_owned())),
        ":" => Ok(Reply::Number(number(rest)?)),
        "$" => {
            let length = number(rest)?;
            let Ok(length) = usize::try_from(length) else {
                return Ok(Reply::Text(String::new()));
            };
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "*" => {
            let count = number(rest)?.max(0);
            (0..count)
                .map(|_| read(stream))
                .collect::<io::Result<_>>()
                .map(Reply::List)
        }
        _ => Err(invalid(line)),
    }
}

fn number(text: &str) -> io::Result<i64> {
    match text.parse() {
        Ok(number) if number <= LENGTH_MAX => Ok(number),
        _ => Err(invalid(text)),
    }
}

fn invalid(line: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not an answer of Redis: {line:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let reply = read(&mut &b"*3\r\n$2\r\nab\r\n:7\r\n*1\r\n+OK\r\n"[..]).unwrap();
        let expected = [
            Reply::Text("ab".to_owned()),
            Reply::Number(7),
            Reply::List(vec![Reply::Text("OK".to_owned())]),
        ];
        assert_eq!(reply.list(), expected);
        assert_eq!(read(&mut &b"$-1\r\n"[..]).unwrap().text(), "");
        let refusal = read(&mut &b"-ERR no\r\n"[..]).unwrap_err();
        assert!(refusal.to_string().contains("ERR no"));
        assert!(read(&mut &b"?\r\n"[..]).is_err());
        assert!(read(&mut &b""[..]).is_err());
    }
}
