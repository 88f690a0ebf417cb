//! What the file says of the application's backend: what it is asked, and where.

use std::{collections::BTreeMap, time::Duration};

use axum::http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use fanfare_gateway::{
    access::{ChannelOptions, ChannelRules},
    https::{TIMEOUT, Url},
    proxy::{CALLS_DEFAULT, Endpoint, ProxyConfig},
};
use serde::Deserialize;

use super::{
    ConfigError, Secret,
    check::{self, Bounds},
    duration::{DURATION_FORMAT, parse_duration},
};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
const TIMEOUT_MIN: Duration = Duration::from_millis(10);
const CALLS: Bounds = Bounds::new(CALLS_DEFAULT as u64, 1, 10_000);
/// Most headers of each kind.
const HEADERS_MAX: usize = 32;

/// Headers that say how a request is framed, and are not the client's or the operator's.
const FRAMING: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The file's `[proxy.*]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileProxies {
    connect: Option<FileEndpoint>,
    refresh: Option<FileEndpoint>,
    subscribe: Option<FileEndpoint>,
    sub_refresh: Option<FileEndpoint>,
    publish: Option<FileEndpoint>,
    rpc: Option<FileEndpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEndpoint {
    endpoint: String,
    allow_http: Option<bool>,
    timeout: Option<String>,
    http_headers: Option<Vec<String>>,
    static_headers: Option<BTreeMap<String, Secret>>,
    calls_max: Option<u64>,
    include_connection_meta: Option<bool>,
}

impl FileProxies {
    /// Whether every kind is said.
    #[cfg(test)]
    pub(super) fn is_complete(&self) -> bool {
        let all = [
            &self.connect,
            &self.refresh,
            &self.subscribe,
            &self.sub_refresh,
            &self.publish,
            &self.rpc,
        ];
        all.into_iter().all(Option::is_some)
    }
}

/// Checks and completes what the file says, and whether its channels have what they need of it.
pub(super) fn resolve(file: FileProxies, rules: &ChannelRules) -> Result<ProxyConfig, ConfigError> {
    let of = |name, file: Option<FileEndpoint>| file.map(|file| endpoint(name, file)).transpose();
    let config = ProxyConfig {
        connect: of("connect", file.connect)?,
        refresh: of("refresh", file.refresh)?,
        subscribe: of("subscribe", file.subscribe)?,
        sub_refresh: of("sub_refresh", file.sub_refresh)?,
        publish: of("publish", file.publish)?,
        rpc: of("rpc", file.rpc)?,
    };
    if config.refresh.is_some() && config.connect.is_none() {
        let problem = "is for clients that proxy.connect has let in; say that too";
        return Err(ConfigError::setting("proxy.refresh", problem));
    }
    let outside = std::iter::once(("channels".to_owned(), &rules.outside));
    let named = rules.namespaces.iter();
    let named = named.map(|(name, options)| (format!("namespace \"{name}\""), options));
    for (place, options) in outside.chain(named) {
        needs(&place, options, &config)?;
    }
    Ok(config)
}

/// Whether what a namespace leaves to the backend is asked anywhere.
fn needs(place: &str, options: &ChannelOptions, config: &ProxyConfig) -> Result<(), ConfigError> {
    let proxied = options.proxied;
    for (name, on, there) in [
        ("subscribe", proxied.subscribe, config.subscribe.is_some()),
        (
            "sub_refresh",
            proxied.sub_refresh,
            config.sub_refresh.is_some(),
        ),
        ("publish", proxied.publish, config.publish.is_some()),
    ] {
        if on && !there {
            let setting = format!("{place}, {name}_proxy_enabled");
            let problem = format!("needs an endpoint: say it in [proxy.{name}]");
            return Err(ConfigError::setting(setting, problem));
        }
    }
    if proxied.sub_refresh && !proxied.subscribe {
        let setting = format!("{place}, sub_refresh_proxy_enabled");
        let problem =
            "is for subscriptions that the backend has granted; say subscribe_proxy_enabled too";
        return Err(ConfigError::setting(setting, problem));
    }
    Ok(())
}

fn endpoint(name: &str, file: FileEndpoint) -> Result<Endpoint, ConfigError> {
    let setting = |of: &str| format!("proxy.{name}, {of}");
    let url = match file.allow_http {
        Some(true) => Url::parse_in_own_network(&file.endpoint),
        _ => Url::parse(&file.endpoint),
    };
    let url = url.map_err(|error| {
        let problem = format!(
            "{error}; allow_http = true takes it for other hosts, in a network of your own"
        );
        ConfigError::setting(setting("endpoint"), problem)
    })?;
    let timeout = match &file.timeout {
        None => TIMEOUT_DEFAULT,
        Some(text) => parse_duration(text).ok_or_else(|| {
            let problem = format!("\"{text}\" is not a duration; {DURATION_FORMAT}");
            ConfigError::setting(setting("timeout"), problem)
        })?,
    };
    if !(TIMEOUT_MIN..=TIMEOUT).contains(&timeout) {
        return Err(ConfigError::setting(
            setting("timeout"),
            "must be from 10ms to 10s",
        ));
    }
    let http_headers = file.http_headers.unwrap_or_default();
    let static_headers = file.static_headers.unwrap_or_default();
    if http_headers.len() > HEADERS_MAX || static_headers.len() > HEADERS_MAX {
        let problem = format!("more than {HEADERS_MAX} headers");
        return Err(ConfigError::setting(format!("proxy.{name}"), problem));
    }
    let passed_on = http_headers
        .iter()
        .map(|text| header(setting("http_headers"), text));
    let passed_on = passed_on.collect::<Result<Vec<_>, _>>()?;
    let mut fixed = HeaderMap::new();
    for (text, value) in &static_headers {
        let header = header(setting("static_headers"), text)?;
        if passed_on.contains(&header) {
            let problem = format!("{header} is in http_headers too; a client could say it");
            return Err(ConfigError::setting(setting("static_headers"), problem));
        }
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| {
            let problem = format!("the value of {header} cannot stand in a header");
            ConfigError::setting(setting("static_headers"), problem)
        })?;
        value.set_sensitive(true);
        fixed.insert(header, value);
    }
    Ok(Endpoint {
        url,
        timeout,
        http_headers: passed_on,
        static_headers: fixed,
        calls_max: check::size(&setting("calls_max"), (None, file.calls_max), CALLS)?,
        include_connection_meta: file.include_connection_meta == Some(true),
    })
}

fn header(setting: String, text: &str) -> Result<HeaderName, ConfigError> {
    let Ok(header) = HeaderName::try_from(text) else {
        let problem = format!("\"{}\" is not the name of a header", text.escape_default());
        return Err(ConfigError::setting(setting, problem));
    };
    let framing = FRAMING.contains(&header) || header.as_str().starts_with("sec-websocket-");
    if framing {
        let problem = format!("{header} says how a request is framed, and is not passed on");
        return Err(ConfigError::setting(setting, problem));
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        channels::{self, Everywhere},
        file,
    };

    fn resolve_text(text: &str) -> Result<ProxyConfig, String> {
        let file =
            file::parse(std::path::Path::new("f.toml"), text).map_err(|it| it.to_string())?;
        let everywhere = Everywhere::unsaid(false);
        let rules = channels::resolve(file.channels, file.namespaces, everywhere).unwrap();
        resolve(file.proxy, &rules).map_err(|error| error.to_string())
    }

    const CONNECT: &str = "[proxy.connect]\nendpoint = \"https://app.example/connect\"\n";

    #[test]
    fn endpoints_are_completed() {
        let config = resolve_text(&format!(
            "{CONNECT}http_headers = [\"Cookie\", \"X-Request-Id\"]\nstatic_headers = {{ X-Key = \"hidden\" }}\n\
             timeout = \"500ms\"\n[proxy.rpc]\nendpoint = \"http://app:3000/rpc\"\nallow_http = true\n"
        ));
        let config = config.unwrap();
        let connect = config.connect.unwrap();
        assert_eq!(connect.timeout, Duration::from_millis(500));
        assert_eq!(connect.http_headers, ["cookie", "x-request-id"]);
        assert_eq!(connect.static_headers["x-key"], "hidden");
        assert!(!format!("{connect:?}").contains("hidden"));
        let rpc = config.rpc.unwrap();
        assert_eq!(
            (rpc.timeout, rpc.calls_max),
            (TIMEOUT_DEFAULT, CALLS_DEFAULT)
        );
        assert!(config.subscribe.is_none());
    }

    #[test]
    fn mistakes_are_named() {
        let hidden = format!(
            "{CONNECT}static_headers = {{ Cookie = \"hidden\" }}\nhttp_headers = [\"cookie\"]\n"
        );
        for (text, words) in [
            ("[proxy.connect]\n".to_owned(), "endpoint"),
            ("[proxy.conect]\nendpoint = \"https://a/\"\n".to_owned(), "conect"),
            (CONNECT.replace("https", "http"), "allow_http"),
            (CONNECT.replace("https", "grpc"), "proxy.connect, endpoint"),
            (format!("{CONNECT}timeout = \"soon\"\n"), "is not a duration"),
            (format!("{CONNECT}timeout = \"11s\"\n"), "10ms to 10s"),
            (format!("{CONNECT}calls_max = 0\n"), "calls_max"),
            (format!("{CONNECT}http_headers = [\"a b\"]\n"), "not the name of a header"),
            (format!("{CONNECT}http_headers = [\"Host\"]\n"), "host says how"),
            (format!("{CONNECT}http_headers = [\"Sec-WebSocket-Key\"]\n"), "sec-websocket-key"),
            (format!("{CONNECT}static_headers = {{ A = \"\\n\" }}\n"), "cannot stand in a header"),
            (hidden, "cookie is in http_headers too"),
            (CONNECT.replace("connect", "refresh"), "proxy.connect has let in"),
            ("[channels]\nsubscribe_proxy_enabled = true\n".to_owned(), "say it in [proxy.subscribe]"),
            (
                "[[namespaces]]\nname = \"a\"\npublish_proxy_enabled = true\n".to_owned(),
                "namespace \"a\", publish_proxy_enabled",
            ),
            (
                "[channels]\nsub_refresh_proxy_enabled = true\n[proxy.sub_refresh]\nendpoint = \"https://a/\"\n".to_owned(),
                "say subscribe_proxy_enabled too",
            ),
        ] {
            let error = resolve_text(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
