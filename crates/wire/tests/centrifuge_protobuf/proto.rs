//! The encoding of Protocol Buffers once more, as plain as its specification, to check the product's against.

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number.
    Varint(u64),
    /// A text, bytes or a message.
    Bytes(Vec<u8>),
}

/// A field of a message: its number and its value.
pub(crate) type Field = (u32, Value);

/// A number; none if it is 0, as the encoding of default values is.
pub(crate) fn number(field: u32, number: u64) -> Vec<Field> {
    vec![(field, Value::Varint(number)); usize::from(number != 0)]
}

/// A text or bytes; none if it is empty.
pub(crate) fn text(field: u32, text: impl AsRef<[u8]>) -> Vec<Field> {
    let text = text.as_ref();
    vec![(field, Value::Bytes(text.to_vec())); usize::from(!text.is_empty())]
}

/// A message.
pub(crate) fn message(field: u32, fields: &[Field]) -> Field {
    (field, Value::Bytes(encode(fields)))
}

/// The bytes of a message.
pub(crate) fn encode(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, value) in fields {
        let tag = u64::from(*field) << 3;
        match value {
            Value::Varint(number) => {
                bytes.extend(varint(tag));
                bytes.extend(varint(*number));
            }
            Value::Bytes(content) => {
                bytes.extend(varint(tag | 2));
                bytes.extend(delimited(content));
            }
        }
    }
    bytes
}

/// What stands in a frame: the message with its length before it.
pub(crate) fn delimited(message: &[u8]) -> Vec<u8> {
    let mut bytes = varint(message.len() as u64);
    bytes.extend(message);
    bytes
}

/// The fields of a message, in their order.
///
/// # Panics
/// When the bytes are none.
pub(crate) fn decode(bytes: &[u8]) -> Vec<Field> {
    let mut rest = bytes.iter().copied();
    let mut fields = Vec::new();
    while let Some(tag) = take_varint(&mut rest) {
        let value = take_varint(&mut rest).expect("a value");
        let value = match tag & 7 {
            0 => Value::Varint(value),
            2 => Value::Bytes((0..value).map(|_| rest.next().expect("a byte")).collect()),
            other => panic!("wire type {other}"),
        };
        fields.push(((tag >> 3) as u32, value));
    }
    fields
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn take_varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    Some(number)
}
