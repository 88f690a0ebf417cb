//! The filter of a subscribe, as it came: read only when the server wants it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::protobuf;
use crate::{FilterError, FilterNode, TagsFilter};

/// A filter in one of the encodings.
#[derive(Debug, Default)]
pub enum FilterText<'a> {
    /// There is none.
    #[default]
    Missing,
    /// A JSON text.
    Json(&'a RawValue),
    /// The fields of a message.
    Protobuf(Cow<'a, [u8]>),
}

impl<'de: 'a, 'a> Deserialize<'de> for FilterText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Option::<&RawValue>::deserialize(deserializer)?;
        Ok(raw.map_or(Self::Missing, Self::Json))
    }
}

impl FilterText<'_> {
    /// Reads, checks and compiles the filter, if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self) -> Result<Option<TagsFilter>, FilterError> {
        let node = self.read()?;
        node.map(|node| TagsFilter::compile(&node)).transpose()
    }

    /// Reads the filter, if there is one, without asking whether it makes sense.
    ///
    /// # Errors
    /// It is too long, or not made of the protocol's fields; in Protobuf also if it is too deep or has too many nodes.
    pub fn read(&self) -> Result<Option<FilterNode<'_>>, FilterError> {
        match self {
            Self::Missing => Ok(None),
            Self::Json(raw) if raw.get().len() > FilterNode::BYTES_MAX => Err(FilterError::TooLong),
            // The parser refuses texts that are nested deeper than its stack bears.
            Self::Json(raw) => serde_json::from_str(raw.get())
                .map(Some)
                .map_err(|_| FilterError::Malformed),
            Self::Protobuf(fields) => protobuf::parse_filter(fields).map(Some),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, Tags, centrifuge::SubscribeRequest};

    fn of(tf: &str) -> Result<Option<TagsFilter>, FilterError> {
        let request = format!(r#"{{"channel":"c","tf":{tf}}}"#);
        let request: SubscribeRequest<'_> = serde_json::from_str(&request).unwrap();
        request.filter.compile()
    }

    #[test]
    fn a_filter_is_read_when_it_is_wanted() {
        assert_eq!(of("null").unwrap(), None);
        let filter = of(r#"{"key":"lang","cmp":"in","vals":["de","\u0066r"],"more":[]}"#);
        let filter = filter.unwrap().unwrap();
        let selects =
            |tags: &str| filter.selects(&Tags::of(Some(&Json::parse(tags.as_bytes()).unwrap())));
        assert!(selects(r#"{"lang":"fr"}"#) && !selects(r#"{"lang":"en"}"#));
        for malformed in [
            "7",
            "[7]",
            r#"{"key":7}"#,
            r#"{"vals":"x"}"#,
            r#"{"nodes":{}}"#,
        ] {
            assert_eq!(of(malformed), Err(FilterError::Malformed), "{malformed}");
        }
        let long = format!(
            r#"{{"key":"{}","cmp":"ex"}}"#,
            "k".repeat(FilterNode::BYTES_MAX)
        );
        assert_eq!(of(&long), Err(FilterError::TooLong));
        let nested = |levels: usize| {
            format!(
                "{}{}",
                r#"{"op":"not","nodes":["#.repeat(levels),
                "]}".repeat(levels)
            )
        };
        assert_eq!(of(&nested(20)), Err(FilterError::TooDeep));
        assert_eq!(of(&nested(200)), Err(FilterError::Malformed));
    }
}
