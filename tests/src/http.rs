//! HTTP/1.1 over one kept-alive connection: as much as the tests need, and none of it shared with the server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::wait::patience;

/// Bytes read from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// Longest response head and longest single line that is believed.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Status, headers and body of one answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Name in lower case and value.
    pub headers: Vec<(String, String)>,
    /// The body, de-chunked.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Http {
    /// Connects. Reads and writes give up after the tests' patience.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        Ok(Self {
            address,
            stream,
            unread: Vec::new(),
        })
    }

    /// One request on a connection of its own.
    ///
    /// # Errors
    /// When nobody listens or the connection breaks before the answer is complete.
    pub fn once(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        Self::connect(address)?.request(method, path, headers, body)
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks before the answer is complete. What became of the request is then not known.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        // A server may refuse a body before it has read it all, and stop reading: its answer is there all the same.
        let sent = self.send(method, path, headers, body);
        let mut response = match (self.read_head(), sent) {
            (Ok(response), _) => response,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|value| value.contains("chunked"));
        if chunked {
            while let Some(chunk) = self.read_chunk()? {
                response.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length
                .parse()
                .map_err(|_| bad("content-length is no number"))?;
            response.body = self.read_exactly(length)?;
        }
        Ok(response)
    }

    /// Sends one request and leaves the answer unread.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request)
    }

    /// Reads status and headers; the body stays unread.
    ///
    /// # Errors
    /// When the connection breaks or what comes is not HTTP/1.1.
    pub fn read_head(&mut self) -> io::Result<Response> {
        let head = self.read_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| bad("no HTTP/1.1 status line"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Response {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads one chunk of a chunked body; none at its end.
    ///
    /// # Errors
    /// When the connection breaks or the framing is wrong. After a timeout set with
    /// [`set_read_timeout`](Self::set_read_timeout) the call can be made again: nothing is lost.
    pub fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        // The size line is taken only together with its chunk, so that a timeout in between loses nothing.
        let line_end = self.wait_for(b"\r\n")?;
        let line = String::from_utf8_lossy(&self.unread[..line_end]).into_owned();
        let size = line.trim_end().split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad("no chunk size"))?;
        let chunk_end = line_end + size + 2;
        self.fill_to(chunk_end)?;
        let chunk = self.unread[line_end..line_end + size].to_vec();
        self.unread.drain(..chunk_end);
        Ok((size > 0).then_some(chunk))
    }

    /// How long a read waits for bytes.
    ///
    /// # Errors
    /// The system's, for a duration of zero.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    fn read_until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        let end = self.wait_for(mark)?;
        Ok(self.unread.drain(..end).collect())
    }

    /// Reads so many bytes of a body that has a length.
    ///
    /// # Errors
    /// When the connection breaks before.
    pub fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.fill_to(length)?;
        Ok(self.unread.drain(..length).collect())
    }

    /// Reads until `mark` has come; gives the index behind it.
    fn wait_for(&mut self, mark: &[u8]) -> io::Result<usize> {
        loop {
            let found = self
                .unread
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(start) = found {
                return Ok(start + mark.len());
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(bad("a head or line without an end"));
            }
            self.fill_more()?;
        }
    }

    fn fill_to(&mut self, length: usize) -> io::Result<()> {
        while self.unread.len() < length {
            self.fill_more()?;
        }
        Ok(())
    }

    fn fill_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// True for the errors that a read timeout gives.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
