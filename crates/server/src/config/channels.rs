//! What the file says of channels and namespaces.

mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use fanfare_gateway::access::{
    Access, ChannelOptions, ChannelRules, HISTORY_LIMIT_MAX, JoinLeavePer, Kind, NameRule, Pattern,
    Proxied, RESERVED_NAMESPACE, Rate,
};
use fanfare_wire::ChannelName;

use self::file::{DeltaType, FileKind, FilePer, FileRule};
pub(super) use self::file::{FileChannels, FileNamespace};
use super::{
    ConfigError,
    check::{self, Bounds},
    duration::{DURATION_FORMAT, parse_duration},
};

/// Longest name of a namespace in bytes.
const NAMESPACE_BYTES_MAX: usize = 64;

/// Shortest age that publications can be kept for.
const AGE_MIN: Duration = Duration::from_secs(1);

/// Most rules of one namespace: each is looked at for each command of a client, until one is for its channel.
const RULES_MAX: usize = 32;

const PUBLISHES_MAX: u64 = 100_000;

/// What holds for all channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Everywhere {
    /// Open to everybody where nothing is said.
    pub(super) dev: bool,
    /// The longest payload, in bytes.
    pub(super) message_bytes_max: usize,
}

#[cfg(test)]
impl Everywhere {
    /// What holds if nothing is said.
    pub(super) const fn unsaid(dev: bool) -> Self {
        Self {
            dev,
            message_bytes_max: 65_536,
        }
    }
}

/// Checks and completes what the file says. What it does not say is refused, or open to all with `dev`.
pub(super) fn resolve(
    channels: FileChannels,
    namespaces: Vec<FileNamespace>,
    everywhere: Everywhere,
) -> Result<ChannelRules, ConfigError> {
    let closed = Everywhere {
        dev: false,
        ..everywhere
    };
    let outside = options("channels", channels, everywhere)?;
    let mut by_name = BTreeMap::new();
    for namespace in namespaces {
        let (name, channels) = namespace.split();
        check_name(&name)?;
        let everywhere = match is_of_app(&name) {
            true => closed,
            false => everywhere,
        };
        let options = options(&format!("namespace \"{name}\""), channels, everywhere)?;
        if is_of_app(&name) && options.kind != Kind::Durable {
            let problem = "must be \"durable\": the channels are an app's, which has to find again what it has said";
            return Err(ConfigError::setting(
                format!("namespace \"{name}\", kind"),
                problem,
            ));
        }
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
                    presence: of_app.presence,
                    join_leave: of_app.presence.map(|_| true),
                    ..FileChannels::default()
                };
                free.insert(options("", unsaid, closed)?)
            }
        };
        options.by_name_only = true;
        options.history_max_count.get_or_insert(of_app.count);
        let oldest = Duration::from_secs(of_app.days * 24 * 3600);
        options.history_max_age.get_or_insert(oldest);
    }
    let unknown = match everywhere.dev {
        true => Some(options("", FileChannels::default(), everywhere)?),
        false => None,
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
    /// Who may ask who is there; who comes and goes is told then, too.
    presence: Option<Access>,
    count: u64,
    days: u64,
}

/// The namespaces of the apps.
fn of_apps() -> impl Iterator<Item = (&'static str, OfApp)> {
    let watch = fanfare_watch::CHANNEL_NAMESPACES.map(|name| {
        let options = OfApp {
            history: Access::NOBODY,
            presence: None,
            count: fanfare_watch::HISTORY_COUNT_DEFAULT,
            days: fanfare_watch::HISTORY_DAYS_DEFAULT,
        };
        (name, options)
    });
    let chat = fanfare_chat::CHANNEL_NAMESPACES.map(|name| {
        let options = OfApp {
            history: Access::NOBODY,
            // Who is in a workspace's channel is here.
            presence: (name == fanfare_chat::TEAMS).then_some(Access::SUBSCRIBER),
            count: fanfare_chat::HISTORY_COUNT_DEFAULT,
            days: fanfare_chat::HISTORY_DAYS_DEFAULT,
        };
        (name, options)
    });
    let mail = OfApp {
        // Whoever has the app's token for a mailbox goes on where the last connection ended, over any gateway.
        history: Access::SUBSCRIBER,
        presence: None,
        count: fanfare_mail::HISTORY_COUNT_DEFAULT,
        days: fanfare_mail::HISTORY_DAYS_DEFAULT,
    };
    watch
        .into_iter()
        .chain(chat)
        .chain([(fanfare_mail::CHANNEL_NAMESPACE, mail)])
}

/// Whether the channels of a namespace are an app's: what is not said of them is refused, with `dev` too.
fn is_of_app(name: &str) -> bool {
    of_apps().any(|(app, _)| app == name)
}

/// Where the file says something of channels.
struct Place<'a>(&'a str);

impl Place<'_> {
    fn setting(&self, option: &str) -> String {
        format!("{}, {option}", self.0)
    }

    fn wrong(&self, option: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::setting(self.setting(option), problem)
    }
}

fn options(
    place: &str,
    file: FileChannels,
    everywhere: Everywhere,
) -> Result<ChannelOptions, ConfigError> {
    let place = Place(place);
    let kind = match file.kind {
        None | Some(FileKind::Durable) => Kind::Durable,
        Some(FileKind::State) => {
            check_keeps_the_newest(&place, &file)?;
            Kind::State
        }
        Some(FileKind::Ephemeral) => {
            check_keeps_nothing(&place, &file)?;
            Kind::Ephemeral
        }
    };
    let dev = everywhere.dev;
    let unsaid = if dev { Access::ANYONE } else { Access::NOBODY };
    let kept = match kind {
        Kind::Durable | Kind::State => unsaid,
        Kind::Ephemeral => Access::NOBODY,
    };
    let presence = file.presence.or(dev.then_some(Access::ANYONE));
    let join_leave = file.join_leave.unwrap_or(dev && presence.is_some());
    if join_leave && presence.is_none() {
        let problem = "needs presence: say with `presence` who may ask who is there";
        return Err(place.wrong("join_leave", problem));
    }
    if file.join_leave_per.is_some() && !join_leave {
        let problem = "needs join_leave = true: otherwise nobody is told of";
        return Err(place.wrong("join_leave_per", problem));
    }
    let force_push_join_leave = file.force_push_join_leave == Some(true);
    if force_push_join_leave && !join_leave {
        let problem = "needs join_leave = true: otherwise nobody is told of";
        return Err(place.wrong("force_push_join_leave", problem));
    }
    if file.history_max_count == Some(0) {
        let problem = "must be at least 1; leave it out to keep everything";
        return Err(place.wrong("history_max_count", problem));
    }
    if file.personal_channels == Some(true) && file.allow_user_limited_channels != Some(true) {
        let problem =
            "needs allow_user_limited_channels = true, so that they are their users' alone";
        return Err(place.wrong("personal_channels", problem));
    }
    let message_bytes_max = message_bytes_max(&place, file.message_bytes_max, everywhere)?;
    Ok(ChannelOptions {
        kind,
        subscribe: subscribe(&place, file.subscribe)?.unwrap_or(unsaid),
        publish: file.publish.unwrap_or(unsaid),
        history: file.history.unwrap_or(kept),
        presence,
        join_leave,
        join_leave_per: match file.join_leave_per {
            None | Some(FilePer::Client) => JoinLeavePer::Client,
            Some(FilePer::User) => JoinLeavePer::User,
        },
        force_push_join_leave,
        recovery: file.recovery.unwrap_or(true),
        rules: rules(&place, kind, presence, file.rules)?,
        history_max_count: match kind {
            Kind::State => Some(1),
            Kind::Durable | Kind::Ephemeral => file.history_max_count,
        },
        history_max_age: age(&place, file.history_max_age)?,
        recovery_max_count: file.recovery_max_count,
        history_limit_max: history_limit_max(&place, file.history_limit_max)?,
        message_bytes_max,
        publish_rate: rate(&place, file.publishes_per_second, file.publishes_burst)?,
        fossil_deltas: match &file.allowed_delta_types {
            Some(types) => types.contains(&DeltaType::Fossil),
            None => dev && kind != Kind::State,
        },
        allow_tags_filter: file.allow_tags_filter.unwrap_or(dev && kind != Kind::State),
        proxied: Proxied {
            subscribe: file.subscribe_proxy_enabled == Some(true),
            sub_refresh: file.sub_refresh_proxy_enabled == Some(true),
            publish: file.publish_proxy_enabled == Some(true),
        },
        allow_user_limited_channels: file.allow_user_limited_channels == Some(true),
        personal_channels: file.personal_channels == Some(true),
        by_name_only: false,
    })
}

/// Refuses what is said of history where there is none: it was meant otherwise.
fn check_keeps_nothing(place: &Place<'_>, file: &FileChannels) -> Result<(), ConfigError> {
    let open = |history: Option<Access>| history.is_some_and(|it| it != Access::NOBODY);
    let said = [
        ("history", open(file.history)),
        ("recovery", file.recovery == Some(true)),
        ("history_max_count", file.history_max_count.is_some()),
        ("history_max_age", file.history_max_age.is_some()),
        ("recovery_max_count", file.recovery_max_count.is_some()),
        ("history_limit_max", file.history_limit_max.is_some()),
        ("allowed_delta_types", names_deltas(file)),
        (
            "rules, history",
            file.rules.iter().any(|rule| open(rule.history)),
        ),
    ];
    refuse_said(
        place,
        &said,
        "is for channels that keep something; leave it out, or let kind be \"durable\"",
    )
}

/// Refuses what is said of publications before the newest, and of some of them, where there is one.
fn check_keeps_the_newest(place: &Place<'_>, file: &FileChannels) -> Result<(), ConfigError> {
    let said = [
        ("recovery", file.recovery.is_some()),
        ("history_max_count", file.history_max_count.is_some()),
        ("recovery_max_count", file.recovery_max_count.is_some()),
        ("history_limit_max", file.history_limit_max.is_some()),
        ("allowed_delta_types", names_deltas(file)),
        ("allow_tags_filter", file.allow_tags_filter == Some(true)),
    ];
    refuse_said(
        place,
        &said,
        "is for channels with more than the newest publication; leave it out, or let kind be \"durable\"",
    )
}

fn names_deltas(file: &FileChannels) -> bool {
    let types = file.allowed_delta_types.as_ref();
    types.is_some_and(|types| !types.is_empty())
}

fn refuse_said(place: &Place<'_>, said: &[(&str, bool)], problem: &str) -> Result<(), ConfigError> {
    match said.iter().find(|(_, said)| *said) {
        None => Ok(()),
        Some((option, _)) => Err(place.wrong(option, problem)),
    }
}

fn subscribe(place: &Place<'_>, said: Option<Access>) -> Result<Option<Access>, ConfigError> {
    if said.is_some_and(Access::names_subscribers) {
        let problem = "cannot be \"subscriber\"; write \"nobody\", \"authenticated\", \"anonymous\" or \"anyone\"";
        return Err(place.wrong("subscribe", problem));
    }
    Ok(said)
}

fn rules(
    place: &Place<'_>,
    kind: Kind,
    presence: Option<Access>,
    file: Vec<FileRule>,
) -> Result<Vec<NameRule>, ConfigError> {
    if file.len() > RULES_MAX {
        let problem = format!("more than {RULES_MAX}");
        return Err(place.wrong("rules", problem));
    }
    let rule = |rule: FileRule| {
        let FileRule {
            pattern,
            subscribe: may_subscribe,
            publish,
            history,
            presence: may_ask,
        } = rule;
        let of = place.setting(&format!("rule \"{}\"", pattern.escape_default()));
        let here = Place(&of);
        let pattern = Pattern::parse_of_users(&pattern)
            .map_err(|error| here.wrong("pattern", error.to_string()))?;
        if may_ask.is_some() && presence.is_none() {
            let problem = "needs presence in the namespace, which says whether anybody is counted";
            return Err(here.wrong("presence", problem));
        }
        let subscribe = subscribe(&here, may_subscribe)?;
        if [subscribe, publish, history, may_ask] == [None; 4] {
            let problem = "says nothing; add subscribe, publish, history or presence";
            return Err(ConfigError::setting(of.clone(), problem));
        }
        Ok(NameRule {
            pattern,
            subscribe,
            publish,
            history: history.filter(|_| kind != Kind::Ephemeral),
            presence: may_ask,
        })
    };
    file.into_iter().map(rule).collect()
}

fn age(place: &Place<'_>, said: Option<String>) -> Result<Option<Duration>, ConfigError> {
    let Some(text) = said else {
        return Ok(None);
    };
    let problem = match parse_duration(&text) {
        Some(age) if age >= AGE_MIN => return Ok(Some(age)),
        Some(_) => "must be at least 1s; leave it out to keep everything".to_owned(),
        None => format!("\"{text}\" is not a duration; {DURATION_FORMAT}"),
    };
    Err(place.wrong("history_max_age", problem))
}

fn history_limit_max(place: &Place<'_>, said: Option<u64>) -> Result<usize, ConfigError> {
    let max = HISTORY_LIMIT_MAX as u64;
    let bounds = Bounds::new(max, 1, max);
    check::size(&place.setting("history_limit_max"), (None, said), bounds)
}

fn message_bytes_max(
    place: &Place<'_>,
    said: Option<u64>,
    everywhere: Everywhere,
) -> Result<Option<usize>, ConfigError> {
    let max = everywhere.message_bytes_max as u64;
    let of_one = |said| {
        let bounds = Bounds::new(max, 1, max);
        let setting = place.setting("message_bytes_max");
        check::size(&setting, (None, Some(said)), bounds)
    };
    said.map(of_one).transpose()
}

fn rate(
    place: &Place<'_>,
    per_second: Option<u64>,
    burst: Option<u64>,
) -> Result<Option<Rate>, ConfigError> {
    let Some(per_second) = per_second else {
        return match burst {
            None => Ok(None),
            Some(_) => Err(place.wrong("publishes_burst", "needs publishes_per_second")),
        };
    };
    let bounds = |default| Bounds::new(default, 1, PUBLISHES_MAX);
    let setting = place.setting("publishes_per_second");
    let values = (None, Some(per_second));
    let rate = Rate {
        per_second: check::small(&setting, values, bounds(1))?,
        burst: check::small(
            &place.setting("publishes_burst"),
            (None, burst),
            bounds(per_second),
        )?,
    };
    Ok(Some(rate))
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
