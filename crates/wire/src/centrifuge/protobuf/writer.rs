//! Writes the encoding of Protocol Buffers at the end of a frame. As the encoding says, what has its default value is
//! left out; a message is there even if it is empty.

/// Appends a number: `uint32`, `uint64`, and `int64` in two's complement.
pub(super) fn put_number(field: u32, number: u64, out: &mut Vec<u8>) {
    if number > 0 {
        put_tag(field, 0, out);
        put_varint(number, out);
    }
}

/// Appends a `bool`.
pub(super) fn put_flag(field: u32, flag: bool, out: &mut Vec<u8>) {
    put_number(field, u64::from(flag), out);
}

/// Appends a `string` or `bytes`.
pub(super) fn put_bytes(field: u32, bytes: impl AsRef<[u8]>, out: &mut Vec<u8>) {
    let bytes = bytes.as_ref();
    if !bytes.is_empty() {
        put_message(field, out, |out| out.extend_from_slice(bytes));
    }
}

/// Appends an entry of a map of strings, whose members are always there.
pub(super) fn put_entry(field: u32, key: &str, value: &str, out: &mut Vec<u8>) {
    put_message(field, out, |out| {
        put_message(1, out, |out| out.extend_from_slice(key.as_bytes()));
        put_message(2, out, |out| out.extend_from_slice(value.as_bytes()));
    });
}

/// Appends a message whose fields `write` appends.
pub(super) fn put_message(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(field, 2, out);
    put_delimited(out, write);
}

/// Appends what `write` appends, preceded by its length.
pub(super) fn put_delimited(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    // The length is known now, and so is how many bytes it takes: it is written behind the content and moved before it.
    let length = out.len() - start;
    put_varint(length as u64, out);
    let prefix = out.len() - start - length;
    out[start..].rotate_right(prefix);
}

fn put_tag(field: u32, wire_type: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(field) << 3 | wire_type, out);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write(&mut out);
        out.split_off(6)
    }

    #[test]
    fn fields_are_what_the_encoding_says() {
        assert_eq!(written(|out| put_number(1, 150, out)), b"\x08\x96\x01");
        assert_eq!(written(|out| put_number(1001, 1, out)), b"\xc8\x3e\x01");
        assert_eq!(
            written(|out| put_number(7, u64::MAX, out)),
            b"\x38\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        );
        assert_eq!(written(|out| put_flag(3, true, out)), b"\x18\x01");
        assert_eq!(written(|out| put_bytes(2, "hi", out)), b"\x12\x02hi");
    }

    #[test]
    fn what_has_its_default_value_is_left_out_but_not_messages_and_entries() {
        assert_eq!(written(|out| put_number(1, 0, out)), b"");
        assert_eq!(written(|out| put_flag(1, false, out)), b"");
        assert_eq!(written(|out| put_bytes(1, "", out)), b"");
        assert_eq!(written(|out| put_message(1, out, |_| ())), b"\x0a\x00");
        assert_eq!(
            written(|out| put_entry(7, "", "", out)),
            b"\x3a\x04\x0a\x00\x12\x00"
        );
    }

    #[test]
    fn messages_stand_behind_their_length_however_long_it_is() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let message = written(|out| {
                put_message(2, out, |out| out.extend_from_slice(&content));
            });
            let mut prefix = vec![0x12];
            put_varint(content.len() as u64, &mut prefix);
            assert_eq!(message, [prefix, content].concat());
        }
    }
}
