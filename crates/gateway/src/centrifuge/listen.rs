//! Clients that only listen. What they want to hear they say once, in a connect request: where they stand in the channels that the server
//! subscribes them to, and others that they may subscribe to. They are told `connect` first, and pushes from then on.

use fanfare_engine::hub::Context;
use fanfare_wire::centrifuge::{ConnectRequest, Disconnect, disconnects};

use super::{client::Failure, session::ClientSession};

impl ClientSession {
    /// The connect request. Nothing else is heard from such a client.
    pub(super) fn on_listen(&mut self, text: &str, cx: &mut Context<'_>) -> Result<(), Disconnect> {
        if self.client.is_some() || self.is_waiting() {
            return Ok(());
        }
        let request = ConnectRequest::parse(text).map_err(|_| disconnects::BAD_REQUEST)?;
        self.on_connect(0, request, cx)
            .map_err(Failure::into_disconnect)
    }
}
