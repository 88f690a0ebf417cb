//! What the file says of live mail.

use std::time::Duration;

use fanfare_gateway::access::{Access, ChannelRules, NameRule};
use fanfare_ingress::{https::Url, verify::token::Expected};
use fanfare_mail::{
    app::PublicUrl,
    google::{AUTH_URL, GMAIL_URL, JWKS_URL, REVOKE_URL, TOKEN_URL, UNITS_PER_MINUTE_DEFAULT},
    seal::Sealer,
    sync::{KEEP_MESSAGES, KEEP_MESSAGES_DEFAULT, POLL_AFTER_DEFAULT},
};
use serde::Deserialize;

use super::{
    ConfigError, Secret,
    check::{self, Bounds},
    duration::{DURATION_FORMAT, parse_duration},
    webhooks::Webhook,
};

const MESSAGES: Bounds = Bounds::new(
    KEEP_MESSAGES_DEFAULT as u64,
    *KEEP_MESSAGES.start() as u64,
    *KEEP_MESSAGES.end() as u64,
);
const UNITS: Bounds = Bounds::new(UNITS_PER_MINUTE_DEFAULT as u64, 100, 10_000_000);
const STREAMS: Bounds = Bounds::new(5, 1, 1000);
const SESSION_DAYS: Bounds = Bounds::new(30, 1, 400);
const POLL_AFTER_MIN: Duration = Duration::from_secs(1);
const POLL_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The options as they stand in the file's `[mail]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileMail {
    pub(super) enabled: Option<bool>,
    pub(super) public_url: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<Secret>,
    pub(super) topic: Option<String>,
    pub(super) service_account: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) encryption_key: Option<Secret>,
    #[serde(default)]
    pub(super) encryption_keys_old: Vec<Secret>,
    pub(super) keep_messages: Option<u64>,
    pub(super) units_per_minute: Option<u64>,
    pub(super) poll_after: Option<String>,
    pub(super) streams_per_user_max: Option<u64>,
    pub(super) session_days: Option<u64>,
    pub(super) auth_url: Option<String>,
    pub(super) token_url: Option<String>,
    pub(super) revoke_url: Option<String>,
    pub(super) gmail_url: Option<String>,
    pub(super) jwks_url: Option<String>,
}

/// The options of live mail, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct MailSettings {
    /// Whose mailboxes.
    pub(crate) mailboxes: Mailboxes,
    /// Messages that are kept of each mailbox, the newest.
    pub(crate) keep_messages: usize,
    /// Units of Gmail's quota that may be used for one mailbox in a minute.
    pub(crate) units_per_minute: u32,
    /// After so long without a word of Google's a mailbox is looked at.
    pub(crate) poll_after: Duration,
    /// Event streams of one user.
    pub(crate) streams_per_user_max: usize,
    /// For how many days a browser stays signed in.
    pub(crate) session_days: u32,
}

/// Whose mailboxes are served.
#[derive(Debug, Clone)]
pub(crate) enum Mailboxes {
    /// Nobody's: it is off.
    Off,
    /// One that is made up, for a first try.
    Demo,
    /// Those of Google's users.
    Gmail(Box<Gmail>),
}

/// What is known at Google.
#[derive(Debug, Clone)]
pub(crate) struct Gmail {
    /// Where browsers and Google reach this server.
    pub(crate) public_url: PublicUrl,
    /// The OAuth client.
    pub(crate) client_id: String,
    /// Its secret.
    pub(crate) client_secret: Secret,
    /// What Gmail publishes into.
    pub(crate) topic: String,
    /// Whose tokens are accepted with notifications.
    pub(crate) expected: Expected,
    /// What tokens are sealed with.
    pub(crate) encryption_key: Secret,
    /// What they were sealed with before.
    pub(crate) encryption_keys_old: Vec<Secret>,
    /// Google's addresses.
    pub(crate) auth_url: Url,
    pub(crate) token_url: Url,
    pub(crate) revoke_url: Url,
    pub(crate) gmail_url: Url,
    pub(crate) jwks_url: Url,
}

/// From the environment or flags, before the file.
#[derive(Debug, Default)]
pub(super) struct MailFlags {
    pub(super) client_secret: Option<Secret>,
    pub(super) encryption_key: Option<Secret>,
}

impl MailSettings {
    /// Whether it is served.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self.mailboxes, Mailboxes::Off)
    }
}

/// Checks and completes what the file says. What it does not say is off, or a demonstration with `dev`.
pub(super) fn resolve(
    file: FileMail,
    flags: MailFlags,
    dev: bool,
) -> Result<MailSettings, ConfigError> {
    let keep_messages = (None, file.keep_messages);
    let units = (None, file.units_per_minute);
    let streams = (None, file.streams_per_user_max);
    let session_days = (None, file.session_days);
    Ok(MailSettings {
        keep_messages: check::size(&setting("keep_messages"), keep_messages, MESSAGES)?,
        units_per_minute: check::small(&setting("units_per_minute"), units, UNITS)?,
        poll_after: poll_after(file.poll_after.as_deref())?,
        streams_per_user_max: check::size(&setting("streams_per_user_max"), streams, STREAMS)?,
        session_days: check::small(&setting("session_days"), session_days, SESSION_DAYS)?,
        mailboxes: mailboxes(file, flags, dev)?,
    })
}

/// Refuses a source of webhooks that has the name of the app's.
pub(super) fn check_webhooks(mail: &MailSettings, webhooks: &[Webhook]) -> Result<(), ConfigError> {
    let name = fanfare_mail::WEBHOOK_SOURCE;
    if mail.is_on() && webhooks.iter().any(|webhook| webhook.name.as_str() == name) {
        let problem = format!("\"{name}\" is the mail app's; give it another name");
        return Err(ConfigError::setting("webhooks, name", problem));
    }
    Ok(())
}

/// Refuses a namespace that lets clients read others' mailboxes, or write into them.
pub(super) fn check_channels(mail: &MailSettings, rules: &ChannelRules) -> Result<(), ConfigError> {
    let name = fanfare_mail::CHANNEL_NAMESPACE;
    let Some(options) = rules.namespaces.get(name).filter(|_| mail.is_on()) else {
        return Ok(());
    };
    let open = [
        ("subscribe", options.subscribe != Access::NOBODY),
        ("publish", options.publish != Access::NOBODY),
        ("rules", options.rules.iter().any(opens)),
    ];
    match open.iter().find(|(_, is_open)| *is_open) {
        None => Ok(()),
        Some((option, _)) => Err(ConfigError::setting(
            format!("namespace \"{name}\", {option}"),
            "must be \"nobody\": each of its channels is one person's mailbox, which the mail app's tokens open",
        )),
    }
}

fn opens(rule: &NameRule) -> bool {
    let opens = |access: Option<Access>| access.is_some_and(|it| it != Access::NOBODY);
    opens(rule.subscribe) || opens(rule.publish)
}

fn setting(name: &str) -> String {
    format!("mail, {name}")
}

fn wrong(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::setting(setting(name), problem)
}

fn mailboxes(file: FileMail, flags: MailFlags, dev: bool) -> Result<Mailboxes, ConfigError> {
    let is_named = file.client_id.as_ref().is_some_and(|id| !id.is_empty());
    match file.enabled {
        Some(false) => Ok(Mailboxes::Off),
        None if !dev => Ok(Mailboxes::Off),
        _ if dev && !is_named => Ok(Mailboxes::Demo),
        _ => gmail(file, flags).map(|gmail| Mailboxes::Gmail(Box::new(gmail))),
    }
}

fn gmail(file: FileMail, flags: MailFlags) -> Result<Gmail, ConfigError> {
    let needed = |name: &str, value: Option<String>, hint: &str| {
        let value = value.filter(|value| !value.is_empty());
        value.ok_or_else(|| wrong(name, format!("is missing; {hint}")))
    };
    let secret = |name: &str, flag: Option<Secret>, file: Option<Secret>, hint: &str| {
        let is_set = |secret: &Secret| !secret.reveal().is_empty();
        let secret = flag.filter(is_set).or(file).filter(is_set);
        secret.ok_or_else(|| wrong(name, format!("is missing; {hint}")))
    };
    let public_url = needed(
        "public_url",
        file.public_url,
        "write where browsers reach this server: https://mail.example.com",
    )?;
    let public_url =
        PublicUrl::parse(&public_url).map_err(|error| wrong("public_url", error.to_string()))?;
    let client = "it is shown where the OAuth client was made (docs/gmail.md)";
    let topic = needed("topic", file.topic, "write projects/PROJECT/topics/TOPIC")?;
    let parts: Vec<&str> = topic.split('/').collect();
    if !matches!(parts[..], ["projects", project, "topics", name] if !project.is_empty() && !name.is_empty())
    {
        let problem = format!(
            "\"{}\" is not the full name of a topic; write projects/PROJECT/topics/TOPIC",
            topic.escape_default()
        );
        return Err(wrong("topic", problem));
    }
    let audience = file.audience.filter(|audience| !audience.is_empty());
    let expected = Expected {
        audience: audience.unwrap_or_else(|| public_url.join(fanfare_mail::WEBHOOK_PATH)),
        service_account: needed(
            "service_account",
            file.service_account,
            "write the account of the push subscription: push@project.iam.gserviceaccount.com",
        )?,
    };
    let encryption_key = secret(
        "encryption_key",
        flags.encryption_key,
        file.encryption_key,
        "make one with: openssl rand -base64 32",
    )?;
    let old = file.encryption_keys_old;
    check_keys(&encryption_key, &old)?;
    let url = |name: &str, value: Option<String>, default: &str| {
        let value = value.filter(|value| !value.is_empty());
        Url::parse(value.as_deref().unwrap_or(default))
            .map_err(|error| wrong(name, error.to_string()))
    };
    Ok(Gmail {
        client_id: needed("client_id", file.client_id, client)?,
        client_secret: secret(
            "client_secret",
            flags.client_secret,
            file.client_secret,
            client,
        )?,
        topic,
        expected,
        encryption_key,
        encryption_keys_old: old,
        auth_url: url("auth_url", file.auth_url, AUTH_URL)?,
        token_url: url("token_url", file.token_url, TOKEN_URL)?,
        revoke_url: url("revoke_url", file.revoke_url, REVOKE_URL)?,
        gmail_url: url("gmail_url", file.gmail_url, GMAIL_URL)?,
        jwks_url: url("jwks_url", file.jwks_url, JWKS_URL)?,
        public_url,
    })
}

fn check_keys(current: &Secret, old: &[Secret]) -> Result<(), ConfigError> {
    Sealer::new(current.reveal(), &[])
        .map_err(|error| wrong("encryption_key", error.to_string()))?;
    let old: Vec<String> = old.iter().map(|key| key.reveal().to_owned()).collect();
    Sealer::new(current.reveal(), &old)
        .map_err(|error| wrong("encryption_keys_old", error.to_string()))?;
    Ok(())
}

fn poll_after(text: Option<&str>) -> Result<Duration, ConfigError> {
    let Some(text) = text else {
        return Ok(POLL_AFTER_DEFAULT);
    };
    let problem = match parse_duration(text) {
        Some(after) if (POLL_AFTER_MIN..=POLL_AFTER_MAX).contains(&after) => return Ok(after),
        Some(_) => "must be from 1s to 1d".to_owned(),
        None => format!("\"{text}\" is not a duration; {DURATION_FORMAT}"),
    };
    Err(wrong("poll_after", problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        channels::{self, Everywhere},
        file,
    };

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn whole() -> String {
        format!(
            "[mail]\nenabled = true\npublic_url = \"https://mail.example.com/\"\nclient_id = \"id\"\n\
             client_secret = \"hidden-secret\"\ntopic = \"projects/p/topics/t\"\nservice_account = \"a@b\"\n\
             encryption_key = \"{KEY}\"\n"
        )
    }

    fn read(text: &str, dev: bool) -> Result<MailSettings, String> {
        let file = file::parse(std::path::Path::new("f.toml"), text);
        let file = file.map_err(|error| error.to_string())?;
        resolve(file.mail, MailFlags::default(), dev).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_unless_wanted_and_a_demonstration_with_dev() {
        assert!(!read("", false).unwrap().is_on());
        let demo = read("", true).unwrap();
        assert!(matches!(demo.mailboxes, Mailboxes::Demo));
        assert_eq!((demo.keep_messages, demo.streams_per_user_max), (1000, 5));
        assert_eq!(demo.poll_after, Duration::from_secs(600));
        assert!(!read("[mail]\nenabled = false", true).unwrap().is_on());
        assert!(matches!(
            read(&whole(), true).unwrap().mailboxes,
            Mailboxes::Gmail(_)
        ));
    }

    #[test]
    fn nobody_opens_mailboxes_to_others() {
        let checked = |options: &str, dev| {
            let text = format!("{}[[namespaces]]\nname = \"mail\"\n{options}\n", whole());
            let file = file::parse(std::path::Path::new("f.toml"), &text).unwrap();
            let everywhere = Everywhere::unsaid(dev);
            let rules = channels::resolve(file.channels, file.namespaces, everywhere);
            let mail = resolve(file.mail, MailFlags::default(), dev).unwrap();
            check_channels(&mail, &rules.unwrap()).map_err(|error| error.to_string())
        };
        for dev in [false, true] {
            assert_eq!(checked("history_max_count = 5", dev), Ok(()));
            let rule = "[[namespaces.rules]]\npattern = \"*\"\npublish = \"anyone\"";
            let error = checked(rule, dev).unwrap_err();
            assert!(error.starts_with("namespace \"mail\", rules"), "{error}");
            for option in ["subscribe", "publish"] {
                let error = checked(&format!("{option} = \"authenticated\""), dev).unwrap_err();
                assert!(error.contains(option), "{error}");
            }
        }
        assert!(checked("publish = \"subscriber\"", false).is_err());
    }

    #[test]
    fn what_is_not_said_is_googles() {
        let settings = read(&whole(), false).unwrap();
        let Mailboxes::Gmail(gmail) = &settings.mailboxes else {
            panic!("{settings:?}");
        };
        assert_eq!(
            gmail.expected.audience,
            "https://mail.example.com/webhooks/gmail"
        );
        assert_eq!(gmail.gmail_url.uri().host(), Some("gmail.googleapis.com"));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hidden") && !shown.contains(KEY), "{shown}");
    }

    #[test]
    fn mistakes_are_named() {
        let without = |name: &str| {
            let whole = whole();
            let lines = whole.lines().filter(|line| !line.starts_with(name));
            lines.collect::<Vec<_>>().join("\n")
        };
        for name in [
            "public_url",
            "client_secret",
            "client_id",
            "topic",
            "service_account",
            "encryption_key",
        ] {
            let error = read(&without(name), false).unwrap_err();
            assert!(
                error.starts_with(&format!("mail, {name}: is missing")),
                "{error}"
            );
        }
        let with = |line: &str| {
            let (name, _) = line.split_once(' ').unwrap();
            format!("{}\n{line}\n", without(name))
        };
        for (line, words) in [
            ("public_url = \"http://mail.example.com\"", "https://"),
            ("public_url = \"https://mail.example.com/x\"", "path"),
            ("topic = \"gmail\"", "projects/PROJECT/topics/TOPIC"),
            ("encryption_key = \"hidden\"", "openssl rand -base64 32"),
            ("encryption_keys_old = [\"hidden\"]", "encryption_keys_old"),
            ("keep_messages = 0", "10 to 5000"),
            ("streams_per_user_max = 0", "streams_per_user_max"),
            ("session_days = 1000", "session_days"),
            ("poll_after = \"soon\"", "10m"),
            ("poll_after = \"2d\"", "1s to 1d"),
            ("gmail_url = \"http://example.com\"", "gmail_url"),
            ("no_such_key = 1", "no_such_key"),
        ] {
            let words = if words == "10m" {
                "not a duration"
            } else {
                words
            };
            let error = read(&with(line), false).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
