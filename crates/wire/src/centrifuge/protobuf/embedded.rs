//! What stands in the log as JSON objects and on this wire as messages: who published, and tags.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::writer::{put_bytes, put_entry, put_message};
use crate::Json;

/// Appends who published, if it is known: a message in the field with this number.
pub(super) fn put_publisher(field: u32, info: Option<&Json>, out: &mut Vec<u8>) {
    if let Some(info) = info {
        put_client_info(field, info, out);
    }
}

/// Appends who somebody is: a message in the field with this number, empty if the object does not say it.
pub(in crate::centrifuge) fn put_client_info(field: u32, info: &Json, out: &mut Vec<u8>) {
    let info: ClientInfo<'_> = read(info).unwrap_or_default();
    put_message(field, out, |out| {
        put_bytes(1, &*info.user, out);
        put_bytes(2, &*info.client, out);
        put_bytes(3, info.conn_info.map_or("", RawValue::get), out);
        put_bytes(4, info.chan_info.map_or("", RawValue::get), out);
    });
}

/// Appends tags, each an entry of a map in the field with this number.
pub(super) fn put_tags(field: u32, tags: Option<&Json>, out: &mut Vec<u8>) {
    let Some(Tags(tags)) = tags.and_then(read) else {
        return;
    };
    for (name, value) in tags {
        put_entry(field, &name.0, &value.0, out);
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a Json) -> Option<T> {
    serde_json::from_slice(json.as_bytes()).ok()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClientInfo<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    conn_info: Option<&'a RawValue>,
    #[serde(borrow)]
    chan_info: Option<&'a RawValue>,
}

/// The members of an object of strings, in their order.
struct Tags<'a>(Vec<(Text<'a>, Text<'a>)>);

/// A text that is borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Tags<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags<'de>, A::Error> {
                let mut tags = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    tags.push(entry);
                }
                Ok(Tags(tags))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_info_becomes_a_message_with_what_it_says() {
        let info = json(r#"{"client":"c","user":"Zo\u00eb","conn_info":{"a": 1},"other":[7]}"#);
        assert_eq!(
            written(|out| put_client_info(5, &info, out)),
            b"\x2a\x13\x0a\x04Zo\xc3\xab\x12\x01c\x1a\x08{\"a\": 1}"
        );
        let info = json(r#"{"user":"","client":"","chan_info":"x"}"#);
        assert_eq!(
            written(|out| put_client_info(1, &info, out)),
            b"\x0a\x05\x22\x03\"x\""
        );
        for none in ["7", "[]", r#"{"user":7}"#, r#"{"user":"a","user":"b"}"#] {
            assert_eq!(
                written(|out| put_client_info(1, &json(none), out)),
                b"\x0a\x00",
                "{none}"
            );
        }
        assert_eq!(written(|out| put_publisher(5, None, out)), b"");
    }

    #[test]
    fn tags_become_a_map() {
        let tags = json(r#"{"b":"1","a\n":"\u00e9"}"#);
        assert_eq!(
            written(|out| put_tags(7, Some(&tags), out)),
            b"\x3a\x06\x0a\x01b\x12\x011\x3a\x08\x0a\x02a\n\x12\x02\xc3\xa9"
        );
        assert_eq!(written(|out| put_tags(7, Some(&json("{}")), out)), b"");
        assert_eq!(written(|out| put_tags(7, Some(&json("[1]")), out)), b"");
        assert_eq!(written(|out| put_tags(7, None, out)), b"");
    }
}
