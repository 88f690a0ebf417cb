//! An emulation request in Protobuf: node 1, session 2, data 3.

use std::borrow::Cow;

use super::reader::{Fields, ProtobufError};
use crate::centrifuge::EmulationRequest;

/// Parses the body of a request, which is one message.
pub(in crate::centrifuge) fn parse_emulation(
    body: &[u8],
) -> Result<EmulationRequest<'_>, ProtobufError> {
    let mut request = EmulationRequest::default();
    for field in Fields::of(body) {
        let field = field?;
        match field.number {
            2 => request.session = Cow::Borrowed(field.text()?),
            3 => request.data = Cow::Borrowed(field.bytes()?),
            _ => {}
        }
    }
    Ok(request)
}
