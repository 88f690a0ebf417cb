//! What the file says of the watch party.

use fanfare_engine::state::WhenAway;
use serde::Deserialize;

use super::{
    ConfigError, Secret,
    check::{Bounds, small},
};

const ROOMS_PER_HOUR: Bounds = Bounds::new(5, 1, 1_000_000);
/// Most servers of one kind that browsers are told of.
const URLS_MAX: usize = 10;

/// The options as they stand in the file's `[watch]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWatch {
    enabled: Option<bool>,
    anonymous_rooms: Option<bool>,
    rooms_per_hour: Option<u64>,
    limits_when_away: Option<LimitsWhenAway>,
    stun_urls: Option<Vec<String>>,
    turn_urls: Option<Vec<String>>,
    turn_secret: Option<Secret>,
}

/// What limits do while the shared state is away.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitsWhenAway {
    /// Refuse everything that is limited.
    Refuse,
    /// Each node limits alone, to its share.
    #[default]
    Local,
    /// Let everything through.
    Allow,
}

/// The options of the watch party, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct WatchSettings {
    /// It is served.
    pub(crate) enabled: bool,
    /// Rooms may be made without a token.
    pub(crate) anonymous_rooms: bool,
    /// Rooms that one user, or one address, may make in an hour.
    pub(crate) rooms_per_hour: u32,
    /// What limits do while the shared state is away.
    pub(crate) limits_when_away: WhenAway,
    /// STUN servers for voice.
    pub(crate) stun_urls: Vec<String>,
    /// TURN servers for voice.
    pub(crate) turn_urls: Vec<String>,
    /// The secret shared with the TURN servers.
    pub(crate) turn_secret: Option<Secret>,
}

/// Checks and completes what the file says. What it does not say is off, or open with `dev`.
pub(super) fn resolve(file: FileWatch, dev: bool) -> Result<WatchSettings, ConfigError> {
    let turn_urls = urls("turn_urls", file.turn_urls, &["turn:", "turns:"])?;
    let turn_secret = file
        .turn_secret
        .filter(|secret| !secret.reveal().is_empty());
    if !turn_urls.is_empty() && turn_secret.is_none() {
        let problem = "needs turn_secret: what the TURN server calls static-auth-secret";
        return Err(ConfigError::setting("watch, turn_urls", problem));
    }
    let rooms = (None, file.rooms_per_hour);
    Ok(WatchSettings {
        enabled: file.enabled.unwrap_or(dev),
        anonymous_rooms: file.anonymous_rooms.unwrap_or(dev),
        limits_when_away: match file.limits_when_away.unwrap_or_default() {
            LimitsWhenAway::Refuse => WhenAway::Refuse,
            LimitsWhenAway::Local => WhenAway::Local,
            LimitsWhenAway::Allow => WhenAway::Allow,
        },
        rooms_per_hour: small("watch, rooms_per_hour", rooms, ROOMS_PER_HOUR)?,
        stun_urls: urls("stun_urls", file.stun_urls, &["stun:", "stuns:"])?,
        turn_urls,
        turn_secret,
    })
}

fn urls(
    setting: &str,
    urls: Option<Vec<String>>,
    schemes: &[&str],
) -> Result<Vec<String>, ConfigError> {
    let urls = urls.unwrap_or_default();
    let setting = format!("watch, {setting}");
    if urls.len() > URLS_MAX {
        let problem = format!("holds more than {URLS_MAX} URLs");
        return Err(ConfigError::setting(setting, problem));
    }
    let is_url = |url: &&String| {
        schemes.iter().any(|scheme| url.starts_with(scheme))
            && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match urls.iter().find(|url| !is_url(url)) {
        Some(wrong) => Err(ConfigError::setting(
            setting,
            format!("\"{wrong}\" does not begin with {}", schemes.join(" or ")),
        )),
        None => Ok(urls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_unless_wanted_and_open_with_dev() {
        let off = resolve(FileWatch::default(), false).unwrap();
        assert!(!off.enabled && !off.anonymous_rooms);
        let open = resolve(FileWatch::default(), true).unwrap();
        assert!(open.enabled && open.anonymous_rooms);
        assert_eq!(open.rooms_per_hour, 5);
    }

    #[test]
    fn servers_are_named_as_browsers_know_them() {
        let with = |stun: &str, turn: &str, secret: Option<&str>| FileWatch {
            stun_urls: Some(vec![stun.to_owned()]),
            turn_urls: Some(vec![turn.to_owned()]),
            turn_secret: secret.map(|secret| Secret::from(secret.to_owned())),
            ..FileWatch::default()
        };
        assert!(resolve(with("stun:a:1", "turn:b:1", Some("s")), false).is_ok());
        let problem = |file| resolve(file, false).unwrap_err().to_string();
        assert!(problem(with("http://a", "turn:b", Some("s"))).contains("stun_urls"));
        assert!(problem(with("stun:a", "b:1", Some("s"))).contains("turn_urls"));
        assert!(problem(with("stun:a", "turn:b", None)).contains("turn_secret"));
    }
}
