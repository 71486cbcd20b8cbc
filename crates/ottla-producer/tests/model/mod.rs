//! A partition's log as a Kafka leader keeps it, with the rules for idempotent producers.

use std::collections::{HashMap, VecDeque};

use ottla_wire::compress::Decompressor;
use ottla_wire::record::{Batches, next_sequence};
use ottla_wire::{Bytes, ErrorCode};

/// Appended records, and what the leader remembers of producers.
#[derive(Debug, Default, Clone)]
pub struct PartitionLog {
    /// The records' values, by offset.
    pub values: Vec<Bytes>,
    producers: HashMap<i64, ProducerState>,
}

#[derive(Debug, Clone)]
struct ProducerState {
    epoch: i16,
    /// The last five batches: first and last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

impl PartitionLog {
    /// Appends one batch as a leader does; gives the error code and the base offset.
    ///
    /// # Panics
    /// If the bytes are not one sound batch.
    pub fn append(&mut self, records: &Bytes) -> (ErrorCode, i64) {
        let mut batches = Batches::new(records.clone());
        let batch = batches.next().expect("a batch").expect("a sound batch");
        assert!(
            batches.next().is_none(),
            "one batch per partition and request"
        );
        batch.verify_crc().expect("a sound checksum");
        let count = batch.header().record_count().expect("magic 2 says");
        let (id, epoch) = (
            batch.header().producer_id(),
            batch.header().producer_epoch(),
        );
        let first = batch.header().base_sequence();
        if id >= 0 {
            let last = next_sequence(first, count - 1);
            if let Some(state) = self.producers.get_mut(&id) {
                if epoch < state.epoch {
                    return (ErrorCode::INVALID_PRODUCER_EPOCH, -1);
                }
                if epoch > state.epoch {
                    if first != 0 {
                        return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
                    }
                    *state = ProducerState {
                        epoch,
                        batches: VecDeque::new(),
                    };
                }
                let same = |(from, to, _): &&(i32, i32, i64)| (*from, *to) == (first, last);
                if let Some((_, _, offset)) = state.batches.iter().find(same) {
                    return (ErrorCode::NONE, *offset);
                }
                if let Some((_, newest, _)) = state.batches.back()
                    && next_sequence(*newest, 1) != first
                {
                    return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
                }
            }
            let fresh = ProducerState {
                epoch,
                batches: VecDeque::new(),
            };
            let state = self.producers.entry(id).or_insert(fresh);
            state
                .batches
                .push_back((first, last, self.values.len() as i64));
            if state.batches.len() > 5 {
                state.batches.pop_front();
            }
        }
        let base = self.values.len() as i64;
        let decoded = batch
            .decode(&mut Decompressor::default(), 64 << 20)
            .expect("a sound body");
        for record in decoded.records() {
            let record = record.expect("a sound record");
            self.values
                .push(Bytes::copy_from_slice(record.value().unwrap_or_default()));
        }
        assert_eq!(self.values.len() as i64 - base, i64::from(count));
        (ErrorCode::NONE, base)
    }

    /// Forgets all producers, as when retention removed all they wrote.
    #[allow(dead_code, reason = "not every test that includes this file needs it")]
    pub fn forget_producers(&mut self) {
        self.producers.clear();
    }
}
