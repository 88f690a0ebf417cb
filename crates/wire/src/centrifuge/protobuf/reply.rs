//! Replies and pushes in Protobuf. Numbers of fields from 1001 on are this server's own: they say what the protocol has no
//! field for, and clients pass over them.

use uuid::Uuid;

use super::{
    embedded::{put_client_info, put_publisher, put_tags},
    writer::{put_bytes, put_delimited, put_flag, put_message, put_number},
};
use crate::{
    ChannelName, Json, Publication, Seq,
    centrifuge::{Answer, ConnectResult, ErrorCode, PresenceResult, SubscribeResult},
};

/// The first of the fields that the protocol does not have.
const OWN: u32 = 1001;

/// Appends the reply to the command with number `id`, preceded by its length.
pub(in crate::centrifuge) fn put_reply(id: u32, answer: &Answer<'_>, out: &mut Vec<u8>) {
    put_delimited(out, |out| {
        put_number(1, id.into(), out);
        put_answer(answer, out);
    });
}

/// Appends a push, preceded by its length; `write` appends its fields.
pub(in crate::centrifuge) fn put_push(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_delimited(out, |out| put_message(4, out, write));
}

/// Appends the fields of a push into a channel; `write` appends what is pushed, which is field `kind`.
pub(in crate::centrifuge) fn put_of_channel(
    channel: &ChannelName,
    kind: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    put_bytes(2, channel.as_str(), out);
    put_message(kind, out, write);
}

/// Appends the fields of a push that ends a subscription.
pub(in crate::centrifuge) fn put_unsubscribe(
    channel: &ChannelName,
    (code, reason): (u32, &str),
    out: &mut Vec<u8>,
) {
    put_of_channel(channel, 7, out, |out| {
        put_number(2, code.into(), out);
        put_bytes(3, reason, out);
    });
}

/// Appends the fields of a push that says that the server has subscribed the client.
pub(in crate::centrifuge) fn put_subscribed(
    channel: &ChannelName,
    result: &SubscribeResult<'_>,
    out: &mut Vec<u8>,
) {
    put_of_channel(channel, 9, out, |out| {
        put_flag(1, result.recoverable, out);
        put_bytes(4, result.epoch.as_str(), out);
        put_number(5, result.offset.0, out);
        put_flag(6, true, out);
        put_data(7, result.data, out);
        put_unrecovered(result, out);
    });
}

/// Appends the fields of a push that says until when the connection holds.
pub(in crate::centrifuge) fn put_refresh(ttl: Option<u32>, out: &mut Vec<u8>) {
    put_message(12, out, |out| put_ttl(1, ttl, out));
}

/// Appends the fields of a push that ends the connection.
pub(in crate::centrifuge) fn put_disconnect(code: u16, reason: &str, out: &mut Vec<u8>) {
    put_message(11, out, |out| {
        put_number(1, code.into(), out);
        put_bytes(2, reason, out);
    });
}

/// Appends the fields of a publication.
pub(in crate::centrifuge) fn put_publication(publication: &Publication, out: &mut Vec<u8>) {
    put_publication_as(publication, (publication.data.as_bytes(), false), out);
}

/// The same with a delta in the place of the payload.
pub(in crate::centrifuge) fn put_publication_delta(
    publication: &Publication,
    delta: &[u8],
    out: &mut Vec<u8>,
) {
    put_publication_as(publication, (delta, true), out);
}

fn put_publication_as(
    publication: &Publication,
    (data, is_delta): (&[u8], bool),
    out: &mut Vec<u8>,
) {
    put_bytes(4, data, out);
    put_publisher(5, publication.info.as_ref(), out);
    put_number(6, publication.seq.0, out);
    put_tags(7, publication.tags.as_ref(), out);
    put_flag(8, is_delta, out);
    put_number(9, publication.time as u64, out);
}

/// Appends the fields of a message that has no number.
pub(in crate::centrifuge) fn put_unnumbered(
    data: &Json,
    info: Option<&Json>,
    tags: Option<&Json>,
    out: &mut Vec<u8>,
) {
    put_bytes(4, data.as_bytes(), out);
    put_publisher(5, info, out);
    put_tags(7, tags, out);
}

fn put_answer(answer: &Answer<'_>, out: &mut Vec<u8>) {
    match answer {
        Answer::Error {
            error,
            retry_after_ms,
        } => put_message(2, out, |out| put_error(error, *retry_after_ms, out)),
        Answer::Refused { code, message } => put_message(2, out, |out| {
            put_number(1, (*code).into(), out);
            put_bytes(2, message, out);
        }),
        Answer::Rpc { data } => put_message(13, out, |out| put_data(1, *data, out)),
        Answer::Connect(result) => put_message(5, out, |out| put_connect(result, out)),
        Answer::Subscribe(result) => put_message(6, out, |out| put_subscribe(result, out)),
        Answer::Unsubscribe => put_message(7, out, |_| ()),
        Answer::Publish => put_message(8, out, |_| ()),
        Answer::Presence { members, result } => {
            put_message(9, out, |out| put_presence(members, result, out));
        }
        Answer::PresenceStats {
            clients,
            users,
            degraded,
        } => put_message(10, out, |out| {
            put_number(1, uint32(*clients), out);
            put_number(2, uint32(*users), out);
            put_flag(OWN, *degraded, out);
        }),
        Answer::History {
            publications,
            head,
            epoch,
        } => put_message(11, out, |out| {
            for publication in *publications {
                put_message(1, out, |out| put_publication(publication, out));
            }
            put_bytes(2, epoch.as_str(), out);
            put_number(3, head.0, out);
        }),
        Answer::Ping => put_message(12, out, |_| ()),
        Answer::Refresh { client, ttl } => put_message(14, out, |out| {
            put_bytes(1, client, out);
            put_ttl(3, *ttl, out);
        }),
        Answer::SubRefresh { ttl } => put_message(15, out, |out| put_ttl(1, *ttl, out)),
    }
}

fn put_error(error: &ErrorCode, retry_after_ms: Option<u32>, out: &mut Vec<u8>) {
    let ErrorCode {
        code,
        message,
        temporary,
    } = error;
    put_number(1, (*code).into(), out);
    put_bytes(2, message, out);
    put_flag(3, *temporary, out);
    put_number(OWN, retry_after_ms.unwrap_or(0).into(), out);
}

fn put_connect(result: &ConnectResult<'_>, out: &mut Vec<u8>) {
    let ConnectResult {
        client,
        version,
        ttl,
        ping,
        pong,
        session,
        time,
        node,
        data,
        subs,
    } = result;
    put_bytes(1, client, out);
    put_bytes(2, version, out);
    put_ttl(3, *ttl, out);
    put_data(5, *data, out);
    for (channel, result) in *subs {
        put_message(6, out, |out| {
            put_bytes(1, channel.as_str(), out);
            put_message(2, out, |out| put_subscribe(result, out));
        });
    }
    put_number(7, (*ping).into(), out);
    put_flag(8, *pong, out);
    put_bytes(9, session.unwrap_or_default(), out);
    put_bytes(10, node, out);
    put_number(11, *time as u64, out);
}

fn put_subscribe(result: &SubscribeResult<'_>, out: &mut Vec<u8>) {
    let SubscribeResult {
        epoch,
        offset,
        positioned,
        recoverable,
        was_recovering,
        recovered,
        ttl,
        data,
        delta,
        ..
    } = result;
    put_ttl(1, *ttl, out);
    put_flag(3, *recoverable, out);
    if *positioned {
        put_bytes(6, epoch.as_str(), out);
    }
    put_flag(8, *recovered == Some(true), out);
    if *positioned {
        put_number(9, offset.0, out);
    }
    put_flag(10, *positioned, out);
    put_data(11, *data, out);
    put_flag(12, *was_recovering, out);
    put_flag(13, *delta, out);
    put_unrecovered(result, out);
}

/// Truncated, with the oldest that is left; or reset.
fn put_unrecovered(result: &SubscribeResult<'_>, out: &mut Vec<u8>) {
    let (recovered, oldest) = (result.recovered, result.oldest);
    put_flag(OWN, oldest.is_some(), out);
    put_number(OWN + 1, oldest.map_or(0, |Seq(oldest)| oldest), out);
    put_flag(OWN + 2, oldest.is_none() && recovered == Some(false), out);
}

fn put_presence(members: &[(Uuid, &Json)], result: &PresenceResult, out: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    for (client, info) in members {
        put_message(1, out, |out| {
            put_bytes(1, client.hyphenated().encode_lower(&mut buffer), out);
            put_client_info(2, info, out);
        });
    }
    put_flag(OWN, result.degraded, out);
    put_flag(OWN + 1, result.total.is_some(), out);
    put_number(OWN + 2, result.total.unwrap_or(0), out);
}

/// Appends whether something expires, and the field after it: in how many seconds.
fn put_ttl(field: u32, ttl: Option<u32>, out: &mut Vec<u8>) {
    put_flag(field, ttl.is_some(), out);
    put_number(field + 1, ttl.unwrap_or(0).into(), out);
}

/// A JSON text in a field of bytes.
fn put_data(field: u32, data: Option<&Json>, out: &mut Vec<u8>) {
    if let Some(data) = data {
        put_bytes(field, data.as_bytes(), out);
    }
}

/// More than fit are as many as fit.
fn uint32(number: u64) -> u64 {
    number.min(u32::MAX.into())
}
