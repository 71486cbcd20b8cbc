//! What a partition remembers of its idempotent producers (KIP-98), so that a batch that is sent again is
//! acknowledged again and not written again.

use std::collections::{HashMap, VecDeque};

use ottla_wire::ErrorCode;

use super::header::BatchHeader;

/// The producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

/// What becomes of a batch with a producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen before, and next in line.
    New,
    /// Written before, with this base offset and append time.
    Duplicate {
        base_offset: i64,
        append_time_ms: i64,
    },
}

/// What DescribeProducers shows.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) last_timestamp_ms: i64,
    /// The newest batches, oldest first; at most [`REMEMBERED`].
    batches: VecDeque<Remembered>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    append_time_ms: i64,
}

impl Producers {
    /// Whether `batch` may be written.
    ///
    /// A producer that is unknown here may start at any sequence: what it wrote before may have been
    /// removed by retention.
    pub(crate) fn check(&self, batch: &BatchHeader) -> Result<Verdict, ErrorCode> {
        if batch.producer_id < 0 {
            return Ok(Verdict::New);
        }
        let Some(producer) = self.by_id.get(&batch.producer_id) else {
            return Ok(Verdict::New);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if batch.is_control() {
            return Ok(Verdict::New);
        }
        if batch.producer_epoch > producer.epoch {
            return match batch.base_sequence {
                0 => Ok(Verdict::New),
                _ => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            };
        }
        let last_sequence = last_sequence(batch);
        let seen = producer.batches.iter().find(|seen| {
            seen.first_sequence == batch.base_sequence && seen.last_sequence == last_sequence
        });
        if let Some(seen) = seen {
            return Ok(Verdict::Duplicate {
                base_offset: seen.base_offset,
                append_time_ms: seen.append_time_ms,
            });
        }
        match producer.batches.back() {
            Some(last) if batch.base_sequence != sequence_after(last.last_sequence, 1) => {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            None if batch.base_sequence != 0 => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => Ok(Verdict::New),
        }
    }

    /// Remembers a batch that was written.
    pub(crate) fn note_appended(&mut self, batch: &BatchHeader, append_time_ms: i64) {
        if batch.producer_id < 0 {
            return;
        }
        let producer = self
            .by_id
            .entry(batch.producer_id)
            .or_insert_with(|| Producer {
                epoch: batch.producer_epoch,
                last_timestamp_ms: -1,
                batches: VecDeque::with_capacity(REMEMBERED),
            });
        producer.last_timestamp_ms = append_time_ms;
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if batch.is_control() {
            return;
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch),
            base_offset: batch.base_offset,
            append_time_ms,
        });
    }

    /// Forgets producers that have been silent since `before_ms` (`producer.id.expiration.ms`), but those that are
    /// `in_use`.
    pub(crate) fn expire(&mut self, before_ms: i64, in_use: impl Fn(i64) -> bool) {
        self.by_id
            .retain(|id, producer| producer.last_timestamp_ms >= before_ms || in_use(*id));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }
}

impl Producer {
    /// The offset of the newest record of data that is remembered.
    pub(crate) fn last_data_offset(&self) -> Option<i64> {
        let last = self.batches.back()?;
        let count = last.last_sequence.wrapping_sub(last.first_sequence) & i32::MAX;
        Some(last.base_offset + i64::from(count))
    }

    /// The newest sequence number, -1 if none is remembered.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |last| last.last_sequence)
    }
}

fn last_sequence(batch: &BatchHeader) -> i32 {
    sequence_after(batch.base_sequence, batch.last_offset_delta())
}

/// The sequence `count` after `sequence`; the one after 2^31-1 is 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// A client may have five requests in flight, so the newest five batches may come again.
const REMEMBERED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        let mut bytes = [0_u8; 61];
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[43..51].copy_from_slice(&7_i64.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&base_sequence.to_be_bytes());
        BatchHeader::parse(&bytes).unwrap()
    }

    fn written(batches: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for batch in batches {
            assert_eq!(producers.check(batch), Ok(Verdict::New));
            producers.note_appended(batch, 1);
        }
        producers
    }

    #[test]
    fn the_newest_five_batches_are_recognised_and_older_ones_refused() {
        let all: Vec<_> = (0..7)
            .map(|i| batch(0, i * 10, 10, i64::from(i) * 10))
            .collect();
        let producers = written(&all);
        for seen in &all[2..] {
            let expected = Verdict::Duplicate {
                base_offset: seen.base_offset,
                append_time_ms: 1,
            };
            assert_eq!(producers.check(seen), Ok(expected));
        }
        for gone in &all[..2] {
            assert_eq!(
                producers.check(gone),
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            );
        }
    }

    #[test]
    fn a_gap_is_refused_and_the_successor_taken() {
        let producers = written(&[batch(0, 0, 10, 0)]);
        let gap = batch(0, 11, 1, 0);
        assert_eq!(
            producers.check(&gap),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
        assert_eq!(producers.check(&batch(0, 10, 1, 0)), Ok(Verdict::New));
    }

    #[test]
    fn sequences_wrap_to_zero_inside_a_batch_and_between_batches() {
        let producers = written(&[batch(0, i32::MAX - 1, 2, 0)]);
        assert_eq!(producers.check(&batch(0, 0, 1, 2)), Ok(Verdict::New));
        let producers = written(&[batch(0, i32::MAX - 1, 5, 0)]);
        assert_eq!(producers.check(&batch(0, 3, 1, 5)), Ok(Verdict::New));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = written(&[batch(1, 0, 10, 0)]);
        let late = batch(2, 10, 1, 10);
        assert_eq!(
            producers.check(&late),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
        let fresh = batch(2, 0, 1, 10);
        assert_eq!(producers.check(&fresh), Ok(Verdict::New));
        producers.note_appended(&fresh, 2);
        let old = batch(1, 10, 1, 11);
        assert_eq!(
            producers.check(&old),
            Err(ErrorCode::INVALID_PRODUCER_EPOCH)
        );
    }
}
