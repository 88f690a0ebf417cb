//! A room as it is kept, what its members may do, and how it is shown. No IO.

use fanfare_wire::{Millis, iso8601};
use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    identity::{MemberId, RoomCode},
    payload::Status,
    playback::Playback,
};

/// A room without members and commands is removed after so many milliseconds.
pub(crate) const IDLE_MAX: Millis = 24 * 3600 * 1000;

/// Longest URL of a source, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// Types of sources; the last three are SyncWatch's.
const SOURCE_KINDS: [&str; 5] = ["url", "hls", "youtube", "upload", "external"];

/// Who may control the playback, besides the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    OwnerOnly,
    All,
    Selected,
}

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Source {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) url: String,
    #[serde(rename = "durationMs", skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<Millis>,
}

/// A room, as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) code: RoomCode,
    pub(crate) name: String,
    pub(crate) owner: Option<MemberId>,
    /// Who was the owner before, and may have it back.
    pub(crate) former_owner: Option<MemberId>,
    /// What is kept of the key that makes its holder the first owner.
    pub(crate) owner_key: String,
    pub(crate) password: Option<String>,
    pub(crate) max_participants: u32,
    pub(crate) control: Control,
    pub(crate) controllers: Vec<MemberId>,
    pub(crate) guest_chat: bool,
    pub(crate) source: Option<Source>,
    pub(crate) playback: Playback,
    /// Counts changes of everything but the playback.
    pub(crate) settings: i64,
    /// Since when nobody has seen the owner.
    pub(crate) owner_absent_since: Option<Millis>,
    /// The room was told that the owner is away.
    pub(crate) owner_away_told: bool,
    pub(crate) created_at: Millis,
    pub(crate) last_activity_at: Millis,
}

/// One who is there, as others learn it; kept with the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Present {
    pub(crate) oder_id: MemberId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<String>,
    pub(crate) username: String,
    pub(crate) guest: bool,
    #[serde(default)]
    pub(crate) status: Status,
    pub(crate) joined_at: Millis,
}

/// A participant for clients.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ParticipantView {
    id: MemberId,
    oder_id: MemberId,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_name: Option<String>,
    role: &'static str,
    can_control: bool,
    status: Status,
    joined_at: String,
}

/// A room for its members.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomView {
    id: String,
    code: String,
    name: String,
    owner_id: Option<MemberId>,
    max_participants: u32,
    has_password: bool,
    playback_control: Control,
    controllers: Vec<MemberId>,
    allow_guest_chat: bool,
    source: Option<Source>,
    created_at: String,
    expires_at: String,
}

/// A playback state for clients.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlaybackView {
    room_id: String,
    source_type: Option<String>,
    source_id: Option<String>,
    is_playing: bool,
    playback_rate: f64,
    anchor_server_time_ms: Millis,
    anchor_media_time_ms: Millis,
    sequence_number: i64,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<Millis>,
}

impl Control {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OwnerOnly => "owner_only",
            Self::All => "all",
            Self::Selected => "selected",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::OwnerOnly, Self::All, Self::Selected]
            .into_iter()
            .find(|control| control.as_str() == text)
    }
}

impl Source {
    /// Checks a source. Without a type the URL decides.
    pub(crate) fn new(
        kind: Option<&str>,
        url: String,
        duration: Option<Millis>,
    ) -> Result<Self, Failure> {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let guessed = match path.to_ascii_lowercase().ends_with(".m3u8") {
            true => "hls",
            false => "url",
        };
        let kind = kind.unwrap_or(guessed);
        if !SOURCE_KINDS.contains(&kind) {
            let words = format!("source.type must be one of {}", SOURCE_KINDS.join(", "));
            return Err(Failure::payload(words));
        }
        let is_plain = url.len() <= URL_BYTES_MAX
            && url
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        // A page's player loads it: nothing but what can be fetched, and no other server by `//`.
        let is_web = ["http://", "https://"].iter().any(|scheme| {
            let rest = url.get(..scheme.len()).zip(url.get(scheme.len()..));
            rest.is_some_and(|(start, rest)| start.eq_ignore_ascii_case(scheme) && !rest.is_empty())
        });
        let is_here = url.starts_with('/') && !url.starts_with("//");
        // SyncWatch names videos of other services by an id.
        let is_id = matches!(kind, "youtube" | "upload") && !url.is_empty() && !url.contains(':');
        match is_plain && (is_web || is_here || is_id) {
            true => Ok(Self {
                kind: kind.to_owned(),
                url,
                duration,
            }),
            false => Err(Failure::payload(format!(
                "source.url must be a URL of http: or https:, or a path on this server, of at most {URL_BYTES_MAX} bytes"
            ))),
        }
    }
}

impl Room {
    pub(crate) fn is_owner(&self, member: &MemberId) -> bool {
        self.owner.as_ref() == Some(member)
    }

    /// Whether a member may control the playback.
    pub(crate) fn may_control(&self, member: &MemberId) -> bool {
        self.is_owner(member)
            || match self.control {
                Control::OwnerOnly => false,
                Control::All => true,
                Control::Selected => self.controllers.contains(member),
            }
    }

    pub(crate) fn view(&self) -> RoomView {
        RoomView {
            id: self.code.to_string(),
            code: self.code.to_string(),
            name: self.name.clone(),
            owner_id: self.owner.clone(),
            max_participants: self.max_participants,
            has_password: self.password.is_some(),
            playback_control: self.control,
            controllers: self.controllers.clone(),
            allow_guest_chat: self.guest_chat,
            source: self.source.clone(),
            created_at: iso8601(self.created_at),
            expires_at: iso8601(self.last_activity_at + IDLE_MAX),
        }
    }

    pub(crate) fn playback_view(&self) -> PlaybackView {
        let playback = &self.playback;
        PlaybackView {
            room_id: self.code.to_string(),
            source_type: self.source.as_ref().map(|source| source.kind.clone()),
            source_id: self.source.as_ref().map(|source| source.url.clone()),
            is_playing: playback.is_playing,
            playback_rate: rate(playback.rate_milli),
            anchor_server_time_ms: playback.anchor_server,
            anchor_media_time_ms: playback.anchor_media,
            sequence_number: playback.version,
            version: playback.version,
            duration_ms: playback.duration,
        }
    }

    pub(crate) fn participant(&self, present: &Present) -> ParticipantView {
        let role = match (self.is_owner(&present.oder_id), present.guest) {
            (true, _) => "owner",
            (false, true) => "guest",
            (false, false) => "participant",
        };
        ParticipantView {
            id: present.oder_id.clone(),
            oder_id: present.oder_id.clone(),
            user_id: present.user_id.clone(),
            username: present.username.clone(),
            guest_name: present.guest.then(|| present.username.clone()),
            role,
            can_control: self.may_control(&present.oder_id),
            status: present.status.shown(),
            joined_at: iso8601(present.joined_at),
        }
    }
}

impl Status {
    /// What others see.
    pub(crate) fn shown(self) -> Self {
        match self {
            Self::Invisible => Self::Offline,
            other => other,
        }
    }
}

/// A rate for clients.
pub(crate) fn rate(milli: i64) -> f64 {
    // Small enough to be exact.
    milli as f64 / 1000.0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn room() -> Room {
        let code = RoomCode::parse("ABCDEFGH").unwrap();
        Room {
            code,
            name: "Movie".to_owned(),
            owner: Some(MemberId::of_user(code, "ann")),
            former_owner: None,
            owner_key: String::new(),
            password: None,
            max_participants: 5,
            control: Control::OwnerOnly,
            controllers: Vec::new(),
            guest_chat: true,
            source: None,
            playback: Playback::new(0, None),
            settings: 0,
            owner_absent_since: None,
            owner_away_told: false,
            created_at: 0,
            last_activity_at: 0,
        }
    }

    #[test]
    fn control_is_the_owners_everyones_or_the_chosen_ones() {
        let mut room = room();
        let (ann, guest) = (
            MemberId::of_user(room.code, "ann"),
            MemberId::of_guest(room.code, "k"),
        );
        assert!(room.may_control(&ann) && !room.may_control(&guest));
        room.control = Control::All;
        assert!(room.may_control(&guest));
        room.control = Control::Selected;
        assert!(!room.may_control(&guest));
        room.controllers = vec![guest.clone()];
        assert!(room.may_control(&guest) && room.may_control(&ann));
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let mut room = room();
        room.password = Some("hash".to_owned());
        room.owner_key = "print".to_owned();
        let view = serde_json::to_value(room.view()).unwrap();
        assert_eq!(view["hasPassword"], true);
        assert_eq!(view["playbackControl"], "owner_only");
        assert_eq!(view["expiresAt"], "1970-01-02T00:00:00.000Z");
        let text = view.to_string();
        assert!(!text.contains("hash") && !text.contains("print"), "{text}");
        let playback = serde_json::to_value(room.playback_view()).unwrap();
        assert_eq!(playback["playbackRate"], 1.0);
        assert_eq!(playback["sequenceNumber"], 0);
    }

    #[test]
    fn sources_are_what_a_player_can_fetch() {
        let kind = |kind: Option<&str>, url: &str| {
            Source::new(kind, url.to_owned(), None).map(|source| source.kind)
        };
        assert_eq!(kind(None, "https://a.b/c.mp4").unwrap(), "url");
        assert_eq!(kind(None, "/media/LIVE.M3U8?t=1").unwrap(), "hls");
        assert_eq!(kind(Some("youtube"), "dQw4w9WgXcQ").unwrap(), "youtube");
        for bad in [
            "",
            "//a.b/c",
            "ftp://a",
            "data:x",
            "https://",
            "https://a b",
            "c.mp4",
        ] {
            assert!(kind(None, bad).is_err(), "{bad}");
        }
    }
}
