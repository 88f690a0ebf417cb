//! The frame that a node sends to the others after a commit: one per channel and batch, with the whole payload.
//!
//! ```text
//! version u8 = 1 | epoch len u8 + bytes | lane i64 | n u64 | channel len u8 + bytes | count u32 |
//! count × ( seq u64 | id 16 bytes | time i64 | data len u32 + bytes | info len u32 + bytes | tags len u32 + bytes )
//! ```
//! Integers are little endian; an `info` or `tags` of length 0 is absent. Whoever receives a frame that does not
//! decode drops it: the sweep of the lane log brings what it meant to say.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;
use uuid::Uuid;

use crate::{ChannelName, Epoch, Json, Publication, Run, Seq};

/// The first byte of the frame.
pub const VERSION: u8 = 1;

/// A decoded hint.
#[derive(Debug, Clone)]
pub struct Hint {
    /// The lane that committed the run.
    pub lane: i64,
    /// The number of the batch in its lane.
    pub n: u64,
    /// What was committed.
    pub run: Arc<Run>,
}

/// A frame that is no hint of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("bus frame is truncated, corrupt or of another version")]
pub struct HintError;

impl Hint {
    /// Encodes the frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64 + self.run.weight());
        out.put_u8(VERSION);
        put_short(&mut out, self.run.epoch().as_str());
        out.put_i64_le(self.lane);
        out.put_u64_le(self.n);
        put_short(&mut out, self.run.channel().as_str());
        out.put_u32_le(length(self.run.publications().len()));
        for publication in self.run.publications() {
            out.put_u64_le(publication.seq.0);
            out.put_slice(publication.id.as_bytes());
            out.put_i64_le(publication.time);
            put_long(&mut out, Some(&publication.data));
            put_long(&mut out, publication.info.as_ref());
            put_long(&mut out, publication.tags.as_ref());
        }
        out.into()
    }

    /// Decodes a frame; the payloads share its bytes.
    ///
    /// # Errors
    /// [`HintError`] if the frame is anything but a whole hint of this version.
    pub fn decode(mut frame: Bytes) -> Result<Self, HintError> {
        if take_u8(&mut frame)? != VERSION {
            return Err(HintError);
        }
        let epoch = take_short(&mut frame)?;
        let epoch = Epoch::parse(text(&epoch)?).ok_or(HintError)?;
        let lane = frame.try_get_i64_le().map_err(|_| HintError)?;
        let n = frame.try_get_u64_le().map_err(|_| HintError)?;
        let channel = take_short(&mut frame)?;
        let channel = ChannelName::parse(text(&channel)?).map_err(|_| HintError)?;
        let count = frame.try_get_u32_le().map_err(|_| HintError)?;
        let mut publications = Vec::new();
        for _ in 0..count {
            publications.push(take_publication(&mut frame)?);
        }
        if !frame.is_empty() {
            return Err(HintError);
        }
        let run = Run::new(channel, epoch, publications).ok_or(HintError)?;
        Ok(Self { lane, n, run })
    }
}

pub(crate) fn length(length: usize) -> u32 {
    // Batches and payloads are limited to a few MiB where they enter.
    u32::try_from(length).unwrap_or(u32::MAX)
}

pub(crate) fn put_short(out: &mut Vec<u8>, text: &str) {
    // Names have at most 255 bytes, epochs at most 64.
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

pub(crate) fn put_long(out: &mut Vec<u8>, json: Option<&Json>) {
    let bytes = json.map_or(&[][..], Json::as_bytes);
    out.put_u32_le(length(bytes.len()));
    out.put_slice(bytes);
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, HintError> {
    std::str::from_utf8(bytes).map_err(|_| HintError)
}

pub(crate) fn take_u8(frame: &mut Bytes) -> Result<u8, HintError> {
    frame.try_get_u8().map_err(|_| HintError)
}

pub(crate) fn take(frame: &mut Bytes, length: usize) -> Result<Bytes, HintError> {
    if frame.len() < length {
        return Err(HintError);
    }
    Ok(frame.split_to(length))
}

pub(crate) fn take_short(frame: &mut Bytes) -> Result<Bytes, HintError> {
    let length = take_u8(frame)?;
    take(frame, usize::from(length))
}

pub(crate) fn take_long(frame: &mut Bytes) -> Result<Option<Json>, HintError> {
    let length = frame.try_get_u32_le().map_err(|_| HintError)?;
    let bytes = take(frame, length as usize)?;
    Ok((!bytes.is_empty()).then(|| Json::trusted(bytes)))
}

fn take_publication(frame: &mut Bytes) -> Result<Publication, HintError> {
    let seq = Seq(frame.try_get_u64_le().map_err(|_| HintError)?);
    let id = take(frame, 16)?;
    let id = Uuid::from_slice(&id).map_err(|_| HintError)?;
    let time = frame.try_get_i64_le().map_err(|_| HintError)?;
    let data = take_long(frame)?.ok_or(HintError)?;
    let info = take_long(frame)?;
    let tags = take_long(frame)?;
    Ok(Publication {
        seq,
        id,
        time,
        data,
        info,
        tags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{publication, run};

    fn hint() -> Hint {
        let mut second = publication(8);
        second.tags = Some(Json::parse(b"{\"t\":\"1\"}").unwrap());
        second.info = Some(Json::parse(b"{\"user\":\"u\"}").unwrap());
        let first = run([7]).unwrap();
        let run = Run::new(
            first.channel().clone(),
            first.epoch().clone(),
            vec![publication(7), second],
        );
        Hint {
            lane: 3,
            n: 99,
            run: run.unwrap(),
        }
    }

    #[test]
    fn a_hint_survives_the_wire() {
        let hint = hint();
        let back = Hint::decode(hint.encode()).unwrap();
        assert_eq!((back.lane, back.n), (3, 99));
        assert_eq!(back.run.publications(), hint.run.publications());
        assert_eq!(back.run.channel(), hint.run.channel());
    }

    #[test]
    fn a_hint_cut_anywhere_or_with_a_tail_is_refused() {
        let frame = hint().encode();
        for end in 0..frame.len() {
            assert!(Hint::decode(frame.slice(..end)).is_err(), "cut at {end}");
        }
        let longer = [&frame[..], b"x"].concat();
        assert!(Hint::decode(longer.into()).is_err());
    }
}
