//! Commands in Protobuf. The fields that this server does not read are passed over, as are those that it does not know.

use std::{borrow::Cow, collections::BTreeMap};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::reader::{Field, Fields, ProtobufError, take_delimited};
use crate::centrifuge::{
    Command, ConnectRequest, FilterText, HistoryRequest, Method, Payload, PresenceRequest,
    PublishRequest, RefreshRequest, RpcRequest, StreamPosition, SubRefreshRequest, Subs,
    SubscribeRequest, UnsubscribeRequest, command::Wire,
};

/// Most commands in one frame: as many as a frame has room for if they say something. A frame is work that is done at
/// once, and in this encoding a command can be five bytes long.
pub const COMMANDS_MAX: usize = 4096;

/// Takes the commands out of a frame, each preceded by its length; nothing more after an error.
#[derive(Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Commands<'a> {
    /// The commands of the frame with this payload.
    #[must_use]
    pub fn of(frame: &'a [u8]) -> Self {
        Self {
            rest: frame,
            taken: 0,
        }
    }

    /// What was not taken yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.taken += 1;
        let command = match self.taken > COMMANDS_MAX {
            true => Err(ProtobufError::TooMany),
            false => take_delimited(&mut self.rest).and_then(parse),
        };
        if command.is_err() {
            self.rest = &[];
        }
        Some(command)
    }
}

fn parse(message: &[u8]) -> Result<Command<'_>, ProtobufError> {
    let mut wire = Wire::default();
    merge(&mut wire, message)?;
    match (wire.id, wire.into_method()) {
        (0, Method::Unknown) => Ok(Command {
            id: 0,
            method: Method::Pong,
        }),
        (id, method) => Command::new(id, method).ok_or(ProtobufError::NoId),
    }
}

/// A message of the protocol. What stands in it twice is merged, as the encoding says: the last one counts.
trait Message<'a>: Default {
    /// Takes one field in.
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError>;
}

fn merge<'a>(message: &mut impl Message<'a>, bytes: &'a [u8]) -> Result<(), ProtobufError> {
    Fields::of(bytes).try_for_each(|field| message.take(&field?))
}

/// Takes a field that is a message itself.
fn merge_into<'a, M: Message<'a>>(
    slot: &mut Option<M>,
    field: &Field<'a>,
) -> Result<(), ProtobufError> {
    merge(slot.get_or_insert_default(), field.bytes()?)
}

impl<'a> Message<'a> for Wire<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.id = field.uint32()?,
            4 => {
                merge_into(&mut self.connect, field)?;
                if let Some(connect) = &mut self.connect {
                    connect.subs = Subs::Protobuf(field.bytes()?);
                }
            }
            5 => merge_into(&mut self.subscribe, field)?,
            6 => merge_into(&mut self.unsubscribe, field)?,
            7 => merge_into(&mut self.publish, field)?,
            8 => merge_into(&mut self.presence, field)?,
            9 => merge_into(&mut self.presence_stats, field)?,
            10 => merge_into(&mut self.history, field)?,
            11 => self.ping = Some(field.bytes().map(|_| IgnoredAny)?),
            12 => self.send = Some(field.bytes().map(|_| IgnoredAny)?),
            13 => merge_into(&mut self.rpc, field)?,
            14 => merge_into(&mut self.refresh, field)?,
            15 => merge_into(&mut self.sub_refresh, field)?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for ConnectRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.token = Cow::Borrowed(field.text()?),
            2 => self.data = payload(field.bytes()?),
            4 => self.name = Cow::Borrowed(field.text()?),
            5 => self.version = Cow::Borrowed(field.text()?),
            _ => {}
        }
        Ok(())
    }
}

/// The subscribe requests in a connect request; of more than `count_max` one more than that. Of a request in several parts those of
/// the last part.
pub(in crate::centrifuge) fn subs_of_connect(
    request: &[u8],
    count_max: usize,
) -> Result<BTreeMap<String, SubscribeRequest<'_>>, ProtobufError> {
    let mut subs = BTreeMap::new();
    for field in Fields::of(request) {
        let field = field?;
        if field.number == 3 && subs.len() <= count_max {
            let mut entry = SubsEntry::default();
            merge(&mut entry, field.bytes()?)?;
            subs.insert(entry.channel.into_owned(), entry.request);
        }
    }
    Ok(subs)
}

/// An entry of the map of them: the later one of two with the same key counts.
#[derive(Default)]
struct SubsEntry<'a> {
    channel: Cow<'a, str>,
    request: SubscribeRequest<'a>,
}

impl<'a> Message<'a> for SubsEntry<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.channel = Cow::Borrowed(field.text()?),
            2 => merge(&mut self.request, field.bytes()?)?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for SubscribeRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.channel = Cow::Borrowed(field.text()?),
            2 => self.token = Cow::Borrowed(field.text()?),
            3 => self.recover = field.flag()?,
            6 => self.epoch = Cow::Borrowed(field.text()?),
            7 => self.offset = field.number()?,
            8 => self.data = payload(field.bytes()?),
            11 => self.join_leave = field.flag()?,
            12 => self.delta = Cow::Borrowed(field.text()?),
            13 => merge_filter(&mut self.filter, field.bytes()?),
            14 => self.flag = field.number()?,
            15 => self.kind = field.int32()?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for UnsubscribeRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        if field.number == 1 {
            self.channel = Cow::Borrowed(field.text()?);
        }
        Ok(())
    }
}

impl<'a> Message<'a> for PublishRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.channel = Cow::Borrowed(field.text()?),
            2 => self.data = payload(field.bytes()?),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for RpcRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.data = payload(field.bytes()?),
            2 => self.method = Cow::Borrowed(field.text()?),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for PresenceRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        if field.number == 1 {
            self.channel = Cow::Borrowed(field.text()?);
        }
        Ok(())
    }
}

impl<'a> Message<'a> for HistoryRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.channel = Cow::Borrowed(field.text()?),
            7 => self.limit = field.int32()?,
            8 => merge_into(&mut self.since, field)?,
            9 => self.reverse = field.flag()?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for StreamPosition<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.offset = field.number()?,
            2 => self.epoch = Cow::Borrowed(field.text()?),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Message<'a> for RefreshRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        if field.number == 1 {
            self.token = Cow::Borrowed(field.text()?);
        }
        Ok(())
    }
}

impl<'a> Message<'a> for SubRefreshRequest<'a> {
    fn take(&mut self, field: &Field<'a>) -> Result<(), ProtobufError> {
        match field.number {
            1 => self.channel = Cow::Borrowed(field.text()?),
            2 => self.token = Cow::Borrowed(field.text()?),
            _ => {}
        }
        Ok(())
    }
}

/// Messages that stand behind each other are one.
fn merge_filter<'a>(filter: &mut FilterText<'a>, bytes: &'a [u8]) {
    match filter {
        FilterText::Protobuf(before) => before.to_mut().extend_from_slice(bytes),
        _ => *filter = FilterText::Protobuf(Cow::Borrowed(bytes)),
    }
}

/// The log keeps JSON, so that every wire can show it; bytes that are none are refused with the command.
fn payload(bytes: &[u8]) -> Payload<'_> {
    if bytes.is_empty() {
        return Payload::Missing;
    }
    serde_json::from_slice::<&RawValue>(bytes).map_or(Payload::NotJson, Payload::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centrifuge::CommandError;

    /// The connect request with these fields, read.
    fn subs(fields: &[u8], count_max: usize) -> Result<Vec<(String, bool, u64)>, CommandError> {
        let mut frame = vec![4 + fields.len() as u8, 8, 1, 0x22, fields.len() as u8];
        frame.extend_from_slice(fields);
        let command = Commands::of(&frame).next().unwrap().unwrap();
        let Method::Connect(request) = command.method else {
            panic!("no connect");
        };
        let subs = request.subs.read(count_max)?;
        let plain =
            |(channel, it): (String, SubscribeRequest<'_>)| (channel, it.recover, it.offset);
        Ok(subs.into_iter().map(plain).collect())
    }

    #[test]
    fn a_connect_says_where_its_client_stands() {
        let b = b"\x1a\x09\x0a\x01b\x12\x04\x18\x01\x38\x07";
        let a = b"\x1a\x03\x0a\x01a";
        let [b_name, a_name] = ["b", "a"].map(str::to_owned);
        let both = [(a_name.clone(), false, 0), (b_name.clone(), true, 7)];
        assert_eq!(subs(&[&b[..], a].concat(), 2).unwrap(), both);
        // The later one counts, and too many are told from enough.
        let again = [&a[..], b"\x1a\x07\x0a\x01a\x12\x02\x38\x09"].concat();
        assert_eq!(subs(&again, 2).unwrap(), [(a_name, false, 9)]);
        assert_eq!(subs(&[&b[..], a].concat(), 0).unwrap(), [(b_name, true, 7)]);
        assert!(subs(b"", 0).unwrap().is_empty());
        for wrong in [&b"\x18\x01"[..], b"\x1a\x02\x08\x01", b"\x1a\x02\x12\x09"] {
            assert!(subs(wrong, 9).is_err(), "{wrong:x?}");
        }
    }
}
