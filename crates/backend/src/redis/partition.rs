//! Partitions: the fixed number of places over which a Redis Cluster spreads the topics.
//!
//! A cluster assigns each of 16,384 slots to a master; what stands in `{…}` in a name, its hash tag, decides the slot. Every
//! channel belongs to one of [`PARTITIONS`] partitions, and each partition has a tag whose slot lies in a stretch of its
//! own. So every master owns some of them, a node's view of the cluster is a table of [`PARTITIONS`] entries, and
//! whether all places are reached does not depend on which channels happen to be in use. No IO in here.

use std::sync::LazyLock;

/// Partitions of a cluster; every node must use the same number.
pub(super) const PARTITIONS: usize = 128;

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// Slots that lie between one partition and the next.
const STRIDE: u16 = SLOTS / PARTITIONS as u16;

/// The tag of each partition: the smallest number whose slot lies in the partition's stretch.
static TAGS: LazyLock<[u16; PARTITIONS]> = LazyLock::new(|| {
    let mut tags = [None; PARTITIONS];
    for tag in 0..=u16::MAX {
        let stretch = usize::from(slot_of(tag.to_string().as_bytes()) / STRIDE);
        if let Some(place) = tags.get_mut(stretch) {
            place.get_or_insert(tag);
        }
    }
    // A test shows that each stretch has its tag.
    tags.map(Option::unwrap_or_default)
});

/// What stands between the braces in the topics of a partition.
pub(super) fn tag(partition: usize) -> u16 {
    TAGS.get(partition).copied().unwrap_or_default()
}

/// The slot of a partition.
pub(super) fn slot(partition: usize) -> u16 {
    slot_of(tag(partition).to_string().as_bytes())
}

/// The partition of a channel, of so many.
pub(super) fn partition_of(channel: &str, partitions: usize) -> usize {
    usize::from(crc16(channel.as_bytes())) % partitions.max(1)
}

fn slot_of(key: &[u8]) -> u16 {
    crc16(key) % SLOTS
}

/// The checksum that Redis Cluster uses: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let index = usize::from((crc >> 8) as u8 ^ byte);
        (crc << 8) ^ CRC_TABLE[index]
    })
}

const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // Of the specification of Redis Cluster, and asked of a server with CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn every_partition_has_a_stretch_of_slots_for_itself() {
        for partition in 0..PARTITIONS {
            assert_eq!(usize::from(slot(partition) / STRIDE), partition);
        }
    }

    #[test]
    fn channels_spread_over_all_partitions() {
        let mut counts = [0; PARTITIONS];
        for number in 0..100 * PARTITIONS {
            counts[partition_of(&format!("room:{number}"), PARTITIONS)] += 1;
        }
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(
            least > Some(&25) && most < Some(&400),
            "{least:?} to {most:?}"
        );
        assert_eq!(partition_of("room:1", 1), 0);
    }
}
