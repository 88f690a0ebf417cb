//! A server to be measured: where it listens and what its paths are.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::BenchError;

/// Path of the Centrifuge WebSocket below a server's URL.
pub(crate) const WEBSOCKET_PATH: &str = "/connection/websocket";

/// Path of the publish call below a server's URL.
pub(crate) const PUBLISH_PATH: &str = "/api/publish";

/// Path of the history call below a server's URL.
pub(crate) const HISTORY_PATH: &str = "/api/history";

/// One server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What goes into the `Host` header.
    pub(crate) host: String,
    /// What stands before every path: empty, or `/something`.
    pub(crate) base: String,
}

impl Target {
    /// Reads `http://host:port[/base]`.
    pub(crate) fn parse(option: &'static str, url: &str) -> Result<Self, BenchError> {
        let wrong = |reason: &str| {
            BenchError::option(
                option,
                format!("`{url}`: {reason}, like http://127.0.0.1:8000"),
            )
        };
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("ws://"))
            .ok_or_else(|| wrong("must begin with http:// (TLS is not spoken)"))?;
        let (host, base) = match rest.find('/') {
            Some(slash) => (&rest[..slash], rest[slash..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty()
            || host.contains(['@', '?', '#'])
            || !printable(rest)
            || base.contains(['?', '#'])
        {
            return Err(wrong("must be a host, a port and nothing else"));
        }
        let with_port = match host.rfind(':') {
            Some(colon) if !host[colon..].contains(']') => host.to_owned(),
            _ => format!("{host}:80"),
        };
        let mut addresses = with_port
            .to_socket_addrs()
            .map_err(|source| BenchError::Resolve {
                url: url.to_owned(),
                source,
            })?;
        let address = addresses.next().ok_or_else(|| wrong("has no address"))?;
        Ok(Self {
            address,
            host: host.to_owned(),
            base: base.to_owned(),
        })
    }

    /// Reads all of `urls`.
    pub(crate) fn parse_all(
        option: &'static str,
        urls: &[String],
    ) -> Result<Vec<Self>, BenchError> {
        if urls.is_empty() {
            return Err(BenchError::option(option, "needs at least one server"));
        }
        urls.iter().map(|url| Self::parse(option, url)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let target = Target::parse("--url", "http://127.0.0.1:8000/").unwrap();
        assert_eq!(target.address, "127.0.0.1:8000".parse().unwrap());
        assert_eq!(
            (target.host.as_str(), target.base.as_str()),
            ("127.0.0.1:8000", "")
        );
        let target = Target::parse("--url", "http://[::1]:9/app").unwrap();
        assert_eq!(target.address, "[::1]:9".parse().unwrap());
        assert_eq!(target.base, "/app");
        assert_eq!(
            Target::parse("--url", "ws://127.0.0.1")
                .unwrap()
                .address
                .port(),
            80
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for url in [
            "https://127.0.0.1",
            "127.0.0.1:8000",
            "http://",
            "http://user@127.0.0.1",
            "http://a b/",
        ] {
            assert!(Target::parse("--url", url).is_err(), "{url}");
        }
        assert!(Target::parse_all("--url", &[]).is_err());
    }
}
