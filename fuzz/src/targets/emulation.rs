//! Commands that come in a request beside a stream. The first byte chooses the encoding.

use std::{borrow::Cow, str};

use fanfare_wire::centrifuge::{Codec, EmulationRequest};
use serde_json::json;

use crate::{Outcome, Target, about, lines, write::protobuf::put_delimited};

pub(super) const TARGET: Target = Target {
    name: "centrifuge-emulation",
    run,
    seeds,
    words: &[
        b"{\"session\":\"s\",",
        b"\"data\":\"{}\"",
        b"\"node\":\"n\"",
        b"\\n",
        b"\\ud83d\\ude00",
        b"\x0a\x01n",
        b"\x12\x01s",
        b"\x1a\x01\x00",
    ],
};

fn seeds() -> Vec<Vec<u8>> {
    // Node 1, session 2, data 3, as the official client writes it.
    let protobuf = [
        &b"0\x0a\x01n\x12\x01s\x1a\x02\xff\x00"[..],
        b"0\x12\x01s\x1a\x02{}",
    ];
    let mut seeds = lines(include_str!("../../seeds/centrifuge-emulation.txt"));
    seeds.extend(protobuf.map(<[u8]>::to_vec));
    seeds
}

fn run(bytes: &[u8]) -> Outcome {
    let Some((first, body)) = bytes.split_first() else {
        return Outcome::of("nothing");
    };
    let codec = match first & 1 {
        0 => Codec::Protobuf,
        _ => Codec::Json,
    };
    let Ok(request) = EmulationRequest::parse(codec, body) else {
        return Outcome::of((first & 1, "none", about(body.len())));
    };
    assert!(
        request.session.len() + request.data.len() <= body.len(),
        "more than was said"
    );

    let mut message = Vec::new();
    for (tag, field) in [(0x12, request.session.as_bytes()), (0x1a, &*request.data)] {
        message.push(tag);
        put_delimited(field, &mut message);
    }
    let again = EmulationRequest::parse(Codec::Protobuf, &message);
    assert_eq!(again.as_ref(), Ok(&request));

    let text = str::from_utf8(&request.data);
    if let Ok(text) = text {
        let object = json!({ "session": request.session, "data": text }).to_string();
        let again = EmulationRequest::parse(Codec::Json, object.as_bytes());
        assert_eq!(again.as_ref(), Ok(&request));
    }
    let is_borrowed = matches!(request.data, Cow::Borrowed(_));
    let sizes = [request.session.len(), request.data.len()].map(about);
    Outcome::of((first & 1, text.is_ok(), is_borrowed, sizes))
}
