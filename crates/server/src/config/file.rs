//! The settings as they stand in `fanfare.toml`.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{
    ConfigError, Secret,
    centrifuge::FileCentrifuge,
    channels::{FileChannels, FileNamespace},
    chat::FileChat,
    mail::FileMail,
    proxy::FileProxies,
    socketio::FileSocketIo,
    tokens::FileIssuer,
    watch::FileWatch,
    webhooks::FileWebhook,
};

/// The file read when none is named, if it is there.
const FILE_DEFAULT: &str = "fanfare.toml";

/// All settings of the file. Absent ones are left to the environment, the flags and the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSettings {
    pub(super) listen: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) data: Option<String>,
    pub(super) postgres: Option<Secret>,
    pub(super) owners: Option<bool>,
    pub(super) redis: Option<Secret>,
    pub(super) node_name: Option<String>,
    pub(super) api_key: Option<Secret>,
    pub(super) token_secret: Option<Secret>,
    pub(super) dev: Option<bool>,
    pub(super) anonymous_clients: Option<bool>,
    pub(super) log_format: Option<String>,
    pub(super) log_level: Option<String>,
    pub(super) allowed_origins: Option<Vec<String>>,
    pub(super) drain_seconds: Option<u64>,
    pub(super) retention_interval: Option<String>,
    pub(super) threads: Option<u64>,
    pub(super) message_bytes_max: Option<u64>,
    pub(super) max_connections: Option<u64>,
    pub(super) connections_per_second: Option<u64>,
    pub(super) connections_burst: Option<u64>,
    pub(super) stall_seconds: Option<u64>,
    pub(super) subscriptions_per_connection_max: Option<u64>,
    #[serde(default)]
    pub(super) centrifuge: FileCentrifuge,
    #[serde(default)]
    pub(super) socketio: FileSocketIo,
    #[serde(default)]
    pub(super) channels: FileChannels,
    #[serde(default)]
    pub(super) namespaces: Vec<FileNamespace>,
    #[serde(default)]
    pub(super) chat: FileChat,
    #[serde(default)]
    pub(super) watch: FileWatch,
    #[serde(default)]
    pub(super) mail: FileMail,
    #[serde(default)]
    pub(super) webhooks: Vec<FileWebhook>,
    #[serde(default)]
    pub(super) token_issuers: Vec<FileIssuer>,
    #[serde(default)]
    pub(super) proxy: FileProxies,
}

/// Reads the named file, or the default one if it is there.
pub(super) fn read(named: Option<&Path>) -> Result<FileSettings, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE_DEFAULT));
    if named.is_none() && !path.exists() {
        return Ok(FileSettings::default());
    }
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<FileSettings, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        // The parser's own display repeats the line, and so its value, which may be a secret.
        let message = match setting_at(text, line) {
            Some(setting) if !error.message().contains(setting) => {
                format!("{setting}: {}", on_one_line(error.message()))
            }
            _ => on_one_line(error.message()),
        };
        ConfigError::File {
            path: path.to_owned(),
            line,
            message,
        }
    })
}

/// The setting on a line, if there is one.
fn setting_at(text: &str, line: usize) -> Option<&str> {
    let (setting, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let setting = setting.trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!setting.is_empty() && setting.bytes().all(is_name)).then_some(setting)
}

fn on_one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_by_line_and_name_and_without_values() {
        let check = |text: &str, line: usize, words: &str| {
            let error = parse(Path::new("f.toml"), text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("f.toml, line {line}: ")),
                "{error}"
            );
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("hidden"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        };
        check("lissten = \"hidden\"", 1, "lissten");
        check("# one\n\ndrain_seconds = \"soon\"", 3, "drain_seconds");
        check(
            "api_key = 123456789012345678",
            1,
            "api_key: must be a text in quotes",
        );
        check("token_secret = [\"hidden\"]", 1, "token_secret");
        check("api_key = \"hidden", 1, "api_key");
        check("drain_seconds = -1", 1, "drain_seconds");
        check("[channels]\nsubscribe = \"everyone\"", 2, "everyone");
        check("[channels]\nsubscrib = \"anyone\"", 2, "subscrib");
        check(
            "[[namespaces]]\nname = \"a\"\nother_option = 1",
            3,
            "unknown field",
        );
        check("[[namespaces]]\nsubscribe = \"anyone\"", 1, "name");
        check("[chanels]\nsubscribe = \"anyone\"", 1, "chanels");
        check("listen = \"a\"\nlisten = \"b\"", 2, "duplicate");
    }

    #[test]
    fn the_example_is_complete_and_true() {
        let example = include_str!("../../../../config/fanfare.example.toml");
        let path = Path::new("fanfare.example.toml");
        parse(path, example).expect("the example as it is");
        // Every setting stands there commented out; a comment in words has a space behind the `#`.
        let uncommented: Vec<_> = example
            .lines()
            .map(|line| {
                line.strip_prefix('#')
                    .filter(|rest| !rest.starts_with(' '))
                    .unwrap_or(line)
            })
            .collect();
        let all = parse(path, &uncommented.join("\n")).expect("the example with all settings on");
        let FileSettings {
            listen: Some(_),
            advertise: Some(_),
            data: Some(_),
            postgres: Some(_),
            owners: Some(_),
            redis: Some(_),
            node_name: Some(_),
            api_key: Some(_),
            token_secret: Some(_),
            dev: Some(_),
            anonymous_clients: Some(_),
            log_format: Some(_),
            log_level: Some(_),
            allowed_origins: Some(_),
            drain_seconds: Some(_),
            retention_interval: Some(_),
            threads: Some(_),
            message_bytes_max: Some(_),
            max_connections: Some(_),
            connections_per_second: Some(_),
            connections_burst: Some(_),
            stall_seconds: Some(_),
            subscriptions_per_connection_max: Some(_),
            centrifuge:
                FileCentrifuge {
                    ping_seconds: Some(_),
                    pong_seconds: Some(_),
                },
            socketio:
                FileSocketIo {
                    ping_interval_ms: Some(_),
                    ping_timeout_ms: Some(_),
                    max_payload: Some(_),
                    recovery: Some(_),
                },
            channels: _,
            namespaces,
            chat: _,
            watch: _,
            mail:
                FileMail {
                    enabled: Some(_),
                    public_url: Some(_),
                    client_id: Some(_),
                    client_secret: Some(_),
                    topic: Some(_),
                    service_account: Some(_),
                    audience: Some(_),
                    encryption_key: Some(_),
                    encryption_keys_old: _,
                    keep_messages: Some(_),
                    units_per_minute: Some(_),
                    poll_after: Some(_),
                    streams_per_user_max: Some(_),
                    session_days: Some(_),
                    auth_url: Some(_),
                    token_url: Some(_),
                    revoke_url: Some(_),
                    gmail_url: Some(_),
                    jwks_url: Some(_),
                },
            webhooks,
            token_issuers,
            proxy,
        } = all
        else {
            panic!("a setting is missing in the example: {all:?}")
        };
        assert!(!namespaces.is_empty());
        assert_eq!(webhooks.len(), 2, "one of each kind");
        assert_eq!(token_issuers.len(), 3, "one of each kind");
        assert!(proxy.is_complete());
    }
}
