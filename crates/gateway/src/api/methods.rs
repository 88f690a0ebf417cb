//! The methods of the server API: their names and paths, and the document that describes them.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use fanfare_wire::centrifuge::errors;

use super::{
    Answered, answer, batch, broadcast, channels, clients, failure, info, presence, publish,
    read_history, remove, revoke, understood,
};
use crate::Gateway;

/// The document that describes all of this; a test holds the methods against it.
const OPENAPI: &str = include_str!("openapi.json");

/// The methods, each at its path, and the document that describes them.
pub(crate) fn routes() -> Router<Arc<Gateway>> {
    let methods = Method::ALL
        .into_iter()
        .fold(Router::new(), |routes, method| {
            let handler = move |State(gateway): State<Arc<Gateway>>,
                                headers: HeaderMap,
                                body: Bytes| async move {
                match method.run(&gateway, &headers, &body).await {
                    Some(result) => answer(result),
                    None => failure(StatusCode::BAD_REQUEST, errors::BAD_REQUEST),
                }
            };
            routes.route(&format!("/{}", method.name()), post(handler))
        });
    let batch = post(batch::batch).layer(DefaultBodyLimit::max(batch::BATCH_BYTES_MAX));
    methods.route("/batch", batch)
}

/// `GET /api/openapi.json`: the server API in the words of OpenAPI 3.1. It is the same for every server, so that it asks for no key.
pub(crate) async fn openapi() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], OPENAPI).into_response()
}

/// What the application's servers can ask for; `batch` asks for several of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Publish,
    Broadcast,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Refresh,
    Presence,
    PresenceStats,
    History,
    HistoryRemove,
    Channels,
    Info,
    Revoke,
}

impl Method {
    /// All of them.
    const ALL: [Self; 13] = [
        Self::Publish,
        Self::Broadcast,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Disconnect,
        Self::Refresh,
        Self::Presence,
        Self::PresenceStats,
        Self::History,
        Self::HistoryRemove,
        Self::Channels,
        Self::Info,
        Self::Revoke,
    ];

    /// Its name in addresses and batches.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Disconnect => "disconnect",
            Self::Refresh => "refresh",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::HistoryRemove => "history_remove",
            Self::Channels => "channels",
            Self::Info => "info",
            Self::Revoke => "revoke",
        }
    }

    /// The method of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Does what is asked in `body`, in a request with these headers.
    pub(super) async fn run(self, gateway: &Gateway, headers: &HeaderMap, body: &[u8]) -> Answered {
        match self {
            Self::Publish => publish(gateway, body).await,
            Self::Broadcast => broadcast(gateway, body).await,
            Self::Subscribe => clients::subscribe(gateway, body).await,
            Self::Unsubscribe => clients::unsubscribe(gateway, body).await,
            Self::Disconnect => clients::disconnect(gateway, body).await,
            Self::Refresh => clients::refresh(gateway, body).await,
            Self::Presence => presence::presence(gateway, body).await,
            Self::PresenceStats => presence::presence_stats(gateway, body).await,
            Self::History => Some(read_history(gateway, understood(body)?).await),
            Self::HistoryRemove => remove::history_remove(gateway, body).await,
            Self::Channels => channels::channels(gateway, headers, body).await,
            Self::Info => Some(info(gateway)),
            Self::Revoke => revoke(gateway, body).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_is_described_and_nothing_else() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<&str> = paths.keys().map(|path| &path["/api/".len()..]).collect();
        let names = Method::ALL.map(Method::name);
        let served: BTreeSet<&str> = names.into_iter().chain(["batch"]).collect();
        assert_eq!(described, served);
        for name in names {
            assert_eq!(Method::named(name).map(Method::name), Some(name));
        }
        assert_eq!(Method::named("batch"), None, "a batch has no batches");
    }
}
