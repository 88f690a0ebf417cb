//! The Centrifuge client protocol in Protobuf, from outside: against frames of the official client, and against any bytes.

mod allocations;
mod properties;
mod proto;
mod vectors;
