//! The batches that fetches are answered with.

use std::io;

use crate::batch::OpenBatch;
use crate::codec::{Codec, Contexts};
use crate::workload::{PARTITIONS, Workload, partition_of};

/// Pre-built batches of every partition, all of the same record count, so that the batch which
/// holds an offset is found by division.
#[derive(Debug, Default)]
pub struct Served {
    bytes: Vec<u8>,
    partitions: Vec<Vec<Piece>>,
    /// Records in each batch; zero when there are none.
    count: i64,
}

/// Where a batch lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    start: usize,
    end: usize,
}

impl Piece {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }
}

impl Served {
    /// Nothing to fetch.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Packs each partition's share of the pool into batches of about `batch_bytes` before
    /// compression. What does not fill a batch is left out.
    pub fn build(pool: &Workload, codec: Codec, batch_bytes: usize) -> io::Result<Self> {
        let mean = pool
            .iter()
            .map(|event| event.key.len() + event.value.len() + 12)
            .sum::<usize>()
            / pool.len();
        let smallest = (0..PARTITIONS)
            .map(|partition| {
                pool.iter()
                    .filter(|event| partition_of(event.key, PARTITIONS) == partition)
                    .count()
            })
            .min()
            .unwrap_or(0);
        let count = (batch_bytes / mean).clamp(1, smallest.max(1)) as u32;
        let mut served = Self {
            count: i64::from(count),
            ..Self::default()
        };
        let mut contexts = Contexts::default();
        let mut open = OpenBatch::default();
        for partition in 0..PARTITIONS {
            let mut pieces = Vec::new();
            for event in pool
                .iter()
                .filter(|e| partition_of(e.key, PARTITIONS) == partition)
            {
                open.append(event);
                if open.count() == count {
                    let start = served.bytes.len();
                    let batch = open.seal(codec, &mut contexts, 1_767_225_600_000)?;
                    served.bytes.extend_from_slice(batch);
                    pieces.push(Piece {
                        start,
                        end: served.bytes.len(),
                    });
                    open.clear();
                }
            }
            if pieces.is_empty() {
                return Err(io::Error::other(
                    "the workload leaves a partition without a batch",
                ));
            }
            open.clear();
            served.partitions.push(pieces);
        }
        Ok(served)
    }

    /// The batch of `partition` that holds `offset`, and its base offset.
    pub(super) fn batch_at(&self, partition: usize, offset: i64) -> Option<(i64, Piece)> {
        let pieces = self.partitions.get(partition)?;
        let index = offset.max(0) / self.count;
        Some((index * self.count, pieces[index as usize % pieces.len()]))
    }

    pub(super) fn count(&self) -> i64 {
        self.count
    }

    pub(super) fn bytes(&self, piece: Piece) -> &[u8] {
        &self.bytes[piece.start..piece.end]
    }
}
