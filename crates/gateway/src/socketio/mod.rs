//! Socket.IO 4 (its protocol 5, on Engine.IO 4) at `/socket.io/`.
//!
//! | module | subject |
//! | --- | --- |
//! | [`app`], [`events`] | what an app behind a namespace builds on |

pub mod app;
pub mod events;

pub use app::{
    AskError, Client, EmitError, Gone, Handshake, Headers, JoinError, Joined, Keep, Lost,
    Namespace, Resumed,
};
pub use events::{Ack, Answer, ArgError, Args, Events, Incoming};
