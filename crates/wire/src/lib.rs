//! What goes over a wire, and nothing else: names, positions, publications, frames and codecs.
//!
//! No IO, no clock, no randomness and no async in here, so that every other floor, the simulation and the
//! fuzzers can share it. Start with [`Publication`], then [`Run`], the unit in which publications travel.
//!
//! | module | subject |
//! | --- | --- |
//! | [`name`] | channel names and their namespaces |
//! | [`position`] | epoch and sequence: where a reader stands |
//! | [`publication`] | a message before and after its commit |
//! | [`run`] | consecutive publications of one channel, encoded once per wire form |
//! | [`PerForm`] | a cell for each wire form |
//! | [`hint`] | the frame that nodes send each other over the bus |
//! | [`forward`] | the frames between two nodes, one of which commits for the other |
//! | [`fossil`] | what one text is when another is known |
//! | [`tags`] | the tags of a publication, and filters of them |
//! | [`iso8601`] | times as text |
//! | [`shortened`] | texts within bounds |
//! | [`news`] | what is told now or never: typing, joins, leaves |
//! | [`ws`] | RFC 6455 server side framing |
//! | [`centrifuge`] | the Centrifuge client protocol in JSON and Protobuf |
//! | [`sse`] | server-sent events and their positions |
//! | [`engineio`] | the packets of Engine.IO 4, on WebSocket frames and in the payloads of long-polling |
//! | [`socketio`] | the packets of Socket.IO 5, its wire forms and its positions |

pub mod centrifuge;
pub mod engineio;
pub mod forward;
pub mod fossil;
pub mod hint;
mod instant;
pub mod name;
pub mod news;
mod per_form;
pub mod position;
pub mod publication;
pub mod run;
#[cfg(feature = "sabotage")]
pub mod sabotage;
pub mod socketio;
pub mod sse;
pub mod tags;
mod text;
pub mod ws;

pub use instant::iso8601;
pub use name::{ChannelName, NameError};
pub use news::{News, NewsBody};
pub use per_form::PerForm;
pub use position::{Epoch, Seq};
pub use publication::{Draft, Json, JsonError, Millis, Publication};
pub use run::{Encoded, FORMS_MAX, Form, FormId, Run};
pub use tags::{FilterError, FilterNode, Tags, TagsFilter};
pub use text::shortened;

/// Appends formatted text to a frame.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // invariant: writing to a vector cannot fail
    let _ = out.write_fmt(text);
}
