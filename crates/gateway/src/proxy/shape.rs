//! The shapes of requests and answers: Centrifugo's, as far as they are served.

use std::collections::BTreeMap;

use fanfare_wire::{
    Json,
    centrifuge::{Codec, Dialect, Framing},
    shortened,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    access::{Capabilities, Overrides, Rights},
    token::{Seconds, SubOptions, json_of_base64},
};

/// Longest message of an error that is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 256;
/// Longest reason of a disconnect, in bytes; a close frame has room for 123.
pub(crate) const REASON_BYTES_MAX: usize = 120;
/// Codes of errors that are passed on: the protocol's, and those that it leaves to applications.
const ERROR_CODES: std::ops::RangeInclusive<u32> = 100..=1999;
/// Codes of disconnects that are passed on.
pub(crate) const DISCONNECT_CODES: std::ops::RangeInclusive<u16> = 3000..=4999;

/// What is asked, as JSON.
#[derive(Clone, Serialize)]
pub(crate) struct Asked<'a> {
    pub(crate) client: String,
    pub(crate) transport: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a RawValue>,
    /// For endpoints that want it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<&'a RawValue>,
}

/// What a backend has said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Yes, with this.
    Granted(Box<Granted>),
    /// No, for this reason.
    Refused {
        /// Its code.
        code: u32,
        /// Its words.
        message: String,
    },
    /// The connection is to be closed.
    Disconnect {
        /// Its code.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// Nothing that could be used, or not in time.
    Failed,
}

/// What a backend has granted. Which of it counts depends on what was asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Granted {
    pub(crate) user: String,
    pub(crate) expire_at: Option<Seconds>,
    pub(crate) expired: bool,
    pub(crate) info: Option<Json>,
    pub(crate) data: Option<Json>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) channels: Vec<String>,
    pub(crate) subs: BTreeMap<String, SubOptions>,
    pub(crate) caps: Option<Capabilities>,
    pub(crate) meta: Option<Json>,
    pub(crate) allow: Rights,
    pub(crate) overrides: Overrides,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Outcome>,
    error: Option<Error>,
    disconnect: Option<Disconnect>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    user: String,
    expire_at: Seconds,
    expired: bool,
    info: Option<Box<RawValue>>,
    data: Option<Box<RawValue>>,
    /// Each goes before the member without `b64`.
    b64info: Option<String>,
    b64data: Option<String>,
    tags: BTreeMap<String, String>,
    channels: Vec<String>,
    subs: BTreeMap<String, SubOptions>,
    caps: Option<Capabilities>,
    meta: Option<Box<RawValue>>,
    allow: Option<Rights>,
    #[serde(rename = "override")]
    overrides: Option<Overrides>,
}

#[derive(Deserialize)]
struct Error {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Disconnect {
    code: u16,
    #[serde(default)]
    reason: String,
}

impl<'a> Asked<'a> {
    /// A question about a client that speaks this.
    pub(crate) fn by(client: Uuid, dialect: Dialect, user: Option<&'a str>) -> Self {
        Self {
            client: client.to_string(),
            transport: match (dialect.framing, dialect.one_way) {
                (Framing::WebSocket, false) => "websocket",
                (Framing::Stream, false) => "http_stream",
                (Framing::Events, false) => "sse",
                (Framing::WebSocket, true) => "uni_websocket",
                (Framing::Stream, true) => "uni_http_stream",
                (Framing::Events, true) => "uni_sse",
            },
            protocol: match dialect.codec {
                Codec::Json => "json",
                Codec::Protobuf => "protobuf",
            },
            encoding: "json",
            user,
            channel: "",
            method: "",
            name: "",
            version: "",
            data: None,
            meta: None,
        }
    }
}

impl Verdict {
    /// Reads an answer; the error says what is wrong with it, and never repeats it.
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let answer: Answer =
            serde_json::from_slice(body).map_err(|_| "the answer is not of the agreed shape")?;
        if let Some(Disconnect { code, reason }) = answer.disconnect {
            if !DISCONNECT_CODES.contains(&code) {
                return Err("the code of its disconnect is not one of 3000 to 4999");
            }
            let reason = shortened(&reason, REASON_BYTES_MAX).to_owned();
            return Ok(Self::Disconnect { code, reason });
        }
        if let Some(Error { code, message }) = answer.error {
            if !ERROR_CODES.contains(&code) {
                return Err("the code of its error is not one of 100 to 1999");
            }
            let message = shortened(&message, MESSAGE_BYTES_MAX).to_owned();
            return Ok(Self::Refused { code, message });
        }
        let result = answer
            .result
            .ok_or("it has no result, no error and no disconnect")?;
        let json = |raw: Option<Box<RawValue>>| raw.map(|raw| Json::from_raw(&raw));
        let either = |b64: Option<String>, raw| match b64.filter(|text| !text.is_empty()) {
            None => Ok(json(raw)),
            Some(text) => match json_of_base64(&text) {
                Some(json) => Ok(Some(json)),
                None => Err("its b64info or b64data is not JSON in base64"),
            },
        };
        Ok(Self::Granted(Box::new(Granted {
            user: result.user,
            expire_at: (result.expire_at != 0).then_some(result.expire_at),
            expired: result.expired,
            info: either(result.b64info, result.info)?,
            data: either(result.b64data, result.data)?,
            tags: result.tags,
            channels: result.channels,
            subs: result.subs,
            caps: result.caps,
            meta: json(result.meta),
            allow: result.allow.unwrap_or_default(),
            overrides: result.overrides.unwrap_or_default(),
        })))
    }

    /// How it is counted.
    pub(super) fn end(&self) -> usize {
        match self {
            Self::Granted(_) => 0,
            Self::Refused { .. } => 1,
            Self::Disconnect { .. } => 2,
            Self::Failed => 3,
        }
    }

    /// The names of the [ends](Self::end).
    pub(super) const ENDS: [&'static str; 4] = ["granted", "error", "disconnect", "failed"];
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::{Right, Switch};

    fn read(answer: serde_json::Value) -> Result<Verdict, &'static str> {
        Verdict::read(answer.to_string().as_bytes())
    }

    #[test]
    fn answers_are_read_as_their_senders_meant_them() {
        let json = |text: &str| Some(Json::parse(text.as_bytes()).unwrap());
        let full = json!({"result": {
            "user": "56", "expire_at": 1_700_000_000, "info": {"name": "x"}, "data": [1], "channels": ["a"],
            "subs": {"b": {"info": 1}}, "tags": {"t": "1"}, "meta": {"hidden": true}, "unknown": "x", "allow": ["pub"],
            "caps": [{"channels": ["c"], "allow": ["hst"]}], "override": {"presence": {"value": false}},
        }});
        let sub = SubOptions {
            info: json("1"),
            ..SubOptions::default()
        };
        let granted = Granted {
            user: "56".to_owned(),
            expire_at: Some(1_700_000_000),
            expired: false,
            info: json("{\"name\":\"x\"}"),
            data: json("[1]"),
            tags: BTreeMap::from([("t".to_owned(), "1".to_owned())]),
            channels: vec!["a".to_owned()],
            subs: [("b".to_owned(), sub)].into(),
            caps: Some(
                serde_json::from_value(json!([{"channels": ["c"], "allow": ["hst"]}])).unwrap(),
            ),
            meta: json("{\"hidden\":true}"),
            allow: Right::Publish.into(),
            overrides: Overrides {
                presence: Some(Switch { value: false }),
                ..Overrides::default()
            },
        };
        assert_eq!(read(full), Ok(Verdict::Granted(Box::new(granted))));
        // {"b":1} goes before what stands beside it.
        let in_base64 =
            json!({"result": {"info": 1, "b64info": "eyJiIjoxfQ==", "b64data": "Mg==", "data": 3}});
        let granted = Granted {
            info: json("{\"b\":1}"),
            data: json("2"),
            ..Granted::default()
        };
        assert_eq!(read(in_base64), Ok(Verdict::Granted(Box::new(granted))));
        let nothing = Ok(Verdict::Granted(Box::default()));
        for empty in [
            json!({"result": {}}),
            json!({"result": {"expire_at": 0, "info": null, "data": null}, "error": null, "disconnect": null}),
            json!({"result": {"caps": null, "allow": null, "override": null, "meta": null, "b64info": ""}}),
        ] {
            assert_eq!(read(empty), nothing);
        }
        let refused = json!({"error": {"code": 403, "message": "not you"}, "result": {}});
        let message = "not you".to_owned();
        assert_eq!(read(refused), Ok(Verdict::Refused { code: 403, message }));
        let away = json!({"disconnect": {"code": 4501, "reason": "unauthorized"}, "result": {"user": "1"}});
        let reason = "unauthorized".to_owned();
        assert_eq!(read(away), Ok(Verdict::Disconnect { code: 4501, reason }));
        let long = "ü".repeat(1000);
        let Ok(Verdict::Disconnect { reason, .. }) =
            read(json!({"disconnect": {"code": 4000, "reason": long}}))
        else {
            panic!("a disconnect");
        };
        assert_eq!(reason.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn what_is_not_agreed_grants_nothing() {
        for broken in [
            json!({}),
            json!([]),
            json!("yes"),
            json!({"result": null}),
            json!({"result": true}),
            json!({"result": {"user": 56}}),
            json!({"result": {"expire_at": "soon"}}),
            json!({"result": {"caps": [{"channels": ["a"], "allow": ["all"]}]}}),
            json!({"result": {"allow": "pub"}}),
            json!({"result": {"override": {"presence": false}}}),
            json!({"result": {"b64info": "no base64"}}),
            json!({"result": {"b64data": "bm8gSlNPTg=="}}),
            json!({"result": {"tags": {"t": 1}}}),
            json!({"error": {"message": "no code"}}),
            json!({"error": {"code": 0}}),
            json!({"error": {"code": 2000}}),
            json!({"disconnect": {"code": 1000}}),
            json!({"disconnect": {"code": 5000}}),
            json!({"disconnect": {"reason": "no code"}}),
        ] {
            assert!(read(broken.clone()).is_err(), "{broken}");
        }
        assert!(Verdict::read(b"<html>").is_err());
        assert!(Verdict::read(b"").is_err());
    }
}
