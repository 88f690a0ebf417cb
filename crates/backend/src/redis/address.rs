//! Which Redis, and how to connect to it, without ever showing its password.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, RedisError,
    aio::{AsyncPushSender, MultiplexedConnection},
};
use thiserror::Error;

/// How long a connection may take, the greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// What stands for a password in a text.
const MASK: &str = "***";

/// A Redis URL that cannot be used. The message never holds the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not a URL that this client understands.
    #[error("the Redis URL is not valid; write redis://[user:password@]host:port[/database]")]
    Invalid,
    /// `rediss://`.
    #[error(
        "this build cannot speak TLS to Redis; write redis:// and put a TLS tunnel (stunnel, a sidecar) in between"
    )]
    Tls,
}

/// A Redis server and the credentials for it.
#[derive(Clone)]
pub(crate) struct Address {
    client: Client,
    shown: String,
    password: Option<String>,
}

impl Address {
    /// Parses `redis://[user:password@]host:port[/database]`.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let scheme = url
            .split_once("://")
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        if matches!(scheme.as_deref(), Some("rediss" | "valkeys")) {
            return Err(AddressError::Tls);
        }
        let info = url
            .into_connection_info()
            .map_err(|_| AddressError::Invalid)?;
        let shown = info.addr().to_string();
        let password = info.redis_settings().password().map(str::to_owned);
        // RESP3 hands pushed messages to a callback, without a queue in between that could grow.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
        let client = Client::open(info).map_err(|_| AddressError::Invalid)?;
        Ok(Self {
            client,
            shown,
            password,
        })
    }

    /// Connects. Requests on the connection fail when they are not answered within `response_timeout`.
    pub(crate) async fn connect(
        &self,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(Self::config(response_timeout)).await
    }

    /// Connects; `pushes` is given what the server sends unasked, from the task that reads the socket.
    pub(super) async fn connect_for_pushes(
        &self,
        response_timeout: Duration,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(Self::config(response_timeout).set_push_sender(pushes))
            .await
    }

    /// What went wrong, in words fit for a log: some servers repeat the password when they refuse it.
    pub(crate) fn describe(&self, error: &RedisError) -> String {
        let text = error.to_string();
        match &self.password {
            Some(password) if !password.is_empty() => text.replace(password.as_str(), MASK),
            _ => text,
        }
    }

    fn config(response_timeout: Duration) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout))
    }

    async fn connect_with(
        &self,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Host and port, never the credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The same, as the client would show its password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use redis::ErrorKind;

    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        let address = Address::parse("redis://app:s3cr%C3%A9t@127.0.0.1:7000/2").unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:7000");
        assert!(!format!("{address:?}").contains("s3cr"));
        let echo = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' 's3crét'";
        let error = RedisError::from((ErrorKind::Extension, "refused", echo.to_owned()));
        let shown = address.describe(&error);
        assert!(!shown.contains("s3cr"), "{shown}");
        assert!(shown.contains("HELLO"), "{shown}");
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        let check = |url: &str, expected: AddressError| {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error, expected, "{url}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        };
        check("", AddressError::Invalid);
        check("127.0.0.1:6379", AddressError::Invalid);
        check("http://user:hidden@localhost", AddressError::Invalid);
        check(
            "redis://user:hidden@localhost/not-a-number",
            AddressError::Invalid,
        );
        check("rediss://user:hidden@localhost", AddressError::Tls);
    }
}
