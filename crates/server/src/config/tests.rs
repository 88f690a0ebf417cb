use std::path::Path;

use clap::Parser;
use fanfare_gateway::access::Access;
use fanfare_wire::ChannelName;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

/// What flags and a file make together. The environment of the tests has none of the variables.
fn config(flags: &[&str], file: &str) -> Result<Config, ConfigError> {
    let flags = Flags::try_parse_from(std::iter::once("fanfare").chain(flags.iter().copied()));
    let settings = flags.expect("flags that exist").settings;
    Config::resolve(settings, file::parse(Path::new("fanfare.toml"), file)?)
}

#[track_caller]
fn refused(flags: &[&str], file: &str, words: &[&str]) {
    let error = config(flags, file)
        .expect_err("a configuration that cannot be used")
        .to_string();
    for word in words {
        assert!(error.contains(word), "{error} lacks {word}");
    }
    assert!(!error.contains("hidden"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn defaults_are_closed_and_local() {
    let config = config(&[], "").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.data, Path::new("fanfare-data"));
    assert!(config.postgres.is_none() && config.redis.is_none());
    assert!(!config.dev);
    assert_eq!(
        config.log,
        LogConfig {
            format: LogFormat::Text,
            level: Level::INFO
        }
    );
    assert_eq!(config.allowed_origins, AllowedOrigins::These(Vec::new()));
    assert_eq!(config.retention_interval, Duration::from_secs(60));
    assert_eq!(config.limits.message_bytes_max, 65_536);
    assert_eq!(config.limits.subscriptions_per_connection_max, 128);
    assert_eq!(config.limits.stall_seconds, 60);
    assert_eq!(config.channels.outside.subscribe, Access::NOBODY);
    assert!(
        config
            .channels
            .of(&ChannelName::parse("a:b").unwrap())
            .is_none()
    );
    assert!(!config.node_name.is_empty() && config.node_name.len() <= NODE_NAME_BYTES_MAX);
    assert_eq!(config.remarks().len(), 2);
}

/// As from an environment whose variables are set to nothing.
const EMPTY: [&str; 7] = [
    "--node-name=",
    "--api-key=",
    "--listen=",
    "--drain-seconds=",
    "--allowed-origins=",
    "--retention-interval=",
    "--config=",
];

#[test]
fn a_flag_wins_over_the_file() {
    let file = r#"
        listen = "127.0.0.1:1"
        node_name = "from-file"
        api_key = "0123456789abcdef"
        dev = true
        drain_seconds = 3
        allowed_origins = ["https://a.example"]
    "#;
    let both = config(
        &[
            "--listen",
            "127.0.0.1:2",
            "--dev=false",
            "--drain-seconds",
            "0",
        ],
        file,
    );
    let both = both.unwrap();
    assert_eq!(both.listen.port(), 2);
    assert!(!both.dev);
    assert_eq!(both.drain, Duration::ZERO);
    assert_eq!(both.node_name, "from-file");
    assert_eq!(both.api_key.as_ref().unwrap().reveal(), "0123456789abcdef");
    assert_eq!(
        both.allowed_origins,
        AllowedOrigins::These(vec!["https://a.example".to_owned()])
    );
    let empty = config(&EMPTY, file).unwrap();
    assert_eq!(
        (empty.node_name.as_str(), empty.listen.port()),
        ("from-file", 1)
    );
    assert_eq!(
        (empty.drain, empty.allowed_origins),
        (Duration::from_secs(3), both.allowed_origins)
    );
}

#[test]
fn dev_is_for_loopback_only() {
    let open = config(&["--dev"], "").unwrap();
    assert!(open.dev);
    assert_eq!(open.channels.outside.publish, Access::ANYONE);
    assert!(
        open.channels
            .of(&ChannelName::parse("a:b").unwrap())
            .is_some()
    );
    for loopback in ["127.0.0.9:0", "[::1]:8000", "localhost:8000"] {
        assert!(
            config(&["--dev", "--listen", loopback], "").is_ok(),
            "{loopback}"
        );
    }
    for public in ["0.0.0.0:8000", "[::]:8000", "192.168.0.1:80"] {
        refused(
            &["--dev", "--listen", public],
            "",
            &["--dev", public, "127.0.0.1"],
        );
        assert!(config(&["--listen", public], "").is_ok(), "{public}");
    }
    assert!(Flags::try_parse_from(["fanfare", "--dev=perhaps"]).is_err());
}

#[test]
fn secrets_are_long_and_never_shown() {
    refused(&["--api-key", "hidden"], "", &["api_key", "16"]);
    refused(&[], "token_secret = \"hidden\"", &["token_secret", "16"]);
    refused(&["--api-key", "hidden0123456789\nx"], "", &["api_key"]);
    refused(&["--postgres", "hidden"], "", &["postgres://"]);
    refused(&["--redis", "hidden"], "", &["redis://"]);
    refused(&["--redis", "rediss://:hidden@h"], "", &["TLS"]);
    let sentinels = "redis+sentinel://:hidden@h:1,h:2";
    refused(&["--redis", sentinels], "", &["MASTER_NAME"]);
    let cluster = "redis+cluster://:hidden@h:1/3";
    refused(
        &["--redis", cluster],
        "",
        &["redis+cluster://", "no database"],
    );
    let flags = [
        "--api-key=hidden-hidden-hidden",
        "--token-secret=hidden-hidden-hidden",
        "--postgres=postgres://u:hidden@h/d",
        "--redis=redis://u:hidden@h",
    ];
    let config = config(&flags, "").unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
    assert_eq!(config.redis.unwrap().reveal(), "redis://u:hidden@h");
    let settings = Flags::try_parse_from(std::iter::once("fanfare").chain(flags))
        .unwrap()
        .settings;
    assert!(!format!("{settings:?}").contains("hidden"));
}

#[test]
fn values_out_of_bounds_are_named() {
    refused(&["--listen", "8000"], "", &["listen", "127.0.0.1:8000"]);
    refused(
        &["--listen", "example.com:80"],
        "",
        &["listen", "example.com:80"],
    );
    refused(&[], "data = \"\"", &["data"]);
    refused(&["--node-name", "two words"], "", &["node_name"]);
    refused(&["--node-name", &"x".repeat(65)], "", &["node_name", "64"]);
    refused(
        &["--drain-seconds", "3601"],
        "",
        &["drain_seconds", "0 to 3600"],
    );
    refused(&["--drain-seconds", "soon"], "", &["drain_seconds", "soon"]);
    refused(&[], "message_bytes_max = 0", &["message_bytes_max", "1 to"]);
    refused(&[], "message_bytes_max = 99999999", &["message_bytes_max"]);
    refused(&[], "max_connections = 0", &["max_connections"]);
    refused(
        &[],
        "subscriptions_per_connection_max = 0",
        &["subscriptions_per_connection_max"],
    );
    refused(
        &["--retention-interval", "1"],
        "",
        &["retention_interval", "60s"],
    );
    refused(
        &["--retention-interval", "99ms"],
        "",
        &["retention_interval", "100ms"],
    );
    refused(&[], "token_secret = \"secret\"", &["token_secret", "16"]);
    refused(&[], "dev = true\napi_key = \"\"", &["api_key", "1 bytes"]);
    refused(&["--log-format", "xml"], "", &["log_format", "json"]);
    refused(&["--log-level", "loud"], "", &["log_level", "debug"]);
    for wrong in [
        "example.com",
        "https://example.com/",
        "https://",
        "https://*.example.com",
        "null",
    ] {
        refused(
            &["--allowed-origins", wrong],
            "",
            &["allowed_origins", wrong],
        );
    }
}

#[test]
fn origins_are_listed_or_all() {
    let origins = |text: &str| {
        config(&["--allowed-origins", text], "")
            .unwrap()
            .allowed_origins
    };
    let two = ["https://a.example", "http://localhost:5173"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        origins("https://A.example,http://localhost:5173"),
        AllowedOrigins::These(two)
    );
    assert_eq!(origins("*"), AllowedOrigins::Any);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let settings = Settings {
        config: Some("/no/such/file.toml".into()),
        ..Settings::default()
    };
    let error = Config::load(settings).unwrap_err().to_string();
    assert!(error.contains("/no/such/file.toml"), "{error}");
}

#[test]
fn the_pace_of_newcomers_follows_the_threads() {
    let pace = |flags: &[&str], file: &str| {
        let limits = config(flags, file).unwrap().limits;
        (limits.connections_per_second, limits.connections_burst)
    };
    assert_eq!(pace(&["--threads", "3"], ""), (3_000, 6_000));
    assert_eq!(pace(&[], "connections_per_second = 50"), (50, 100));
    let both = ["--connections-per-second", "50", "--connections-burst", "7"];
    assert_eq!(pace(&both, ""), (50, 7));
    assert_eq!(pace(&[], "connections_per_second = 0").0, 0);
    refused(&[], "connections_burst = 0", &["connections_burst"]);
    refused(&["--stall-seconds", "0"], "", &["stall_seconds", "1 to"]);
}

#[test]
fn socket_io_is_as_its_own_server_unless_told_otherwise() {
    let plain = config(&[], "").unwrap();
    assert!(plain.socketio.recovery);
    assert_eq!(
        plain.socketio.heartbeat,
        fanfare_gateway::socketio::Heartbeat::default()
    );
    assert_eq!(plain.advertise, None);
    let file =
        "advertise = \"http://10.0.0.1:80/\"\n[socketio]\nping_interval_ms = 300\nrecovery = false";
    let told = config(&[], file).unwrap();
    assert!(!told.socketio.recovery);
    assert_eq!(told.socketio.heartbeat.interval, Duration::from_millis(300));
    assert_eq!(told.advertise.as_deref(), Some("http://10.0.0.1:80"));
    refused(
        &[],
        "[socketio]\nping_timeout_ms = 1",
        &["socketio.ping_timeout_ms", "100"],
    );
    for wrong in [
        "10.0.0.1:80",
        "https://a:1",
        "http://a",
        "http://a:1/b",
        "http://a@b:1",
    ] {
        refused(&["--advertise", wrong], "", &["advertise", wrong]);
    }
}
