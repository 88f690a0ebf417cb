//! Who is who: codes of rooms, visitors, and what they are called in a room.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fanfare_gateway::token::ConnectionClaims;
use fanfare_wire::ChannelName;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::failure::Failure;

/// Letters and digits that are not taken for each other. 32 of them: five random bits each.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH: usize = 8;

/// Lengths of a `resumeKey` that is accepted, in bytes.
pub(crate) const RESUME_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// The code of a room: 40 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RoomCode([u8; CODE_LENGTH]);

/// What a member is called in one room, the `oderId`: says nothing of the user or the key that it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MemberId(String);

/// Who has connected.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// This connection.
    pub(crate) session: Uuid,
    /// The user of a valid token.
    pub(crate) user: Option<User>,
    /// What makes a guest the same one after a reconnect.
    pub(crate) resume_key: String,
    /// Where from, as the limits see it.
    pub(crate) address: String,
}

/// A user, from a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    /// What the token says, to be looked at again.
    pub(crate) claims: Arc<ConnectionClaims>,
}

impl RoomCode {
    /// Draws one.
    pub(crate) fn random() -> Result<Self, Failure> {
        let bytes: [u8; CODE_LENGTH] = random_bytes()?;
        Ok(Self(bytes.map(|byte| ALPHABET[usize::from(byte % 32)])))
    }

    /// Reads one; small letters are taken for capitals.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; CODE_LENGTH] = text.as_bytes().try_into().ok()?;
        let upper = bytes.map(|byte| byte.to_ascii_uppercase());
        upper
            .iter()
            .all(|byte| ALPHABET.contains(byte))
            .then_some(Self(upper))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The channel of the room.
    pub(crate) fn channel(&self) -> ChannelName {
        channel(&format!("watch:{self}"))
    }
}

impl fmt::Display for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RoomCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl MemberId {
    /// What a user is called in a room.
    pub(crate) fn of_user(room: RoomCode, user: &str) -> Self {
        Self::of(room, "user", user)
    }

    /// What the guest with this key is called in a room.
    pub(crate) fn of_guest(room: RoomCode, resume_key: &str) -> Self {
        Self::of(room, "guest", resume_key)
    }

    fn of(room: RoomCode, kind: &str, name: &str) -> Self {
        const BYTES: usize = 16;
        let hash = sha256(&format!("fanfare watch {kind} {room} {name}"));
        Self(URL_SAFE_NO_PAD.encode(&hash[..BYTES]))
    }

    /// Reads one, as a client names it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_one = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        is_one.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The channel for what only this member is told.
    pub(crate) fn channel(&self) -> ChannelName {
        channel(&format!("watch.member:{}", self.0))
    }
}

impl Visitor {
    /// What the visitor is called in a room.
    pub(crate) fn member(&self, room: RoomCode) -> MemberId {
        match &self.user {
            Some(user) => MemberId::of_user(room, &user.id),
            None => MemberId::of_guest(room, &self.resume_key),
        }
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.user.is_none()
    }
}

/// A new secret: 128 random bits as text.
pub(crate) fn secret() -> Result<String, Failure> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<16>()?))
}

/// What is kept of a secret, and compared.
pub(crate) fn fingerprint(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(secret))
}

pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::internal("the operating system gives no random bytes"))?;
    Ok(bytes)
}

fn sha256(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes())
        .as_ref()
        .to_vec()
}

fn channel(name: &str) -> ChannelName {
    // invariant: codes and members are short, and of letters, digits, `-` and `_`.
    ChannelName::parse(name).expect("the name of a room's or a member's channel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_of_the_alphabet_and_read_in_any_case() {
        let code = RoomCode::random().unwrap();
        assert_eq!(
            RoomCode::parse(&code.as_str().to_ascii_lowercase()),
            Some(code)
        );
        assert_eq!(code.channel().as_str(), format!("watch:{code}"));
        let mut alphabet = ALPHABET.to_vec();
        alphabet.dedup();
        assert_eq!(alphabet.len(), 32);
        for bad in [
            "",
            "ABCDEFG",
            "ABCDEFGHJ",
            "ABCDEFG0",
            "ABCDEFGI",
            "ABCD:FGH",
            "ÄBCDEFG",
        ] {
            assert_eq!(RoomCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_member_is_the_same_in_one_room_and_another_in_the_next() {
        let (one, two) = (RoomCode(*b"AAAAAAAA"), RoomCode(*b"BBBBBBBB"));
        let ann = MemberId::of_user(one, "ann");
        assert_eq!(ann, MemberId::of_user(one, "ann"));
        assert_ne!(ann, MemberId::of_user(two, "ann"));
        assert_ne!(ann, MemberId::of_guest(one, "ann"));
        assert_eq!(MemberId::parse(ann.as_str()), Some(ann));
        assert_eq!(MemberId::parse("a:b"), None);
    }
}
