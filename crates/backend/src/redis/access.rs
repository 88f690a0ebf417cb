//! How to connect to a server of Redis, without ever showing its password.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError,
    aio::{AsyncPushSender, MultiplexedConnection},
};

/// How long a connection may take, the greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

/// What stands for a password in a text.
const MASK: &str = "***";

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint(ConnectionAddr);

impl Endpoint {
    /// A host, or an IP address, and a port.
    pub(super) fn new(host: impl Into<String>, port: u16) -> Self {
        Self(ConnectionAddr::Tcp(host.into(), port))
    }

    pub(super) fn of(info: &ConnectionInfo) -> Self {
        Self(info.addr().clone())
    }

    /// Another server on the same host.
    pub(super) fn with_port(&self, port: u16) -> Self {
        match &self.0 {
            ConnectionAddr::Tcp(host, _) => Self::new(host.clone(), port),
            _ => self.clone(),
        }
    }
}

/// `host:port`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// User, password and database: the same for every server of one URL.
#[derive(Clone)]
pub(crate) struct Access {
    info: ConnectionInfo,
}

impl Access {
    pub(super) fn new(info: ConnectionInfo) -> Self {
        // RESP3 hands pushed messages to a callback, without a queue in between that could grow.
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Self {
            info: info.set_redis_settings(settings).set_tcp_settings(tcp),
        }
    }

    /// The same user and password, without a database: what a sentinel is shown.
    pub(super) fn without_database(&self) -> Self {
        let settings = self.info.redis_settings().clone().set_db(0);
        Self {
            info: self.info.clone().set_redis_settings(settings),
        }
    }

    /// Neither user nor password, if there are any.
    pub(super) fn without_credentials(&self) -> Option<Self> {
        let settings = self.info.redis_settings();
        if settings.username().is_none() && settings.password().is_none() {
            return None;
        }
        let bare = redis::RedisConnectionInfo::default()
            .set_protocol(settings.protocol())
            .set_db(settings.db());
        Some(Self {
            info: self.info.clone().set_redis_settings(bare),
        })
    }

    /// Connects. Requests on the connection fail when they are not answered within `response_timeout`.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(endpoint, config(response_timeout)).await
    }

    /// Connects; `pushes` is given what the server sends unasked, from the task that reads the socket.
    pub(super) async fn connect_for_pushes(
        &self,
        endpoint: &Endpoint,
        response_timeout: Duration,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(endpoint, config(response_timeout).set_push_sender(pushes))
            .await
    }

    /// What went wrong, in words fit for a log: some servers repeat the password when they refuse it.
    pub(crate) fn describe(&self, error: &RedisError) -> String {
        let text = error.to_string().replace(['\r', '\n'], " ");
        match self.info.redis_settings().password() {
            Some(password) if !password.is_empty() => text.replace(password, MASK),
            _ => text,
        }
    }

    async fn connect_with(
        &self,
        endpoint: &Endpoint,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let client = Client::open(self.info.clone().set_addr(endpoint.0.clone()))?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Nothing of what it knows.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

fn config(response_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, IntoConnectionInfo};

    use super::*;

    #[test]
    fn access_never_shows_its_password() {
        let info = "redis://app:s3cr%C3%A9t@127.0.0.1:7000/2"
            .into_connection_info()
            .unwrap();
        let access = Access::new(info);
        assert!(!format!("{access:?}").contains("s3cr"));
        let echo = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' 's3crét'";
        let error = RedisError::from((ErrorKind::Extension, "refused", echo.to_owned()));
        let shown = access.describe(&error);
        assert!(!shown.contains("s3cr"), "{shown}");
        assert!(shown.contains("HELLO"), "{shown}");
        assert!(access.without_credentials().is_some());
    }

    #[test]
    fn an_endpoint_has_neighbours() {
        let endpoint = Endpoint::new("127.0.0.1", 7000);
        assert_eq!(endpoint.with_port(7001).to_string(), "127.0.0.1:7001");
    }
}
