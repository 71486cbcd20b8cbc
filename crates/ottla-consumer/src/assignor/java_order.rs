//! The orders in which Java walks along strings and hash tables.
//!
//! Where two distributions are equally good, Java's sticky assignors take the one they come to first, and they
//! come along the buckets of a `HashMap`. To reach the same, this walks the same way.

use std::cmp::Ordering;

use crate::TopicPartition;

/// Java compares strings by UTF-16 unit, which differs from the order of bytes above U+FFFF.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// `String.hashCode`.
pub(super) fn string_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0, |hash: u32, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    })
}

/// `TopicPartition.hashCode`.
pub(super) fn partition_hash(partition: &TopicPartition) -> u32 {
    31_u32
        .wrapping_add(partition.partition as u32)
        .wrapping_mul(31)
        .wrapping_add(string_hash(&partition.topic))
}

/// The place of a hash among the buckets of a table that has held up to `len_max` entries.
pub(super) fn bucket(hash: u32, len_max: usize) -> u32 {
    let mut capacity = 16;
    while len_max > capacity / 4 * 3 {
        capacity *= 2;
    }
    // Two entries of one bucket stay in the order in which they came, also when the table grows.
    (hash ^ (hash >> 16)) & (capacity - 1) as u32
}

/// Indices of `names`, put into a `HashMap` in this order, in the order in which it lists them.
pub(super) fn of_hash_map<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Vec<usize> {
    let len = names.len();
    let buckets: Vec<u32> = names.map(|name| bucket(string_hash(name), len)).collect();
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by_key(|&index| buckets[index]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // "".hashCode(), "consumer-1".hashCode(), and one that overflows.
        assert_eq!(string_hash(""), 0);
        assert_eq!(string_hash("ab"), 97 * 31 + 98);
        assert_eq!(string_hash("polygenelubricants"), i32::MIN as u32);
    }

    #[test]
    fn strings_compare_by_utf_16_unit() {
        assert_eq!(compare("\u{10000}", "\u{ffff}"), Ordering::Less);
        assert_eq!("\u{10000}".cmp("\u{ffff}"), Ordering::Greater);
    }

    #[test]
    fn a_table_doubles_when_it_is_three_quarters_full() {
        assert_eq!(bucket(16, 12), 0);
        assert_eq!(bucket(16, 13), 16);
        // "a" is 97 = bucket 1 of 16, "p" is 112 = bucket 0.
        assert_eq!(of_hash_map(["a", "p", "q"].into_iter()), [1, 0, 2]);
    }
}
