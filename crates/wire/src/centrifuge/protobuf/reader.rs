//! Reads the encoding of Protocol Buffers: fields out of bytes, without a copy, whatever the bytes are.

use thiserror::Error;

/// Why bytes are no commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtobufError {
    /// The bytes end within a number, a text or a message.
    #[error("the frame ends within a field")]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// Field 0, or one beyond 2²⁹ - 1.
    #[error("a field has no valid number")]
    FieldNumber,
    /// A wire type that the encoding does not have, or one of groups, which proto3 does not have.
    #[error("a field has no valid wire type")]
    WireType,
    /// A field of the protocol with a value of another kind.
    #[error("a field has a value of another type than the protocol says")]
    Type,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A command without a number that needs one.
    #[error("a command has no number")]
    NoId,
    /// More than [`COMMANDS_MAX`](super::COMMANDS_MAX) commands in one frame.
    #[error("too many commands in one frame")]
    TooMany,
}

/// The fields of a message, in the order in which they stand; nothing more after an error.
pub(super) struct Fields<'a>(&'a [u8]);

/// One field.
pub(super) struct Field<'a> {
    /// Its number in the message, from 1 on.
    pub(super) number: u32,
    value: Value<'a>,
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which this protocol has no use for.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self) -> Result<Field<'a>, ProtobufError> {
        const NUMBER_MAX: u64 = (1 << 29) - 1;
        let tag = take_varint(&mut self.0)?;
        let number = u32::try_from((tag >> 3).min(NUMBER_MAX + 1)).unwrap_or(u32::MAX);
        if number == 0 || u64::from(number) > NUMBER_MAX {
            return Err(ProtobufError::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut self.0)?),
            1 => take(&mut self.0, 8).map(|_| Value::Fixed)?,
            2 => Value::Bytes(take_delimited(&mut self.0)?),
            5 => take(&mut self.0, 4).map(|_| Value::Fixed)?,
            _ => return Err(ProtobufError::WireType),
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.take();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// An `uint64`. Narrower types are its low bits, signed ones in two's complement.
    pub(super) fn number(&self) -> Result<u64, ProtobufError> {
        match self.value {
            Value::Varint(number) => Ok(number),
            _ => Err(ProtobufError::Type),
        }
    }

    /// An `uint32`.
    pub(super) fn uint32(&self) -> Result<u32, ProtobufError> {
        self.number().map(|number| number as u32)
    }

    /// An `int32`.
    pub(super) fn int32(&self) -> Result<i32, ProtobufError> {
        self.number().map(|number| number as i32)
    }

    /// A `bool`.
    pub(super) fn flag(&self) -> Result<bool, ProtobufError> {
        self.number().map(|number| number != 0)
    }

    /// `bytes`, or a message.
    pub(super) fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(ProtobufError::Type),
        }
    }

    /// A `string`.
    pub(super) fn text(&self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::NotUtf8)
    }
}

/// Takes what is preceded by its length.
pub(super) fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], ProtobufError> {
    let length = take_varint(bytes)?;
    take(bytes, usize::try_from(length).unwrap_or(usize::MAX))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], ProtobufError> {
    let (taken, rest) = bytes
        .split_at_checked(length)
        .ok_or(ProtobufError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let shift = 7 * at;
        if shift > 63 || (shift == 63 && byte > 1) {
            return Err(ProtobufError::Overlong);
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Ok(number);
        }
    }
    Err(ProtobufError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut bytes: &[u8]) -> Result<(u64, usize), ProtobufError> {
        take_varint(&mut bytes).map(|number| (number, bytes.len()))
    }

    #[test]
    fn numbers_are_read_to_their_last_bit() {
        for (bytes, number) in [
            (&b"\x00"[..], 0),
            (b"\x7f", 127),
            (b"\x80\x01", 128),
            (b"\xac\x02", 300),
            // Longer than it needs to be, which the encoding allows.
            (b"\x81\x80\x00", 1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", u64::MAX),
        ] {
            assert_eq!(varint(bytes), Ok((number, 0)), "{bytes:x?}");
        }
        assert_eq!(varint(b"\x01\x02"), Ok((1, 1)));
        assert_eq!(varint(b""), Err(ProtobufError::Truncated));
        assert_eq!(varint(b"\xff\xff"), Err(ProtobufError::Truncated));
        assert_eq!(
            varint(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
            Err(ProtobufError::Overlong)
        );
        assert_eq!(varint(&[0x80; 11]), Err(ProtobufError::Overlong));
    }

    #[test]
    fn fields_are_taken_one_after_the_other() {
        let message = b"\x08\x96\x01\x12\x02hi\x19--------\x25----";
        let fields: Vec<_> = Fields::of(message).map(Result::unwrap).collect();
        let numbers: Vec<_> = fields.iter().map(|field| field.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(fields[0].number(), Ok(150));
        assert_eq!(fields[1].text(), Ok("hi"));
        assert_eq!(fields[0].text(), Err(ProtobufError::Type));
        assert_eq!(fields[1].flag(), Err(ProtobufError::Type));
        assert_eq!(fields[2].number(), Err(ProtobufError::Type));
        assert_eq!(fields[3].bytes(), Err(ProtobufError::Type));
    }

    #[test]
    fn what_is_no_field_is_said_to_be_none() {
        for (message, error) in [
            (&b"\x08"[..], ProtobufError::Truncated),
            (b"\x12\x05hi", ProtobufError::Truncated),
            (
                b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                ProtobufError::Truncated,
            ),
            (b"\x19----", ProtobufError::Truncated),
            (b"\x00\x00", ProtobufError::FieldNumber),
            (b"\x80\x80\x80\x80\x10\x00", ProtobufError::FieldNumber),
            (
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\x00",
                ProtobufError::FieldNumber,
            ),
            (b"\x0b\x0c", ProtobufError::WireType),
            (b"\x0e", ProtobufError::WireType),
        ] {
            let mut fields = Fields::of(message);
            assert_eq!(fields.next().unwrap().err(), Some(error), "{message:x?}");
            assert!(fields.next().is_none());
        }
    }
}
