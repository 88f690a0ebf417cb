//! The settings of a server: read from file, environment and flags, checked once, plain data afterwards.
//!
//! A flag wins over its environment variable, that over the file, that over the default. Every mistake is one
//! [`ConfigError`] that names the setting; no secret is ever part of one. Nothing here connects to anything.

mod centrifuge;
mod channels;
mod chat;
mod check;
mod duration;
mod error;
mod file;
mod flags;
mod mail;
mod proxy;
mod secret;
mod socketio;
mod tokens;
mod watch;
mod webhooks;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use fanfare_gateway::{AllowedOrigins, Pings, access::ChannelRules, proxy::ProxyConfig};
use tracing::Level;

pub(crate) use self::{
    chat::ChatSettings,
    error::ConfigError,
    flags::Settings,
    mail::{Gmail, MailSettings, Mailboxes},
    secret::Secret,
    socketio::SocketIo,
    tokens::{Issuer, IssuerKey},
    watch::WatchSettings,
    webhooks::{Webhook, WebhookVerify},
};
use self::{
    check::{Bounds, bounded, size},
    file::FileSettings,
};

/// Shortest `api_key` and `token_secret`, in bytes.
pub(crate) const SECRET_BYTES_MIN: usize = 16;

/// New connections that are let in each second for each thread, unless `connections_per_second` says otherwise.
const CONNECTIONS_PER_SECOND_AND_THREAD: u64 = 1_000;

/// Longest `node_name`, in bytes.
const NODE_NAME_BYTES_MAX: usize = 64;

const DRAIN_SECONDS: Bounds = Bounds::new(10, 0, 3600);
const MESSAGE_BYTES: Bounds = Bounds::new(65_536, 1, 8 << 20);
const THREADS: Bounds = Bounds::new(0, 0, 256);
const STALL_SECONDS: Bounds = Bounds::new(60, 1, 86_400);
const CONNECTIONS: Bounds = Bounds::new(100_000, 1, 10_000_000);
const CONNECTIONS_PER_SECOND_MAX: u64 = 1_000_000;
const SUBSCRIPTIONS: Bounds = Bounds::new(128, 1, 10_000);
/// The same where the chat is: its page follows each conversation that its user is in.
const SUBSCRIPTIONS_WITH_CHAT: Bounds = Bounds::new(5_000, 1, 10_000);

/// The settings of a server, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where to listen; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// The folder of the embedded database.
    pub(crate) data: PathBuf,
    /// Where other servers reach this one; absent: at `listen`, if that is one address.
    pub(crate) advertise: Option<String>,
    /// The URL of the shared database; absent: the embedded one.
    pub(crate) postgres: Option<Secret>,
    /// Whether nodes that wait for each other's commits in a channel leave it to one of them.
    pub(crate) owners: bool,
    /// The URL of Redis; absent: no bus.
    pub(crate) redis: Option<Secret>,
    /// The server's name.
    pub(crate) node_name: String,
    /// The key of the server API; absent: nobody has one.
    pub(crate) api_key: Option<Secret>,
    /// The secret of client tokens; absent: no token is valid.
    pub(crate) token_secret: Option<Secret>,
    /// Who else signs client tokens.
    pub(crate) token_issuers: Vec<Issuer>,
    /// Open to everybody, on a loopback address.
    pub(crate) dev: bool,
    /// Clients without a token are let in, as anonymous ones.
    pub(crate) anonymous_clients: bool,
    /// Threads that serve connections, and as many for everything else; 0 for one per core.
    pub(crate) threads: usize,
    /// What is logged, and how.
    pub(crate) log: LogConfig,
    /// Origins of web pages that may connect, besides the server's own.
    pub(crate) allowed_origins: AllowedOrigins,
    /// How long to take to send clients away.
    pub(crate) drain: Duration,
    /// How often retention is applied.
    pub(crate) retention_interval: Duration,
    /// Bounds of what clients may use.
    pub(crate) limits: Limits,
    /// How Socket.IO is served.
    pub(crate) socketio: SocketIo,
    /// How often clients of the Centrifuge protocol are asked whether they are there.
    pub(crate) pings: Pings,
    /// What clients may do in which channels.
    pub(crate) channels: ChannelRules,
    /// What is asked of the application's backend.
    pub(crate) proxies: ProxyConfig,
    /// The chat.
    pub(crate) chat: ChatSettings,
    /// The watch party.
    pub(crate) watch: WatchSettings,
    /// Live mail.
    pub(crate) mail: MailSettings,
    /// What is published for other systems.
    pub(crate) webhooks: Vec<Webhook>,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// How.
    pub(crate) format: LogFormat,
    /// What.
    pub(crate) level: Level,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Bounds of what clients may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The longest payload of a publication, in bytes.
    pub(crate) message_bytes_max: usize,
    /// Connections to this server.
    pub(crate) max_connections: usize,
    /// New connections that are let in each second; 0 for as many as come.
    pub(crate) connections_per_second: u32,
    /// New connections that are let in at once.
    pub(crate) connections_burst: u32,
    /// A connection whose peer takes nothing for so many seconds is closed.
    pub(crate) stall_seconds: u32,
    /// Subscriptions of one connection.
    pub(crate) subscriptions_per_connection_max: usize,
}

impl Config {
    /// Completes flags and environment with the file and the defaults, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot be used.
    pub(crate) fn load(settings: Settings) -> Result<Self, ConfigError> {
        let named = settings.config.as_deref().filter(|name| !name.is_empty());
        let file = file::read(named.map(Path::new))?;
        Self::resolve(settings, file)
    }

    /// What works, but probably not as intended; for the log at start.
    #[must_use]
    pub(crate) fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if self.dev {
            remarks.push("--dev: open to everybody who reaches this address; not for production");
        }
        if !self.dev && self.api_key.is_none() {
            remarks.push("no api_key is set: the server API refuses every call");
        }
        if !self.dev
            && !self.anonymous_clients
            && self.token_secret.is_none()
            && self.token_issuers.is_empty()
            && self.proxies.connect.is_none()
        {
            remarks.push(
                "no token_secret is set, no token_issuers and no proxy.connect: no client can connect",
            );
        }
        let takes_all = |issuer: &Issuer| {
            matches!(issuer.key, IssuerKey::Jwks(_)) && issuer.audiences.is_empty()
        };
        if self.token_issuers.iter().any(takes_all) {
            remarks.push(
                "one of token_issuers has a jwks_url and no audience: what it signs for other services is accepted too",
            );
        }
        if self.redis.is_some() && self.postgres.is_none() {
            remarks.push(
                "redis is set, but postgres is not: a server on its embedded database is alone, and has no use for it",
            );
        }
        remarks
    }

    fn resolve(flags: Settings, file: FileSettings) -> Result<Self, ConfigError> {
        let text = |flag: Option<String>, file: Option<String>| flag.filter(is_set).or(file);
        let secret = |flag: Option<Secret>, file: Option<Secret>| {
            flag.filter(|secret| is_set(&secret.reveal())).or(file)
        };
        let listen = check::listen(text(flags.listen, file.listen).as_deref())?;
        let dev = flags.dev.or(file.dev).unwrap_or(false);
        if dev && !listen.ip().is_loopback() {
            return Err(ConfigError::setting(
                "dev",
                format!(
                    "--dev opens the server to everybody, and {listen} can be reached from other machines; listen on \
                     127.0.0.1 instead, or leave --dev out"
                ),
            ));
        }
        let data = text(flags.data, file.data).unwrap_or_else(|| "fanfare-data".to_owned());
        if data.is_empty() {
            return Err(ConfigError::setting(
                "data",
                "the name of the folder is empty",
            ));
        }
        let threads = size("threads", (flags.threads, file.threads), THREADS)?;
        let connections_per_second = check::small(
            "connections_per_second",
            (flags.connections_per_second, file.connections_per_second),
            Bounds::new(pace(threads), 0, CONNECTIONS_PER_SECOND_MAX),
        )?;
        let message_bytes_max = size(
            "message_bytes_max",
            (flags.message_bytes_max, file.message_bytes_max),
            MESSAGE_BYTES,
        )?;
        let everywhere = channels::Everywhere {
            dev,
            message_bytes_max,
        };
        let channels = channels::resolve(file.channels, file.namespaces, everywhere)?;
        let webhooks = webhooks::resolve(file.webhooks, &channels)?;
        let proxies = proxy::resolve(file.proxy, &channels)?;
        let mail_flags = mail::MailFlags {
            client_secret: flags.mail_client_secret,
            encryption_key: flags.mail_encryption_key,
        };
        let mail = mail::resolve(file.mail, mail_flags, dev)?;
        mail::check_webhooks(&mail, &webhooks)?;
        mail::check_channels(&mail, &channels)?;
        let token_secret = secret(flags.token_secret, file.token_secret);
        if mail.is_on() && !dev && token_secret.is_none() {
            let problem =
                "is missing; the sessions of [mail] are signed with it: openssl rand -hex 32";
            return Err(ConfigError::setting("token_secret", problem));
        }
        Ok(Self {
            listen,
            advertise: socketio::advertise(text(flags.advertise, file.advertise))?,
            socketio: socketio::resolve(&file.socketio)?,
            pings: centrifuge::resolve(&file.centrifuge)?,
            data: data.into(),
            postgres: check::postgres_url(secret(flags.postgres, file.postgres))?,
            owners: flags.owners.or(file.owners).unwrap_or(true),
            redis: check::redis_url(secret(flags.redis, file.redis))?,
            node_name: check::node_name(text(flags.node_name, file.node_name))?,
            api_key: check::own_key("api_key", secret(flags.api_key, file.api_key), dev)?,
            token_secret: check::own_key("token_secret", token_secret, dev)?,
            token_issuers: tokens::resolve(file.token_issuers)?,
            dev,
            anonymous_clients: file.anonymous_clients.unwrap_or(false),
            log: LogConfig {
                format: check::log_format(text(flags.log_format, file.log_format).as_deref())?,
                level: check::log_level(text(flags.log_level, file.log_level).as_deref())?,
            },
            threads,
            allowed_origins: check::origins(flags.allowed_origins, file.allowed_origins)?,
            drain: Duration::from_secs(bounded(
                "drain_seconds",
                (flags.drain_seconds, file.drain_seconds),
                DRAIN_SECONDS,
            )?),
            retention_interval: check::interval(text(
                flags.retention_interval,
                file.retention_interval,
            ))?,
            limits: Limits {
                message_bytes_max,
                max_connections: size(
                    "max_connections",
                    (flags.max_connections, file.max_connections),
                    CONNECTIONS,
                )?,
                connections_per_second,
                connections_burst: check::small(
                    "connections_burst",
                    (flags.connections_burst, file.connections_burst),
                    Bounds::new(
                        u64::from(connections_per_second).max(1) * 2,
                        1,
                        2 * CONNECTIONS_PER_SECOND_MAX,
                    ),
                )?,
                stall_seconds: check::small(
                    "stall_seconds",
                    (flags.stall_seconds, file.stall_seconds),
                    STALL_SECONDS,
                )?,
                subscriptions_per_connection_max: size(
                    "subscriptions_per_connection_max",
                    (
                        flags.subscriptions_per_connection_max,
                        file.subscriptions_per_connection_max,
                    ),
                    match file.chat.is_on(dev) {
                        true => SUBSCRIPTIONS_WITH_CHAT,
                        false => SUBSCRIPTIONS,
                    },
                )?,
            },
            channels,
            mail,
            webhooks,
            proxies,
            chat: chat::resolve(file.chat, dev)?,
            watch: watch::resolve(file.watch, dev)?,
        })
    }
}

/// How many new connections `threads` threads (0 for one per core) let in each second.
fn pace(threads: usize) -> u64 {
    let threads = u64::try_from(thread_count(threads)).unwrap_or(1);
    threads * CONNECTIONS_PER_SECOND_AND_THREAD
}

/// How many threads a setting of `threads` stands for: 0 for one per core.
pub(crate) fn thread_count(threads: usize) -> usize {
    match threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// An environment variable that is set to nothing, as deployment tools like to do, is not set.
fn is_set(text: &impl AsRef<str>) -> bool {
    !text.as_ref().is_empty()
}

#[cfg(test)]
mod tests;
