//! Cursors: where a page of a list has ended. Opaque to clients, as Slack's.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{failure::Failure, method::Call};

/// Longest cursor that is looked at, in bytes.
const BYTES_MAX: usize = 1_024;

/// Where the page before has ended, in words of the list's own. `kind` keeps cursors of other lists out.
///
/// # Errors
/// `invalid_cursor`.
pub(crate) fn read(call: &Call, kind: &str) -> Result<Option<String>, Failure> {
    let Some(text) = call.args.text("cursor") else {
        return Ok(None);
    };
    let read = |text: &str| {
        let text = (text.len() <= BYTES_MAX).then(|| STANDARD.decode(text).ok())??;
        let text = String::from_utf8(text).ok()?;
        let (other, place) = text.split_once(':')?;
        (other == kind && !place.contains('\0')).then(|| place.to_owned())
    };
    match read(&text) {
        Some(place) => Ok(Some(place)),
        None => Err(Failure::new("invalid_cursor")),
    }
}

/// The cursor that [`read`] reads.
pub(crate) fn write(kind: &str, place: &str) -> String {
    STANDARD.encode(format!("{kind}:{place}"))
}

/// How many are asked for: as many as the first number says if nothing is said, and never more than the second.
///
/// # Errors
/// `invalid_limit`, for what is no number of things.
pub(crate) fn limit(call: &Call, (otherwise, most): (i64, i64)) -> Result<i64, Failure> {
    // As in `page`: 0 is whatever is usual.
    let limit = call.args.int("limit")?.filter(|limit| *limit != 0);
    let limit = limit.unwrap_or(otherwise);
    match (1..=LIMIT_MAX).contains(&limit) {
        true => Ok(limit.min(most)),
        false => Err(Failure::new("invalid_limit")),
    }
}

/// Slack's own maximum; more is a mistake.
const LIMIT_MAX: i64 = 1_000;
