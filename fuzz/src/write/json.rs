//! Commands in JSON.

use fanfare_wire::{
    FilterNode,
    centrifuge::{Command, ConnectRequest, Method, Payload, StreamPosition, SubscribeRequest},
};
use serde_json::Value;

/// Stands for what is no filter, whatever it was.
const NO_FILTER: &str = "false";

/// An object under construction: what has the value of nothing is left out.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn raw(mut self, name: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        match value {
            "" => self,
            value => self.raw(name, &Value::from(value).to_string()),
        }
    }

    fn number(self, name: &str, value: impl Into<i128>) -> Self {
        match value.into() {
            0 => self,
            value => self.raw(name, &value.to_string()),
        }
    }

    fn flag(self, name: &str, value: bool) -> Self {
        match value {
            false => self,
            true => self.raw(name, "true"),
        }
    }

    fn list(self, name: &str, values: &[String]) -> Self {
        match values {
            [] => self,
            values => self.raw(name, &format!("[{}]", values.join(","))),
        }
    }

    fn data(self, data: &Payload<'_>) -> Self {
        match data {
            Payload::Json(data) => self.raw("data", data.get()),
            Payload::Missing | Payload::NotJson => self,
        }
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The line of a command. Bytes that are no JSON cannot be said, nor requests in a connect that are none.
#[must_use]
pub fn line(command: &Command<'_>) -> String {
    let Command { id, method } = command;
    let start = Object::new().number("id", *id);
    let channel = |channel: &str| Object::new().text("channel", channel);
    let (name, request) = match method {
        Method::Pong => return "{}".to_owned(),
        Method::Unknown => return start.end(),
        Method::Ping => ("ping", Object::new()),
        Method::Send => ("send", Object::new()),
        Method::Connect(request) => ("connect", connect(request)),
        Method::Subscribe(request) => ("subscribe", subscribe(request)),
        Method::Unsubscribe(request) => ("unsubscribe", channel(&request.channel)),
        Method::Publish(request) => ("publish", channel(&request.channel).data(&request.data)),
        Method::Presence(request) => ("presence", channel(&request.channel)),
        Method::PresenceStats(request) => ("presence_stats", channel(&request.channel)),
        Method::History(request) => {
            let object = channel(&request.channel)
                .number("limit", request.limit)
                .flag("reverse", request.reverse);
            let since = request.since.as_ref().map(position);
            let object = match since {
                Some(since) => object.raw("since", &since),
                None => object,
            };
            ("history", object)
        }
        Method::Rpc(request) => {
            let object = Object::new().text("method", &request.method);
            ("rpc", object.data(&request.data))
        }
        Method::Refresh(request) => ("refresh", Object::new().text("token", &request.token)),
        Method::SubRefresh(request) => {
            let object = channel(&request.channel).text("token", &request.token);
            ("sub_refresh", object)
        }
    };
    start.raw(name, &request.end()).end()
}

fn connect(request: &ConnectRequest<'_>) -> Object {
    let object = Object::new()
        .text("token", &request.token)
        .data(&request.data)
        .text("name", &request.name)
        .text("version", &request.version);
    let subs = super::with_subs(&request.subs, |subs| {
        let each = subs.iter();
        let written = each.fold(Object::new(), |object, (channel, request)| {
            object.raw(channel, &subscribe(request).end())
        });
        (!subs.is_empty()).then(|| written.end())
    });
    match subs {
        Ok(Some(subs)) => object.raw("subs", &subs),
        Ok(None) | Err(_) => object,
    }
}

fn subscribe(request: &SubscribeRequest<'_>) -> Object {
    let object = Object::new()
        .text("channel", &request.channel)
        .text("token", &request.token)
        .flag("recover", request.recover)
        .number("offset", request.offset)
        .text("epoch", &request.epoch)
        .data(&request.data)
        .flag("join_leave", request.join_leave)
        .text("delta", &request.delta)
        .number("flag", request.flag)
        .number("type", request.kind);
    match super::filter(&request.filter) {
        Ok(None) => object,
        Ok(Some(node)) => object.raw("tf", &filter(&node)),
        Err(_) => object.raw("tf", NO_FILTER),
    }
}

/// A filter.
pub(super) fn filter(node: &FilterNode<'_>) -> String {
    let object = Object::new()
        .text("op", &node.op)
        .text("key", &node.key)
        .text("cmp", &node.cmp)
        .text("val", &node.val);
    let vals = node.vals.iter().map(|val| Value::from(&**val).to_string());
    let object = object.list("vals", &vals.collect::<Vec<_>>());
    let nodes: Vec<_> = node.nodes.iter().map(filter).collect();
    object.list("nodes", &nodes).end()
}

fn position(position: &StreamPosition<'_>) -> String {
    Object::new()
        .number("offset", position.offset)
        .text("epoch", &position.epoch)
        .end()
}
