//! Which Redis: a single server, the master that sentinels know, or a cluster.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo};
use thiserror::Error;

use super::access::{Access, Endpoint};

/// Most hosts in one URL.
pub const HOSTS_MAX: usize = 32;

/// The port of a sentinel when none is given.
const SENTINEL_PORT: u16 = 26_379;

/// The schemes of the two kinds that have several hosts.
const SENTINEL_SCHEME: &str = "redis+sentinel";
const CLUSTER_SCHEME: &str = "redis+cluster";

/// A Redis URL that cannot be used. The message never holds the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not a URL that this client understands.
    #[error(
        "the Redis URL is not valid; write redis://[user:password@]host:port[/database], \
         redis+sentinel://[user:password@]host:port,…/MASTER_NAME[/database] or redis+cluster://[user:password@]host:port,…"
    )]
    Invalid,
    /// `redis+sentinel://` that is not complete.
    #[error(
        "the Redis URL is not valid; write redis+sentinel://[user:password@]host:port,host:port,…/MASTER_NAME[/database], \
         with the addresses of up to {HOSTS_MAX} sentinels and the name that they know the master by"
    )]
    Sentinel,
    /// `redis+cluster://` that cannot be one.
    #[error(
        "the Redis URL is not valid; write redis+cluster://[user:password@]host:port,host:port,…, with the addresses of \
         up to {HOSTS_MAX} nodes of the cluster and no database, as clusters have but one"
    )]
    Cluster,
    /// `rediss://`.
    #[error(
        "this build cannot speak TLS to Redis; write redis:// and put a TLS tunnel (stunnel, a sidecar) in between"
    )]
    Tls,
}

/// Checks a URL for [`RedisBus::connect`](super::RedisBus::connect).
///
/// # Errors
/// [`AddressError`] if it cannot be used; it never repeats the URL.
pub fn check_url(url: &str) -> Result<(), AddressError> {
    Address::parse(url).map(drop)
}

/// Servers of Redis and the way into them.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Where to ask.
    pub(crate) kind: Kind,
    /// How to get in.
    pub(crate) access: Access,
}

/// How the servers of an [`Address`] belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server.
    Single(Endpoint),
    /// The sentinels, and the name by which they know the master.
    Sentinel(Vec<Endpoint>, String),
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<Endpoint>),
}

impl Address {
    /// Parses a URL of one of the three kinds.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(AddressError::Invalid);
        };
        let scheme = scheme.to_ascii_lowercase();
        if ["rediss", "valkeys"]
            .iter()
            .any(|tls| scheme.starts_with(tls))
        {
            return Err(AddressError::Tls);
        }
        match scheme.as_str() {
            SENTINEL_SCHEME => Self::parse_sentinel(rest).ok_or(AddressError::Sentinel),
            CLUSTER_SCHEME => Self::parse_cluster(rest).ok_or(AddressError::Cluster),
            _ => {
                let info = url
                    .into_connection_info()
                    .map_err(|_| AddressError::Invalid)?;
                Ok(Self {
                    kind: Kind::Single(Endpoint::of(&info)),
                    access: Access::new(info),
                })
            }
        }
    }

    fn parse_sentinel(rest: &str) -> Option<Self> {
        let (hosts, path) = split_hosts(rest)?;
        let (name, database) = path.split_once('/').unwrap_or((path, ""));
        // The characters that sentinels allow.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return None;
        }
        let (sentinels, info) = parse_hosts(hosts, Some(SENTINEL_PORT), database)?;
        Some(Self {
            kind: Kind::Sentinel(sentinels, name.to_owned()),
            access: Access::new(info),
        })
    }

    fn parse_cluster(rest: &str) -> Option<Self> {
        let (hosts, path) = split_hosts(rest)?;
        if !matches!(path, "" | "0") {
            return None;
        }
        let (seeds, info) = parse_hosts(hosts, None, "")?;
        Some(Self {
            kind: Kind::Cluster(seeds),
            access: Access::new(info),
        })
    }
}

/// The servers, never the credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Single(endpoint) => endpoint.fmt(f),
            Kind::Sentinel(sentinels, name) => {
                write!(f, "{name} of the sentinels {}", list(sentinels))
            }
            Kind::Cluster(seeds) => write!(f, "the cluster of {}", list(seeds)),
        }
    }
}

fn list(endpoints: &[Endpoint]) -> String {
    let shown: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
    shown.join(", ")
}

/// Splits `hosts[/path]`. A password may not hold a slash as such, but `%2F`.
fn split_hosts(rest: &str) -> Option<(&str, &str)> {
    if rest.contains(['?', '#']) {
        return None;
    }
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// Parses `[user:password@]host[:port],…`. The credentials are parsed by the client, as those of a single server are.
fn parse_hosts(
    hosts: &str,
    default_port: Option<u16>,
    database: &str,
) -> Option<(Vec<Endpoint>, ConnectionInfo)> {
    let (credentials, hosts) = match hosts.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), hosts),
    };
    let mut endpoints = Vec::new();
    let mut first = None;
    for host in hosts.split(',') {
        let host = host.trim();
        if host.is_empty() || endpoints.len() == HOSTS_MAX {
            return None;
        }
        let url = format!("redis://{credentials}{host}/{database}");
        let info = url.into_connection_info().ok()?;
        let endpoint = Endpoint::of(&info);
        // What follows the brackets of an IPv6 address is the port.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        endpoints.push(match default_port {
            Some(port) if !has_port => endpoint.with_port(port),
            _ => endpoint,
        });
        first.get_or_insert(info);
    }
    Some((endpoints, first?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        for url in [
            "redis://app:s3cr%C3%A9t@127.0.0.1:7000/2",
            "redis+sentinel://app:s3cr%C3%A9t@127.0.0.1:7000/main/2",
            "redis+cluster://app:s3cr%C3%A9t@127.0.0.1:7000",
        ] {
            let address = Address::parse(url).unwrap();
            assert!(address.to_string().contains("127.0.0.1:7000"), "{address}");
            assert!(!format!("{address}{address:?}").contains("s3cr"), "{url}");
        }
    }

    #[test]
    fn sentinels_and_clusters_have_several_hosts() {
        let kind = |url: &str| Address::parse(url).unwrap().kind;
        let at = |host: &str, port: u16| Endpoint::new(host, port);
        assert_eq!(
            kind("redis+sentinel://:pw@one:1,two:2,three/my-master_1.x"),
            Kind::Sentinel(
                vec![at("one", 1), at("two", 2), at("three", 26_379)],
                "my-master_1.x".to_owned()
            )
        );
        assert_eq!(
            kind("REDIS+CLUSTER://u:p%40w@127.0.0.1:1,[::1]:2,h"),
            Kind::Cluster(vec![at("127.0.0.1", 1), at("::1", 2), at("h", 6379)])
        );
        assert_eq!(
            kind("redis+cluster://h:1/"),
            Kind::Cluster(vec![at("h", 1)])
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        let check = |url: &str, expected: AddressError| {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error, expected, "{url}");
            let text = error.to_string();
            assert!(
                !text.contains("hidden") && text.lines().count() == 1,
                "{text}"
            );
        };
        check("", AddressError::Invalid);
        check("127.0.0.1:6379", AddressError::Invalid);
        check("http://user:hidden@localhost", AddressError::Invalid);
        check(
            "redis://user:hidden@localhost/not-a-number",
            AddressError::Invalid,
        );
        check("rediss://user:hidden@localhost", AddressError::Tls);
        check("rediss+cluster://user:hidden@localhost", AddressError::Tls);
        for url in [
            "redis+sentinel://:hidden@h:1",
            "redis+sentinel://:hidden@h:1/",
            "redis+sentinel://:hidden@h:1,/main",
            "redis+sentinel://:hidden@h:x/main",
            "redis+sentinel://:hidden@h:1/main/x",
            "redis+sentinel://:hidden@h:1/two words",
            "redis+sentinel://:hidden@h:1/main?x=y",
        ] {
            check(url, AddressError::Sentinel);
        }
        for url in [
            "redis+cluster://",
            "redis+cluster://:hidden@h:1/3",
            "redis+cluster://:hidden@h:1,,h:2",
        ] {
            check(url, AddressError::Cluster);
        }
        let many = vec!["h:1"; HOSTS_MAX + 1].join(",");
        check(&format!("redis+cluster://{many}"), AddressError::Cluster);
    }
}
