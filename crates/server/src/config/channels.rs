//! What the file says of channels and namespaces.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use fanfare_gateway::access::{Access, ChannelOptions, ChannelRules, Proxied, RESERVED_NAMESPACE};
use fanfare_wire::ChannelName;
use serde::Deserialize;

use super::{
    ConfigError,
    duration::{DURATION_FORMAT, parse_duration},
};

/// Longest name of a namespace in bytes.
const NAMESPACE_BYTES_MAX: usize = 64;

/// Shortest age that publications can be kept for.
const AGE_MIN: Duration = Duration::from_secs(1);

/// The options as they stand in the file's `[channels]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileChannels {
    subscribe: Option<Access>,
    publish: Option<Access>,
    history: Option<Access>,
    presence: Option<Access>,
    join_leave: Option<bool>,
    history_max_count: Option<u64>,
    history_max_age: Option<String>,
    subscribe_proxy_enabled: Option<bool>,
    sub_refresh_proxy_enabled: Option<bool>,
    publish_proxy_enabled: Option<bool>,
    allow_user_limited_channels: Option<bool>,
}

/// One of the file's `[[namespaces]]`.
// Spelled out, as unknown settings cannot be refused in a flattened struct.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileNamespace {
    name: String,
    subscribe: Option<Access>,
    publish: Option<Access>,
    history: Option<Access>,
    presence: Option<Access>,
    join_leave: Option<bool>,
    history_max_count: Option<u64>,
    history_max_age: Option<String>,
    subscribe_proxy_enabled: Option<bool>,
    sub_refresh_proxy_enabled: Option<bool>,
    publish_proxy_enabled: Option<bool>,
    allow_user_limited_channels: Option<bool>,
}

/// Checks and completes what the file says. What it does not say is refused, or open to all with `dev`.
pub(super) fn resolve(
    channels: FileChannels,
    namespaces: Vec<FileNamespace>,
    dev: bool,
) -> Result<ChannelRules, ConfigError> {
    let outside = options("channels", channels, dev)?;
    let mut by_name = BTreeMap::new();
    for namespace in namespaces {
        let FileNamespace {
            name,
            subscribe,
            publish,
            history,
            presence,
            join_leave,
            history_max_count,
            history_max_age,
            subscribe_proxy_enabled,
            sub_refresh_proxy_enabled,
            publish_proxy_enabled,
            allow_user_limited_channels,
        } = namespace;
        check_name(&name)?;
        let channels = FileChannels {
            subscribe,
            publish,
            history,
            presence,
            join_leave,
            history_max_count,
            history_max_age,
            subscribe_proxy_enabled,
            sub_refresh_proxy_enabled,
            publish_proxy_enabled,
            allow_user_limited_channels,
        };
        let options = options(
            &format!("namespace \"{name}\""),
            channels,
            dev && !is_of_app(&name),
        )?;
        if by_name.insert(name.clone(), options).is_some() {
            return Err(ConfigError::setting(
                "namespaces",
                format!("\"{name}\" is there twice"),
            ));
        }
    }
    for (name, of_app) in of_apps() {
        let options: &mut ChannelOptions = match by_name.entry(name.to_owned()) {
            Entry::Occupied(said) => said.into_mut(),
            Entry::Vacant(free) => {
                let history = Some(of_app.history);
                let unsaid = FileChannels {
                    history,
                    ..FileChannels::default()
                };
                free.insert(options("", unsaid, false)?)
            }
        };
        options.history_max_count.get_or_insert(of_app.count);
        let oldest = Duration::from_secs(of_app.days * 24 * 3600);
        options.history_max_age.get_or_insert(oldest);
    }
    let unknown = if dev {
        Some(options("", FileChannels::default(), dev)?)
    } else {
        None
    };
    Ok(ChannelRules {
        outside,
        namespaces: by_name,
        unknown,
    })
}

/// What is not said of an app's channels.
struct OfApp {
    history: Access,
    count: u64,
    days: u64,
}

/// The namespaces of the apps.
fn of_apps() -> impl Iterator<Item = (&'static str, OfApp)> {
    let watch = fanfare_watch::CHANNEL_NAMESPACES.map(|name| {
        let options = OfApp {
            history: Access::Nobody,
            count: fanfare_watch::HISTORY_COUNT_DEFAULT,
            days: fanfare_watch::HISTORY_DAYS_DEFAULT,
        };
        (name, options)
    });
    let mail = OfApp {
        // Whoever has the app's token for a mailbox goes on where the last connection ended, over any gateway.
        history: Access::Subscriber,
        count: fanfare_mail::HISTORY_COUNT_DEFAULT,
        days: fanfare_mail::HISTORY_DAYS_DEFAULT,
    };
    watch
        .into_iter()
        .chain([(fanfare_mail::CHANNEL_NAMESPACE, mail)])
}

/// Whether the channels of a namespace are an app's: what is not said of them is refused, with `dev` too.
fn is_of_app(name: &str) -> bool {
    of_apps().any(|(app, _)| app == name)
}

fn options(place: &str, file: FileChannels, dev: bool) -> Result<ChannelOptions, ConfigError> {
    let unsaid = if dev { Access::Anyone } else { Access::Nobody };
    let subscribe = file.subscribe.unwrap_or(unsaid);
    if subscribe == Access::Subscriber {
        let problem = "cannot be \"subscriber\"; write \"nobody\", \"authenticated\" or \"anyone\"";
        return Err(ConfigError::setting(format!("{place}, subscribe"), problem));
    }
    if file.history_max_count == Some(0) {
        let problem = "must be at least 1; leave it out to keep everything";
        return Err(ConfigError::setting(
            format!("{place}, history_max_count"),
            problem,
        ));
    }
    let age = |text: String| match parse_duration(&text) {
        Some(age) if age >= AGE_MIN => Ok(age),
        Some(_) => Err("must be at least 1s; leave it out to keep everything".to_owned()),
        None => Err(format!("\"{text}\" is not a duration; {DURATION_FORMAT}")),
    };
    let history_max_age = file
        .history_max_age
        .map(age)
        .transpose()
        .map_err(|problem| ConfigError::setting(format!("{place}, history_max_age"), problem))?;
    let presence = file.presence.or(dev.then_some(Access::Anyone));
    let join_leave = file.join_leave.unwrap_or(dev && presence.is_some());
    if join_leave && presence.is_none() {
        let problem = "needs presence: say with `presence` who may ask who is there";
        return Err(ConfigError::setting(
            format!("{place}, join_leave"),
            problem,
        ));
    }
    Ok(ChannelOptions {
        subscribe,
        publish: file.publish.unwrap_or(unsaid),
        history: file.history.unwrap_or(unsaid),
        presence,
        join_leave,
        history_max_count: file.history_max_count,
        history_max_age,
        proxied: Proxied {
            subscribe: file.subscribe_proxy_enabled == Some(true),
            sub_refresh: file.sub_refresh_proxy_enabled == Some(true),
            publish: file.publish_proxy_enabled == Some(true),
        },
        allow_user_limited_channels: file.allow_user_limited_channels == Some(true),
    })
}

fn check_name(name: &str) -> Result<(), ConfigError> {
    let problem = if name.is_empty() {
        "a namespace needs a name; channels outside all namespaces have their options in [channels]"
            .to_owned()
    } else if name == RESERVED_NAMESPACE {
        // Its limits would let revocations be forgotten.
        format!("\"{name}\" is the server's own")
    } else if name.len() > NAMESPACE_BYTES_MAX {
        format!("\"{name}\" is longer than {NAMESPACE_BYTES_MAX} bytes")
    } else if name.contains(':') || ChannelName::parse(name).is_err() {
        format!(
            "\"{}\" may hold printable ASCII only, without space, colon, quote and backslash",
            name.escape_default()
        )
    } else {
        return Ok(());
    };
    Err(ConfigError::setting("namespaces, name", problem))
}

#[cfg(test)]
mod tests {
    use fanfare_engine::port::Retention;

    use super::*;

    fn namespace(name: &str) -> FileNamespace {
        FileNamespace {
            name: name.to_owned(),
            subscribe: None,
            publish: Some(Access::Subscriber),
            history: None,
            presence: None,
            join_leave: None,
            history_max_count: Some(10),
            history_max_age: Some("1h".to_owned()),
            subscribe_proxy_enabled: None,
            sub_refresh_proxy_enabled: None,
            publish_proxy_enabled: None,
            allow_user_limited_channels: None,
        }
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    #[test]
    fn what_is_not_said_is_refused() {
        let rules = resolve(FileChannels::default(), vec![namespace("chat")], false).unwrap();
        let chat = rules.of(&channel("chat:1:2")).unwrap();
        assert_eq!(
            (chat.subscribe, chat.publish),
            (Access::Nobody, Access::Subscriber)
        );
        assert_eq!(
            rules.of(&channel("plain")).unwrap().subscribe,
            Access::Nobody
        );
        assert_eq!((chat.presence, chat.join_leave), (None, false));
        assert_eq!(rules.of(&channel("other:1")), None);
        assert_eq!(rules.of(&channel(":1")), None);
    }

    #[test]
    fn for_a_first_try_everything_is_open_but_what_is_said() {
        let rules = resolve(FileChannels::default(), vec![namespace("chat")], true).unwrap();
        let chat = rules.of(&channel("chat:1")).unwrap();
        assert_eq!(
            (chat.subscribe, chat.publish),
            (Access::Anyone, Access::Subscriber)
        );
        for open in ["plain", "other:1", ":1"] {
            let options = rules.of(&channel(open)).unwrap();
            assert_eq!(options.subscribe, Access::Anyone, "{open}");
            assert_eq!(options.publish, Access::Anyone, "{open}");
            assert_eq!(options.history, Access::Anyone, "{open}");
            assert_eq!(options.presence, Some(Access::Anyone), "{open}");
            assert!(options.join_leave, "{open}");
        }
    }

    #[test]
    fn only_limits_are_told_to_the_log() {
        let limited = FileChannels {
            history_max_count: Some(5),
            ..FileChannels::default()
        };
        let mut endless = namespace("endless");
        endless.history_max_count = None;
        endless.history_max_age = None;
        let rules = resolve(limited, vec![namespace("chat"), endless], false).unwrap();
        let expected = [
            Retention {
                namespace: String::new(),
                age_max: None,
                count_max: Some(5),
            },
            Retention {
                namespace: "chat".to_owned(),
                age_max: Some(Duration::from_secs(3600)),
                count_max: Some(10),
            },
        ];
        let of_no_app = |rule: &Retention| !is_of_app(&rule.namespace);
        let told: Vec<_> = rules.retention().into_iter().filter(of_no_app).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn channels_of_apps_are_closed_and_bounded_with_dev_too() {
        let mut said = namespace("watch");
        said.publish = None;
        said.history_max_count = Some(7);
        let rules = resolve(FileChannels::default(), vec![said], true).unwrap();
        for (name, count) in [("watch:ABCDEFGH", 7), ("watch.member:x", 5000)] {
            let options = rules.of(&ChannelName::parse(name).unwrap()).unwrap();
            assert_eq!(options.subscribe, Access::Nobody, "{name}");
            assert_eq!(options.publish, Access::Nobody, "{name}");
            assert_eq!(options.history, Access::Nobody, "{name}");
            assert_eq!(options.presence, None, "{name}");
            assert_eq!(options.history_max_count, Some(count), "{name}");
            assert!(options.history_max_age.is_some(), "{name}");
        }
    }

    #[test]
    fn impossible_options_are_named() {
        let check = |namespace: FileNamespace, words: &str| {
            let error = resolve(FileChannels::default(), vec![namespace], false).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        };
        check(namespace(""), "[channels]");
        check(namespace("_fanfare"), "the server's own");
        check(namespace("a:b"), "a:b");
        check(namespace("a b"), "namespaces, name");
        check(namespace(&"x".repeat(65)), "64");
        let subscribe = Some(Access::Subscriber);
        check(
            FileNamespace {
                subscribe,
                ..namespace("a")
            },
            "namespace \"a\", subscribe",
        );
        check(
            FileNamespace {
                join_leave: Some(true),
                ..namespace("a")
            },
            "namespace \"a\", join_leave",
        );
        check(
            FileNamespace {
                history_max_count: Some(0),
                ..namespace("a")
            },
            "history_max_count",
        );
        let age = |text: &str| Some(text.to_owned());
        check(
            FileNamespace {
                history_max_age: age("soon"),
                ..namespace("a")
            },
            "\"soon\"",
        );
        check(
            FileNamespace {
                history_max_age: age("1ms"),
                ..namespace("a")
            },
            "at least 1s",
        );
        let twice = resolve(
            FileChannels::default(),
            vec![namespace("a"), namespace("a")],
            false,
        );
        assert!(twice.unwrap_err().to_string().contains("twice"));
    }
}
