//! What a setting may be: one function per setting or kind of setting, from text to the checked value.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    time::Duration,
};

use tracing::Level;

use super::{
    AllowedOrigins, ConfigError, LogFormat, NODE_NAME_BYTES_MAX, SECRET_BYTES_MIN, Secret,
    duration::{DURATION_FORMAT, parse_duration},
    is_set,
};

pub(super) fn listen(text: Option<&str>) -> Result<SocketAddr, ConfigError> {
    let text = text.unwrap_or("127.0.0.1:8000");
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    let problem = || format!("\"{text}\" is not an address with a port; write 127.0.0.1:8000");
    numeric
        .parse()
        .map_err(|_| ConfigError::setting("listen", problem()))
}

pub(super) fn postgres_url(url: Option<Secret>) -> Result<Option<Secret>, ConfigError> {
    let is_url = |url: &Secret| {
        let url = url.reveal();
        // The other form is `host=… user=…`.
        url.starts_with("postgres://") || url.starts_with("postgresql://") || url.contains('=')
    };
    match url {
        Some(url) if !is_url(&url) => Err(ConfigError::setting(
            "postgres",
            "is not a PostgreSQL URL; write postgres://user:password@host:5432/database",
        )),
        url => Ok(url),
    }
}

pub(super) fn redis_url(url: Option<Secret>) -> Result<Option<Secret>, ConfigError> {
    match url {
        Some(url) => match fanfare_backend::redis::check_url(url.reveal()) {
            Ok(()) => Ok(Some(url)),
            Err(error) => Err(ConfigError::setting("redis", error.to_string())),
        },
        None => Ok(None),
    }
}

pub(super) fn key(setting: &str, key: Option<Secret>) -> Result<Option<Secret>, ConfigError> {
    key_of(SECRET_BYTES_MIN, setting, key)
}

/// A key of the server itself. With `dev` it may be short, as those of examples and test suites are: the server is open anyway.
pub(super) fn own_key(
    setting: &str,
    key: Option<Secret>,
    dev: bool,
) -> Result<Option<Secret>, ConfigError> {
    let bytes_min = if dev { 1 } else { SECRET_BYTES_MIN };
    key_of(bytes_min, setting, key)
}

fn key_of(
    bytes_min: usize,
    setting: &str,
    key: Option<Secret>,
) -> Result<Option<Secret>, ConfigError> {
    match key {
        Some(key) if key.reveal().len() < bytes_min => Err(ConfigError::setting(
            setting,
            format!("is shorter than {bytes_min} bytes; make one with: openssl rand -hex 32"),
        )),
        Some(key) if key.reveal().bytes().any(|byte| byte.is_ascii_control()) => Err(
            ConfigError::setting(setting, "holds a line break or another control character"),
        ),
        key => Ok(key),
    }
}

pub(super) fn node_name(name: Option<String>) -> Result<String, ConfigError> {
    let Some(name) = name else {
        return Ok(default_node_name());
    };
    let fits = (1..=NODE_NAME_BYTES_MAX).contains(&name.len());
    if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem =
            format!("must be 1 to {NODE_NAME_BYTES_MAX} printable ASCII characters without space");
        return Err(ConfigError::setting("node_name", problem));
    }
    Ok(name)
}

fn default_node_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let host: String = host
        .trim()
        .chars()
        .filter(char::is_ascii_graphic)
        .take(NODE_NAME_BYTES_MAX - 5)
        .collect();
    let host = if host.is_empty() { "node" } else { &host };
    // Two servers on one host are told apart; a hasher's random keys are random enough for that.
    let random = RandomState::new().hash_one(std::process::id()) & 0xffff;
    format!("{host}-{random:04x}")
}

pub(super) fn log_format(text: Option<&str>) -> Result<LogFormat, ConfigError> {
    match text {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => {
            let problem = format!("\"{other}\" is not a format; write text or json");
            Err(ConfigError::setting("log_format", problem))
        }
    }
}

pub(super) fn log_level(text: Option<&str>) -> Result<Level, ConfigError> {
    match text {
        None | Some("info") => Ok(Level::INFO),
        Some("error") => Ok(Level::ERROR),
        Some("warn") => Ok(Level::WARN),
        Some("debug") => Ok(Level::DEBUG),
        Some("trace") => Ok(Level::TRACE),
        Some(other) => {
            let problem =
                format!("\"{other}\" is not a level; write error, warn, info, debug or trace");
            Err(ConfigError::setting("log_level", problem))
        }
    }
}

pub(super) fn origins(
    flag: Option<Vec<String>>,
    file: Option<Vec<String>>,
) -> Result<AllowedOrigins, ConfigError> {
    let flag = flag.filter(|origins| origins.iter().any(is_set));
    let origins: Vec<String> = flag.or(file).unwrap_or_default();
    if origins.iter().any(|origin| origin == "*") {
        return Ok(AllowedOrigins::Any);
    }
    let is_origin = |origin: &str| {
        let host = origin
            .strip_prefix("https://")
            .or_else(|| origin.strip_prefix("http://"));
        host.is_some_and(|host| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"/?#@*".contains(&byte))
        })
    };
    if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
        let problem = format!(
            "\"{wrong}\" is not an origin; write https://app.example.com, without a path, or *"
        );
        return Err(ConfigError::setting("allowed_origins", problem));
    }
    // Browsers write the host in small letters.
    Ok(AllowedOrigins::These(
        origins
            .iter()
            .map(|origin| origin.to_ascii_lowercase())
            .collect(),
    ))
}

pub(super) fn interval(text: Option<String>) -> Result<Duration, ConfigError> {
    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(24 * 3600);
    let text = text.unwrap_or_else(|| "60s".to_owned());
    let problem = match parse_duration(&text) {
        Some(interval) if (MIN..=MAX).contains(&interval) => return Ok(interval),
        Some(_) => "must be from 100ms to 1d".to_owned(),
        None => format!("\"{text}\" is not a duration; {DURATION_FORMAT}"),
    };
    Err(ConfigError::setting("retention_interval", problem))
}

/// What a number may be, and what it is when nothing is said.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    default: u64,
    min: u64,
    max: u64,
}

impl Bounds {
    pub(super) const fn new(default: u64, min: u64, max: u64) -> Self {
        Self { default, min, max }
    }
}

/// A number from a flag or, without one, from the file.
pub(super) fn bounded(
    setting: &str,
    (flag, file): (Option<String>, Option<u64>),
    bounds: Bounds,
) -> Result<u64, ConfigError> {
    let Bounds { default, min, max } = bounds;
    let value = match flag.filter(is_set) {
        Some(text) => text.parse().map_err(|_| {
            let problem = format!("\"{text}\" is not a whole number; write {min} to {max}");
            ConfigError::setting(setting, problem)
        })?,
        None => file.unwrap_or(default),
    };
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    let problem = format!("{value} is out of range; write {min} to {max}");
    Err(ConfigError::setting(setting, problem))
}

/// A number that fits 32 bits.
pub(super) fn small(
    setting: &str,
    values: (Option<String>, Option<u64>),
    bounds: Bounds,
) -> Result<u32, ConfigError> {
    let value = bounded(setting, values, bounds)?;
    u32::try_from(value).map_err(|_| ConfigError::setting(setting, "is too large"))
}

pub(super) fn size(
    setting: &str,
    values: (Option<String>, Option<u64>),
    bounds: Bounds,
) -> Result<usize, ConfigError> {
    let value = bounded(setting, values, bounds)?;
    usize::try_from(value)
        .map_err(|_| ConfigError::setting(setting, "is too large for this machine"))
}
