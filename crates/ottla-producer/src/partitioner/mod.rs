//! Which partition a record goes to.
//!
//! Owns the hash functions and the choice among them. Never looks at metadata itself: it is given the
//! number of partitions and, for records that may go anywhere, the topic's [`Sticky`] choice.

pub(crate) mod adaptive;
mod crc32;
mod fnv1a;
mod murmur2;
mod sticky;

use std::fmt;
use std::sync::Arc;

pub(crate) use adaptive::BrokerHealth;
pub use crc32::crc32;
pub use fnv1a::fnv1a;
pub use murmur2::murmur2;
pub(crate) use sticky::Sticky;

/// How a record that names no partition finds one; the names are librdkafka's (`partitioner`).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Partitioning {
    /// Java's default, librdkafka's `murmur2_random`: murmur2 of the key; records without a key stick to a partition until a
    /// batch's worth of bytes went there (KIP-480, KIP-794).
    #[default]
    Murmur2Random,
    /// `murmur2`: murmur2 of the key, a missing key counting as the empty one.
    Murmur2,
    /// `consistent`: CRC-32 of the key, a missing key counting as the empty one.
    Consistent,
    /// `consistent_random`, librdkafka's default: CRC-32 of the key; missing and empty keys are sticky.
    ConsistentRandom,
    /// `fnv1a`: FNV-1a of the key as Sarama, a missing key counting as the empty one.
    Fnv1a,
    /// `fnv1a_random`: FNV-1a of the key; records without a key are sticky.
    Fnv1aRandom,
    /// `random`: sticky for every record, whatever its key.
    Random,
    /// `round_robin`: each record to the next partition that has a leader, whatever its key, as Java's `RoundRobinPartitioner`.
    /// Costs small batches: prefer a sticky one.
    RoundRobin,
    /// `explicit`: records must name their partition; one that does not is refused.
    Explicit,
    /// One's own.
    Custom(Arc<dyn Partitioner>),
}

/// A partitioner of one's own.
pub trait Partitioner: Send + Sync {
    /// The partition for a record with `key` and `value` among `partitions` (at least 1) of `topic`, or `None`
    /// to let the record go wherever batches fill best. A result outside `0..partitions` is an error
    /// of the `send`. Called on the sending thread for every record: keep it short.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: u32,
    ) -> Option<u32>;
}

impl Partitioning {
    /// The partition that the record's content decides; `None` when the content does not decide.
    #[inline]
    pub fn choose(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partitions: u32,
    ) -> Option<u32> {
        let positive = |hash: u32| (hash & 0x7fff_ffff) % partitions;
        match self {
            Self::Murmur2Random => key.map(|key| positive(murmur2(key))),
            Self::Murmur2 => Some(positive(murmur2(key.unwrap_or_default()))),
            Self::Consistent => Some(crc32(key.unwrap_or_default()) % partitions),
            Self::ConsistentRandom => key
                .filter(|key| !key.is_empty())
                .map(|key| crc32(key) % partitions),
            Self::Fnv1a => Some(sarama(fnv1a(key.unwrap_or_default()), partitions)),
            Self::Fnv1aRandom => key.map(|key| sarama(fnv1a(key), partitions)),
            Self::Random | Self::RoundRobin | Self::Explicit => None,
            Self::Custom(own) => own.partition(topic, key, value, partitions),
        }
    }
}

impl fmt::Debug for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Murmur2Random => "murmur2_random",
            Self::Murmur2 => "murmur2",
            Self::Consistent => "consistent",
            Self::ConsistentRandom => "consistent_random",
            Self::Fnv1a => "fnv1a",
            Self::Fnv1aRandom => "fnv1a_random",
            Self::Random => "random",
            Self::RoundRobin => "round_robin",
            Self::Explicit => "explicit",
            Self::Custom(_) => "custom",
        })
    }
}

/// Sarama takes the hash as signed, its remainder, and drops the sign.
fn sarama(hash: u32, partitions: u32) -> u32 {
    (hash as i32 % partitions as i32).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_empty_keys_are_told_apart() {
        let choose = |how: Partitioning, key: Option<&[u8]>| how.choose("t", key, None, 7);
        assert_eq!(choose(Partitioning::Murmur2Random, None), None);
        assert!(choose(Partitioning::Murmur2Random, Some(b"")).is_some());
        assert_eq!(
            choose(Partitioning::Murmur2, None),
            choose(Partitioning::Murmur2, Some(b""))
        );
        assert_eq!(choose(Partitioning::ConsistentRandom, Some(b"")), None);
        assert_eq!(choose(Partitioning::Consistent, None), Some(0));
        assert_eq!(choose(Partitioning::Random, Some(b"key")), None);
    }

    #[test]
    fn murmur2_partitions_as_java_does() {
        // Java: toPositive(murmur2(key)) % partitions.
        let choose = |key: &[u8], n| Partitioning::Murmur2Random.choose("t", Some(key), None, n);
        assert_eq!(
            choose(b"21", 1000),
            Some(((-973_932_308i32 & 0x7fff_ffff) % 1000) as u32)
        );
        assert_eq!(
            choose(b"foobar", 12),
            Some(((-790_332_482i32 & 0x7fff_ffff) % 12) as u32)
        );
    }

    #[test]
    fn sarama_drops_the_sign_after_the_remainder() {
        assert_eq!(sarama(0xffff_fffe, 7), 2); // -2 % 7 = -2
        assert_eq!(sarama(0x8000_0000, 3), 2); // -2147483648 % 3 = -2
    }

    proptest::proptest! {
        #[test]
        fn every_choice_exists(key in proptest::option::of(proptest::collection::vec(0u8.., 0..40)), n in 1u32..2000) {
            use Partitioning::*;
            for how in [Murmur2Random, Murmur2, Consistent, ConsistentRandom, Fnv1a, Fnv1aRandom, Random] {
                if let Some(chosen) = how.choose("t", key.as_deref(), None, n) {
                    proptest::prop_assert!(chosen < n);
                }
            }
        }
    }
}
