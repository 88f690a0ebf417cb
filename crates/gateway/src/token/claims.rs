//! The claims of a token: before anybody has vouched for them, and after.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fanfare_wire::{ChannelName, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, value::RawValue};

use super::{Seconds, SubOptions, TokenError, WRONG_CLAIMS};
use crate::{
    access::{Capabilities, Overrides, Rights},
    jose::Unverified,
};

/// By what it is decided who could vouch for a token.
#[derive(Deserialize)]
struct Unread {
    iss: Option<Value>,
    aud: Option<Value>,
    iat: Option<Value>,
}

/// The same, read.
pub(super) struct Unproven {
    /// The issuer; `None` if it is not said, or not in a text.
    pub(super) iss: Option<String>,
    aud: Option<Value>,
    /// When it was signed.
    pub(super) iat: Option<Seconds>,
}

impl Unproven {
    pub(super) fn read(token: &Unverified<'_>) -> Result<Self, TokenError> {
        let Unread { iss, aud, iat } = serde_json::from_slice(token.claims_unverified())
            .map_err(|_| TokenError::Invalid(WRONG_CLAIMS))?;
        let iss = match iss {
            Some(Value::String(iss)) => Some(iss),
            _ => None,
        };
        let iat = match iat {
            Some(Value::Number(iat)) => seconds(Some(&iat))?,
            _ => None,
        };
        Ok(Self { iss, aud, iat })
    }

    /// Whether it is for one of these.
    pub(super) fn is_for(&self, audiences: &[String]) -> bool {
        let is_one = |aud: &Value| audiences.iter().any(|it| aud.as_str() == Some(it));
        match &self.aud {
            Some(Value::Array(several)) => several.iter().any(is_one),
            Some(one) => is_one(one),
            None => false,
        }
    }
}

/// The claims as they stand in a token of either kind; others are ignored.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    pub(super) sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) channels: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) subs: BTreeMap<String, SubOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expire_at: Option<Number>,
    /// `info` in base64, which goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) b64info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) meta: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub(super) caps: Capabilities,
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) allow: Rights,
    #[serde(
        default,
        rename = "override",
        skip_serializing_if = "Overrides::is_empty"
    )]
    pub(super) overrides: Overrides,
}

fn is_none(rights: &Rights) -> bool {
    *rights == Rights::default()
}

/// The times of a token that its holder learns.
pub(super) struct Standard {
    pub(super) exp: Option<Seconds>,
    pub(super) iat: Option<Seconds>,
    pub(super) expire_at: Option<Seconds>,
}

impl Claims {
    pub(super) fn times(&self) -> Result<Standard, TokenError> {
        Ok(Standard {
            exp: seconds(self.exp.as_ref())?,
            iat: seconds(self.iat.as_ref())?,
            expire_at: seconds(self.expire_at.as_ref())?,
        })
    }

    /// What is told to others.
    pub(super) fn info(&self) -> Result<Option<Json>, TokenError> {
        match self.b64info.as_deref().filter(|text| !text.is_empty()) {
            None => Ok(self.info.as_deref().map(Json::from_raw)),
            Some(text) => match json_of_base64(text) {
                Some(info) => Ok(Some(info)),
                None => Err(TokenError::Invalid("its b64info is not JSON in base64")),
            },
        }
    }
}

/// JSON in base64, as Centrifugo takes binary data; data is JSON here.
pub(crate) fn json_of_base64(text: &str) -> Option<Json> {
    let bytes = STANDARD.decode(text).ok()?;
    Json::parse(&bytes).ok()
}

/// A NumericDate, which may have a fraction; that is cut off.
pub(super) fn seconds(number: Option<&Number>) -> Result<Option<Seconds>, TokenError> {
    /// Beyond this a float no longer holds every second; it is the year 285 million.
    const FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

    let Some(number) = number else {
        return Ok(None);
    };
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.abs() <= FLOAT_MAX)?;
        Some(float.floor() as Seconds)
    });
    whole
        .map(Some)
        .ok_or(TokenError::Invalid("one of its times is out of range"))
}

pub(super) fn parse_channel(name: &str) -> Result<ChannelName, TokenError> {
    ChannelName::parse(name).map_err(|_| TokenError::Invalid("it names an impossible channel"))
}

pub(super) fn raw(json: Option<&Json>) -> Result<Option<Box<RawValue>>, TokenError> {
    let raw = json
        .map(|json| serde_json::from_slice(json.as_bytes()))
        .transpose();
    raw.map_err(|_| TokenError::Invalid("its info is not JSON"))
}
