//! Reads the log of a channel as anyone may: `POST /api/history`, one request on one connection, blocking.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::history::content_hash;
use crate::protocol::ApiError;
use crate::publish::response;
use crate::scan;
use crate::target::{HISTORY_PATH, Target};

/// Publications asked for at once; servers may give fewer.
pub(crate) const PAGE: u64 = 1_000;

/// The largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One answer of the history API.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The epoch.
    pub(crate) epoch: String,
    /// The channel's head.
    pub(crate) head: u64,
    /// The oldest number that is still there, when others were removed.
    pub(crate) oldest: Option<u64>,
    /// Number, message and hash of each publication.
    pub(crate) rows: Vec<(u64, Option<u64>, u64)>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    result: Option<HistoryResult<'a>>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct HistoryResult<'a> {
    #[serde(default, borrow)]
    publications: Vec<Publication<'a>>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    truncated: Option<Truncated>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(default)]
    offset: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Truncated {
    oldest: u64,
}

/// Asks `target` for at most `limit` publications of `channel` after number `after`.
///
/// # Errors
/// When there is no answer in time, or it is a refusal, or no answer to a history request.
pub(crate) fn read(
    target: &Target,
    api_key: Option<&str>,
    channel: &str,
    after: u64,
    limit: u64,
) -> io::Result<Page> {
    let body = json!({
        "channel": channel,
        "limit": limit,
        "since": { "offset": after, "epoch": "" },
    })
    .to_string();
    let key = api_key.map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
    let request = format!(
        "POST {}{HISTORY_PATH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        target.base,
        target.host,
        body.len()
    );
    let mut stream = TcpStream::connect_timeout(&target.address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let most = ANSWER_BYTES_MAX as u64 + 1;
    stream.take(most).read_to_end(&mut answer)?;
    let (response, _) = response::parse_within(&answer, ANSWER_BYTES_MAX)
        .map_err(io::Error::other)?
        .ok_or_else(|| io::Error::other("an answer that was cut off"))?;
    if response.status != 200 {
        return Err(io::Error::other(format!("http {}", response.status)));
    }
    page(response.body)
}

fn page(body: &[u8]) -> io::Result<Page> {
    let body: Body<'_> = serde_json::from_slice(body)?;
    if let Some(error) = body.error {
        let text = format!("api {} {}", error.code, error.message);
        return Err(io::Error::other(text));
    }
    let Some(result) = body.result else {
        return Err(io::Error::other("an answer that is not one to history"));
    };
    let rows = result.publications.iter().map(|publication| {
        let data = publication.data.get().as_bytes();
        let message = scan::data(data).and_then(|data| data.n);
        (publication.offset, message, content_hash(data))
    });
    Ok(Page {
        rows: rows.collect(),
        epoch: result.epoch,
        head: result.offset,
        oldest: result.truncated.map(|truncated| truncated.oldest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_what_identifies_each_publication() {
        let body = br#"{"result":{"publications":[{"offset":4,"id":"x","data":{"at":1,"n":9}},
            {"offset":5,"data":"foreign"}],"offset":7,"epoch":"e","truncated":{"oldest":4}}}"#;
        let page = page(body).unwrap();
        assert_eq!(
            (page.epoch.as_str(), page.head, page.oldest),
            ("e", 7, Some(4))
        );
        let hash = content_hash(br#"{"at":1,"n":9}"#);
        assert_eq!(page.rows[0], (4, Some(9), hash));
        assert_eq!(page.rows[1], (5, None, content_hash(br#""foreign""#)));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let error = page(br#"{"error":{"code":100,"message":"internal"}}"#).unwrap_err();
        assert!(error.to_string().contains("100"), "{error}");
        assert!(page(b"{}").is_err() && page(b"x").is_err());
    }
}
