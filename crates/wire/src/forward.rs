//! The frames between two nodes, one of which commits for the other.
//!
//! ```text
//! drafts   u8 = 1 | id u64 | count u32 | count × ( channel len u8 + bytes | id 16 bytes | key len u8 + bytes |
//!          data len u32 + bytes | info len u32 + bytes | tags len u32 + bytes )
//! taken    u8 = 2 | id u64 | epoch len u8 + bytes | crowded u8 | count u32 | count × ( seq u64 | time i64 | duplicate u8 )
//! refused  u8 = 3 | id u64 | words len u8 + bytes
//! ```
//! Integers are little endian; a key, `info` or `tags` of length 0 is absent. On the way each frame stands behind its length,
//! a u32. Whoever receives one that does not decode ends the link.

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    ChannelName, Draft, Epoch, Millis, Seq,
    hint::{HintError, length, put_long, put_short, take, take_long, take_short, take_u8, text},
    shortened,
};

/// Longest text in a frame of its own, in bytes.
const WORDS_BYTES_MAX: usize = 255;

/// What nodes say to each other.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Commit these.
    Drafts {
        /// By which the answer is known.
        id: u64,
        /// What to commit, in this order.
        drafts: Vec<Draft>,
    },
    /// They are committed.
    Taken {
        /// Of the drafts.
        id: u64,
        /// In which the numbers count.
        epoch: Epoch,
        /// Drafts of several nodes meet in one of the channels.
        crowded: bool,
        /// One for each draft.
        outcomes: Vec<Numbered>,
    },
    /// They are not, as far as this node knows, and nothing behind them will be.
    Refused {
        /// Of the drafts.
        id: u64,
        /// Why.
        words: String,
    },
}

/// What a draft became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// Its number in the channel.
    pub seq: Seq,
    /// When it was committed.
    pub time: Millis,
    /// It had been committed before under the same idempotency key.
    pub duplicate: bool,
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a frame between nodes is truncated, corrupt or of another version")]
pub struct FrameError;

impl Frame {
    /// Encodes the frame, behind its length.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        out.put_u32_le(0);
        match self {
            Self::Drafts { id, drafts } => {
                out.put_u8(1);
                out.put_u64_le(*id);
                out.put_u32_le(length(drafts.len()));
                for draft in drafts {
                    put_short(&mut out, draft.channel.as_str());
                    out.put_slice(draft.id.as_bytes());
                    put_short(
                        &mut out,
                        draft.idempotency_key.as_deref().unwrap_or_default(),
                    );
                    put_long(&mut out, Some(&draft.data));
                    put_long(&mut out, draft.info.as_ref());
                    put_long(&mut out, draft.tags.as_ref());
                }
            }
            Self::Taken {
                id,
                epoch,
                crowded,
                outcomes,
            } => {
                out.put_u8(2);
                out.put_u64_le(*id);
                put_short(&mut out, epoch.as_str());
                out.put_u8(u8::from(*crowded));
                out.put_u32_le(length(outcomes.len()));
                for outcome in outcomes {
                    out.put_u64_le(outcome.seq.0);
                    out.put_i64_le(outcome.time);
                    out.put_u8(u8::from(outcome.duplicate));
                }
            }
            Self::Refused { id, words } => {
                out.put_u8(3);
                out.put_u64_le(*id);
                put_short(&mut out, shortened(words, WORDS_BYTES_MAX));
            }
        }
        let bytes = length(out.len() - 4);
        out[..4].copy_from_slice(&bytes.to_le_bytes());
        out.into()
    }

    /// Decodes what stood behind a length; the payloads share its bytes.
    ///
    /// # Errors
    /// [`FrameError`] if it is anything but a whole frame.
    pub fn decode(mut frame: Bytes) -> Result<Self, FrameError> {
        let kind = take_u8(&mut frame)?;
        let id = frame.try_get_u64_le().map_err(|_| FrameError)?;
        let decoded = match kind {
            1 => Self::Drafts {
                id,
                drafts: take_all(&mut frame, take_draft)?,
            },
            2 => {
                let epoch = take_short(&mut frame)?;
                Self::Taken {
                    id,
                    epoch: Epoch::parse(text(&epoch)?).ok_or(FrameError)?,
                    crowded: take_u8(&mut frame)? != 0,
                    outcomes: take_all(&mut frame, take_outcome)?,
                }
            }
            3 => {
                let words = take_short(&mut frame)?;
                let words = text(&words)?.to_owned();
                Self::Refused { id, words }
            }
            _ => return Err(FrameError),
        };
        match frame.is_empty() {
            true => Ok(decoded),
            false => Err(FrameError),
        }
    }
}

impl From<HintError> for FrameError {
    fn from(_: HintError) -> Self {
        Self
    }
}

fn take_all<T>(
    frame: &mut Bytes,
    take_one: impl Fn(&mut Bytes) -> Result<T, FrameError>,
) -> Result<Vec<T>, FrameError> {
    let count = frame.try_get_u32_le().map_err(|_| FrameError)?;
    // The count is not believed before the bytes are there.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take_one(frame)?);
    }
    Ok(all)
}

fn take_draft(frame: &mut Bytes) -> Result<Draft, FrameError> {
    let channel = take_short(frame)?;
    let channel = ChannelName::parse(text(&channel)?).map_err(|_| FrameError)?;
    let id = take(frame, 16)?;
    let id = Uuid::from_slice(&id).map_err(|_| FrameError)?;
    let key = take_short(frame)?;
    let key = text(&key)?;
    let data = take_long(frame)?.ok_or(FrameError)?;
    let mut draft = Draft::new(channel, id, data);
    draft.idempotency_key = (!key.is_empty()).then(|| key.to_owned());
    draft.info = take_long(frame)?;
    draft.tags = take_long(frame)?;
    Ok(draft)
}

fn take_outcome(frame: &mut Bytes) -> Result<Numbered, FrameError> {
    Ok(Numbered {
        seq: Seq(frame.try_get_u64_le().map_err(|_| FrameError)?),
        time: frame.try_get_i64_le().map_err(|_| FrameError)?,
        duplicate: take_u8(frame)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;

    fn frames() -> Vec<Frame> {
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let channel = || ChannelName::parse("room:1").unwrap();
        let mut full = Draft::new(channel(), Uuid::from_u128(7), json("[1]"));
        full.idempotency_key = Some("\0k".to_owned());
        full.info = Some(json("{}"));
        full.tags = Some(json(r#"{"event":"é"}"#));
        let outcome = |seq| Numbered {
            seq: Seq(seq),
            time: -3,
            duplicate: seq == 2,
        };
        vec![
            Frame::Drafts {
                id: 1,
                drafts: vec![full, Draft::new(channel(), Uuid::nil(), json("2"))],
            },
            Frame::Taken {
                id: u64::MAX,
                epoch: Epoch::parse("e1").unwrap(),
                crowded: true,
                outcomes: vec![outcome(1), outcome(2)],
            },
            Frame::Refused {
                id: 2,
                words: "busy".to_owned(),
            },
        ]
    }

    #[test]
    fn a_frame_survives_the_wire() {
        for frame in frames() {
            let bytes = frame.encode();
            assert_eq!(bytes.clone().get_u32_le() as usize, bytes.len() - 4);
            let back = Frame::decode(bytes.slice(4..)).unwrap();
            assert_eq!(format!("{back:?}"), format!("{frame:?}"));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_or_with_a_tail_is_refused() {
        for frame in frames() {
            let bytes = frame.encode();
            for end in 4..bytes.len() {
                assert!(Frame::decode(bytes.slice(4..end)).is_err(), "cut at {end}");
            }
            let longer = [&bytes[4..], b"x"].concat();
            assert!(Frame::decode(longer.into()).is_err());
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let words = format!("{}é", "x".repeat(254));
        let bytes = Frame::Refused { id: 1, words }.encode();
        assert!(matches!(
            Frame::decode(bytes.slice(4..)),
            Ok(Frame::Refused { words, .. }) if words.len() == 254
        ));
    }
}
