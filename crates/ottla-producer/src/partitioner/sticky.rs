//! The partition that a topic's keyless records stick to, for now (KIP-480, KIP-794).
//!
//! Stays with a partition until a batch's worth of *bytes* went there, so that batches fill and every
//! partition gets the same number of bytes however the record sizes are mixed. Lock-free: two
//! senders that cross the limit at once cost at most one record in a partition that was about to be left.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Sticky {
    partition: AtomicU32,
    /// Bytes sent to `partition` since it was chosen.
    bytes: AtomicUsize,
}

impl Sticky {
    pub(crate) fn new(partition: u32) -> Self {
        Self {
            partition: AtomicU32::new(partition),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Where the next record goes.
    pub(crate) fn current(&self) -> u32 {
        self.partition.load(Ordering::Relaxed)
    }

    /// Tells that `bytes` went to `partition`. When that reached `limit`, moves on to what `next` chooses.
    pub(crate) fn sent(
        &self,
        partition: u32,
        bytes: usize,
        limit: usize,
        next: impl FnOnce(u32) -> u32,
    ) {
        if self.current() != partition {
            return; // Another sender moved on in between; its successor's count is not ours.
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < limit && before + bytes >= limit {
            self.move_on(partition, next(partition));
        }
    }

    /// Leaves `from` (it has no leader, say) for `to`, unless another sender already did.
    pub(crate) fn move_on(&self, from: u32, to: u32) {
        let moved = self
            .partition
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() {
            self.bytes.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_until_the_bytes_are_reached() {
        let sticky = Sticky::new(3);
        sticky.sent(3, 60, 100, |_| unreachable!("not full yet"));
        assert_eq!(sticky.current(), 3);
        sticky.sent(3, 60, 100, |from| from + 1);
        assert_eq!(sticky.current(), 4);
        sticky.sent(4, 99, 100, |_| unreachable!("the count began again"));
    }

    #[test]
    fn spreads_bytes_evenly_whatever_the_record_sizes() {
        let sticky = Sticky::new(0);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut bytes = [0usize; 4];
        for _ in 0..100_000 {
            let (at, size) = (sticky.current(), rng.usize(1..500));
            bytes[at as usize] += size;
            sticky.sent(at, size, 16_384, |from| (from + 1) % 4);
        }
        let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        assert!(most - least <= 16_384 + 500, "{bytes:?}");
    }
}
