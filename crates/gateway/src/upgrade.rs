//! From HTTP to a WebSocket: the handshake of RFC 6455, and the bare socket behind it.

use std::io;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ring::digest;
use tokio::net::TcpStream;

use crate::listener::Socket;

/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request is not upgraded.
pub type Refusal = (StatusCode, &'static str);

/// Whether a header lists a token.
pub(crate) fn has(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    has(headers, header::CONNECTION, "upgrade") && has(headers, header::UPGRADE, "websocket")
}

/// Checks what a request for a WebSocket says; returns the headers of the answer.
///
/// # Errors
/// [`Refusal`]: the request is no handshake of RFC 6455.
pub fn answer(headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    if !is_asked(headers) {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is a websocket endpoint"));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(HeaderValue::as_bytes)
        != Some(b"13")
    {
        return Err((StatusCode::BAD_REQUEST, "websocket version 13 is served"));
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or((StatusCode::BAD_REQUEST, "no websocket key"))?;
    let mut answer = HeaderMap::new();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept(key.as_bytes())?);
    Ok(answer)
}

/// Takes the bare socket out of HTTP, and what HTTP had read beyond the request: copied, so that HTTP's buffer does not
/// live as long as the connection.
pub(crate) fn into_socket(upgraded: Upgraded) -> io::Result<(TcpStream, Vec<u8>)> {
    let parts = upgraded
        .downcast::<TokioIo<Socket>>()
        .map_err(|_| io::Error::other("not a socket of this server's listener"))?;
    let socket = parts.io.into_inner().into_stream();
    Ok((socket, parts.read_buf.to_vec()))
}

fn accept(key: &[u8]) -> Result<HeaderValue, Refusal> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(WEBSOCKET_GUID);
    HeaderValue::from_str(&BASE64_STANDARD.encode(context.finish()))
        .map_err(|_| (StatusCode::BAD_REQUEST, "bad websocket key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_accepted_as_in_the_standard() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
