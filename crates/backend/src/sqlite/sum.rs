//! A checksum of each row of `publications`: what a failing disk has altered is refused, not served.
//!
//! FNV-1a with 64 bits. Each step is reversible, so no change within one byte can go unnoticed, and any other one only by
//! a chance of one in 2^64. It is no protection against somebody who means it.

const OFFSET_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01B3;

/// The values of a row that is written or was read.
pub(super) struct RowValues<'a> {
    pub(super) channel: i64,
    pub(super) seq: i64,
    pub(super) id: &'a [u8],
    pub(super) time: i64,
    pub(super) data: &'a [u8],
    pub(super) info: Option<&'a [u8]>,
    pub(super) tags: Option<&'a [u8]>,
}

impl RowValues<'_> {
    /// The checksum, as SQLite keeps integers.
    pub(super) fn sum(&self) -> i64 {
        let mut hash = OFFSET_BASIS;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
            }
        };
        for number in [self.channel, self.seq, self.time] {
            add(&number.to_le_bytes());
        }
        for part in [Some(self.id), Some(self.data), self.info, self.tags] {
            // The length keeps parts from running into each other, and an empty one apart from none.
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            add(&length.to_le_bytes());
            add(part.unwrap_or_default());
        }
        hash.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_counts() {
        let row = || RowValues {
            channel: 1,
            seq: 2,
            id: b"id",
            time: 3,
            data: b"data",
            info: None,
            tags: None,
        };
        let others = [
            RowValues {
                channel: 2,
                ..row()
            },
            RowValues { seq: 3, ..row() },
            RowValues { id: b"ie", ..row() },
            RowValues { time: 4, ..row() },
            RowValues {
                data: b"dat`",
                ..row()
            },
            RowValues {
                info: Some(b""),
                ..row()
            },
            RowValues {
                tags: Some(b""),
                ..row()
            },
            RowValues {
                id: b"idd",
                data: b"ata",
                ..row()
            },
        ];
        let mut sums: Vec<i64> = others.iter().map(RowValues::sum).collect();
        sums.push(row().sum());
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), others.len() + 1);
        assert_eq!(row().sum(), row().sum());
    }
}
