//! What clients want, asked of the application's own backend: who they are, and what they may do.
//!
//! One HTTP request for each event, in the shapes of Centrifugo's proxies: JSON in, and one of `result`, `error` and `disconnect`
//! out. A call is bounded in time, and each endpoint in calls at once. What a backend does not answer as agreed grants nothing.

mod call;
mod shape;

use std::{sync::Arc, time::Duration};

use hyper::header::{HeaderMap, HeaderName};

use crate::{
    https::{Client, Url},
    metrics::{Family, Sample, Samples},
};

pub(crate) use self::{
    call::{Call, Proxies},
    shape::{Asked, DISCONNECT_CODES, Granted, REASON_BYTES_MAX, Verdict},
};

/// Calls to one endpoint at once, unless it says otherwise.
pub const CALLS_DEFAULT: usize = 256;

/// What is asked of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A client without a token connects: who is it?
    Connect,
    /// What a connect granted runs out: is the client still welcome?
    Refresh,
    /// May it subscribe?
    Subscribe,
    /// May it stay subscribed?
    SubRefresh,
    /// May it publish, and what?
    Publish,
    /// Whatever it asks.
    Rpc,
}

/// Where one kind of event is asked.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The address; requests are `POST`.
    pub url: Url,
    /// How long an answer may take, the wait for a free place among [`calls_max`](Self::calls_max) included.
    pub timeout: Duration,
    /// Headers of the client's own request that are passed on.
    pub http_headers: Vec<HeaderName>,
    /// Headers that every request has.
    pub static_headers: HeaderMap,
    /// Calls at once.
    pub calls_max: usize,
    /// It is told the client's `meta`.
    pub include_connection_meta: bool,
}

/// Where events are asked; those without an endpoint are not.
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// [`Event::Connect`].
    pub connect: Option<Endpoint>,
    /// [`Event::Refresh`].
    pub refresh: Option<Endpoint>,
    /// [`Event::Subscribe`], in namespaces that say so.
    pub subscribe: Option<Endpoint>,
    /// [`Event::SubRefresh`], in namespaces that say so.
    pub sub_refresh: Option<Endpoint>,
    /// [`Event::Publish`], in namespaces that say so.
    pub publish: Option<Endpoint>,
    /// [`Event::Rpc`].
    pub rpc: Option<Endpoint>,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Connect,
        Self::Refresh,
        Self::Subscribe,
        Self::SubRefresh,
        Self::Publish,
        Self::Rpc,
    ];

    /// Its name in settings and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::SubRefresh => "sub_refresh",
            Self::Publish => "publish",
            Self::Rpc => "rpc",
        }
    }
}

impl ProxyConfig {
    fn of(&mut self, event: Event) -> Option<Endpoint> {
        match event {
            Event::Connect => self.connect.take(),
            Event::Refresh => self.refresh.take(),
            Event::Subscribe => self.subscribe.take(),
            Event::SubRefresh => self.sub_refresh.take(),
            Event::Publish => self.publish.take(),
            Event::Rpc => self.rpc.take(),
        }
    }
}

impl Proxies {
    /// What was counted, if there are endpoints.
    pub(crate) fn family(&self) -> Option<Family> {
        let mut samples: Vec<Sample> = Vec::new();
        for (event, end, count) in self.counted() {
            let labels = vec![("event", event.name().to_owned()), ("end", end.to_owned())];
            samples.push((labels, count));
        }
        (!samples.is_empty()).then_some(Family {
            name: "proxy_calls",
            help: "Calls to the application's backend, by what was asked and how it ended",
            samples: Samples::Counter(samples),
        })
    }

    /// Proxies of a node, or none. Must be called within a tokio runtime.
    pub(crate) fn start(mut config: ProxyConfig) -> Option<Arc<Self>> {
        let endpoints = Event::ALL.map(|event| config.of(event));
        let any = endpoints.iter().any(Option::is_some);
        any.then(|| Arc::new(Self::new(endpoints, Client::new())))
    }
}
