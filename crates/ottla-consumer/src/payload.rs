//! What the core keeps per batch, and how an answer's bytes become it: split into batches at once, decoded
//! when the application needs them.
//!
//! For a reader of committed records, batches of aborted transactions are sorted out here, by their
//! headers, so that they are never decompressed.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ottla_wire::{
    Bytes,
    compress::{Compression, DecompressError, Decompressor},
    messages::fetch::AbortedTransaction,
    record::{Batch, BatchError, Batches, ControlType, DecodedBatch},
};
use parking_lot::Mutex;

use crate::{
    ConsumerConfig, IsolationLevel,
    core::{Body, Entry, NOWHERE, Position},
};

/// The data of a batch.
#[derive(Debug)]
pub(crate) enum Payload {
    /// As it came; not checked yet.
    Raw(Batch),
    /// Checked, and decompressed.
    Decoded(DecodedBatch),
    Unreadable(BatchError),
}

/// How batches are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeLimits {
    pub(crate) check_crcs: bool,
    pub(crate) batch_bytes_max: usize,
}

impl DecodeLimits {
    pub(crate) fn of(config: &ConsumerConfig) -> Self {
        Self {
            check_crcs: config.check_crcs,
            batch_bytes_max: config.batch_bytes_max,
        }
    }
}

/// Decompressors for readers of which few decode at the same time.
#[derive(Debug, Default)]
pub(crate) struct Decompressors {
    idle: Mutex<Vec<Decompressor>>,
}

impl Decompressors {
    pub(crate) fn decode(
        &self,
        payload: Payload,
        limits: DecodeLimits,
    ) -> Result<DecodedBatch, BatchError> {
        if !payload.is_heavy() {
            return payload.decode(limits, &mut Decompressor::new());
        }
        let idle = self.idle.lock().pop();
        let mut decompressor = idle.unwrap_or_default();
        let decoded = payload.decode(limits, &mut decompressor);
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(decompressor);
        }
        decoded
    }
}

/// Each may keep a window of some megabytes. More threads than that find new ones.
const IDLE_MAX: usize = 8;

impl Payload {
    /// Copies what still lies in the answer that it came in.
    pub(crate) fn detach(&mut self) {
        if let Self::Raw(batch) = self
            && let Some(Ok(own)) = Batches::new(Bytes::copy_from_slice(batch.bytes())).next()
        {
            *batch = own;
        }
    }

    pub(crate) fn decode(
        self,
        limits: DecodeLimits,
        decompressor: &mut Decompressor,
    ) -> Result<DecodedBatch, BatchError> {
        match self {
            Self::Decoded(batch) => Ok(batch),
            Self::Unreadable(error) => Err(error),
            Self::Raw(batch) => {
                if limits.check_crcs {
                    batch.verify_crc()?;
                }
                let (offset, codec) = (batch.base_offset(), batch.header().compression());
                let decode = || batch.decode(decompressor, limits.batch_bytes_max);
                let decoded = contain(decode, offset, codec.unwrap_or(Compression::None));
                decoded.unwrap_or_else(|panicked| {
                    // It may be in the middle of anything.
                    *decompressor = Decompressor::new();
                    Err(panicked)
                })
            }
        }
    }

    /// Whether decoding it takes long enough to be worth another thread.
    pub(crate) fn is_heavy(&self) -> bool {
        match self {
            Self::Raw(batch) => batch
                .header()
                .compression()
                .is_some_and(|codec| codec != Compression::None),
            Self::Decoded(_) | Self::Unreadable(_) => false,
        }
    }
}

/// A decoder that panics on some bytes must cost one batch, as any bytes that cannot be read do: not the thread
/// that reads ahead, and with it the partition for ever.
fn contain<T>(
    decode: impl FnOnce() -> T,
    base_offset: i64,
    compression: Compression,
) -> Result<T, BatchError> {
    catch_unwind(AssertUnwindSafe(decode)).map_err(|_| BatchError::Decompress {
        base_offset,
        source: DecompressError::Corrupt {
            compression,
            reason: "the decoder panicked; please report it".into(),
        },
    })
}

/// Splits one partition's part of an answer.
pub(crate) fn split(
    records: Bytes,
    aborted: Option<Vec<AbortedTransaction>>,
    isolation: IsolationLevel,
    check_crcs: bool,
) -> Vec<Entry<Payload>> {
    let mut aborted = match isolation {
        IsolationLevel::ReadCommitted => Some(Aborted::new(aborted.unwrap_or_default())),
        IsolationLevel::ReadUncommitted => None,
    };
    let mut entries = Vec::new();
    let mut batches = Batches::new(records);
    for batch in &mut batches {
        let entry = match batch {
            Ok(batch) => entry(batch, aborted.as_mut(), check_crcs),
            Err(error) => unreadable(error),
        };
        let last = entry.next == NOWHERE;
        entries.push(entry);
        if last {
            return entries;
        }
    }
    if let Some(tail) = batches.partial_tail().filter(|tail| tail.is_first) {
        // Brokers since 0.10.1 send a first batch whole, whatever its size.
        tracing::warn!(
            available = tail.available,
            needed = tail.needed,
            "a broker sent less than one batch; asking again"
        );
        entries.push(Entry {
            body: Body::Nothing,
            next: Position::at(0),
            bytes: 0,
        });
    }
    entries
}

fn entry(batch: Batch, aborted: Option<&mut Aborted>, check_crcs: bool) -> Entry<Payload> {
    let epoch = batch.partition_leader_epoch();
    let next = Position {
        offset: batch.next_offset(),
        leader_epoch: (epoch >= 0).then_some(epoch),
    };
    let skipped = match aborted {
        Some(aborted) => aborted.hides(&batch),
        None => Ok(batch.is_control()),
    };
    let bytes = batch.bytes().len();
    match skipped {
        Ok(true) => {
            // Nobody will look into it again: a damaged header must not pass for an aborted batch.
            if check_crcs && let Err(error) = batch.verify_crc() {
                return unreadable(error);
            }
            Entry {
                body: Body::Nothing,
                next,
                bytes: 0,
            }
        }
        Ok(false) => Entry {
            body: Body::Batch(Payload::Raw(batch), 0),
            next,
            bytes,
        },
        Err(error) => unreadable(error),
    }
}

fn unreadable(error: BatchError) -> Entry<Payload> {
    Entry {
        body: Body::Batch(Payload::Unreadable(error), 0),
        next: NOWHERE,
        bytes: 0,
    }
}

/// Which producers' batches belong to aborted transactions, while walking through one answer.
#[derive(Debug)]
struct Aborted {
    /// By first offset, descending: the next to begin is the last.
    to_come: Vec<(i64, i64)>,
    /// Producers inside of an aborted transaction.
    active: HashSet<i64>,
}

impl Aborted {
    /// The order of the broker's list is not to be relied upon.
    fn new(transactions: Vec<AbortedTransaction>) -> Self {
        let mut to_come: Vec<_> = transactions
            .into_iter()
            .map(|t| (t.first_offset, t.producer_id))
            .collect();
        to_come.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            to_come,
            active: HashSet::new(),
        }
    }

    /// Whether the application must not see the batch. Call it for each, in order.
    fn hides(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        while let Some(&(first_offset, producer_id)) = self.to_come.last()
            && first_offset <= batch.last_offset()
        {
            self.active.insert(producer_id);
            self.to_come.pop();
        }
        if batch.is_control() {
            // Only its own abort marker ends a producer's aborted transaction: a commit marker in between
            // is that of an earlier one.
            if batch.is_transactional() && batch.control_type()? == Some(ControlType::Abort) {
                self.active.remove(&batch.producer_id());
            }
            return Ok(true);
        }
        Ok(batch.is_transactional() && self.active.contains(&batch.producer_id()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ottla_wire::{
        compress::{Codec, Compressor},
        record::{BatchWriter, NewRecord, SealOptions, control_batch, retain},
    };

    use super::*;

    /// One record of `producer` (none: not transactional) at each offset, or its marker.
    enum Piece {
        Plain,
        In(i64),
        Commit(i64),
        Abort(i64),
    }
    use Piece::{Abort, Commit, In, Plain};

    fn log(pieces: &[Piece]) -> Bytes {
        let mut log = Vec::new();
        for (offset, piece) in pieces.iter().enumerate() {
            let sealed = match *piece {
                Commit(producer) => control_batch(true, producer, 0, 0, 0),
                Abort(producer) => control_batch(false, producer, 0, 0, 0),
                Plain | In(_) => {
                    let mut writer = BatchWriter::new(BytesMut::new());
                    let value = offset.to_string();
                    let record = NewRecord {
                        timestamp: 0,
                        key: None,
                        value: Some(value.as_bytes()),
                        headers: &[],
                    };
                    writer.append(&record).unwrap();
                    let options = SealOptions {
                        codec: Codec::from(Compression::None),
                    };
                    let mut sealed = writer.seal(&options, &mut Compressor::new()).unwrap();
                    if let In(producer) = *piece {
                        sealed.stamp(producer, 0, 0, true);
                    } else {
                        sealed.stamp(-1, -1, -1, false);
                    }
                    sealed
                }
            };
            let mut bytes = sealed.freeze().to_vec();
            // The base offset is the broker's to set; no checksum covers it.
            bytes[..8].copy_from_slice(&(offset as i64).to_be_bytes());
            log.extend(bytes);
        }
        log.into()
    }

    fn visible(log: Bytes, aborted: &[(i64, i64)], isolation: IsolationLevel) -> Vec<i64> {
        let aborted = aborted
            .iter()
            .map(|&(producer_id, first_offset)| AbortedTransaction {
                producer_id,
                first_offset,
                ..Default::default()
            })
            .collect();
        split(log, Some(aborted), isolation, true)
            .into_iter()
            .filter_map(|entry| match entry.body {
                Body::Batch(Payload::Raw(batch), _) => Some(batch.base_offset()),
                Body::Batch(other, _) => panic!("{other:?}"),
                _ => None,
            })
            .collect()
    }

    /// A broker keeps it for its producer's epoch.
    #[test]
    fn a_marker_that_compaction_emptied_is_passed_over() {
        let marker = control_batch(false, 1, 0, 0, 0).freeze();
        let marker = Batches::new(marker).next().unwrap().unwrap();
        let decoded = marker.decode(&mut Decompressor::new(), 1024).unwrap();
        let emptied = retain(&marker, &decoded, |_| false, None, &mut Compressor::new());
        let seen = visible(emptied.unwrap(), &[(1, 0)], IsolationLevel::ReadCommitted);
        assert!(seen.is_empty());
    }

    #[test]
    fn aborted_transactions_are_hidden_from_committed_readers_only() {
        let pieces = [
            In(1),
            In(2),
            Plain,
            Abort(1),
            In(1),
            Commit(2),
            Commit(1),
            In(3),
        ];
        let committed = IsolationLevel::ReadCommitted;
        assert_eq!(visible(log(&pieces), &[(1, 0)], committed), [1, 2, 4, 7]);
        let uncommitted = IsolationLevel::ReadUncommitted;
        assert_eq!(visible(log(&pieces), &[], uncommitted), [0, 1, 2, 4, 7]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let pieces = [
            In(1),
            Abort(1),
            In(2),
            In(1),
            Abort(2),
            In(2),
            Commit(2),
            Abort(1),
            In(1),
        ];
        let aborted = [(1, 3), (2, 2), (1, 0)];
        assert_eq!(
            visible(log(&pieces), &aborted, IsolationLevel::ReadCommitted),
            [5, 8]
        );
    }

    #[test]
    fn a_commit_marker_of_an_earlier_transaction_reveals_nothing() {
        // The first transaction's marker lies behind the start of the fetch; its commit must not end the
        // aborted one, which the list has begin later.
        let pieces = [In(1), Commit(1), In(1), In(1), Abort(1)];
        assert_eq!(
            visible(log(&pieces), &[(1, 2)], IsolationLevel::ReadCommitted),
            [0]
        );
    }

    #[test]
    fn a_damaged_batch_is_never_taken_for_an_aborted_one() {
        let pieces = [In(1), Abort(1)];
        let mut bytes = log(&pieces).to_vec();
        bytes[62] ^= 1;
        let aborted = vec![AbortedTransaction {
            producer_id: 1,
            ..Default::default()
        }];
        let entries = split(
            bytes.into(),
            Some(aborted),
            IsolationLevel::ReadCommitted,
            true,
        );
        assert!(matches!(
            entries[0].body,
            Body::Batch(Payload::Unreadable(BatchError::Crc { .. }), _)
        ));
        assert_eq!((entries.len(), entries[0].next), (1, NOWHERE));
    }

    #[test]
    fn rubbish_ends_the_answer_with_an_error() {
        let mut bytes = log(&[Plain]).to_vec();
        bytes.extend([0x7f; 80]);
        let entries = split(bytes.into(), None, IsolationLevel::ReadUncommitted, true);
        assert_eq!(entries.len(), 2);
        assert!(matches!(
            entries[1].body,
            Body::Batch(Payload::Unreadable(_), _)
        ));
    }

    #[test]
    fn a_decoder_that_panics_costs_one_batch() {
        let panicked = contain(|| panic!("on these bytes"), 7, Compression::Zstd);
        let panicked: Result<(), _> = panicked;
        let error = panicked.unwrap_err().to_string();
        assert!(
            error.contains("offset 7") && error.contains("zstd"),
            "{error}"
        );
        assert_eq!(contain(|| 1, 7, Compression::Zstd), Ok(1));
    }

    #[test]
    fn what_is_detached_lets_go_of_its_answer() {
        let answer = log(&[Plain, Plain]);
        let mut payloads: Vec<Payload> = Batches::new(answer.clone())
            .map(|batch| Payload::Raw(batch.unwrap()))
            .collect();
        let original = format!("{:?}", payloads[1]);
        payloads.iter_mut().for_each(Payload::detach);
        assert!(answer.is_unique());
        assert_eq!(format!("{:?}", payloads[1]), original);
    }

    #[test]
    fn a_cut_batch_at_the_end_is_normal() {
        let mut bytes = log(&[Plain, Plain]).to_vec();
        bytes.truncate(bytes.len() - 3);
        assert_eq!(
            visible(bytes.into(), &[], IsolationLevel::ReadUncommitted),
            [0]
        );
    }
}
