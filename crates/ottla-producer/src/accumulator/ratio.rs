//! How well a topic's records compress, learnt from its batches.

use std::sync::atomic::{AtomicU32, Ordering};

/// An estimate of compressed over plain size, so that a batch is closed when its *compressed* size
/// reaches `batch.size`.
///
/// Worse news is believed at once and better news bit by bit: a batch somewhat smaller than it could
/// be costs little, one that is too large costs a split.
#[derive(Debug)]
pub(crate) struct Ratio {
    /// In 1/65,536; at most 1.
    estimate: AtomicU32,
}

impl Ratio {
    pub(crate) fn new() -> Self {
        Self {
            estimate: AtomicU32::new(ONE),
        }
    }

    /// Plain bytes that will make about `batch_size` compressed ones; at most 16 times as many.
    pub(crate) fn plain_limit(&self, batch_size: usize) -> usize {
        let estimate = u64::from(
            self.estimate
                .load(Ordering::Relaxed)
                .max(ONE / EXPANSION_MAX),
        );
        // A margin of 1/16 for batches that compress worse than the estimate.
        let limit = batch_size as u64 * u64::from(ONE) / estimate;
        let limit = if estimate < u64::from(ONE) {
            limit - limit / 16
        } else {
            limit
        };
        (limit as usize).max(batch_size)
    }

    /// Learns from a sealed batch.
    pub(crate) fn learn(&self, plain: usize, sealed: usize) {
        if plain < WORTH_LEARNING {
            return; // Small batches compress badly; they would spoil the estimate for full ones.
        }
        let seen = ((sealed as u64 * u64::from(ONE) / plain as u64) as u32).min(ONE);
        let old = self.estimate.load(Ordering::Relaxed);
        let new = if seen >= old {
            seen
        } else {
            old - (old - seen).div_ceil(4)
        };
        self.estimate.store(new, Ordering::Relaxed);
    }

    /// A batch turned out too large: start over from the worst.
    pub(crate) fn reset(&self) {
        self.estimate.store(ONE, Ordering::Relaxed);
    }
}

const ONE: u32 = 1 << 16;
const EXPANSION_MAX: u32 = 16;
const WORTH_LEARNING: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_as_they_turn_out_to_compress() {
        let ratio = Ratio::new();
        assert_eq!(ratio.plain_limit(100_000), 100_000);
        for _ in 0..40 {
            ratio.learn(100_000, 20_000);
        }
        let limit = ratio.plain_limit(100_000);
        assert!((430_000..=500_000).contains(&limit), "{limit}");
        ratio.learn(100_000, 50_000);
        assert!(
            ratio.plain_limit(100_000) < 200_000,
            "bad news counts at once"
        );
        ratio.reset();
        assert_eq!(ratio.plain_limit(100_000), 100_000);
    }

    #[test]
    fn expansion_is_bounded_and_small_batches_teach_nothing() {
        let ratio = Ratio::new();
        ratio.learn(100, 1);
        assert_eq!(ratio.plain_limit(1000), 1000);
        for _ in 0..100 {
            ratio.learn(1 << 20, 10);
        }
        assert!(ratio.plain_limit(1000) <= 16_000);
    }
}
