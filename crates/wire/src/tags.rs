//! The tags of a publication, and filters of them: which publications a subscriber wants.
//!
//! Facts: `FilterNode` of centrifugal/protocol, and which trees its server takes. A filter is compiled once per subscribe
//! into something that can be asked without a copy.

mod decimal;
mod filter;

use std::collections::BTreeMap;

use crate::Json;

pub use filter::{FilterError, FilterNode, TagsFilter};

/// The tags of a publication, to be looked up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<Box<str>, Box<str>>);

impl Tags {
    /// Reads tags as the log keeps them: an object of strings. Anything else is none.
    #[must_use]
    pub fn of(json: Option<&Json>) -> Self {
        let tags = json.and_then(|json| serde_json::from_slice(json.as_bytes()).ok());
        Self(tags.unwrap_or_default())
    }

    /// The value of a tag.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// What the tags weigh in memory, in bytes, without the struct itself.
    #[must_use]
    pub fn weight(&self) -> usize {
        let entry = size_of::<(Box<str>, Box<str>)>();
        let tags = self.0.iter();
        tags.map(|(key, value)| entry + key.len() + value.len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_an_object_of_strings_or_none() {
        let of = |text: &str| Tags::of(Some(&Json::parse(text.as_bytes()).unwrap()));
        let tags = of(r#"{"a":"1","b\n":"\u00e9","a":"2"}"#);
        assert_eq!(tags.get("a"), Some("2"));
        assert_eq!(tags.get("b\n"), Some("é"));
        assert_eq!(tags.get("c"), None);
        for none in ["{}", "[1]", "7", r#"{"a":1}"#] {
            assert_eq!(of(none), Tags::default(), "{none}");
        }
        assert_eq!(Tags::of(None), Tags::default());
    }
}
