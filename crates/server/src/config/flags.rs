//! The settings as flags and environment variables.
//!
//! Kept as text where an empty variable would not parse: deployment tools like to set variables to nothing.

use clap::Args;

use super::Secret;

/// The settings as flags and environment variables.
#[derive(Debug, Default, Args)]
pub(crate) struct Settings {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT", env = "FANFARE_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Where other servers reach this one [default: http:// and the address it listens on]
    #[arg(long, value_name = "URL", env = "FANFARE_ADVERTISE")]
    pub(crate) advertise: Option<String>,
    /// Folder of the embedded database [default: fanfare-data]
    #[arg(long, value_name = "DIR", env = "FANFARE_DATA")]
    pub(crate) data: Option<String>,
    /// Shared database, instead of the embedded one
    #[arg(
        long,
        value_name = "URL",
        env = "FANFARE_POSTGRES",
        hide_env_values = true
    )]
    pub(crate) postgres: Option<Secret>,
    /// What carries messages between servers that share a database
    #[arg(
        long,
        value_name = "URL",
        env = "FANFARE_REDIS",
        hide_env_values = true
    )]
    pub(crate) redis: Option<Secret>,
    /// Name of this server [default: the host's name and a random end]
    #[arg(long, value_name = "NAME", env = "FANFARE_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// Key of the server API
    #[arg(
        long,
        value_name = "KEY",
        env = "FANFARE_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Option<Secret>,
    /// Secret of client tokens
    #[arg(
        long,
        value_name = "SECRET",
        env = "FANFARE_TOKEN_SECRET",
        hide_env_values = true
    )]
    pub(crate) token_secret: Option<Secret>,
    /// Secret of the OAuth client of live mail
    #[arg(
        long,
        value_name = "SECRET",
        env = "FANFARE_MAIL_CLIENT_SECRET",
        hide_env_values = true
    )]
    pub(crate) mail_client_secret: Option<Secret>,
    /// Key that Gmail's tokens are sealed with: 32 bytes in base64
    #[arg(
        long,
        value_name = "KEY",
        env = "FANFARE_MAIL_ENCRYPTION_KEY",
        hide_env_values = true
    )]
    pub(crate) mail_encryption_key: Option<Secret>,
    /// Open to everybody, for a first try; only on a loopback address
    #[arg(
        long,
        env = "FANFARE_DEV",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = parse_switch,
        value_name = "true|false"
    )]
    pub(crate) dev: Option<bool>,
    /// Whether nodes that wait for each other in a channel leave it to one of them [default: true]
    #[arg(long, value_name = "true|false", env = "FANFARE_OWNERS", value_parser = parse_switch)]
    pub(crate) owners: Option<bool>,
    /// Settings file [default: fanfare.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "FANFARE_CONFIG")]
    pub(crate) config: Option<String>,
    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "FANFARE_LOG_FORMAT")]
    pub(crate) log_format: Option<String>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "FANFARE_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Origins of web pages that may connect, separated by commas; `*` for all
    #[arg(
        long,
        value_name = "ORIGINS",
        env = "FANFARE_ALLOWED_ORIGINS",
        value_delimiter = ','
    )]
    pub(crate) allowed_origins: Option<Vec<String>>,
    /// Seconds to take to send clients away at the end [default: 10]
    #[arg(long, value_name = "SECONDS", env = "FANFARE_DRAIN_SECONDS")]
    pub(crate) drain_seconds: Option<String>,
    /// How often to remove what is no longer kept [default: 60s]
    #[arg(long, value_name = "DURATION", env = "FANFARE_RETENTION_INTERVAL")]
    pub(crate) retention_interval: Option<String>,
    /// Threads that serve connections, and as many for everything else [default: 0, one per core]
    #[arg(long, value_name = "COUNT", env = "FANFARE_THREADS")]
    pub(crate) threads: Option<String>,
    /// Longest payload of a publication in bytes [default: 65536]
    #[arg(long, value_name = "BYTES", env = "FANFARE_MESSAGE_BYTES_MAX")]
    pub(crate) message_bytes_max: Option<String>,
    /// Connections to this server [default: 100000]
    #[arg(long, value_name = "COUNT", env = "FANFARE_MAX_CONNECTIONS")]
    pub(crate) max_connections: Option<String>,
    /// New connections to let in each second; 0 for as many as come [default: 1000 for each thread]
    #[arg(long, value_name = "COUNT", env = "FANFARE_CONNECTIONS_PER_SECOND")]
    pub(crate) connections_per_second: Option<String>,
    /// New connections to let in at once after a quiet time [default: two seconds' worth]
    #[arg(long, value_name = "COUNT", env = "FANFARE_CONNECTIONS_BURST")]
    pub(crate) connections_burst: Option<String>,
    /// Seconds for which a client may take nothing that is sent to it [default: 60]
    #[arg(long, value_name = "SECONDS", env = "FANFARE_STALL_SECONDS")]
    pub(crate) stall_seconds: Option<String>,
    /// Subscriptions of one connection [default: 128]
    #[arg(
        long,
        value_name = "COUNT",
        env = "FANFARE_SUBSCRIPTIONS_PER_CONNECTION_MAX"
    )]
    pub(crate) subscriptions_per_connection_max: Option<String>,
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}
