//! Writes commands as a client would, in both encodings: everything that the product reads of them, and nothing else. It shares no code with
//! the decoders that it checks.

pub mod json;
pub mod protobuf;
