//! The filter of a subscribe in Protobuf. Messages in messages: read only as deep and as far as filters may be.

use std::borrow::Cow;

use super::reader::{Fields, ProtobufError};
use crate::{FilterError, FilterNode};

impl From<ProtobufError> for FilterError {
    fn from(_: ProtobufError) -> Self {
        Self::Malformed
    }
}

/// Reads the fields of a `FilterNode`.
pub(in crate::centrifuge) fn parse_filter(fields: &[u8]) -> Result<FilterNode<'_>, FilterError> {
    if fields.len() > FilterNode::BYTES_MAX {
        return Err(FilterError::TooLong);
    }
    let mut nodes_left = FilterNode::NODES_MAX;
    parse(fields, 1, &mut nodes_left)
}

fn parse<'a>(
    fields: &'a [u8],
    depth: usize,
    nodes_left: &mut usize,
) -> Result<FilterNode<'a>, FilterError> {
    if depth > FilterNode::DEPTH_MAX {
        return Err(FilterError::TooDeep);
    }
    *nodes_left = nodes_left.checked_sub(1).ok_or(FilterError::TooManyNodes)?;
    let mut node = FilterNode::default();
    for field in Fields::of(fields) {
        let field = field?;
        match field.number {
            1 => node.op = Cow::Borrowed(field.text()?),
            2 => node.key = Cow::Borrowed(field.text()?),
            3 => node.cmp = Cow::Borrowed(field.text()?),
            4 => node.val = Cow::Borrowed(field.text()?),
            5 => node.vals.push(Cow::Borrowed(field.text()?)),
            6 => {
                let inner = parse(field.bytes()?, depth + 1, nodes_left)?;
                node.nodes.push(inner);
            }
            _ => {}
        }
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TagsFilter,
        centrifuge::{Method, protobuf::Commands, protobuf::writer::*},
    };

    fn leaf(key: &str, out: &mut Vec<u8>) {
        put_bytes(2, key, out);
        put_bytes(3, "in", out);
        put_bytes(5, "a", out);
        put_bytes(5, "b", out);
    }

    fn nested(levels: usize) -> Vec<u8> {
        let mut fields = Vec::new();
        leaf("k", &mut fields);
        for _ in 1..levels {
            let inner = std::mem::take(&mut fields);
            put_bytes(1, "not", &mut fields);
            put_message(6, &mut fields, |out| out.extend_from_slice(&inner));
        }
        fields
    }

    #[test]
    fn both_encodings_say_the_same() {
        let mut frame = Vec::new();
        put_delimited(&mut frame, |out| {
            put_number(1, 3, out);
            put_message(5, out, |out| {
                put_bytes(1, "c", out);
                put_message(13, out, |out| {
                    put_bytes(1, "or", out);
                    put_message(6, out, |out| leaf("k", out));
                });
                // What stands there twice is one message.
                put_message(13, out, |out| put_message(6, out, |out| leaf("l", out)));
            });
        });
        let command = Commands::of(&frame).next().unwrap().unwrap();
        let Method::Subscribe(request) = command.method else {
            panic!("{command:?}")
        };
        let leaf = |key| serde_json::json!({ "key": key, "cmp": "in", "vals": ["a", "b"] });
        let json = serde_json::json!({ "op": "or", "nodes": [leaf("k"), leaf("l")] }).to_string();
        let json = TagsFilter::compile(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(request.filter.compile(), Ok(Some(json)));
    }

    #[test]
    fn bytes_are_read_within_bounds() {
        let compile = |fields: &[u8]| TagsFilter::compile(&parse_filter(fields)?);
        assert!(compile(&nested(FilterNode::DEPTH_MAX)).is_ok());
        for levels in [FilterNode::DEPTH_MAX + 1, 1_000] {
            assert_eq!(compile(&nested(levels)), Err(FilterError::TooDeep));
        }
        let empty = b"\x32\x00".repeat(FilterNode::NODES_MAX);
        assert_eq!(compile(&empty), Err(FilterError::TooManyNodes));
        let long = vec![0x32; FilterNode::BYTES_MAX + 1];
        assert_eq!(compile(&long), Err(FilterError::TooLong));
        for malformed in [
            &b"\x0a\x05x"[..],
            b"\x08\x01",
            b"\x0a\x01\xff",
            b"\x32\x02\x0a",
        ] {
            assert_eq!(compile(malformed), Err(FilterError::Malformed));
        }
    }
}
