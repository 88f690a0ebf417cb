//! Reads the answers of the server API: HTTP/1.1 responses with a length, and the JSON within.

use memchr::memmem;
use serde::Deserialize;

use crate::protocol::ApiError;

/// The largest response that is taken, in bytes.
pub(crate) const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// One HTTP response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    /// Status code.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: &'a [u8],
    /// Whether the server closes the connection after it.
    pub(crate) closes: bool,
}

/// What a publish came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Committed.
    Acknowledged {
        /// Under this offset; `None` when the server does not number.
        offset: Option<u64>,
        /// In this epoch; empty when the server does not tell.
        epoch: String,
        /// An earlier try had been committed.
        duplicate: bool,
    },
    /// The server failed, or is too busy: nobody knows, and it may be tried again with the same key.
    Later(String),
    /// Not committed, and never will be.
    Refused(String),
}

#[derive(Deserialize)]
struct Body {
    result: Option<PublishResult>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct PublishResult {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    duplicate: bool,
}

/// Takes the response at the beginning of `bytes`: the response and its whole length, `None` when more must come.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Response<'_>, usize)>, &'static str> {
    parse_within(bytes, RESPONSE_BYTES_MAX)
}

/// The same for responses of up to `bytes_max` bytes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_within(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Option<(Response<'_>, usize)>, &'static str> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > bytes_max {
            Err("a response head without an end")
        } else {
            Ok(None)
        };
    };
    let head = str::from_utf8(&bytes[..end]).map_err(|_| "a response that is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.") {
        return Err("an answer that is not HTTP/1.1");
    }
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status_code: u16 = code.ok_or("a response without a status")?;
    let mut length = None;
    let mut closes = status.starts_with("HTTP/1.0");
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Err("a broken response header");
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(
                value
                    .parse::<usize>()
                    .map_err(|_| "a broken content-length")?,
            );
        } else if name.eq_ignore_ascii_case("connection") {
            closes = closes || value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a response in chunks, which is not understood");
        }
    }
    let length = length
        .or((status_code == 204).then_some(0))
        .ok_or("a response without a length")?;
    if length > bytes_max {
        return Err("a response larger than is taken");
    }
    let whole = end + 4 + length;
    let Some(body) = bytes.get(end + 4..whole) else {
        return Ok(None);
    };
    let response = Response {
        status: status_code,
        body,
        closes,
    };
    Ok(Some((response, whole)))
}

impl Response<'_> {
    /// What it says about the publish.
    pub(crate) fn answer(&self) -> Answer {
        match self.status {
            200 => {}
            429 | 500.. => return Answer::Later(format!("http {}", self.status)),
            status => return Answer::Refused(format!("http {status}")),
        }
        match serde_json::from_slice::<Body>(self.body) {
            Ok(Body {
                error: Some(error), ..
            }) => {
                let text = format!("api {} {}", error.code, error.message);
                if error.is_temporary() {
                    Answer::Later(text)
                } else {
                    Answer::Refused(text)
                }
            }
            Ok(Body {
                result: Some(result),
                ..
            }) => Answer::Acknowledged {
                offset: (result.offset > 0).then_some(result.offset),
                epoch: result.epoch,
                duplicate: result.duplicate,
            },
            Ok(_) | Err(_) => Answer::Refused("an answer that is not one to a publish".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 38\r\n\r\n\
        {\"result\":{\"offset\":7,\"epoch\":\"abcd\"}}HTTP/1.1 200";

    #[test]
    fn a_response_cut_anywhere_is_waited_for() {
        let whole = GOOD.len() - 12;
        for cut in 0..whole {
            assert_eq!(parse(&GOOD[..cut]), Ok(None), "cut at {cut}");
        }
        let (response, used) = parse(GOOD).unwrap().unwrap();
        assert_eq!(
            (response.status, response.closes, used),
            (200, false, whole)
        );
        let answer = response.answer();
        assert!(
            matches!(
                &answer,
                Answer::Acknowledged {
                    offset: Some(7),
                    epoch,
                    duplicate: false
                } if epoch == "abcd"
            ),
            "{answer:?}"
        );
    }

    #[test]
    fn what_may_be_tried_again_is_told_from_what_may_not() {
        let answer = |status, body: &[u8]| {
            Response {
                status,
                body,
                closes: false,
            }
            .answer()
        };
        assert!(matches!(answer(503, b""), Answer::Later(_)));
        assert!(matches!(answer(429, b""), Answer::Later(_)));
        assert!(matches!(answer(401, b""), Answer::Refused(_)));
        assert!(matches!(
            answer(200, br#"{"error":{"code":100,"message":"internal"}}"#),
            Answer::Later(_)
        ));
        assert!(matches!(
            answer(200, br#"{"error":{"code":107,"message":"bad"}}"#),
            Answer::Refused(_)
        ));
        assert!(matches!(answer(200, b"hello"), Answer::Refused(_)));
        let unnumbered = answer(200, br#"{"result":{}}"#);
        assert!(
            matches!(unnumbered, Answer::Acknowledged { offset: None, .. }),
            "{unnumbered:?}"
        );
    }

    #[test]
    fn broken_responses_are_refused() {
        for text in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
