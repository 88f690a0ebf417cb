//! Commands in Protobuf. Field numbers: `client.proto` of centrifugal/protocol.

use fanfare_wire::{
    FilterNode,
    centrifuge::{Command, ConnectRequest, Method, Payload, StreamPosition, SubscribeRequest},
};

/// Stands for bytes that are no JSON, whatever they were.
const NOT_JSON: &[u8] = b"\xff";
/// Stands for what is no filter, whatever it was.
const NO_FILTER: &[u8] = b"\xff";

/// Stands for subscribe requests in a connect that are none.
const NO_SUBS: &[u8] = b"\xff";

/// A message under construction: what has the value of nothing is left out.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            put_varint(u64::from(field) << 3, &mut self.0);
            put_varint(value, &mut self.0);
        }
        self
    }

    /// Negative ones in two's complement of 64 bits, as the encoding says.
    fn signed(self, field: u32, value: i32) -> Self {
        self.number(field, i64::from(value) as u64)
    }

    fn message(mut self, field: u32, value: &[u8]) -> Self {
        put_varint(u64::from(field) << 3 | 2, &mut self.0);
        put_delimited(value, &mut self.0);
        self
    }

    fn text(self, field: u32, value: &str) -> Self {
        match value {
            "" => self,
            value => self.message(field, value.as_bytes()),
        }
    }

    fn data(self, field: u32, data: &Payload<'_>) -> Self {
        match data {
            Payload::Missing => self,
            Payload::Json(data) => self.message(field, data.get().as_bytes()),
            Payload::NotJson => self.message(field, NOT_JSON),
        }
    }
}

/// A command with its length before it.
#[must_use]
pub fn frame(command: &Command<'_>) -> Vec<u8> {
    let Command { id, method } = command;
    let channel = |channel: &str| Message::default().text(1, channel);
    let empty = Message::default;
    let request = match method {
        Method::Pong | Method::Unknown => None,
        Method::Connect(request) => Some((4, connect(request))),
        Method::Subscribe(request) => Some((5, subscribe(request))),
        Method::Unsubscribe(request) => Some((6, channel(&request.channel))),
        Method::Publish(request) => Some((7, channel(&request.channel).data(2, &request.data))),
        Method::Presence(request) => Some((8, channel(&request.channel))),
        Method::PresenceStats(request) => Some((9, channel(&request.channel))),
        Method::History(request) => {
            let message = channel(&request.channel).signed(7, request.limit);
            let message = match request.since.as_ref().map(position) {
                Some(since) => message.message(8, &since),
                None => message,
            };
            Some((10, message.number(9, request.reverse.into())))
        }
        Method::Ping => Some((11, empty())),
        Method::Send => Some((12, empty())),
        Method::Rpc(request) => {
            let message = empty().data(1, &request.data);
            Some((13, message.text(2, &request.method)))
        }
        Method::Refresh(request) => Some((14, empty().text(1, &request.token))),
        Method::SubRefresh(request) => {
            Some((15, channel(&request.channel).text(2, &request.token)))
        }
    };
    let message = empty().number(1, u64::from(*id));
    let message = match request {
        Some((field, Message(request))) => message.message(field, &request),
        None => message,
    };
    let mut frame = Vec::new();
    put_delimited(&message.0, &mut frame);
    frame
}

fn connect(request: &ConnectRequest<'_>) -> Message {
    let message = Message::default()
        .text(1, &request.token)
        .data(2, &request.data);
    let subs = super::with_subs(&request.subs, |subs| {
        let each = subs.iter();
        let entry = |channel: &str, request| {
            let entry = Message::default().text(1, channel);
            entry.message(2, &subscribe(request).0)
        };
        each.map(|(channel, request)| entry(channel, request).0)
            .collect::<Vec<_>>()
    });
    let subs = subs.unwrap_or_else(|_| vec![NO_SUBS.to_vec()]);
    subs.iter()
        .fold(message, |message, entry| message.message(3, entry))
        .text(4, &request.name)
        .text(5, &request.version)
}

fn subscribe(request: &SubscribeRequest<'_>) -> Message {
    let message = Message::default()
        .text(1, &request.channel)
        .text(2, &request.token)
        .number(3, request.recover.into())
        .text(6, &request.epoch)
        .number(7, request.offset)
        .data(8, &request.data)
        .number(11, request.join_leave.into())
        .text(12, &request.delta);
    let message = match super::filter(&request.filter) {
        Ok(None) => message,
        Ok(Some(node)) => message.message(13, &filter(&node).0),
        Err(_) => message.message(13, NO_FILTER),
    };
    message.number(14, request.flag).signed(15, request.kind)
}

fn filter(node: &FilterNode<'_>) -> Message {
    let message = Message::default()
        .text(1, &node.op)
        .text(2, &node.key)
        .text(3, &node.cmp)
        .text(4, &node.val);
    let vals = node.vals.iter();
    let message = vals.fold(message, |message, val| message.message(5, val.as_bytes()));
    let nodes = node.nodes.iter();
    nodes.fold(message, |message, node| message.message(6, &filter(node).0))
}

fn position(position: &StreamPosition<'_>) -> Vec<u8> {
    let message = Message::default().number(1, position.offset);
    message.text(2, &position.epoch).0
}

pub(crate) fn put_delimited(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
